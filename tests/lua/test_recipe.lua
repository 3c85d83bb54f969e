-- Recipes: what is checked, and that each mistake names its place.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local sys = require "pioche.core.sys"
local recipe = require "pioche.recipe"
local plan = require "pioche.plan"
local source = require "pioche.source"
local test, equal, contains = tap.test, tap.equal, tap.contains

local dir = (os.getenv("TMPDIR") or "/tmp") .. "/test-recipe-" .. sys.pid()
assert(sys.mkdirs(dir))

local function load_text(text, args)
  assert(sys.write_file(dir .. "/r.lua", text))
  return recipe.load(dir .. "/r.lua", args or {})
end

-- Plan a recipe as far as its runs.
local function planned(text)
  local self = load_text(text)
  local prepared = { code = "c", inputs = plan.check(self, self.sweep.program, nil) }
  plan.resolve_from(self.sweep.from, nil, self.sweep.at, self.sweep.box)
  return plan.runs_of(self.sweep, plan.points(plan.sampler(self.sweep))[1], prepared)
end

local head = 'local pioche = require "pioche"\n'

local function with_program(body)
  return head .. "return pioche.sweep {\n  name = \"x\",\n  program = pioche.program {\n" .. body .. "\n  },\n}\n"
end

local function with_sweep(body)
  return head .. 'local p = pioche.program { command = { "true" } }\nreturn pioche.sweep {\n'
    .. '  name = "x",\n  program = p,\n' .. body .. "\n}\n"
end

test("each mistake names file, line, field, value and expectation", function()
  assert(sys.write_file(dir .. "/plain", "text"))
  local cases = {
    { with_sweep "  spce = {},", "r.lua:6: spce: there is no such key, did you mean 'space'?; expected one of constraints, from, goal" },
    { with_sweep "  space = 3,", "r.lua:6: space: expected a table of parameters, got 3" },
    { with_sweep "  seeds = \"three\",", "r.lua:6: seeds: expected how many seeds (3), a list of them ({ 1, 2, 5 }), or"
      .. " pioche.race { max = 5 }, got \"three\"" },
    { with_sweep "  seeds = 0,", "seeds: expected how many seeds" },
    { with_sweep "  seeds = { 1, 1 },", "a seed is there twice" },
    { with_sweep "  retry = {\n    attempts = 0 },", "r.lua:7: retry.attempts: expected a whole number, at least 1, got 0" },
    { with_sweep "  launch = {\n    ranks_per_node = 0 },", "r.lua:7: launch.ranks_per_node: expected a whole number, at least 1, got 0" },
    { with_sweep "  launch = { ranks = 2 },", "launch.ranks: there is no such key" },
    { with_sweep "  keep = { last = -1 },", "keep.last: expected a whole number, at least 0, got -1" },
    { with_sweep "  goal = \"val/loss\",", "goal: expected pioche.minimize \"metric\", pioche.maximize \"metric\", or a list of such, got \"val/loss\"" },
    { with_sweep "  goal = pioche.minimize(3),", "r.lua:6: minimize: expected the name of a metric" },
    { with_sweep "  search = \"grid\",", "one of pioche.auto {...}, cma_es, gp, grid, nsga2, pb2, pbt, random" },
    { with_sweep "  search = pioche.bayes {},", "r.lua:6: pioche.bayes: there is no such thing" },
    { with_sweep "  search = pioche.random {\n    sed = 3 },", "r.lua:7: search.sed: there is no such key, did you mean 'seed'?" },
    { with_sweep "  search = pioche.random { runs = 0 },", "search.runs: expected a whole number, at least 1, got 0" },
    { with_sweep "  stop = 3,", "one of pioche.asha {...}, curve, hyperband, median, none, percentile" },
    { with_sweep "  from = \"gpt/best\",", "r.lua:6: from: \"gpt/best\": there is no store to look it up in" },
    { with_sweep "  where = 3,", "where: expected a function, got 3" },
    { head .. "return pioche.sweep { name = \"x\", program = 3 }", "r.lua:2: program: expected a pioche.program { ... }, got 3" },
    { head .. 'return pioche.sweep { name = "a" }', "r.lua:2: program is missing" },
    { head .. 'return pioche.sweep { name = "a/b" }', "r.lua:2: name: expected a name of letters" },
    { head .. "return pioche.sweep(3)", "sweep: expected a table, got 3" },
    { head .. "return 3", "a recipe returns a pioche.sweep { ... } or a function(lab), this one returned 3" },
    { head .. 'return pioche.program { command = { "true" } }', "this one returned a pioche.program" },
    { "local x = = 3", "r.lua:1: unexpected symbol near '='" },
    { with_program "    command = {},", "r.lua:5: command: expected a list of strings" },
    { with_program "    command = \"true\",", "r.lua:5: command: expected a list of strings, such as { \"make\", \"gpt\" }, got \"true\"" },
    { with_program "    comand = {},", "r.lua:5: comand: there is no such key, did you mean 'command'?" },
    { with_program "    env = {},", "r.lua:4: command is missing: expected the program" },
    { with_program "    command = { \"./nothing\" },", "r.lua:5: command: there is no program \"./nothing\"" },
    { with_program "    command = { \"./plain\" },", "r.lua:5: command: \"./plain\" is not executable" },
    { with_program "    command = { \"no-such-program-anywhere\" },", "there is no program \"no-such-program-anywhere\" in PATH" },
    { with_program "    command = { \"true\" },\n    inputs = {\n      text = \"no.txt\" },", "r.lua:7: inputs.text: there is no file or folder \"no.txt\"" },
    { with_program "    command = { \"true\" },\n    sources = { \"../x\" },", "r.lua:6: sources: expected a list of paths inside the work tree" },
    { with_program "    command = { \"true\" },\n    sources = { \"nope\" },", "r.lua:6: sources: there is no \"nope\"" },
    { with_program "    command = { \"true\" },\n    env = { A = {} },", "r.lua:6: env: expected a table of names and values; A is a table" },
    { with_program "    command = { \"true\" },\n    args = function() return 3 end,", "r.lua:6: args: the function returned 3: expected a list of words" },
    { with_program "    command = { \"true\" },\n    args = function(p) return { p.nothing } end,", "r.lua:6: there is no parameter 'nothing'" },
  }
  for _, case in ipairs(cases) do contains(tap.raises(planned, case[1]), case[2]) end
end)

