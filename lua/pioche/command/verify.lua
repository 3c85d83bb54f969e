-- verify: are the bytes what they claim to be: of bundles, or of the store.
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local format = require "pioche.format"
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

local function verify_bundle(path)
  local pack = require "pioche.core.pack"
  local findings, report, progress = collector("verifying " .. path)
  local result, message, code = pack.verify(path, { report = report })
  progress()
  if not result then
    if code ~= "corrupt" then errors.check(result, message, code) end
    if #findings == 0 then findings[1] = message end
  end
  return { subject = path, findings = findings, files = result and result.files,
    bytes = result and result.bytes,
    good = result and string.format("%s: good: %s, %s", path, result.tensors and format.count(result.tensors)
      .. (result.tensors == 1 and " tensor" or " tensors") or result.files .. " files",
      format.bytes(result.bytes)) }
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

local function verify_store(ctx)
  local store = ctx.reading()
  local findings, report, progress = collector("verifying " .. store:path())
  local result = store:verify { full = not ctx.options.quick, report = report }
  progress()
  if not ctx.options.quick then verify_database(store, findings) end
  local orphans = result.orphans or 0
  return { subject = store:path(), findings = findings, files = result.objects,
    bytes = result.bytes,
    good = string.format("%s: good: %s objects, %s%s%s", store:path(),
      format.count(result.objects), format.bytes(result.bytes),
      ctx.options.quick and " (existence and size only)" or ", every byte read",
      orphans > 0 and string.format("; %d orphans of interrupted work", orphans) or "") }
end

local function run(ctx)
  local results, bad = {}, false
  if #ctx.args == 0 then results[1] = verify_store(ctx) end
  if #ctx.args > 0 and ctx.options.quick then
    errors.raise("usage", "--quick: a bundle is always read whole")
  end
  for i, path in ipairs(ctx.args) do results[i] = verify_bundle(path) end
  if ctx.csv then ctx.out(csv.line { "subject", "finding" }) end
  local list = json.array {}
  for i, result in ipairs(results) do
    local ok = #result.findings == 0
    bad = bad or not ok
    list[i] = { subject = result.subject, ok = ok, findings = json.array(result.findings),
      files = result.files, bytes = result.bytes }
    for _, finding in ipairs(result.findings) do
      if ctx.csv then
        ctx.out(csv.line { result.subject, finding })
      elseif not ctx.json then
        ctx.out(term.paint("bad: ", "red", ctx.color) .. term.clean(finding) .. "\n")
      end
    end
    if ok and not ctx.json and not ctx.csv then ctx.out(term.clean(result.good) .. "\n") end
  end
  if ctx.json then ctx.out(ctx.encode(list) .. "\n") end
  return bad and 1 or 0
end

return {
  summary = "check a bundle, or the store, against its digests",
  usage = "verify [BUNDLE.tar...]\nverify --quick",
  help = [[
With bundles, as zstd too, or - for the standard input: structure, paths, and the
SHA-256 of every file in the manifest. Of a safetensors file: its header.
Without: every object of the store is read and compared with its name, and the
database is checked. One line a finding.

A bundle needs no pioche to be checked:
  tar xf X.tar && cd X && sha256sum -c tagmanifest-sha256.txt manifest-sha256.txt

JSON: an array of {subject, ok, findings[], files, bytes}.]],
  options = {
    { name = "quick", short = "q",
      help = "the store: only that objects exist, with their size; not the database" },
  },
  examples = "pioche verify\npioche verify gpt-17.tar && echo good",
  exit_status = "  0    all is well\n  1    there is a finding\n  2    wrong usage\n"
    .. "  3    the system failed\n",
  run = run,
}
