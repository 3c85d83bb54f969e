-- Spaces: what can be written, how it is counted, drawn, described, overridden.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local sys = require "pioche.core.sys"
local json = require "pioche.core.json"
local recipe = require "pioche.recipe"
local plan = require "pioche.plan"
local test, equal, contains = tap.test, tap.equal, tap.contains

local dir = (os.getenv("TMPDIR") or "/tmp") .. "/test-space-" .. sys.pid()
assert(sys.mkdirs(dir))

-- The sweep of a recipe whose table has these lines (from line 5 on).
local function sweep(lines, args)
  assert(sys.write_file(dir .. "/r.lua", 'local pioche = require "pioche"\n'
    .. "return pioche.sweep {\n  name = \"x\",\n  program = pioche.program { command = { \"true\" } },\n"
    .. lines .. "\n}\n"))
  return recipe.load(dir .. "/r.lua", args or {}).sweep
end

local function points(lines, args)
  return plan.points(plan.sampler(sweep(lines, args)))
end

local function fails(lines, args)
  return (tap.raises(function() return points(lines, args) end))
end

test("a grid is an odometer over sorted names", function()
  equal(points "space = { b = { 1, 2 }, a = { \"x\", \"y\" } }, search = pioche.grid {},", {
    { a = "x", b = 1 }, { a = "x", b = 2 }, { a = "y", b = 1 }, { a = "y", b = 2 } })
end)

test("a conditional's parameters are there in their branch only", function()
  local lines = [[space = { optimizer = pioche.one_of {
      adamw = { beta2 = { 0.9, 0.99 } }, sgd = { momentum = 0.9 } } },]]
  equal(points(lines), { { optimizer = "adamw", ["optimizer.beta2"] = 0.9 },
    { optimizer = "adamw", ["optimizer.beta2"] = 0.99 },
    { optimizer = "sgd", ["optimizer.momentum"] = 0.9 } })
  equal(sweep(lines).space:count(), 3)
end)

test("counting: products, sums of branches, no end", function()
  equal(sweep("space = { a = { 1, 2, 3 }, b = pioche.int(1, 4), c = 5 },").space:count(), 12)
  equal(sweep("space = { a = pioche.one_of { x = { b = { 1, 2 } }, y = {} }, c = { 1, 2 } },").space:count(), 6)
  equal(sweep("space = { a = pioche.uniform(0, 1) },").space:count(), nil)
  equal(sweep("space = {},").space:count(), 1)
  equal(points "space = {},", { {} })
end)

test("derived values read the others, in any order", function()
  equal(points [[space = { steps = 400, warmup = function(p) return p.steps // 20 end,
    a = function(p) return p.warmup + 1 end },]], { { steps = 400, warmup = 20, a = 21 } })
  equal(points [[space = { o = pioche.one_of { a = { x = 1 }, b = {} },
    has = function(p) return p["o.x"] ~= nil end },]],
    { { o = "a", ["o.x"] = 1, has = true }, { o = "b", has = false } })
end)

