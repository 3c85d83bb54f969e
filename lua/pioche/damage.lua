-- damage.lua: what a damaged or missing object means: which tensors the bytes
-- belong to, whose they are, and which checkpoints suffer.
local json = require "pioche.core.json"

local damage = {}

local names_shown = 3

-- Names of the tensors that [from, to) touches, in the order of the file; `header`
-- first where the range begins before all of them.
local function add_tensors(store, object, range, names, seen)
  local first = store:one("SELECT min(offset) AS offset FROM tensor WHERE sha256 = ?", object).offset
  if first and range[1] < first and not seen[""] then
    seen[""] = true
    names[#names + 1] = "its header"
  end
  for row in store:each("SELECT name FROM tensor WHERE sha256 = ?1 AND offset < ?3"
    .. " AND offset + bytes > ?2 ORDER BY offset, name", object, range[1], range[2]) do
    if not seen[row.name] then
      seen[row.name] = true
      names[#names + 1] = row.name
    end
  end
end

-- A finding of store:verify, with what it means: { object, what, orphan, bytes,
-- ranges, tensors (names), checkpoints = { { id, run, step, rank, role } },
-- logged = { { run, kind, key, step } } }.
function damage.locate(store, finding)
  local names, seen = {}, {}
  for _, range in ipairs(finding.ranges) do add_tensors(store, finding.object, range, names, seen) end
  finding.tensors = json.array(names)
  finding.checkpoints = json.array(store:rows("SELECT c.id, x.name || '-' || r.number AS run, c.step,"
    .. " f.rank, f.role FROM checkpoint_file f JOIN checkpoint c ON c.id = f.checkpoint_id"
    .. " JOIN run r ON r.id = c.run_id JOIN experiment x ON x.id = r.experiment_id"
    .. " WHERE f.sha256 = ? AND c.state = 'sealed' ORDER BY c.id DESC, f.rank, f.role", finding.object))
  finding.logged = json.array(store:rows("SELECT x.name || '-' || r.number AS run, m.kind, m.key, m.step"
    .. " FROM media m JOIN run r ON r.id = m.run_id JOIN experiment x ON x.id = r.experiment_id"
    .. " WHERE m.sha256 = ? ORDER BY m.id", finding.object))
  finding.ranges = json.array(finding.ranges)
  return finding
end

local function some(list, word, text)
  local shown = {}
  for i = 1, math.min(#list, names_shown) do shown[i] = text(list[i]) end
  local more = #list - #shown
  if more > 0 then shown[#shown + 1] = string.format("%d more %s%s", more, word, more == 1 and "" or "s") end
  if #shown < 2 then return shown[1] end
  return table.concat(shown, ", ", 1, #shown - 1) .. " and " .. shown[#shown]
end

-- One line of what `locate` found.
function damage.text(located)
  local parts = { "object " .. located.object .. " " .. located.what }
  local ranges = some(located.ranges, "range", function(range)
    return string.format("%d to %d", range[1], range[2] - 1)
  end)
  if ranges then parts[1] = string.format("%s: bytes %s of %d", parts[1], ranges, located.bytes) end
  if #located.tensors > 0 then
    parts[1] = parts[1] .. ", in " .. some(located.tensors, "tensor", tostring)
  end
  parts[2] = some(located.checkpoints, "checkpoint", function(of)
    return string.format("rank %d's %s of %s at step %d", of.rank, of.role, of.run, of.step)
  end)
  parts[#parts + 1] = some(located.logged, "log", function(of)
    return string.format("%s '%s' of %s", of.kind, of.key, of.run)
  end)
  return table.concat(parts, "; ")
end

return damage
