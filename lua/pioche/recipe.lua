-- recipe.lua: from a recipe's text to a checked plan.
local aims = require "pioche.aims"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local json = require "pioche.core.json"
local launcher = require "pioche.launcher"
local objective = require "pioche.objective"
local pioche = require "pioche"
local project = require "pioche.project"
local race = require "pioche.race"
local random = require "pioche.samplers.random"
local sandbox = require "pioche.sandbox"
local space = require "pioche.space"
local sys = require "pioche.core.sys"

local recipe = {}
local show = fields.show

local grid_points_max = 64     -- of a space that says nothing of its search
local goals_max = 16

-- ---- program --------------------------------------------------------------------

local function string_map(what, scalar)
  return function(value)
    if type(value) ~= "table" then return nil, "a table of " .. what end
    local result = {}
    for _, name in ipairs(fields.sorted(value)) do
      local item = rawget(value, name)
      if type(name) ~= "string" or not name:match("^[%a_][%w_%-]*$") then
        return nil, ("a table of %s; %s is no name"):format(what, show(name))
      end
      if scalar and (type(item) == "number" or type(item) == "boolean") then
        item = type(item) == "number" and fields.number(item) or tostring(item)
      end
      if type(item) ~= "string" or item:find("\0", 1, true) then
        return nil, ("a table of %s; %s is %s"):format(what, name, show(item))
      end
      result[name] = item
    end
    return result
  end
end

local function paths(value)
  local list, expected = fields.kinds.words(value)
  for _, path in ipairs(list or {}) do
    if path:sub(1, 1) == "/" or ("/" .. path .. "/"):find("/../", 1, true) then
      return nil, "a list of paths inside the work tree, as \"src\"; " .. show(path) .. " leaves it"
    end
  end
  return list, expected
end

recipe.program_schema = {
  command = { kind = "words", required = "the program and its first arguments, as { \"./train\" }",
    help = "what each rank runs, in the folder of the code; parameters, inputs and the seed come after it" },
  args = { kind = "function", otherwise = "--name=value for each input and parameter, then --seed",
    help = "function(p): the list of further arguments; p has parameters, seed and paths of inputs" },
  sources = { kind = paths, otherwise = "the whole work tree",
    help = "files and folders that are the code of a run: a change elsewhere makes no new run" },
  build = { kind = "words", otherwise = "nothing to build",
    help = "a command that makes the program, once for each state of the code, after `setup`" },
  inputs = { kind = string_map "names and paths", otherwise = "none",
    help = "files or folders that are read: their SHA-256 is part of a run; relative paths start at the root"
      .. " of the work tree" },
  env = { kind = string_map("names and values", true), otherwise = "none",
    help = "environment variables of the ranks and of the build, part of a run" },
  setup = { kind = "string", otherwise = "none",
    help = "a shell line before each rank and the build, as \". .venv/bin/activate\"" },
  wrap = { kind = "words", otherwise = "nothing",
    help = "words put before the command, as { \"apptainer\", \"exec\", \"lab.sif\" }" },
}

function recipe.program(box, at, given)
  local checked = fields.check({ box = box, at = at }, given, recipe.program_schema)
  checked.at, checked.box = at, box
  return (pioche.object("program", checked))
end

-- ---- sweep ---------------------------------------------------------------------------

local function of_kind(kind, expected)
  return function(value)
    local values = pioche.values(value, kind)
    if values then return values end
    return nil, expected
  end
end

-- A list of seeds; what is behind a pioche.race, for `settle_race`.
local function seeds(value)
  local racing = pioche.values(value, "race")
  if racing then return racing end
  local n = math.type(value) == "integer" and value or nil
  if n and n >= 1 and n <= 100000 then
    local list = {}
    for i = 1, n do list[i] = i end
    return list
  end
  local expected = "how many seeds (3), a list of them ({ 1, 2, 5 }), or pioche.race { max = 5 }"
  if type(value) ~= "table" or rawlen(value) == 0 then return nil, expected end
  local list, seen = {}, {}
  for i = 1, rawlen(value) do
    local seed = rawget(value, i)
    if math.type(seed) ~= "integer" or seen[seed] then
      return nil, expected .. (seen[seed] and "; a seed is there twice" or "")
    end
    seen[seed], list[i] = true, seed
  end
  return list
