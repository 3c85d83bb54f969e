-- pool.lua: which run goes where in an allocation of many nodes, and whether it may
-- start at all. Pure functions of tables:
--
-- A pool is { nodes = { name, ... in Slurm's order }, slots = into how many parts each
-- node is split, last_ns = what starts in it is to have ended by then, usable_s = how
-- long it was of use from its beginning, bad = { [name] = true }, taken = { [name] =
-- { [slot] = { until_ns = when that is thought to end } } } }; slots count from 0.
-- A want is { nodes = how many, slots = of each of them, need_s = seconds it takes, or
-- nil where nobody knows, exclude = { [name] = true } or nil }.
-- A place is { hosts = names, slots = of each host a list, until_ns }.
local pool = {}

local margin_part <const>, margin_s_max <const> = 20, 60

-- Slurm's clock is not ours, and a job takes a while to begin: this part of an
-- allocation's time is left unused, at its beginning as at its end.
local function margin_s(time_s)
  return math.min(margin_s_max, time_s // margin_part)
end

-- How long an allocation of time_s is of use: until its runs are told of its end.
function pool.usable_s(time_s, warn_s)
  return time_s - math.min(warn_s, time_s // 2) - margin_s(time_s)
end

-- The longest run that surely finds its time in it.
function pool.longest_s(time_s, warn_s)
  return pool.usable_s(time_s, warn_s) - margin_s(time_s)
end

-- How much of the pool's time must be left for a want to start. Where nobody knows,
-- or it is longer than any pool: half of all, so that at the least it gets that far.
function pool.need_s(p, want)
  local half = p.usable_s // 2
  if not want.need_s or want.need_s > p.longest_s then return half end
  return want.need_s
end

-- Of each good node the slots that are free now, or, with at_ns, are thought to be
-- then: { [name] = { [slot] = true, count = n } }; without those of the place `besides`.
local function free_slots(p, at_ns, besides)
  local free = {}
  for _, name in ipairs(p.nodes) do
    local slots, taken = { count = 0 }, p.taken[name] or {}
    for slot = 0, p.bad[name] and -1 or p.slots - 1 do
      if not taken[slot] or (at_ns and taken[slot].until_ns <= at_ns) then
        slots[slot], slots.count = true, slots.count + 1
      end
    end
    free[name] = slots
  end
  for i, name in ipairs(besides and besides.hosts or {}) do
    for _, slot in ipairs(besides.slots[i]) do
      if free[name][slot] then free[name][slot], free[name].count = nil, free[name].count - 1 end
    end
  end
  return free
end

-- So many of a list: of neighbours in it the shortest row that has enough, else the
-- first that will do; nil where there are too few.
local function best_fit(list, count, will_do)
  local best, row, all = nil, {}, {}
  local function close()
    if #row >= count and (not best or #row < #best) then best = row end
    row = {}
  end
  for _, item in ipairs(list) do
    if will_do(item) then
      row[#row + 1], all[#all + 1] = item, item
    else
      close()
    end
  end
  close()
  local from = best or all
  return #from >= count and table.move(from, 1, count, 1, {}) or nil
end

-- A place for the want among free slots, on nodes that have as few as possible to spare.
local function find(p, want, free)
  local numbers, place = {}, nil
  for slot = 0, p.slots - 1 do numbers[slot + 1] = slot end
  for most = want.slots, p.slots do
    local hosts = best_fit(p.nodes, want.nodes, function(name)
      local count = not (want.exclude and want.exclude[name]) and free[name].count or 0
      return count >= want.slots and count <= most
    end)
    if hosts then
      place = { hosts = hosts, slots = {} }
      break
    end
  end
  for i, name in ipairs(place and place.hosts or {}) do
    place.slots[i] = best_fit(numbers, want.slots, function(slot) return free[name][slot] end)
  end
  return place
end

-- When the want will find its place, as far as is known.
local function reserve(p, want, need_ns, now_ns)
  local times = {}
  for _, slots in pairs(p.taken) do
    for _, taken in pairs(slots) do times[#times + 1] = math.max(taken.until_ns, now_ns) end
  end
  table.sort(times)
  for i, at_ns in ipairs(times) do
    if at_ns + need_ns <= p.last_ns and at_ns ~= times[i - 1] and find(p, want, free_slots(p, at_ns)) then
      return { want = want, at_ns = at_ns }
    end
  end
end

-- The next of the wants, in their order, that may start now: its number and its place,
-- until when it is thought to be there. The first one that has to wait for nodes has a
-- reservation: those behind it start only if they end before its time, or leave it enough.
function pool.next(p, wants, now_ns)
  local free, held = free_slots(p), nil
  for i, want in ipairs(wants) do
    local need_ns = pool.need_s(p, want) * 1000000000
    if now_ns + need_ns <= p.last_ns then
      local place = find(p, want, free)
      if not place then
        held = held or reserve(p, want, need_ns, now_ns)
      elseif not held or now_ns + need_ns <= held.at_ns
        or find(p, held.want, free_slots(p, held.at_ns, place)) then
        place.until_ns = now_ns + need_ns
        return i, place
      end
    end
  end
end

-- Can it still start in this pool, now or later?
function pool.may_start(p, want, now_ns)
  local good = 0
  for _, name in ipairs(p.nodes) do
    if not p.bad[name] then good = good + 1 end
  end
  return good >= want.nodes and now_ns + pool.need_s(p, want) * 1000000000 <= p.last_ns
end

-- The names that a want may well do without in this pool.
function pool.can_avoid(p, nodes, names)
  local set, good = {}, 0
  for _, name in ipairs(names) do set[name] = true end
  for _, name in ipairs(p.nodes) do
    if not p.bad[name] and not set[name] then good = good + 1 end
  end
  return good >= nodes and set or nil
end

return pool
