-- pool.lua: which run goes where in an allocation of many nodes, and whether it may
-- start at all. Pure functions of tables:
--
-- A pool is { nodes = { name, ... in Slurm's order }, last_ns = what starts in it is to
-- have ended by then, usable_s = how long it was of use from its beginning, bad =
-- { [name] = true }, taken = { [name] = { until_ns = when that is thought to end } } }.
-- A want is { nodes = how many, need_s = seconds it takes, or nil where nobody knows,
-- exclude = { [name] = true } or nil }.
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

-- Nodes that are free now, or, with at_ns, are thought to be then.
local function is_free(p, want, name, at_ns, besides)
  local taken = p.taken[name]
  return not p.bad[name] and not (want.exclude and want.exclude[name]) and not (besides and besides[name])
    and (not taken or (at_ns ~= nil and taken.until_ns <= at_ns))
end

-- The best fit: of neighbours in Slurm's order the shortest row that has enough, else
-- the first that are free; nil where there are too few.
local function find(p, want, at_ns, besides)
  local best, row, all = nil, {}, {}
  local function close()
    if #row >= want.nodes and (not best or #row < #best) then best = row end
    row = {}
  end
  for _, name in ipairs(p.nodes) do
    if is_free(p, want, name, at_ns, besides) then
      row[#row + 1], all[#all + 1] = name, name
    else
      close()
    end
  end
  close()
  local from = best or all
  return #from >= want.nodes and table.move(from, 1, want.nodes, 1, {}) or nil
end

-- When the want will find its nodes, as far as is known.
local function reserve(p, want, need_ns, now_ns)
  local times = {}
  for _, taken in pairs(p.taken) do times[#times + 1] = math.max(taken.until_ns, now_ns) end
  table.sort(times)
  for _, at_ns in ipairs(times) do
    if at_ns + need_ns <= p.last_ns and find(p, want, at_ns) then return { want = want, at_ns = at_ns } end
  end
end

-- Would it find them then, if these hosts were not to be had?
local function can_spare(p, held, hosts)
  local set = {}
  for _, name in ipairs(hosts) do set[name] = true end
  return find(p, held.want, held.at_ns, set) ~= nil
end

-- The next of the wants, in their order, that may start now: its number, its nodes,
-- and when it is thought to end. The first one that has to wait for nodes has a
-- reservation: those behind it start only if they end before its time, or leave it enough.
function pool.next(p, wants, now_ns)
  local held
  for i, want in ipairs(wants) do
    local need_ns = pool.need_s(p, want) * 1000000000
    if now_ns + need_ns <= p.last_ns then
      local hosts = find(p, want)
      if not hosts then
        held = held or reserve(p, want, need_ns, now_ns)
      elseif not held or now_ns + need_ns <= held.at_ns or can_spare(p, held, hosts) then
        return i, hosts, now_ns + need_ns
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
