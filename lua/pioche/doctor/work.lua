-- The work of the store: who supervises, attempts that are open, what waits in
-- staging/, journals and rings.
local sys = require "pioche.core.sys"

local ulid_pattern = "^" .. ("[0-9A-HJKMNP-TV-Z]"):rep(26) .. "$"

local work = {}

-- "3 journals of" or "1 journal of"
local function count_of(n, what)
  return n == 1 and "1 " .. what or n .. " " .. what .. "s"
end

-- Whoever drains an attempt holds this; nil where it cannot be asked for.
local function is_alive(path, dir)
  return sys.is_locked(path .. "/" .. dir .. "/agent.lock")
end

local function adopt(store)
  return function()
    store:adopt()
    return "taken in"
  end
end

-- ---- the lease ----------------------------------------------------------------------

-- Is it safe to tidy what only a supervisor works with?
local function check_lease(report, store)
  local look = store:lease_look()
  local function take_over()
    store:lease()
    store:lease_drop()
    return "given back"
  end
  if look.state == "free" then
    report("ok", "supervisor", "none is running")
  elseif look.state == "held" then
    report("ok", "supervisor", look.holder)
  elseif look.state == "dead" then
    report("warn", "supervisor", look.holder .. " is dead, and left its lease",
      "the next `pioche run` takes it over at once, and so does --fix", take_over)
  else
    report("warn", "supervisor", look.holder .. ", on another machine: from here nobody can tell whether"
      .. " it lives", ("`pioche run` and --fix watch it for %.0f s, and take over if it is silent")
      :format(look.silent_ms / 1000), take_over)
  end
  return look.state == "free" or look.state == "dead"
end

-- ---- attempts -----------------------------------------------------------------------

local function check_attempts(report, store, unsupervised)
  local path = store:path()
  local open = store:rows("SELECT a.*, e.name || '-' || r.number AS run FROM attempt a"
    .. " JOIN run r ON r.id = a.run_id JOIN experiment e ON e.id = r.experiment_id"
    .. " WHERE a.state <> 'ended' ORDER BY a.id")
  if #open == 0 then report("ok", "attempts", "none is open") end
  for _, attempt in ipairs(open) do
    local what = string.format("%s attempt %d is %s (%s%s)", attempt.run, attempt.number,
      attempt.state, attempt.launcher, attempt.agent_pid and ", pid " .. attempt.agent_pid
        or attempt.job and ", job " .. attempt.job or "")
    if is_alive(path, attempt.dir) ~= false or not (attempt.launcher == "standalone" or unsupervised) then
      report("ok", "attempts", what)
    elseif attempt.launcher == "standalone" then
      report("warn", "attempts", what .. ", and its process is gone", nil, adopt(store))
    else
      report("warn", "attempts", what .. ", without a supervisor", attempt.job
        and "`pioche run` of its recipe goes on with it" or "`pioche run` of its recipe settles it")
    end
  end
end

-- ---- what cannot be read -------------------------------------------------------------

-- Out of the way: what is in it cannot be read, and no attempt is over before
-- its journals are.
local function set_aside(store, row, name, why)
  local from = store:path() .. "/" .. row.dir .. "/" .. name
  local to, n = from .. ".damaged", 1
  while sys.type(to) do
    n = n + 1
    to = from .. ".damaged-" .. n
  end
  assert(sys.rename(from, to))
  if row.run_id then
    store:event(row.run_id, { kind = "journal", attempt_id = row.attempt_id,
      message = name .. " cannot be read (" .. why .. "), and was set aside as "
        .. to:match("[^/]+$") })
  end
  store:adopt()
  return "set aside as " .. to:match("[^/]+$")
end

-- ---- staging ------------------------------------------------------------------------

