-- Populations: who copies whom, what is changed then, and that it is a function of what had
-- been observed, in whatever order runs end.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local core = require "pioche.core.sweep"
local json = require "pioche.core.json"
local space_of = require "pioche.space"
local test, equal = tap.test, tap.equal

local box = { blame = function(_, _, path, format, ...) error(path .. ": " .. format:format(...), 0) end,
  try = function(_, fn, ...) return true, fn(...) end, files = {} }

local function search(name, given, options, where)
  local module = require("pioche.samplers." .. name)
  return module.new(space_of.compile(box, {}, given, where), module.check({ box = box, at = {} }, options))
end

local quadratic = { lr = space_of.log_uniform(1e-3, 0.5) }

-- What experiments/noisy_quadratic comes to from a state: { square }.
local function train(square, lr, steps)
  for _ = 1, steps do square = (1 - lr) ^ 2 * square + lr ^ 2 end
  return square
end

-- Run a population with so many places; runs end in an order by the seed `order`. value(params,
-- state, number): what a run comes to and its state, nil where it fails. Gives the log of what
-- happened, an array of { number, params, lineage, seen } and { observed, value }.
local function drive(sampler, places, order, value)
  local log, active, states, seen, number, turn = {}, {}, {}, 0, 0, 0
  local gone = {}
  while true do
    while #active < places do
      local params, lineage = sampler:propose(number + 1)
      if not params then break end
      number = number + 1
      assert(not gone[lineage.parent or 0], "a checkpoint is gone that is copied")
      log[#log + 1] = { number = number, params = params, lineage = lineage, seen = seen }
      active[#active + 1] = log[#log]
    end
    if #active == 0 then break end
    turn = turn + 1
    local item = table.remove(active, core.integer(order, turn, "end", 1, #active))
    local result, state = value(item.params, states[item.lineage.parent or 0], item.number)
    states[item.number], seen = state, seen + 1
    log[#log + 1] = { observed = item.number, value = result }
    sampler:observe(item.number, result, { status = result and "finished" or "failed", rungs = {} })
    for old in next, sampler:outdated() do gone[old] = true end
    for _, other in ipairs(active) do
      if other.lineage.parent then gone[other.lineage.parent] = nil end -- it is open still
    end
  end
  return log, gone
end

-- The value of a run of the quadratic whose state is { square, until }.
local function quadratic_value(params, state)
  local square = train(state and state[1] or 100, params.lr, params["until"] - (state and state[2] or 0))
  return square / 2, { square, params["until"] }
end

local function proposals(log)
  local list = {}
  for _, item in ipairs(log) do
    if item.number then list[item.number] = item end
  end
  return list
end

local options = { population = 8, interval = 20, steps = 190, seed = 3 }

test("each member has a run of each round, and those of the worst quarter copy one of the best", function()
  for order = 1, 5 do
    local log = drive(search("pbt", quadratic, options), 3, order, quadratic_value)
    local came, by_number, count, copies = {}, {}, {}, 0
    for _, item in ipairs(log) do
      local lineage = item.lineage
      if item.observed then
        local round = by_number[item.observed].lineage.round
        came[round] = came[round] or {}
        table.insert(came[round], { item.value, item.observed })
        table.sort(came[round], function(a, b) return a[1] < b[1] end)
      else
        by_number[item.number] = item
        local key = lineage.member .. "/" .. lineage.round
        assert(not count[key], key)
        count[key] = true
        equal(item.params["until"], math.min(190, 20 * lineage.round))
        if lineage.round > 1 then
          local list, parent = came[lineage.round - 1], by_number[lineage.parent]
          equal(parent.lineage.round, lineage.round - 1)
          local part, rank, own_rank = math.min(math.ceil(0.25 * #list), #list // 2)
          for i, pair in ipairs(list) do
            if pair[2] == lineage.parent then rank = i end
            if by_number[pair[2]].lineage.member == lineage.member then own_rank = i end
          end
          equal(lineage.copied, own_rank > #list - part)
          assert(not lineage.copied or rank <= part)
          assert(lineage.copied or parent.lineage.member == lineage.member)
          assert(lineage.copied or parent.params.lr == item.params.lr)
          copies = copies + (lineage.copied and 1 or 0)
        end
      end
    end
    equal(#by_number, 80)
    assert(copies > 8 and copies < 30, copies)
  end
end)

test("what a copy changes: drawn anew, or a fifth more or less, whole, clipped, the neighbour", function()
  local given = { lr = space_of.uniform(0.5, 2), n = space_of.int(1, 40), w = { 16, 32, 64, 128 },
    fixed = 7, twice = function(p) return 2 * p.n end, shape = { "a", "b" } }
  local sampler = search("pbt", given, { population = 2, interval = 1, steps = 9, resample = 0.25,
    explore = { "lr", "n", "w" } })
  local parent = { lr = 1.9, n = 10, w = 32, fixed = 7, twice = 20, shape = "b", ["until"] = 1 }
  sampler:adopt(1, parent, nil, { member = 1, round = 1, copied = false })
  local seen = { lr = {}, n = {}, w = {} }
  local tries = 2000
  for number = 2, tries + 1 do
    local params = sampler:explore(1, number, 2)
    equal({ params.fixed, params.shape, params.twice }, { 7, "b", 2 * params.n })
    equal(math.type(params.n), "integer")
    for name, list in next, seen do list[params[name]] = (list[params[name]] or 0) + 1 end
  end
  -- 1.9 * 1.2 is clipped to 2; of each a half of three quarters.
  for _, case in ipairs { { "lr", 2.0 }, { "lr", 1.9 * 0.8 }, { "n", 12 }, { "n", 8 }, { "w", 16 }, { "w", 64 } } do
    local times = seen[case[1]][case[2]] or 0
    local least = 0.375 + (case[1] == "w" and 0.25 / 4 or case[1] == "n" and 0.25 / 40 or 0)
    assert(math.abs(times / tries - least) < 0.04, case[1] .. " " .. case[2] .. ": " .. times)
  end
  assert(seen.w[128] and seen.n[33] and not seen.lr[1.9], "some are drawn anew")
end)

test("of one parent no two copies are the same, while there are others", function()
  local sampler = search("pbt", { w = { 1, 2, 3 } }, { population = 8, interval = 1, steps = 2, quantile = 0.5,
    resample = 0 })
  local log = drive(sampler, 8, 1, function(params, _, number) return params.w + number / 100 end)
  local seen, same = {}, 0
  for _, item in ipairs(proposals(log)) do
    local key = (item.lineage.parent or 0) .. " " .. item.params.w
    same = same + (item.lineage.copied and seen[key] and 1 or 0)
    seen[key] = true
  end
  assert(same <= 1, same)
end)

-- A pb2 of eight members that went through so many rounds, each member with x(member, round), of which an
-- interval brings gain(x, round), the lower the better; and its last proposal.
local function went(rounds, x, gain)
  local sampler = search("pb2", { x = space_of.uniform(0, 1) }, { population = 8, interval = 1, steps = 20 })
  local value, number = {}, 0
  for round = 1, rounds do
    for member = 1, 8 do
      number = number + 1
      sampler:adopt(number, { x = x(member, round), ["until"] = round }, nil, { member = member, round = round,
        copied = false, parent = round > 1 and number - 8 or nil })
      value[member] = (value[member] or 0) + gain(x(member, round), round)
      sampler:observe(number, value[member], {})
    end
  end
  return sampler, number
end

test("pb2 expects what an interval brings when it will be, and tries what nobody knows or is trying", function()
  -- the best x is a tenth of the round: 0.7 next, 0.35 in the middle of what there was
  local sampler, last = went(6, function(member, round) return (member * 5 + round * 3) % 16 / 15 end,
    function(x, round) return (x - round / 10) ^ 2 end)
  local x = sampler:explore(last, last + 1, 7).x
  assert(math.abs(x - 0.7) < 0.1, x)
  -- 0.15 is the best of what is known, which does not go far
  sampler, last = went(3, function(member, round) return 0.1 + (member * 3 + round) % 24 / 240 end,
    function(at) return (at - 0.15) ^ 2 end)
  x = sampler:explore(last, last + 1, 4).x
  assert(x > 0.5, x)
  sampler:adopt(last + 1, { x = x, ["until"] = 4 }, nil, { member = 1, round = 4, parent = last, copied = true })
  local other = sampler:explore(last, last + 2, 4).x
  assert(math.abs(other - x) > 0.1, other)
end)

test("proposals are a function of what was observed before, told again or taken up", function()
  for _, name in ipairs { "pbt", "pb2" } do
    local log = drive(search(name, quadratic, options), 4, 7, quadratic_value)
    local again, resumed = search(name, quadratic, options), search(name, quadratic, options)
    local told = 0
    for i, item in ipairs(log) do
      if item.observed then
        told = told + 1
        again:observe(item.observed, item.value, {})
        resumed:observe(item.observed, item.value, {})
      else
        equal(item.seen, told)
        local params, lineage = again:propose(item.number)
        equal(json.encode(params), json.encode(item.params))
        equal(lineage, item.lineage)
        if i < #log // 2 then
          resumed:adopt(item.number, item.params, nil, item.lineage)
        else
          equal(json.encode((resumed:propose(item.number))), json.encode(item.params))
        end
      end
    end
    equal(again:propose(#proposals(log) + 1), nil)
  end
end)

test("a member that fails becomes a copy of a good one, and is given up after three", function()
  local function fails(params, state, number)
    if number == 3 or number == 20 then return nil end
    return quadratic_value(params, state)
  end
  local log = drive(search("pbt", quadratic, options), 4, 2, fails)
  local list = proposals(log)
  equal(#list, 80) -- it goes on where those are that it copies
  for _, failed in ipairs { 3, 20 } do
    local next_one
    for number = failed + 1, #list do
      if list[number].lineage.member == list[failed].lineage.member then
        next_one = next_one or list[number]
      end
    end
    assert(next_one.lineage.copied and next_one.lineage.parent ~= failed, failed)
  end
  -- Nobody ever comes to anything: three times each, then it is over.
  equal(#proposals(drive(search("pbt", quadratic, options), 4, 2, function() return nil end)), 24)
  -- One member fails from its second round on, whomever it copies.
  local member = {}
  local sampler = search("pbt", quadratic, options)
  log = drive(sampler, 4, 2, function(params, state, number)
    member[number] = sampler.given[number].lineage
    if member[number].member == 5 and member[number].round > 1 then return nil end
    return quadratic_value(params, state)
  end)
  local runs = 0
  for _, lineage in next, member do runs = runs + (lineage.member == 5 and 1 or 0) end
  equal(runs, 4)
  equal(#proposals(log), 74)
end)

test("checkpoints are let go of when all are past them, but for the best", function()
  local log, gone = drive(search("pbt", quadratic, options), 3, 4, quadratic_value)
  local kept, best = 0, nil
  for _, item in ipairs(log) do
    if item.observed and (not best or item.value < best.value) then best = item end
  end
  for number in ipairs(proposals(log)) do kept = kept + (gone[number] and 0 or 1) end
  assert(not gone[best.observed])
  assert(kept == 8 or kept == 9, kept)
end)

-- The best of all members, in the middle over orders in which runs end, and in the worst.
local function median(name, population)
  local list = {}
  for order = 1, 15 do
    local best = math.huge
    for _, item in ipairs(drive(search(name, quadratic, population), 2, order, quadratic_value)) do
      if item.observed then best = math.min(best, item.value or best) end
    end
    list[order] = best
  end
  table.sort(list)
  return list[8], list[15]
end

test("where the best rate falls with time, both end lower than any constant rate", function()
  local constant = math.huge
  for i = 0, 2000 do constant = math.min(constant, train(100, 1e-3 * 500 ^ (i / 2000), 200) / 2) end
  for name, more in next, { pbt = { spread = 0.5 }, pb2 = {} } do
    more.population, more.interval, more.steps, more.seed = 8, 25, 200, 1
    local middle, worst = median(name, more)
    assert(middle < 0.6 * constant and worst < constant, ("%s: %g, %g, and %g"):format(name, middle, worst, constant))
  end
end)

test("wrong options are named", function()
  local function wrong(given, changed, message)
    local copy = {}
    for key, value in next, options do copy[key] = value end
    for key, value in next, changed do copy[key] = value end
    local ok, why = pcall(search, "pbt", given, copy)
    assert(not ok and tostring(why):find(message, 1, true), tostring(why))
  end
  wrong(quadratic, { explore = { "lrr" } }, "did you mean 'lr'?")
  wrong({ lr = space_of.uniform(0, 1), ["until"] = 3 }, {}, "search.ends: the space has a parameter 'until'")
end)

tap.done()