end

local function origin(value)
  if type(value) == "string" and value ~= "" then
    return { kind = "checkpoint", run = value, which = "best" }
  end
  local values = pioche.values(value, "checkpoint")
  if values then return values end
  return nil, "a run, as \"gpt/best\", or pioche.checkpoint(run, \"last\")"
end

-- One goal, or a list of them.
local function goals(value)
  local one = pioche.values(value, "goal")
  if one then return { one } end
  local expected = "pioche.minimize \"metric\", pioche.maximize \"metric\", or a list of such"
  if type(value) ~= "table" or pioche.kind(value) or rawlen(value) == 0 then return nil, expected end
  if rawlen(value) > goals_max then return nil, ("%s, at most %d"):format(expected, goals_max) end
  local list, seen = {}, {}
  for i = 1, rawlen(value) do
    local goal = pioche.values(rawget(value, i), "goal")
    if not goal then return nil, ("%s; item %d is %s"):format(expected, i, show(rawget(value, i))) end
    if seen[goal.key] then return nil, ("%s; %s is there twice"):format(expected, show(goal.key)) end
    seen[goal.key], list[i] = true, goal
  end
  for key in next, value do
    if math.type(key) ~= "integer" or key < 1 or key > #list then
      return nil, expected .. ("; %s is no place in a list"):format(show(key))
    end
  end
  return list
end

local function constraints(value)
  local one = pioche.values(value, "constraint")
  if one then return { one } end
  local expected = "a pioche.constraint(function(m) return m.memory_gb - 80 end), or a list of such"
  if type(value) ~= "table" or pioche.kind(value) or rawlen(value) == 0 then return nil, expected end
  local list = {}
  for i = 1, rawlen(value) do
    list[i] = pioche.values(rawget(value, i), "constraint")
    if not list[i] then return nil, ("%s; item %d is %s"):format(expected, i, show(rawget(value, i))) end
  end
  for key in next, value do
    if math.type(key) ~= "integer" or key < 1 or key > #list then
      return nil, expected .. ("; %s is no place in a list"):format(show(key))
    end
  end
  return list
end

-- A recipe's `warm`: { sweeps = names, params }.
local function warm(value)
  local expected = "a sweep, as \"gpt\" or the beginning of its ULID, or { \"gpt\", params = { dropout = 0 } }, where"
    .. " params are of parameters that its points have not"
  if type(value) == "string" and value ~= "" then return { sweeps = { value }, params = {} } end
  if type(value) ~= "table" or rawlen(value) == 0 then return nil, expected end
  local result = { sweeps = {}, params = {} }
  for _, key in ipairs(fields.sorted(value)) do
    local item = rawget(value, key)
    if math.type(key) == "integer" and type(item) == "string" and item ~= "" then
      result.sweeps[key] = item
    elseif key == "params" and type(item) == "table" then
      result.params = item
    else
      return nil, ("%s; %s is %s"):format(expected, tostring(key), fields.show(item))
    end
  end
  return result
end

local function of_plugin(folder, kind)
  return function(value)
    local values = pioche.values(value, kind)
    if values then return values end
    local names = pioche.names(folder)
    names[1] = names[1] .. " {...}"
    return nil, "one of pioche." .. table.concat(names, ", ")
  end
end

local function experiment_name(value)
  if type(value) == "string" and #value <= 200 and value:match("^[%w_][%w_.%-]*$") then return value end
  return nil, "a name of letters, digits, '.', '_' and '-', at most 200"
end

local function any_table(value)
  if type(value) == "table" then return value end
  return nil, "a table of parameters"
end

-- Schema of the fields that a sweep and lab:run share, a new one each time.
local function common_schema()
  local of_project = "the project file's, else pioche's own"
  return {
    name = { kind = experiment_name, help = "the experiment; its runs are name-1, name-2 and so on" },
    program = { kind = of_kind("program", "a pioche.program { ... }"),
      required = "a pioche.program { ... }", help = "what is run" },
    goal = { kind = of_kind("goal", "pioche.minimize \"metric\" or pioche.maximize \"metric\""),
      otherwise = "none", help = "what better means: for name/best, keep.best and comparisons" },
    from = { kind = origin, otherwise = "a fresh start",
      help = "the checkpoint that runs start from; with another one they are other runs" },
    launch = { schema = project.launch, otherwise = of_project,
      help = "where ranks run, and how many: `pioche help launch`" },
    retry = { schema = project.retry, otherwise = of_project,
      help = "what a failure means: `pioche help retry`" },
    keep = { schema = project.keep, otherwise = of_project,
      help = "what stays on disk: `pioche help keep`" },
  }
