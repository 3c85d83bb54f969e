-- processes.lua: which processes on this machine belong to an attempt: by the mark
-- that agents and ranks carry in their environment, the head by its command line.
local sys = require "pioche.core.sys"

local processes = {}

local function environment(pid)
  local text = sys.read_file("/proc/" .. pid .. "/environ")
  return text and "\0" .. text .. "\0" or nil
end

local function parent_and_session(pid)
  local text = sys.read_file("/proc/" .. pid .. "/stat") or ""
  -- The name before the last ')' may hold anything.
  local state, parent, session = text:match(".*%) (%a) (%d+) %d+ (%d+)")
  return state, math.tointeger(tonumber(parent)), math.tointeger(tonumber(session))
end

-- { ranks = { [rank] = { pid, node } }, agents = { [node] = { pid, keeper } }, head =
-- pid or nil } of the attempt whose directory ends so: "runs/<ulid>/<number>". Another
-- user's processes are not seen.
function processes.of(dir)
  local found = { ranks = {}, agents = {} }
  local marked = {}
  local place = "[^\0]*/" .. dir:gsub("%p", "%%%0") .. "\0"
  local mark, head = "\0PIOCHE_DIR=" .. place, "\0agent\0%-%-head\0" .. place
  for _, name in ipairs(sys.list("/proc") or {}) do
    local pid = name:match("^%d+$") and math.tointeger(tonumber(name))
    local env = pid and environment(pid)
    if env and env:find(mark) then
      local state, parent, session = parent_and_session(pid)
      if state and state ~= "Z" and state ~= "X" then
        marked[pid] = { pid = pid, parent = parent, session = session, env = env }
      end
    elseif env and (sys.read_file("/proc/" .. pid .. "/cmdline") or ""):find(head) then
      found.head = pid
    end
  end
  for pid, process in pairs(marked) do
    local rank = math.tointeger(tonumber(process.env:match("\0RANK=(%d+)\0")))
    -- A rank leads the group of processes that its agent put it into (setsid); what it started does not.
    if rank and process.session == pid and marked[process.parent] then
      local node = math.tointeger(tonumber(process.env:match("\0GROUP_RANK=(%d+)\0"))) or 0
      found.ranks[rank] = { pid = pid, node = node }
      found.agents[node] = { pid = process.parent }
    end
  end
  for _, agent in pairs(found.agents) do
    local parent = marked[agent.pid].parent
    if marked[parent] and parent ~= found.head then agent.keeper = parent end
  end
  return found
end

return processes