test("a missing recipe, a folder, no name=value", function()
  contains(tap.raises(recipe.load, dir .. "/none.lua"), "none.lua: there is no such recipe")
  contains(tap.raises(recipe.load, dir), "a folder, expected a recipe's Lua file")
end)

test("parameters, inputs and the seed become words, sorted", function()
  assert(sys.write_file(dir .. "/in.txt", "hello"))
  local runs = planned(head .. [[return pioche.sweep { name = "x", seeds = 2,
    program = pioche.program { command = { "true", "-v" }, inputs = { text = "in.txt" } },
    space = { lr = 3e-4, flag = true, o = pioche.one_of { adamw = { beta2 = 0.95 } }, n = 3, s = "a b" } }]])
  equal(runs[2].words, { "true", "-v", "--text=" .. sys.realpath(dir) .. "/in.txt", "--flag=true",
    "--lr=0.0003", "--n=3", "--o=adamw", "--o.beta2=0.95", "--s=a b", "--seed=2" })
end)

test("args decides the words itself", function()
  equal(planned(with_program([[    command = { "true" },
    args = function(p) return { "x", 3, 0.5, true } end,]]))[1].words, { "true", "x", "3", "0.5", "true" })
end)

test("defaults of a project stand under the recipe's own", function()
  local project = dir .. "/project"
  assert(sys.mkdirs(project .. "/.git"))
  assert(sys.write_file(project .. "/pioche.lua", "return { launch = { ranks_per_node = 4, parallel = 3 }, retry = { attempts = 2 } }"))
  assert(sys.write_file(project .. "/r.lua", head .. [[return pioche.sweep { name = "x",
    program = pioche.program { command = { "true" } }, launch = { parallel = 1 } }]]))
  local self = recipe.load(project .. "/r.lua", {})
  equal(self.sweep.launch, { nodes = 1, ranks_per_node = 4, parallel = 1 })
  equal(self.sweep.retry.attempts, 2)
  assert(sys.write_file(project .. "/pioche.lua", "return {\n  lunch = {},\n}"))
  contains(tap.raises(recipe.load, project .. "/r.lua", {}), "pioche.lua:2: lunch: there is no such key, did you mean 'launch'?")
end)

test("lines of keys come from the text, whatever stands between", function()
  local scanned = source.scan([==[
local a = { x = 1 } -- { y = 2
local s = "{ z = 3" .. [[ { q =
4 ]]
f { name = "n", space = {
    lr = g { low = 1 },
    ["odd-key"] = function(p) local t = { lr = 2 } if t then return { w = 1 } end end,
    after = { { deep = 1 } },
  },
}]==])
  equal(source.line(scanned, "space.lr", 1), 5)
  equal(source.line(scanned, "space.odd-key", 1), 6)
  equal(source.line(scanned, "space.after", 1), 7)
  equal(source.line(scanned, "space.lr.low", 1), 5)
  equal(source.line(scanned, "space.nothing", 1), 4)
  equal(source.line(scanned, "y", 1), nil)
  equal(source.line(scanned, "q", 1), nil)
  equal(#scanned.duplicates, 0)
end)

assert(sys.remove_tree(dir))
tap.done()
