-- verify: are the bytes what they claim to be: of bundles, of the store, of a run.
local json = require "pioche.core.json"
local outlet = require "pioche.bag.outlet"
local sys = require "pioche.core.sys"
local csv = require "pioche.csv"
local age = require "pioche.age"
local damage = require "pioche.damage"
local errors = require "pioche.errors"
local format = require "pioche.format"
local runs = require "pioche.runs"
local term = require "pioche.term"

-- Collects findings of one subject and shows progress meanwhile.
local function collector(label)
  local findings = {}
  local progress = term.progress(label, format.bytes)
  return findings, function(finding, done, total)
    if finding then findings[#findings + 1] = finding end
    if done then progress(done, total) end
  end, progress
end

-- One that is encrypted, as it is decrypted.
local function read_encrypted(path, options, read)
  local way = age.open(path, options)
  local result, message, code = read(way.path)
  local failure = way.close()
  if result and not failure then return result end
  return nil, failure or way.told(message), failure and "corrupt" or code, way.told
end

-- With `signers`: by whom of those in the file it is signed, too.
local function verify_bundle(path, options)
  local pack, signers = require "pioche.core.pack", options.signers
  local findings, report, progress = collector("verifying " .. path)
  local function read(from) return pack.verify(from, { report = report }) end
  local result, message, code, told
  if age.is_encrypted(path) then
    result, message, code, told = read_encrypted(path, options, read)
  else
    result, message, code = read(path)
  end
  progress()
  if not result then
    if code ~= "corrupt" then errors.check(result, message, code) end
    if #findings == 0 then findings[1] = message end
  end
  for i, finding in ipairs(findings) do findings[i] = told and told(finding) or finding end
  local who, why
  if signers then who, why = outlet.signer(path, signers) end
  if signers and not who then findings[#findings + 1] = path .. ": " .. why end
  return { subject = path, findings = findings, files = result and result.files,
    bytes = result and result.bytes, signer = who,
    good = result and string.format("%s: good: %s, %s%s", path, result.tensors
      and format.count(result.tensors) .. (result.tensors == 1 and " tensor" or " tensors")
      or result.files .. " files", format.bytes(result.bytes), who and ", signed by " .. who or "") }
end

local function verify_database(store, findings)
  if sys.isatty(2) then sys.write(2, "checking pioche.db ...") end
  for _, row in ipairs(store:rows("SELECT * FROM pragma_integrity_check")) do
    if row.integrity_check ~= "ok" then
      findings[#findings + 1] = "pioche.db: " .. row.integrity_check
    end
  end
  for _, row in ipairs(store:rows("SELECT * FROM pragma_foreign_key_check")) do
    findings[#findings + 1] = string.format("pioche.db: %s row %s: its %s does not exist",
      row.table, row.rowid or "?", row.parent)
  end
  if sys.isatty(2) then sys.write(2, "\r\27[K") end
end

-- "2/10" -> 2, 10.
local function parse_sample(text)
  local part, parts = text:match("^(%d+)/(%d+)$")
  part, parts = math.tointeger(tonumber(part)), math.tointeger(tonumber(parts))
  if not part or not parts or part < 1 or part > parts then
    errors.raise("usage", "--sample: expected n/t, as 1/10, 2/10 to 10/10, got '%s'", text)
  end
  return part, parts
end

-- What the options ask of store:verify.
local function asked(options)
  if (options.quick and 1 or 0) + (options.full and 1 or 0) + (options.sample and 1 or 0) > 1 then
    errors.raise("usage", "--quick, --sample and --full exclude each other")
  elseif options.anew and options.quick then
    errors.raise("usage", "--anew: --quick always begins anew")
  end
  local request = { quick = options.quick, anew = options.anew }
  if options.sample then request.part, request.parts = parse_sample(options.sample) end
  return request
end

local function goodness(options, subject, result, orphans)
  local how = options.quick and " (existence and size only)"
    or options.sample and " (sample " .. options.sample .. "), every byte of it read" or ", every byte read"
  local earlier = result.earlier_objects > 0 and string.format("; %s of them by a pass that began %s ago",
    format.count(result.earlier_objects), format.age(sys.now_ns() - result.begun_ns)) or ""
  return string.format("%s: good: %s object%s, %s%s%s%s", subject, format.count(result.objects),
    result.objects == 1 and "" or "s", format.bytes(result.bytes), how, earlier,
    orphans > 0 and string.format("; %d orphan%s of interrupted work", orphans, orphans == 1 and "" or "s")
      or "")
end

-- The objects of the store, or of the run that `word` names.
local function verify_store(ctx, word)
  local request, located, orphans = asked(ctx.options), json.array {}, json.array {}
  local store = ctx.reading()
  local subject = word or store:path()
  request.run = word and runs.find(store, word)
  local findings, report, progress = collector("verifying " .. subject)
  request.report = function(finding, done, total)
    if finding and finding.orphan then
      orphans[#orphans + 1] = finding.object
    elseif finding then
      located[#located + 1] = finding
    end
    report(nil, done, total)
  end
  local result = store:verify(request)
  progress()
  if result.forgotten then
    ctx.note("what is found here is not noted in the store: " .. result.forgotten .. "\n")
  end
  for i, finding in ipairs(located) do
    located[i] = damage.locate(store, finding)
    findings[i] = damage.text(located[i])
  end
  if not word and not ctx.options.quick and not ctx.options.sample then verify_database(store, findings) end
  return { subject = subject, findings = findings, files = result.objects, bytes = result.bytes,
    damage = located, orphans = orphans, good = goodness(ctx.options, subject, result, #orphans) }
end

-- An unpacked bundle may lie beside, under the name of its run: a directory is no bundle.
local function is_bundle(word)
  return word == "-" or sys.type(word) == "file" or word:find("%.tar") or word:find("^[./]")
end

local function verify_each(ctx)
  if #ctx.args == 0 then return { verify_store(ctx) } end
  local results = {}
  for i, word in ipairs(ctx.args) do
    if not is_bundle(word) then
      results[i] = verify_store(ctx, word)
    elseif ctx.options.quick or ctx.options.sample then
      errors.raise("usage", "--%s: a bundle is always read whole", ctx.options.quick and "quick" or "sample")
    else
      results[i] = verify_bundle(word, ctx.options)
    end
  end
  return results
end

local function print_text(ctx, result)
  for _, finding in ipairs(result.findings) do
    ctx.out(term.paint("bad: ", "red", ctx.color) .. term.clean(finding) .. "\n")
  end
  for _, name in ipairs(result.orphans or {}) do
    ctx.out("note: " .. term.clean(name) .. " in objects/ belongs to nothing (left by a crash, harmless)\n")
  end
  if #result.findings == 0 then ctx.out(term.clean(result.good) .. "\n") end
end

local function run(ctx)
  local results, bad, list = verify_each(ctx), false, json.array {}
  if ctx.csv then ctx.out(csv.line { "subject", "finding" }) end
  for i, result in ipairs(results) do
    local ok = #result.findings == 0
    bad = bad or not ok
    list[i] = { subject = result.subject, ok = ok, findings = json.array(result.findings),
      files = result.files, bytes = result.bytes, damage = result.damage, orphans = result.orphans }
    for _, finding in ipairs(ctx.csv and result.findings or {}) do
      ctx.out(csv.line { result.subject, finding })
    end
    if not ctx.json and not ctx.csv then print_text(ctx, result) end
  end
  if ctx.json then ctx.out(ctx.encode(list) .. "\n") end
  return bad and 1 or 0
end

return {
  summary = "check a bundle, a run's objects, or the store, against their digests",
  usage = "verify [RUN|BUNDLE.tar...]\nverify --quick [RUN...]\nverify --sample N/T [RUN...]",
  help = [[
With bundles, as zstd or encrypted by age, too, or - for the standard input: structure,
paths, and the SHA-256 of every file in the manifest. Of a safetensors file: its header.
With a run: the objects of its checkpoints, and what it logged as files.
Without: every object of the store is read and compared with its name, and the
database is checked. One line a finding: which object, and where it is known
which bytes, whose tensors these are, and the checkpoints that suffer. A damaged
checkpoint is not resumed from.

The bytes come from the disk, not from the memory that caches it. What a kill
cuts short goes on where it was, within seconds of work. --sample 1/10 reads a
tenth of the objects, 2/10 another tenth, and so on: ten nights, all of them.

A bundle needs no pioche to be checked:
  tar xf X.tar && cd X && sha256sum -c tagmanifest-sha256.txt manifest-sha256.txt

JSON: an array of {subject, ok, findings[], files, bytes}; of the store and of
runs also damage[{object, what, bytes, ranges[{from,to}], tensors[], checkpoints
[{id,run,step,rank,role}], logged[]}] and orphans[], files that nothing refers to.]],
  options = {
    { name = "quick", short = "q",
      help = "only that objects exist, with their size; not the database" },
    { name = "sample", arg = "N/T", help = "read the Nth of T equal parts of the objects" },
    { name = "full", help = "read every object (as without it)" },
    { name = "signers", arg = "FILE",
      help = "a bundle must have a signature X.tar.sig of somebody in FILE (ALLOWED SIGNERS of ssh-keygen)" },
    { name = "anew", help = "from the beginning, also where an earlier one was cut short" },
    age.options[1], age.options[2],
  },
  examples = "pioche verify\npioche verify gpt-17\npioche verify --sample 1/7\n"
    .. "pioche verify gpt-17.tar && echo good",
  exit_status = "  0    all is well\n  1    there is a finding\n  2    wrong usage\n"
    .. "  3    the system failed\n",
  run = run,
}