-- Entries of staging/: what waits to be taken in, and what nobody works with.
local function sort_staging(store, unsupervised)
  local path, known, waiting, dead, busy = store:path(), {}, {}, {}, 0
  for _, row in ipairs(store:rows("SELECT r.ulid AS ulid, a.number AS number, a.launcher AS launcher,"
    .. " a.state AS state FROM attempt a JOIN run r ON r.id = a.run_id")) do
    known[row.launcher == "standalone" and row.ulid or row.ulid .. "." .. row.number] = row.state
  end
  for _, name in ipairs(sys.list(path .. "/staging") or {}) do
    local alone = name:match(ulid_pattern)
    local attempt = not alone and name:match("^(%w+)%.%d+$")
    if known[name] == "ended" then
      dead[#dead + 1] = name
    elseif alone and not known[name] and is_alive(path, "runs/" .. name .. "/1") == false then
      waiting[#waiting + 1] = name
    elseif attempt and attempt:match(ulid_pattern) and not known[name] and unsupervised then
      dead[#dead + 1] = name
    elseif not name:find("^late%.") then -- its journals are looked at
      busy = busy + 1
    end
  end
  return waiting, dead, busy
end

-- A standalone run whose journal has no header was never taken in.
local function check_waiting(report, store, name)
  local dir, file = "runs/" .. name .. "/1", "journal.0"
  if sys.type(store:path() .. "/" .. dir .. "/" .. file) ~= "file" then return end
  local look = store:journal_look(dir .. "/" .. file)
  if look.readable then return end
  report("bad", "journals", dir .. "/" .. file .. " cannot be read: " .. look.why,
    "its run is not taken in until it is repaired, or set aside by --fix", function()
      return set_aside(store, { dir = dir }, file, look.why)
    end)
end

local function check_staging(report, store, unsupervised)
  local waiting, dead, busy = sort_staging(store, unsupervised)
  for _, name in ipairs(waiting) do check_waiting(report, store, name) end
  if #waiting > 0 then
    report("warn", "staging", count_of(#waiting, "run") .. " of ended processes "
      .. (#waiting == 1 and "waits" or "wait") .. " to be taken in",
      "any verb that reads does it, if it may write the store; so does --fix", adopt(store))
  end
  if #dead > 0 then
    report("warn", "staging", count_of(#dead, "folder") .. " of work that is over", nil, function()
      for _, name in ipairs(dead) do assert(sys.remove_tree(store:path() .. "/staging/" .. name)) end
      return "removed"
    end)
  end
  if #waiting + #dead == 0 then
    report("ok", "staging", busy == 0 and "empty" or count_of(busy, "folder") .. " of work that goes on")
  end
end

-- ---- journals -----------------------------------------------------------------------

-- Node and segment of a journal's file that may hold something unfolded.
local function segment_of(name)
  local node, segment = name:match("^journal%.(%d+)%.?(%d*)$")
  return math.tointeger(tonumber(node)), math.tointeger(tonumber(segment)) or 0
end

-- One finding at most. `from`: the offset up to which it is folded.
local function check_journal(report, store, row, name, from)
  local what = row.run .. " attempt " .. row.number .. ": " .. name
  local look = store:journal_look(row.dir .. "/" .. name, from)
  if not look.readable then
    report("bad", "journals", what .. " cannot be read: " .. look.why,
      "`pioche run` refuses until it is repaired, or set aside by --fix", function()
        return set_aside(store, row, name, look.why)
      end)
    return 1
  elseif row.state == "ended" and (look.records > 0 or not row.done) then
    report("warn", "journals", what .. " holds " .. count_of(look.records, "record")
      .. " that the database does not", nil, function()
        store:refold(row.attempt_id)
        return "folded in"
      end)
    return 1
  end
  return 0
end

-- The journals of an attempt; how many findings.
local function check_attempt(report, store, row)
  local path, found, by_node, there = store:path() .. "/" .. row.dir .. "/", 0, {}, {}
  local folded = store:rows("SELECT node, segment, offset, done FROM journal WHERE attempt_id = ?"
    .. " ORDER BY node", row.attempt_id)
  for _, journal in ipairs(folded) do by_node[journal.node] = journal end
  for _, name in ipairs(sys.list(path) or {}) do
    local node, segment = segment_of(name)
    local known = node and by_node[node] or { segment = 0, offset = 0, done = 0 }
    local from = segment == known.segment and known.offset or 0
    there[name:match("^journal%.(%d+)") or ""] = true -- compressed ones too
    row.done = known.done == 1 and segment <= known.segment
    if node and segment >= known.segment and not (row.done and from >= sys.stat(path .. name).size) then
      found = found + check_journal(report, store, row, name, from)
    end
  end
  for _, journal in ipairs(folded) do
    if journal.done == 0 and row.state == "ended" and not there[tostring(journal.node)] then
      found = found + 1
      report("warn", "journals", ("%s attempt %d: journal.%d is gone, folded to byte %d"):format(row.run,
        row.number, journal.node, journal.offset), "what it held behind that is lost, unless a backup has it")
    end
  end
  return found
end

-- Journals of attempts: what is there, what is not folded, what is gone.
local function check_journals(report, store)
  local found = 0
  for _, row in ipairs(store:rows("SELECT a.id AS attempt_id, a.run_id AS run_id, a.number AS number,"
    .. " a.state AS state, a.dir AS dir, e.name || '-' || r.number AS run FROM attempt a"
    .. " JOIN run r ON r.id = a.run_id JOIN experiment e ON e.id = r.experiment_id ORDER BY a.id")) do
    if row.state == "ended" or is_alive(store:path(), row.dir) == false then
      found = found + check_attempt(report, store, row)
    end
  end
  if found == 0 then report("ok", "journals", "all of ended attempts are in the database") end
end

-- Folders under runs/ that the database does not know.
local function check_strangers(report, store)
  local path, known, alone, others = store:path(), {}, {}, {}
  for row in store:each("SELECT ulid FROM run") do known[row.ulid] = true end
  for _, name in ipairs(sys.list(path .. "/runs") or {}) do
    if name:match(ulid_pattern) and not known[name] and sys.type(path .. "/staging/" .. name) == nil
      and is_alive(path, "runs/" .. name .. "/1") == false then
      local file = "runs/" .. name .. "/1/journal.0"
      local is_there = sys.type(path .. "/" .. file) or sys.type(path .. "/" .. file .. ".zst")
      local look = is_there == "file" and store:journal_look(file)
      table.insert(look and look.standalone and alone or others, name)
    end
  end
  if #alone > 0 then
    report("warn", "journals", count_of(#alone, "run") .. " of standalone programs "
      .. (#alone == 1 and "is" or "are") .. " not in the database: " .. table.concat(alone, " "), nil,
      function()
        for _, name in ipairs(alone) do assert(sys.mkdirs(path .. "/staging/" .. name)) end
        store:adopt()
        return "taken in"
      end)
  end
  if #others > 0 then
    report("warn", "journals", count_of(#others, "folder") .. " in runs/ belong to no run of the database: "
      .. table.concat(others, " "), "is pioche.db older than they are? Else remove them")
  end
end

-- ---- rings --------------------------------------------------------------------------

local function check_rings(report, store)
  local dir, path, left = sys.shared_memory().dir, store:path(), {}
  for _, name in ipairs(sys.list(dir) or {}) do
    local ulid, attempt = name:match("^pioche%-(%w+)%-(%d+)%-%d+%.ring$")
    local folder = ulid and "runs/" .. ulid .. "/" .. attempt
    if folder and sys.type(path .. "/" .. folder) == "dir" and is_alive(path, folder) == false then
      left[#left + 1] = name
    end
  end
  if #left > 0 then
    report("warn", "rings", count_of(#left, "ring") .. " of dead processes in " .. dir,
      "a verb that reads drains those of standalone runs and of nodes that died, `pioche run` those of"
      .. " its own", adopt(store))
  end
end

function work.check(report, store)
  local unsupervised = check_lease(report, store)
  check_attempts(report, store, unsupervised)
  check_journals(report, store)
  check_staging(report, store, unsupervised)
  check_rings(report, store)
  check_strangers(report, store)
end

return work
