-- gc: drop what no rule keeps, and what crashes left.
local json = require "pioche.core.json"
local checkpoints = require "pioche.checkpoints"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local format = require "pioche.format"
local project = require "pioche.project"
local query = require "pioche.query"
local retention = require "pioche.retention"
local runs = require "pioche.runs"
local sys = require "pioche.core.sys"
local term = require "pioche.term"

-- The rule for a run: what the options say, over what its recipe said, over what the
-- project's file says; nil where none of them says anything, and all is kept.
local function rule_of(ctx, store, run, of_project)
  local options = ctx.options
  local job = store:one("SELECT job FROM run WHERE id = ?", run.id).job
  local keep = job and json.decode(job).keep
  if not keep and of_project and next(of_project) then
    keep = project.merge("keep", nil, { keep = of_project })
  end
  if options.last or options.best or options.every then
    keep = { last = options.last or 0, best = options.best or 0, every = options.every }
  end
  if not keep then return nil end
  local goal = run.goal_key and { key = runs.metric(store, run.goal_key).key, goal = run.goal }
  return retention.rule(keep, goal)
end

-- Bytes of objects that only these checkpoints need.
local function bytes_of(store, ids)
  return store:one("SELECT coalesce(sum(coalesce(o.stored_bytes, o.bytes)), 0) AS bytes FROM object o WHERE"
    .. " EXISTS (SELECT 1 FROM checkpoint_file f WHERE f.sha256 = o.sha256 AND f.checkpoint_id IN (SELECT value FROM"
    .. " json_each(?1))) AND NOT EXISTS (SELECT 1 FROM checkpoint_file f JOIN checkpoint c ON"
    .. " c.id = f.checkpoint_id WHERE f.sha256 = o.sha256 AND c.state = 'sealed' AND c.id NOT IN (SELECT"
    .. " value FROM json_each(?1))) AND NOT EXISTS (SELECT 1 FROM media m WHERE m.sha256 = o.sha256)",
    "[" .. table.concat(ids, ",") .. "]").bytes
end

-- Read what has to be read again, as often as another has to be, then drop. What came
-- between: why it was not done.
local function drop(store, run, rule)
  local read = {}
  while true do
    local unread = store:checkpoint_retain(run.id, rule)
    if not unread then return nil end
    if read[unread] then return "its newest checkpoint cannot be read again" end
    read[unread] = true
    local progress = term.progress("reading again what stays of " .. run.name, format.bytes)
    store:verify { checkpoint = unread, report = function(_, done, total) progress(done, total) end }
    progress()
  end
end