end

recipe.sweep_schema = common_schema()
recipe.sweep_schema.name.required = "the name of the experiment"
for name, rule in next, {
  space = { kind = any_table, otherwise = "no parameters, one run",
    help = "the parameters, by name: `pioche help space`" },
  where = { kind = "function", otherwise = "all of them",
    help = "function(p): true for points that are to run, as p.width % p.heads == 0" },
  goal = { kind = goals, otherwise = "none", help = "what better means, for the search, name/best and"
    .. " comparisons; of a list the search looks for the best compromises, and the first goal decides on"
    .. " name/best and keep.best" },
  constraints = { kind = constraints, otherwise = "none",
    help = "what runs must meet to be good: those that do not come behind all that do" },
  seeds = { kind = seeds, otherwise = "one run a point, without a seed",
    help = "each point is run once with each seed, which the program gets as --seed=1; in a race the points"
      .. " that may be the best are run with further seeds, until it is known which one is; the best is the point"
      .. " with the best mean, and name/best the middle one of its runs" },
  search = { kind = of_plugin("samplers", "sampler"),
    help = "which points of the space run: `pioche help search`",
    otherwise = ("the grid of a space of at most %d points, else pioche.auto of %d, or random ones where"
      .. " there is no goal"):format(grid_points_max, random.schema.runs.default) },
  stop = { kind = of_plugin("stopping", "rule"), otherwise = "none is",
    help = "which runs are stopped before their end; one that asks (should_stop), at one step on all ranks" },
  warm = { kind = warm, otherwise = "nothing is known",
    help = "what another sweep, or several, has found is known to the search from the beginning: \"gpt\", or"
      .. " { \"gpt\", params = { dropout = 0 } }, params being of parameters that its points have not. Parameters"
      .. " are the same by their names; a point with a value that this space cannot choose is left out" },
} do recipe.sweep_schema[name] = rule end

-- What lab:run is given.
recipe.run_schema = common_schema()
recipe.run_schema.name.otherwise = "the file's name without .lua"
recipe.run_schema.goal.otherwise = "that of the newest lab:sweep"
recipe.run_schema.params = { kind = any_table, otherwise = "none",
  help = "the parameters and their values; those of a run, or run.params:with { lr = 1e-4 }" }
recipe.run_schema.seed = { kind = "count", otherwise = "none", help = "given to the program as --seed=1" }

local function check_seed_name(self)
  if self.seeds and self.space.known.seed then
    self.box:blame(self.at, "seeds", "the space has a parameter 'seed' already: expected one of them")
  end
end

-- Seeds that are a race: those that every point begins with, and the options of the race.
local function settle_race(self)
  local given = self.seeds
  if not given or given.kind ~= "race" then return end
  self.race = race.check({ box = self.box, at = given.at, path = "seeds" }, given.given)
  if not self.goal or self.goals then
    self.box:blame(given.at, "seeds", "a race needs %s goal, as goal = pioche.minimize \"val/loss\"",
      self.goals and "one" or "a")
  end
  self.seeds = {}
  for seed = 1, self.race.min do self.seeds[seed] = seed end
end

-- The sampler of a sweep: the one asked for, or chosen and explained.
local function choose_search(self, given)
  local where = { box = self.box, at = self.at, path = "search" }
  if given then
    where.at = { display = given.at.display, line = given.at.line }
    return { name = given.name, module = given.module,
      options = given.module.check(where, given.given), why = "the recipe says so" }
  end
  local count = self.space:count()
  local name, why = "random"
  if count and count <= grid_points_max then
    name = "grid"
    why = count == 1 and "the space is one point"
      or ("the space has %d points, at most %d"):format(count, grid_points_max)
  else
    why = count and ("the space has %d points, more than %d"):format(count, grid_points_max)
      or "the space is continuous"
  end
  -- Without a goal there is nothing to learn from.
  if name == "random" and self.goal then name = "auto" end
  local module = require("pioche.samplers." .. name)
  return { name = name, module = module, options = module.check(where, {}),
    why = "none was asked for, and " .. why, chosen = true }
