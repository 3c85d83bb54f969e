-- The reference of recipes: nothing that a recipe may say is missing from it, and what
-- it says is what is checked and done.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local sys = require "pioche.core.sys"
local fields = require "pioche.fields"
local lab = require "pioche.lab"
local launcher = require "pioche.launcher"
local pioche = require "pioche"
local project = require "pioche.project"
local recipe = require "pioche.recipe"
local reference = require "pioche.reference"
local sandbox = require "pioche.sandbox"
local test, equal, contains = tap.test, tap.equal, tap.contains

local dir = (os.getenv("TMPDIR") or "/tmp") .. "/test-reference-" .. sys.pid()
assert(sys.mkdirs(dir))

local function load_text(text)
  assert(sys.write_file(dir .. "/r.lua", text))
  return recipe.load(dir .. "/r.lua", {})
end

local function entries_of(name)
  for _, group in ipairs(reference.groups()) do
    if group.name == name then return group.entries end
  end
  error("there is no group " .. name)
end

local function entry(group, name)
  for _, item in ipairs(entries_of(group)) do
    if item.name == name then return item end
  end
  error(group .. " does not explain " .. name, 2)
end

-- fn(full name, rule) for each field of a schema, and of the tables in it.
local function walk(schema, prefix, fn)
  for _, name in ipairs(fields.sorted(schema)) do
    fn(prefix .. name, schema[name])
    if schema[name].schema then walk(schema[name].schema, prefix .. name .. ".", fn) end
  end
end

test("each field of each schema has a help of one line, and a default in words", function()
  local schemas = { sweep = recipe.sweep_schema, program = recipe.program_schema, run = recipe.run_schema,
    project = project.schema }
  for folder, group in next, { samplers = "search", stopping = "stop" } do
    for _, word in ipairs(pioche.names(folder)) do
      local module = pioche.plugin(folder, word)
      assert(module.schema or module.usage, word .. " does not explain its options")
      assert(module.summary and module.summary ~= "", word)
      contains(entry(group, "pioche." .. word .. " { ... }").help, module.usage or module.summary)
      for name in next, module.schema or {} do entry(group, word .. "." .. name) end
      walk(module.schema or {}, word .. ".", function(name, rule)
        assert(rule.help and (rule.default ~= nil or rule.otherwise or rule.required), name)
      end)
    end
  end
  for group, schema in next, schemas do
    walk(schema, "", function(name, rule)
      assert(type(rule.help) == "string" and #rule.help > 10 and not rule.help:find("\n"),
        name .. " has no help of one line")
      local section = name:match("^(%l+)%.")
      local item = entry(section or group, name)
      equal(item.help, rule.help)
      assert(item.expects ~= "", name)
      assert(item.required == (rule.required ~= nil), name)
      assert(item.required or item.default, name .. " does not say what holds where it is not given")
    end)
  end
end)

test("each word of pioche and of a lab is explained", function()
  local box = sandbox.new(dir .. "/r.lua", pioche.api)
  local words = {}
  for _, group in ipairs(reference.groups()) do
    for _, item in ipairs(group.entries) do
      local word = item.name:match("^pioche%.([%w_]+)")
      if word then words[word] = true end
    end
  end
  equal(fields.sorted(words), fields.sorted(pioche.api(box)))
  for _, kind in ipairs { "lab", "results", "run" } do
    for _, item in next, lab.words[kind] do equal(entry("lab", item.name).help, item.help) end
  end
  local asked
  local self = load_text "return function(lab) lab:note('x') end"
  self.lab = function(handle) asked = handle end
  lab.rehearse(self)
  for word in next, lab.words.lab do equal(type(asked[word]), "function", word) end
end)