test("where filters", function()
  equal(#points "space = { w = { 1, 2, 3, 4 } },\n  where = function(p) return p.w % 2 == 0 end,", 2)
end)

test("draws stay in their ranges and fill them", function()
  local list = points [[space = { u = pioche.uniform(-2, 3), l = pioche.log_uniform(1e-4, 1e-1),
    i = pioche.int(-1, 1), li = pioche.log_int(1, 100), c = { "a", "b" } },
    search = pioche.random { runs = 2000, seed = 3 },]]
  equal(#list, 2000)
  local ints, below, li_low = {}, 0, 0
  for _, p in ipairs(list) do
    assert(p.u >= -2 and p.u < 3 and p.l >= 1e-4 and p.l <= 1e-1 and p.li >= 1 and p.li <= 100)
    equal(math.type(p.i), "integer")
    equal(math.type(p.li), "integer")
    ints[p.i] = (ints[p.i] or 0) + 1
    if p.l < 10 ^ -2.5 then below = below + 1 end
    if p.li <= 10 then li_low = li_low + 1 end
  end
  for i = -1, 1 do assert(ints[i] > 550 and ints[i] < 790, "int is uneven") end
  assert(below > 900 and below < 1100, "log_uniform is uneven")
  assert(li_low > 950 and li_low < 1250, "log_int is uneven")
end)

test("the same seed is the same points, for ever; another seed is others", function()
  local lines = "space = { lr = pioche.log_uniform(1e-4, 1e-1) },\n search = pioche.random { runs = 3, seed = %d },"
  local a = points(lines:format(7))
  equal(points(lines:format(7)), a)
  assert(points(lines:format(8))[1].lr ~= a[1].lr)
  equal(("%.17g"):format(a[1].lr), "0.034468286469013419")
end)

test("a new parameter leaves the others as they were", function()
  local a = points "space = { x = pioche.uniform(0, 1) }, search = pioche.random { runs = 5 },"
  local b = points "space = { w = pioche.uniform(0, 1), x = pioche.uniform(0, 1) }, search = pioche.random { runs = 5 },"
  for i = 1, 5 do equal(b[i].x, a[i].x) end
end)

test("no search proposes a point twice, also where real numbers come to the same", function()
  local lines = "space = { x = pioche.uniform(1, 1 + 2 ^ -51), k = { \"a\", \"b\" } }, goal = pioche.minimize \"l\","
    .. " search = pioche.%s },"
  for _, name in ipairs { "random { runs = 7", "sobol { runs = 7", "tpe { runs = 7, startup = 2", "gp { runs = 7, startup = 2",
    "cma_es { runs = 7", "nsga2 { runs = 7, population = 2", "trust_region { runs = 7", "auto { runs = 13" } do
    for _, is_resumed in ipairs { false, true } do
      local sampler, seen, count = plan.sampler(sweep(lines:format(name))), {}, 0
      while true do
        local params = sampler:propose(count + 1)
        if not params then break end
        if is_resumed then
          local again = plan.sampler(sweep(lines:format(name)))
          for number = 1, count + 1 do
            again:adopt(number, number > count and params or seen[number])
            again:observe(number, number % 3, { status = "finished", loss = number % 3, values = { number % 3 } })
          end
          sampler = again
        else
          sampler:observe(count + 1, (count + 1) % 3, { status = "finished", loss = (count + 1) % 3,
            values = { (count + 1) % 3 } })
        end
        count = count + 1
        seen[count] = params
        local key = json.encode(params)
        assert(not seen[key], ("%s proposed %s twice"):format(name, key))
        seen[key] = true
      end
      assert(count >= 4 and count <= 6, ("%s: %d"):format(name, count))
    end
  end
end)

test("random proposes no point of a finite space twice", function()
  local list, seen = points "space = { a = pioche.int(1, 10), b = { 1, 2 } }, search = pioche.random { runs = 100 },", {}
  equal(#list, 20)
  for _, p in ipairs(list) do
    local key = p.a .. "," .. p.b
    assert(not seen[key])
    seen[key] = true
  end
end)

test("the sampler is chosen from the space, and says why", function()
  local s = sweep "space = { a = { 1, 2 } },"
  equal(s.search.name, "grid")
  contains(s.search.why, "the space has 2 points, at most 64")
  s = sweep "space = { a = pioche.int(1, 65) },"
  equal(s.search.name, "random")
  contains(s.search.why, "more than 64")
  equal(s.search.options.runs, 32)
  equal(sweep("space = { a = pioche.uniform(0, 1) },").search.name, "random")
end)

test("grid with counts divides a range evenly", function()
  local list = points "space = { a = pioche.uniform(0, 1), l = pioche.log_uniform(1, 100) }, search = pioche.grid { a = 3, l = 3 },"
  equal(#list, 9)
  equal(list[1], { a = 0.0, l = 1.0 })
  equal(list[9], { a = 1.0, l = 100.0 })
  equal(list[5].a, 0.5)
  assert(math.abs(list[5].l - 10) < 1e-12)
end)

test("a shuffled grid has the same points, in an order by its seed, also where it is gone on with", function()
  local lines = "space = { a = pioche.int(1, 6), b = { 1, 2, 3, 4 } }, where = function(p) return p.a ~= p.b end,"
    .. " search = pioche.grid { %s },"
  local function keys(options)
    local list = {}
    for i, p in ipairs(points(lines:format(options))) do list[i] = p.a .. p.b end
    return list
  end
  local ordered, shuffled = keys "", keys "shuffle = true"
  equal(#shuffled, 20)
  assert(table.concat(shuffled) ~= table.concat(ordered))
  equal(keys "shuffle = { seed = 1 }", shuffled)
  assert(table.concat(keys "shuffle = { seed = 2 }") ~= table.concat(shuffled))
  equal(keys "shuffle = false", ordered)
  local whole, half = plan.sampler(sweep(lines:format "shuffle = true")), plan.sampler(sweep(lines:format "shuffle = true"))
  for n = 1, 7 do half:adopt(n, whole:propose(n)) end
  for n = 8, 21 do equal(half:propose(n), whole:propose(n)) end
  table.sort(shuffled)
  table.sort(ordered)
  equal(shuffled, ordered)
  local ok, why = pcall(points, lines:format "shuffle = { n = 1 }")
  assert(not ok and tostring(why):find('search.shuffle: expected { seed = 7 }, got a table with "n"', 1, true), why)
  -- a number is the count of a parameter of that name
  equal(#points "space = { shuffle = pioche.uniform(0, 1) }, search = pioche.grid { shuffle = 3 },", 3)
end)

test("seeds make several runs of a point", function()
  local s = sweep "seeds = 3,"
  local runs = plan.runs_of(s, {}, { code = "c", inputs = {} })
  equal({ runs[1].seed, runs[2].seed, runs[3].seed }, { 1, 2, 3 })
  equal(runs[3].words, { "true", "--seed=3" })
  equal(sweep("seeds = { 4, 9 },").seeds, { 4, 9 })
end)

test("the description is canonical: the same in whatever order it was written", function()
  local a = json.encode(sweep("space = { a = 1, b = { 1, 2 }, c = pioche.int(1, 2) },").space:describe())
  local b = json.encode(sweep("space = { c = pioche.int(1, 2), b = { 1, 2 }, a = 1 },").space:describe())
  equal(a, b)
  equal(a, '[{"kind":"fixed","name":"a","value":1},{"kind":"choice","name":"b","values":[1,2]},'
    .. '{"high":2,"kind":"int","low":1,"name":"c"}]')
end)

test("mistakes name line, field, value and expectation", function()
  local cases = {
    { "space = {\n  lr = pioche.uniform(3, 1) },", "r.lua:6: space.lr: uniform(3, 1): low must be smaller than high" },
    { "space = {\n  n = pioche.int(1, 1 << 60) },", "r.lua:6: space.n: int(1, 1152921504606846976): expected numbers within"
      .. " -9007199254740992 and 9007199254740992" },
    { "space = {\n  n = pioche.int(math.mininteger, 0) },", "space.n: int(-9223372036854775808, 0): expected numbers within" },
    { "space = {\n  n = pioche.log_int(1, (1 << 53) + 1) },", "space.n: log_int(1, 9007199254740993): expected numbers" },
    { "space = {\n  x = pioche.uniform(-1e308, 1e308) },", "r.lua:6: space.x: uniform(-1e+308, 1e+308): high - low must be a"
      .. " finite number" },
    { "space = {\n  lr = pioche.log_uniform(0, 1) },", "r.lua:6: space.lr: log_uniform(0, 1): low must be > 0" },
    { "space = { lr = pioche.int(1, 2.5) },", "space.lr: int(1, 2.5): low and high must be whole numbers" },
    { "space = { lr = pioche.uniform(1) },", "uniform(1, nothing): expected two numbers" },
    { "space = { lr = pioche.uniform(0, 0/0) },", "high must be a finite number" },
    { "space = {\n\n  lr = {} },", "r.lua:7: space.lr: an empty list has no choice" },
    { "space = { lr = { 1, 1 } },", "the choice 1 is there twice" },
    { "space = { lr = { 1, { 2 } } },", "item 2 of a list of choices is a table" },
    { "space = { lr = { a = 1 } },", "a table with names is no list of choices" },
    { "space = { [1] = 2 },", "expected a parameter's name" },
    { "space = { o = pioche.one_of { a = 3 } },", "space.o.a: expected a table of the branch's parameters" },
    { "space = { o = pioche.one_of {} },", "one_of: expected a table of branches" },
    { "space = {\n  lr = 1,\n  lr = 2 },", "r.lua:7: space.lr: given twice in one table (first in line 6)" },
    { "space = { a = 1 },\n  where = function(p) return p.a > 1 end,", "r.lua:6: where: not true for any of the grid's 1 points" },
    { "space = { a = pioche.uniform(0, 1) },\n where = function(p) return p.a > 1 end,", "where: not true for any of 32000 random points" },
    { "space = { a = 1 },\n where = function(p) return 3 end,", "where: the function returned 3: expected true or false" },
    { "space = {\n  w = function(p)\n    return p.x.y\n  end, x = 1 },", "r.lua:7: attempt to index a number value (field 'x') (in space.w)" },
    { "space = { width = 1, w = function(p) return p.widht end },", "there is no parameter 'widht'; did you mean 'width'?" },
    { "space = { w = function(p) end },", "r.lua:5: space.w: the function returned nothing" },
    { "space = { a = function(p) return p.b end, b = function(p) return p.a end },", "depends on itself" },
    { "space = { a = 1, w = function(p) p.a = 2 return 1 end },", "p.a: parameters cannot be changed here" },
    { "space = { seed = 1 },\n  seeds = 2,", "r.lua:6: seeds: the space has a parameter 'seed' already" },
    { "space = { a = pioche.uniform(0, 1) },\n search = pioche.grid {},", "has no end of values" },
    { "search = pioche.grid { q = 2 },", "search.q: there is no parameter of that name" },
  }
  for _, case in ipairs(cases) do contains(fails(case[1]), case[2]) end
end)

test("overrides: a value, a list, a setting; checked against the domain", function()
  local lines = [[space = { lr = pioche.uniform(0, 1), depth = pioche.int(1, 4), width = { 32, 64 },
    name = "a", flag = true, o = pioche.one_of { x = {}, y = {} }, w = function(p) return p.depth end },]]
  local s = sweep(lines, { "lr=3e-4", "depth=2,3", "width=128", "name=b c", "flag=false", "o=y",
    "launch.ranks_per_node=2", "retry.attempts=3", "keep.code=true", "seeds=2" })
  equal(s.space:count(), 2)
  equal(s.launch.ranks_per_node, 2)
  equal(s.retry.attempts, 3)
  equal(s.keep.code, true)
  equal(s.seeds, { 1, 2 })
  equal(plan.points(plan.sampler(s))[2], { lr = 3e-4, depth = 3, width = 128, name = "b c",
    flag = false, o = "y", w = 3 })
  equal(sweep("space = { a = pioche.uniform(0, 1) },", { "search.runs=5" }).search.options.runs, 5)
  local bad = {
    { "lrr=1", "lrr=1: there is no parameter or setting 'lrr'; did you mean 'lr'?" },
    { "lr=fast", "lr=fast: expected a number, got 'fast'" },
    { "depth=2.5", "depth=2.5: expected a whole number, got '2.5'" },
    { "flag=3", "flag=3: expected true or false" },
    { "o=z", "o=z: expected one of x, y" },
    { "depth=2,2", "depth=2,2: 2 is there twice" },
    { "launch.ranks_per_node=0", "launch.ranks_per_node=0: expected a whole number, at least 1" },
    { "lr", "'lr': expected NAME=VALUE after the recipe" },
    { "lr=", "lr=: expected a number, got ''" },
    { "lr=nan", "lr=nan: expected a number" },
  }
  for _, case in ipairs(bad) do contains(fails(lines, { case[1] }), case[2]) end
  contains(fails("space = { o = pioche.one_of { x = { lr = 1 } } },", { "lr=2" }), "did you mean 'o.lr'?")
end)

assert(sys.remove_tree(dir))
tap.done()
