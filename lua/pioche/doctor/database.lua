-- Is the database sound, and are the objects there?
local sys = require "pioche.core.sys"
local damage = require "pioche.damage"
local format = require "pioche.format"

local shown_max = 20 -- findings of one kind

local database = {}

-- report, but for the first few findings of a kind alone; then how many more.
local function limited(report, name)
  local count = 0
  return function(state, message, advice)
    count = count + 1
    if count <= shown_max then report(state, name, message, advice) end
  end, function()
    if count > shown_max then report("bad", name, count - shown_max .. " more of these") end
    return count
  end
end

local function check_pages(report, store, full)
  local say, close = limited(report, "database")
  local pragma = full and "integrity_check" or "quick_check"
  for _, row in ipairs(store:rows("SELECT * FROM pragma_" .. pragma)) do
    if row[pragma] ~= "ok" then
      say("bad", row[pragma], "copy pioche.db away, then `sqlite3 pioche.db .recover`")
    end
  end
  for _, row in ipairs(full and store:rows("SELECT * FROM pragma_foreign_key_check") or {}) do
    say("bad", string.format("%s row %s refers to a missing %s", row.table, row.rowid or "?", row.parent),
      "somebody else than pioche wrote to pioche.db: restore a backup")
  end
  if close() == 0 then
    local size = sys.stat(store:path() .. "/pioche.db")
    report("ok", "database", "sound" .. (size and ", " .. format.bytes(size.size) or "")
      .. (full and "" or "; --full reads every page and chunk"))
  end
end

local function check_points(report, store, fix, progress)
  local say, close = limited(report, "points")
  local result = store:check_points { fix = fix, report = function(finding, done, total)
    if not finding then
      progress("points", done, total)
    elseif finding:find("^series") then
      say(fix and "fixed" or "bad", finding .. (fix and ": counted anew" or ""),
        not fix and "`pioche doctor --full --fix` counts it anew" or nil)
    elseif not fix then
      say("bad", finding, "`pioche doctor --full --fix` reads its points again from the journal")
    end
  end }
  if close() == 0 and result.bad_chunks == 0 then
    report("ok", "points", string.format("%s in %s chunks of %s series, all as their rows say",
      format.count(result.points), format.count(result.chunks), format.count(result.series)))
  end
end

-- What a check or a fold could not decode, and noted.
local function check_damage(report, store)
  for _, row in ipairs(store:rows("SELECT e.attempt_id, e.rank, x.name || '-' || r.number AS run,"
    .. " a.number, count(*) AS count, max(e.message) AS message FROM event e JOIN attempt a"
    .. " ON a.id = e.attempt_id JOIN run r ON r.id = e.run_id JOIN experiment x ON x.id = r.experiment_id"
    .. " WHERE e.kind = 'damage' GROUP BY e.attempt_id, e.rank ORDER BY e.attempt_id, e.rank")) do
    report("bad", "points", string.format("%s attempt %d, points of rank %d: %s%s", row.run, row.number,
      row.rank, row.message, row.count > 1 and " (and " .. row.count - 1 .. " more)" or ""), nil, function()
      return format.count(store:mend_points(row.attempt_id, row.rank))
        .. " points were read again from the journal"
    end)
  end
end

-- What a reread found wrong earlier; a quick look does not see it.
local function known_bad(store)
  local sql = "SELECT sha256 AS object, verified AS what, bytes FROM object WHERE verified"
    .. " NOT IN ('write', 'quick', 'reread') ORDER BY sha256"
  local list = store:rows(sql)
  for _, finding in ipairs(list) do finding.ranges = {} end
  return list
end

local function check_objects(report, store, progress)
  local say, close = limited(report, "objects")
  local told = {}
  local function tell(finding, advice)
    if told[finding.object] then return end
    told[finding.object] = true
    say("bad", damage.text(damage.locate(store, finding)), advice)
  end
  local findings = {}
  local result = store:verify { quick = true, report = function(finding, done, total)
    if not finding then
      progress("objects", done, total)
    elseif not finding.orphan then
      findings[#findings + 1] = finding
    end
  end }
  for _, finding in ipairs(findings) do
    tell(finding, "its checkpoints are not resumed from; `pioche verify` reads every byte")
  end
  for _, finding in ipairs(known_bad(store)) do
    tell(finding, "found by `pioche verify`, which looks again; its checkpoints are not resumed from")
  end
  if result.orphans > 0 then
    report("warn", "objects", string.format("%d file%s in objects/ belong%s to nothing (left by a crash)",
      result.orphans, result.orphans == 1 and "" or "s", result.orphans == 1 and "s" or ""),
      "harmless but for the room they take; saving the same again adopts them, `pioche verify` names them")
  end
  if close() == 0 and result.orphans == 0 then
    local encoded = store:one("SELECT count(*) AS objects, sum(bytes) AS bytes, sum(stored_bytes) AS stored"
      .. " FROM object WHERE codec IS NOT NULL")
    report("ok", "objects", string.format("%s, %s", format.count(result.objects),
      format.bytes(result.bytes)) .. (encoded.objects > 0 and (", of which %s, %s, are encoded as %s"):format(
      format.count(encoded.objects), format.bytes(encoded.bytes), format.bytes(encoded.stored)) or ""))
  end
end

function database.check(report, store, options, progress)
  check_pages(report, store, options.full)
  if options.full then check_points(report, store, options.fix, progress) end
  check_damage(report, store)
  check_objects(report, store, progress)
end

return database