test("what a field expects is what its error says", function()
  for _, group in ipairs { "launch", "retry", "keep" } do
    for name in next, project[group] do
      local text = ('local pioche = require "pioche"\nreturn pioche.sweep { name = "x", program ='
        .. ' pioche.program { command = { "true" } }, %s = { %s = function() end } }'):format(group, name)
      local item = entry(group, group .. "." .. name)
      contains(tap.raises(load_text, text), item.name .. ": expected " .. item.expects)
    end
  end
  equal(entry("launch", "launch.bind").expects, "auto, gpu, cores or none")
end)

test("defaults are those that hold", function()
  local self = load_text [[local pioche = require "pioche"
    return pioche.sweep { name = "x", program = pioche.program { command = { "true" } },
      space = { lr = pioche.uniform(0, 1) } }]]
  for _, group in ipairs { "launch", "retry", "keep" } do
    for name, value in next, project.defaults[group] do
      equal(entry(group, group .. "." .. name).default, fields.show(value), name)
      equal(self.sweep[group][name], value, name)
    end
  end
  for name, value in next, self.sweep.search.options do
    equal(entry("search", self.sweep.search.name .. "." .. name).default, fields.show(value))
  end
  local script = launcher.script({ nodes = 2, ranks_per_node = 1 }, "x", dir)
  local grace_s = math.tointeger(tonumber(entry("launch", "launch.grace_s").default))
  local warn_s = math.tointeger(tonumber(entry("launch", "launch.warn_s").default:match("^(%d+) and grace_s$")))
  contains(script, ("--signal=B:USR2@%d\n"):format(warn_s + grace_s))
end)

test("options of Slurm that a field names are those that it becomes", function()
  local script = launcher.script({ nodes = 2, ranks_per_node = 1, partition = "p", account = "a", qos = "q",
    time = "0-01:00:00", gres = "gpu:1", gpus_per_node = 1, cpus_per_rank = 1, constraint = "c",
    exclude = "n1", reservation = "r", warn_s = 60 }, "x", dir)
  local named = 0
  for _, item in ipairs(entries_of "launch") do
    for option in item.help:gmatch("%-%-[%l-]+") do
      contains(script, "#SBATCH " .. option .. "=")
      named = named + 1
    end
  end
  assert(named > 10, "options are named")
end)

test("the command line's settings are listed", function()
  for group, schema in next, recipe.settings do
    local listed = entry("overrides", group .. ".FIELD=VALUE").help .. ","
    for name, rule in next, schema do
      equal(listed:find(" " .. name .. ",", 1, true) ~= nil, rule.schema == nil, group .. "." .. name)
    end
  end
end)

test("a part, a field and a word are found by their names", function()
  equal(#reference.find "launch", 1)
  equal(#reference.find("launch")[1].entries, #entries_of "launch")
  equal(reference.find("launch.hang_s")[1].entries, { entry("launch", "launch.hang_s") })
  equal(reference.find("hang_s"), reference.find("launch.hang_s"))
  equal(#reference.find("launch.pool")[1].entries, 5)
  equal(reference.find "pool", reference.find "launch.pool")
  local found = reference.find "exclude"
  equal({ found[1].name, found[2].name }, { "launch", "retry" })
  equal(reference.find("search.runs")[1].entries[1].name, "auto.runs")
  equal(reference.find("uniform")[1].entries[1].name, "pioche.uniform(low, high)")
  equal(reference.find("lab:note")[1].entries[1].name, "lab:note(text)")
  equal(reference.find "nothing-such", {})
  for _, names in ipairs { reference.names() } do
    for _, word in ipairs(names) do assert(#reference.find(word) > 0, word) end
  end
end)

test("who mistypes a field is told where fields are explained", function()
  local text = 'local pioche = require "pioche"\nreturn pioche.sweep { name = "x", program = pioche.program {'
    .. ' command = { "true" } }, %s }'
  contains(tap.raises(load_text, text:format "sed = 3"), "(`pioche help recipe`)")
  contains(tap.raises(load_text, text:format "keep = { lats = 3 }"), "(`pioche help recipe keep`)")
end)

sys.remove_tree(dir)
tap.done()