-- What others are decoded with now, and were not when it was judged, stayed.
local function look_what_stayed(store, result)
  local dropped, stayed = {}, {}
  for _, row in ipairs(result.dropped) do
    if store:one("SELECT id FROM checkpoint WHERE id = ? AND state = 'sealed'", row.id) then
      row.why = "anchor"
      result.kept[#result.kept + 1] = row
      stayed[#stayed + 1] = row.id
    else
      dropped[#dropped + 1] = row
    end
  end
  if #stayed == 0 then return end
  result.dropped, result.bytes = dropped, result.bytes - bytes_of(store, stayed)
  table.sort(result.kept, function(a, b) return a.step < b.step or a.step == b.step and a.id < b.id end)
end

-- One run: { run, kept, dropped = { rows with bytes }, bytes, why (nothing was done) }.
local function collect(ctx, store, run, of_project)
  local rule = rule_of(ctx, store, run, of_project)
  if not rule then return nil end
  local by_id, result = {}, { run = run, kept = {}, dropped = {}, bytes = 0 }
  for _, row in ipairs(checkpoints.list(store, { run.id })) do by_id[row.id] = row end
  local ids = {}
  for _, judged in ipairs(store:checkpoint_judge(run.id, rule)) do
    local row = by_id[judged.id]
    if row and judged.why then
      row.why = judged.why
      table.insert(result.kept, 1, row)
    elseif row then
      table.insert(result.dropped, 1, row)
      ids[#ids + 1] = row.id
    end
  end
  if #ids > 0 then
    result.bytes = bytes_of(store, ids)
    if not ctx.options.dry_run then
      result.why = drop(store, run, rule)
      if not result.why then look_what_stayed(store, result) end
    end
  end
  return result
end

-- ---- what crashes left ---------------------------------------------------------------

-- Files under objects/ without a row: how many, how many bytes.
local function sweep_orphans(ctx, store)
  local names, count, bytes = {}, 0, 0
  store:verify { quick = true, report = function(finding)
    local digits = finding and finding.orphan and finding.object:gsub("%.enc$", "")
    if digits and #digits == 64 and not digits:find("%X") then
      names[#names + 1] = finding.object
    end
  end }
  for _, name in ipairs(names) do
    local there = sys.stat(("%s/objects/%s/%s"):format(store:path(), name:sub(1, 2), name))
    local size = ctx.options.dry_run and (there and there.size or false) or nil
    if size == nil then size = store:orphan_remove(name) end
    if size then count, bytes = count + 1, bytes + size end
  end
  return count, bytes
end

-- Staging of owners that are gone, and drops that were cut short. Only who holds the
-- lease may do this: an attempt could begin meanwhile.
local function sweep_staging(ctx)
  local store = ctx.store("write")
  local ok, message, code = store:lease()
  if not ok then
    if code ~= "busy" then errors.check(ok, message, code) end
    ctx.note("staging is left to the supervisor, which is at work\n")
    return
  end
  local done, why, word = store:recover()
  store:lease_drop()
  errors.check(done, why, word)
end

-- ---- telling ----------------------------------------------------------------------------

local function steps(rows, of)
  local parts = {}
  for i, row in ipairs(rows) do parts[i] = of(row) end
  return table.concat(parts, ", ")
end

local function print_run(ctx, result)
  if #result.dropped == 0 then return end
  local verb = result.why and "would drop" or ctx.options.dry_run and "would drop" or "dropped"
  ctx.out(("%s: %s %s (%s)%s; keeps %s\n"):format(result.run.name, verb,
    steps(result.dropped, function(row) return "@" .. row.step end), format.bytes(result.bytes),
    result.why and ", but " .. result.why or "",
    steps(result.kept, function(row) return ("@%d (%s)"):format(row.step, row.why) end)))
end

local function rows_json(rows)
  local list = json.array {}
  for i, row in ipairs(rows) do
    list[i] = { id = row.sha256, name = row.name, step = row.step, bytes = row.bytes,
      why = row.why or json.null }
  end
  return list
end

local function print_all(ctx, results, orphans, orphan_bytes)
  local freed, count, list = orphan_bytes, 0, json.array {}
  for i, result in ipairs(results) do
    if not result.why then freed, count = freed + result.bytes, count + #result.dropped end
    list[i] = { run = result.run.name, kept = rows_json(result.kept), dropped = rows_json(result.dropped),
      bytes = result.bytes, refused = result.why or json.null }
  end
  if ctx.json then
    ctx.out(ctx.encode { dry_run = ctx.options.dry_run or false, runs = list, orphans = orphans,
      orphan_bytes = orphan_bytes, bytes = freed } .. "\n")
    return
  elseif ctx.csv then
    ctx.out(csv.line { "run", "step", "id", "bytes", "done", "why" })
    for _, result in ipairs(results) do
      for _, row in ipairs(result.dropped) do
        ctx.out(csv.line({ result.run.name, row.step, row.sha256, row.bytes,
          (ctx.options.dry_run or result.why) and "would drop" or "dropped", result.why }, 6))
      end
      for _, row in ipairs(result.kept) do
        ctx.out(csv.line { result.run.name, row.step, row.sha256, row.bytes, "kept", row.why })
      end
    end
    return
  end
  for _, result in ipairs(results) do print_run(ctx, result) end
  ctx.out(("%s %d checkpoint%s and %d orphan%s, %s\n"):format(
    ctx.options.dry_run and "would drop" or "dropped", count, count == 1 and "" or "s", orphans,
    orphans == 1 and "" or "s", format.bytes(freed)))
end

local function run(ctx)
  local store = ctx.options.dry_run and ctx.reading() or ctx.writing()
  local root = store:path():match("^(.*)/[^/]+/?$") or "."
  local of_project = project.load(root).keep
  if not ctx.options.dry_run then sweep_staging(ctx) end
  local results, refused, ids, saved = {}, false, {}, {}
  for _, id in ipairs(store:column("SELECT DISTINCT run_id FROM checkpoint")) do saved[id] = true end
  for _, id in ipairs((query.choose(store, ctx.args, {}))) do
    if saved[id] then ids[#ids + 1] = id end
  end
  for _, found in ipairs(runs.load(store, ids)) do
    local result = collect(ctx, store, found, of_project)
    results[#results + 1] = result
    refused = refused or result and result.why ~= nil
  end
  local orphans, bytes = sweep_orphans(ctx, store)
  print_all(ctx, results, orphans, bytes)
  return refused and 1 or 0
end

return {
  summary = "drop checkpoints that no rule keeps, and what crashes left",
  usage = "gc [RUN|EXPERIMENT|QUERY...] [--dry-run] [--last N] [--best N] [--every STEPS]",
  help = [[
Each run keeps what its recipe's `keep` says (`pioche help keep`): the newest
checkpoints, the best ones, one for every so many steps, and beside these what is
pinned (`pioche checkpoint pin`), what a run that is open starts from, what others are
decoded with (`pioche checkpoint encode`), and what is damaged. A supervisor applies
the rule while it runs; this does it now, for runs that are over too. Runs that were
started without a recipe keep all, unless pioche.lua has a `keep` or an option says
what.

Nothing is dropped before the newest of those that stay was read again from the
disk. Files under objects/ that nothing refers to, and staging of owners that are
gone, go as well. --dry-run tells what would go, why the others stay, and how many
bytes that is, and changes nothing.

JSON: {dry_run, runs[{run, kept[{id, name, step, bytes, why}], dropped[...], bytes,
refused}], orphans, orphan_bytes, bytes}.]],
  options = {
    { name = "dry-run", help = "say what would be done, and do nothing" },
    { name = "last", arg = "N", type = "integer", min = 0, help = "keep so many of the newest" },
    { name = "best", arg = "N", type = "integer", min = 0, help = "keep so many of the best" },
    { name = "every", arg = "STEPS", type = "integer", min = 1,
      help = "keep the first at or after each multiple of so many steps" },
  },
  examples = "pioche gc --dry-run\npioche gc 'status = finished' --last 1 --best 1",
  run = run,
}
