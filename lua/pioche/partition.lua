-- partition.lua: what the partitions of Slurm have in all, whatever of it works now:
-- so that a job which waits for a node to come back is told from one that never can run.
local sys = require "pioche.core.sys"

local partition = {}

local ask_s = 30

-- What a program of Slurm says; nil where it does not in time.
local function ask(...)
  local result = sys.run { argv = { ... }, timeout_s = ask_s }
  return result and result.status == 0 and result.stdout or nil
end

-- States of nodes that a job can be given now or when others are done with them; a
-- mark behind one of them is power saving, or that the scheduler has plans with it.
local usable = { idle = true, allocated = true, mixed = true, completing = true, planned = true }

local function is_usable(state)
  local word, mark = state:match("^(%l+)(%A*)$")
  return word ~= nil and usable[word] and not mark:find("[*$@^!%%]")
end

-- GPUs a node in a text of Slurm's, "gpu:h100:8(S:0-1)"; nil where it names none.
function partition.gpus(gres)
  for item in gres:gmatch("[^,]+") do
    local rest = item:match("^gpu(.*)$") or item:match("^gres/gpu(.*)$")
    if rest and (rest == "" or rest:sub(1, 1) == ":") then
      return math.tointeger(tonumber(rest:match(":(%d+)$") or rest:match(":(%d+)%(") or 1))
    end
  end
end

-- The partitions that a launch may use: what it says, wherever it says it.
local function names_of(options)
  local names = options.partition
  for _, flag in ipairs(options.flags or {}) do
    names = flag:match("^%-%-partition=(.+)$") or flag:match("^%-p=?(.+)$") or names
  end
  return names or sys.getenv("SBATCH_PARTITION")
end

-- The nodes of those partitions, by the partition's name: { nodes = { { name, usable,
-- cpus, gpus } }, most = nodes that a job may have }. nil where Slurm does not tell:
-- it does not answer, or its nodes are private.
function partition.list(options)
  local names = names_of(options)
  local text = ask("sinfo", "--noheader", "--Node", "--format=%P|%N|%T|%c|%s|%G",
    table.unpack { names and "--partition=" .. names })
  local found = {}
  for line in (text or ""):gmatch("[^\n]+") do
    local name, node, state, cpus, size, gres = line:match("^(.-)|(.-)|(.-)|(%d+)%+?|(.-)|(.*)$")
    if name and (names or name:sub(-1) == "*") then
      name = name:gsub("%*$", "")
      found[name] = found[name] or { nodes = {}, most = tonumber(size:match("%d+$")) or math.huge }
      table.insert(found[name].nodes, { name = node, usable = is_usable(state), cpus = tonumber(cpus),
        gpus = partition.gpus(gres) or 0 })
    end
  end
  return next(found) and found
end

-- The nodes of a list in Slurm's form, as a set.
local function set_of(list)
  local set = {}
  if not list then return set end
  for name in (ask("scontrol", "show", "hostnames", list) or ""):gmatch("%S+") do set[name] = true end
  return set
end

-- Those of the names that are nodes there; all of them where Slurm does not tell.
function partition.known(options, names)
  local found, known, there = partition.list(options), {}, {}
  if not found then return names end
  for _, part in pairs(found) do
    for _, node in ipairs(part.nodes) do there[node.name] = true end
  end
  for _, name in ipairs(names) do
    if there[name] then known[#known + 1] = name end
  end
  return known
end

-- How many nodes a launch could have of a partition, at most; and whether some of
-- them do not work now. asked: { nodes, cpus, gpus }, the latter of each node.
local function fitting(part, excluded, asked)
  local count, lacks_some = 0, false
  for _, node in ipairs(part.nodes) do
    if not excluded[node.name] and node.cpus >= asked.cpus and node.gpus >= asked.gpus then
      count = count + 1
      lacks_some = lacks_some or not node.usable
    end
  end
  return math.min(count, part.most), lacks_some
end

-- Slurm has said that it has no nodes for such a launch: is that so for ever? False
-- where nodes that are down, drained or reserved may come back, and where nobody can
-- tell. Else true, and what there is where it is too little.
function partition.never_has(options, asked)
  local found, excluded, best = partition.list(options), set_of(options.exclude), nil
  for name, part in pairs(found or {}) do
    local count, lacks_some = fitting(part, excluded, asked)
    if count >= asked.nodes and lacks_some then return false end
    if not best or count > best.count or (count == best.count and name < best.name) then
      best = { name = name, count = count, all = #part.nodes }
    end
  end
  if not best then return false end
  if best.count >= asked.nodes then return true end -- it is something else, which Slurm knows
  return true, ("partition %s has %d node%s%s, and it needs %d"):format(best.name, best.all,
    best.all == 1 and "" or "s",
    best.count < best.all and (", of which a job like this could have %d"):format(best.count) or "",
    asked.nodes)
end

return partition