end

-- What a search that chooses by itself has chosen, once its options are settled.
local function explain_search(self)
  local search = self.search
  if search.module.choose then
    local name, words = search.module.choose(self.space, search.options.runs,
      aims.of(self, self.warm and 1 or 0, self.launch.parallel))
    search.why = ("%s: %s%s"):format(search.why, name and name .. ", " or "", words)
  end
end

function recipe.sweep(box, at, given)
  local checked = fields.check({ box = box, at = at }, given, recipe.sweep_schema)
  checked.space = space.compile(box, at, checked.space, checked.where)
  checked.goals = checked.goal and checked.goal[2] and checked.goal or nil
  checked.goal = checked.goal and checked.goal[1]
  checked.at, checked.box = at, box
  checked.search_given, checked.stop_given = checked.search, checked.stop
  settle_race(checked)
  check_seed_name(checked)
  return (pioche.object("sweep", checked))
end

-- A sweep up the sizes of a model (ladder.lua).
function recipe.ladder(box, at, given)
  return recipe.sweep(box, at, require("pioche.ladder").sweep_of(box, at, given))
end

-- Settle what overrides and the project's defaults may change. `args`: the
-- command line's NAME=VALUE words.
function recipe.settle(self, args, defaults)
  for _, name in ipairs { "launch", "retry", "keep" } do
    self[name] = project.merge(name, self[name], defaults)
  end
  self.launch.on = defaults.on or self.launch.on
  recipe.override(self, args)
  if self.program.objective then objective.settle(self.launch) end
  self.launch.parallel = self.launch.parallel or launcher.parallel(self.launch)
  self.search = choose_search(self, self.search_given)
  for _, name in ipairs(fields.sorted(self.search_overrides or {})) do
    local value = self.search_overrides[name]
    if not (self.search.module.schema or {})[name] then
      errors.raise("invalid", "search.%s=%s: the search of this recipe (%s) has no such option: %s", name, show(value),
        self.search.name, self.search.why)
    end
    self.search.options[name] = value
    self.search.why = self.search.why .. ", " .. name .. " from the command line"
  end
  explain_search(self)
  local stop = self.stop_given
  if stop and not self.goal and stop.name ~= "none" then
    self.box:blame(stop.at, "stop", "%s needs a goal, as goal = pioche.minimize \"val/loss\"", stop.name)
  end
  if stop and self.goals and stop.name ~= "none" then
    self.box:blame(stop.at, "stop", "%s stops runs by one goal, and there are %d (%s): expected one goal, or"
      .. " no rule", stop.name, #self.goals, aims.text(self))
  end
  local module = stop and stop.module or require "pioche.stopping.none"
  self.stop = { name = module.name, module = module,
    options = module.check({ box = self.box, at = stop and stop.at or self.at, path = "stop" },
      stop and stop.given or {}) }
  return self
end

-- ---- overrides ---------------------------------------------------------------------------

local function parse_value(word, text, kind)
  local number = tonumber(text)
  if text:find("^%s") or text:find("%s$") or text:lower():find("^[+-]?0x") then number = nil end
  if kind == "string" then return text end
  if kind == "boolean" or (kind == "any" and (text == "true" or text == "false")) then
    if text == "true" then return true elseif text == "false" then return false end
    errors.raise("invalid", "%s: expected true or false", word)
  elseif kind == "number" or kind == "integer" then
    if not number or number ~= number or math.abs(number) == math.huge then
      errors.raise("invalid", "%s: expected a number, got '%s'", word, text)
    end
    if kind == "integer" and not math.tointeger(number) then
      errors.raise("invalid", "%s: expected a whole number, got '%s'", word, text)
    end
    return kind == "integer" and math.tointeger(number) or number
  end
  if number and number == number and math.abs(number) ~= math.huge then return number end
  return text
end

-- Settings that the command line may change, beside seeds and inputs.
recipe.settings = { launch = project.launch, ["launch.pool"] = launcher.pool_schema, retry = project.retry,
  keep = project.keep, search = random.schema }

local function split(text)
  local list = {}
  for item in (text .. ","):gmatch("([^,]*),") do list[#list + 1] = item end
  return list
end

local function setting(self, word, name, text)
  local input = name:match("^inputs%.(.+)$")
  if input and self.program.inputs and self.program.inputs[input] then
    -- Typed by a person, so it starts where the person is.
    self.program.inputs[input] = text:sub(1, 1) == "/" and text or sys.cwd() .. "/" .. text
    return true
  end
  local group, key = name:match("^([%l.]+)%.([%l_]+)$")
  local schema = recipe.settings[group]
  local rule = schema and schema[key]
  local kind = rule and rule.kind
  if name == "seeds" then
    local values = {}
    for i, item in ipairs(split(text)) do values[i] = parse_value(word, item, "integer") end
    local list, expected = seeds(#values == 1 and values[1] or values)
    if not list then errors.raise("invalid", "%s: expected %s", word, expected) end
    self.seeds, self.race = list, nil
    check_seed_name(self)
    return true
  elseif not rule then
    return false
  elseif rule.schema then
    errors.raise("invalid", "%s: expected %s", word, fields.expected(rule))
  end
  local is_text = type(kind) == "function" or kind == "string"
  local value = parse_value(word, text, is_text and "string" or kind == "boolean" and kind or "number")
  local kept, expected = (fields.kinds[kind] or kind)(value)
  if kept == nil then errors.raise("invalid", "%s: expected %s", word, expected) end
  if group == "search" then
    local given = self.search_given
    local options = given and given.module.schema
    if given and (not options or options.population and not options[key]) then
      errors.raise("invalid", "%s: the search of this recipe (%s) has no such option", word, given.name)
    end
    self.search_overrides = self.search_overrides or {}
    self.search_overrides[key] = kept
  elseif group == "launch.pool" then
    local changed = { [key] = kept } -- what was there may be the project's own
    for other, was in next, self.launch.pool or {} do
      if other ~= key then changed[other] = was end
    end
    self.launch.pool = changed
  else
    self[group][key] = kept
  end
  return true
end

-- The nearest name, or the one whose last part it is: lr for optimizer.lr.
function recipe.suggestion(word, names)
  for _, name in ipairs(names) do
    if name:sub(-#word - 1) == "." .. word then return "; did you mean '" .. name .. "'?" end
  end
  return errors.suggestion(word, names)
end

-- Apply NAME=VALUE words: parameters first, then settings.
function recipe.override(self, args)
  for _, word in ipairs(args or {}) do
    local name, text = word:match("^([^=]+)=(.*)$")
    if not name then
      errors.raise("usage", "'%s': expected NAME=VALUE after the recipe, as lr=3e-4", word)
    end
    local kind = self.space:type_of(name)
    if kind then
      local values, seen = {}, {}
      for _, item in ipairs(split(text)) do
        local value = parse_value(word, item, kind)
        if seen[value] then errors.raise("invalid", "%s: %s is there twice", word, item) end
        seen[value] = true
        values[#values + 1] = value
      end
      self.space:override(name, values)
    elseif not setting(self, word, name, text) then
      local names = table.move(self.space.names, 1, #self.space.names, 1, {})
      for _, group in ipairs(fields.sorted(recipe.settings)) do
        for _, key in ipairs(fields.sorted(recipe.settings[group])) do
          names[#names + 1] = group .. "." .. key
        end
      end
      names[#names + 1] = "seeds"
      for _, input in ipairs(fields.sorted(self.program.inputs or {})) do
        names[#names + 1] = "inputs." .. input
      end
      errors.raise("invalid", "%s: there is no parameter or setting '%s'%s", word, name,
        recipe.suggestion(name, names))
    end
  end
end

-- ---- loading -------------------------------------------------------------------------------

-- The root that relative paths of a recipe start from: the git work tree, or
-- the recipe's folder when there is no git. Second result: is there git?
function recipe.root(path)
  local dir = path:match("^(.*)/[^/]*$") or "."
  if dir == "" then dir = "/" end
  local root = sys.find_up(".git", dir)
  if root then return root, true end
  return sys.realpath(dir) or dir, false
end

-- Load a recipe: { path, display, root, git, box, defaults, sweep or lab, text, digest }.
-- options: project (the folder where a project file may lie), on (where to launch,
-- whatever the recipe says), budget.
function recipe.load(path, args, options)
  options = options or {}
  local kind = sys.type(path)
  if kind == "dir" then errors.raise("invalid", "%s: a folder, expected a recipe's Lua file", path) end
  local box = sandbox.new(path, pioche.api, options.budget)
  local chunk = box:compile(path, box.display)
  local root, git = recipe.root(path)
  local self = { path = path, display = box.display, box = box, root = root, git = git,
    args = args or {}, defaults = project.load(options.project or root) }
  self.defaults.on = options.on
  local result = box:call(chunk)
  if pioche.kind(result) == "sweep" then
    self.sweep = recipe.settle(pioche.values(result), args, self.defaults)
  elseif type(result) == "function" then
    self.lab = result
    if args and args[1] then
      errors.raise("invalid", "%s: %s is a function of a lab, which has no parameters to override",
        args[1], box.display)
    end
  else
    errors.raise("invalid", "%s: a recipe returns a pioche.sweep { ... } or a function(lab), "
      .. "this one returned %s", box.display,
      pioche.kind(result) and "a pioche." .. pioche.kind(result) or show(result))
  end
  local digest = {}
  for _, name in ipairs(fields.sorted(box.files)) do
    digest[#digest + 1] = sys.sha256(box.files[name])
  end
  self.digest = sys.sha256(table.concat(digest, "\n"))
  self.text = box.files[box.display]
  return self
end

-- Goals as the store keeps them; nil where there are not several.
function recipe.goals_record(list)
  if not list then return nil end
  local record = json.array {}
  for i, goal in ipairs(list) do record[i] = { key = goal.key, goal = goal.goal } end
  return record
end

local function constraints_record(self, list)
  local record = json.array {}
  for i, constraint in ipairs(list) do record[i] = space.function_digest(self.box, constraint.fn) end
  return record
end

-- The spec of a sweep as canonical JSON: what makes it the same plan.
function recipe.spec(self, sweep, code)
  local program = sweep.program
  local has_code = sweep.where ~= nil or program.args ~= nil or sweep.stop.name == "rule"
    or sweep.search.name == "sampler"
    or sweep.constraints ~= nil
  for _, parameter in ipairs(sweep.space.parameters) do
    has_code = has_code or parameter.domain.fn ~= nil
  end
  return {
    v = 1, code = code, space = sweep.space:describe(),
    where = sweep.where and space.function_digest(self.box, sweep.where) or nil,
    functions = has_code and self.digest or nil,
    search = { name = sweep.search.name, options = sweep.search.options },
    stop = { name = sweep.stop.name, options = sweep.stop.options },
    seeds = sweep.seeds and json.array(table.move(sweep.seeds, 1, #sweep.seeds, 1, {})) or nil,
    race = sweep.race,
    goal = sweep.goal and { key = sweep.goal.key, goal = sweep.goal.goal } or nil,
    goals = recipe.goals_record(sweep.goals),
    constraints = sweep.constraints and constraints_record(self, sweep.constraints) or nil,
    warm = sweep.warm and { sweeps = json.array(table.move(sweep.warm.sweeps, 1, #sweep.warm.sweeps, 1, {})),
      params = sweep.warm.params } or nil,
    program = recipe.program_record(program),
    launch = { nodes = sweep.launch.nodes, ranks_per_node = sweep.launch.ranks_per_node },
    from = sweep.from and { run = sweep.from.run, which = sweep.from.which,
      manifest = sweep.from.manifest } or nil,
  }
end

-- A program as the store keeps it.
function recipe.program_record(program)
  local function list(words)
    return words and json.array(table.move(words, 1, #words, 1, {})) or nil
  end
  return {
    objective = program.digest, command = list(program.command), sources = list(program.sources),
    build = list(program.build),
    inputs = program.inputs, env = program.env, setup = program.setup, wrap = list(program.wrap),
    args = program.args and space.function_digest(program.box, program.args) or nil,
  }
end

return recipe
