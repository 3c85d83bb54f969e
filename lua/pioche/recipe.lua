-- recipe.lua: from a recipe's text to a checked plan.
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local json = require "pioche.core.json"
local launcher = require "pioche.launcher"
local pioche = require "pioche"
local project = require "pioche.project"
local sandbox = require "pioche.sandbox"
local space = require "pioche.space"
local sys = require "pioche.core.sys"

local recipe = {}
local show = fields.show

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

local program_schema = {
  command = { kind = "words", required = "the program and its first arguments, as { \"./train\" }" },
  args = { kind = "function" }, sources = { kind = paths }, build = { kind = "words" },
  inputs = { kind = string_map "names and paths" }, env = { kind = string_map("names and values", true) },
  setup = { kind = "string" }, wrap = { kind = "words" },
}

function recipe.program(box, at, given)
  local checked = fields.check({ box = box, at = at }, given, program_schema)
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

local function seeds(value)
  local n = math.type(value) == "integer" and value or nil
  if n and n >= 1 and n <= 100000 then
    local list = {}
    for i = 1, n do list[i] = i end
    return list
  end
  local expected = "how many seeds (3), or a list of them ({ 1, 2, 5 })"
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

local function section(box, at, name)
  return { kind = function(value)
    return fields.check({ box = box, at = at, path = name }, value, project[name])
  end }
end

local function plugin_rule(folder, kind)
  return { kind = function(value)
    local values = pioche.values(value, kind)
    if values then return values end
    local names = pioche.names(folder)
    for i, name in ipairs(names) do names[i] = "pioche." .. name .. " {...}" end
    return nil, table.concat(names, " or ")
  end }
end

-- Schema of the fields that a sweep and lab:run share.
function recipe.common_schema(box, at)
  return {
    program = { kind = of_kind("program", "a pioche.program { ... }"),
      required = "a pioche.program { ... }" },
    goal = { kind = of_kind("goal", "pioche.minimize \"metric\" or pioche.maximize \"metric\"") },
    from = { kind = origin },
    launch = section(box, at, "launch"), retry = section(box, at, "retry"),
    keep = section(box, at, "keep"),
    name = { kind = function(value)
      if type(value) == "string" and #value <= 200 and value:match("^[%w_][%w_.%-]*$") then
        return value
      end
      return nil, "a name of letters, digits, '.', '_' and '-', at most 200"
    end },
  }
end

local function check_seed_name(self)
  if self.seeds and self.space.known.seed then
    self.box:blame(self.at, "seeds", "the space has a parameter 'seed' already: expected one of them")
  end
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
  local name, given_options, why = "random", { runs = 32, seed = 1 }
  if count and count <= 64 then
    name, given_options = "grid", {}
    why = count == 1 and "the space is one point" or ("the space has %d points, at most 64"):format(count)
  else
    why = count and ("the space has %d points, more than 64"):format(count)
      or "the space is continuous"
  end
  local module = require("pioche.samplers." .. name)
  return { name = name, module = module, options = module.check(where, given_options),
    why = "none was asked for, and " .. why, chosen = true }
end

function recipe.sweep(box, at, given)
  local schema = recipe.common_schema(box, at)
  schema.name.required = "the name of the experiment"
  schema.space = { kind = function(value)
    if type(value) == "table" then return value end
    return nil, "a table of parameters"
  end }
  schema.where = { kind = "function" }
  schema.seeds = { kind = seeds }
  schema.search = plugin_rule("samplers", "sampler")
  schema.stop = plugin_rule("stopping", "rule")
  local checked = fields.check({ box = box, at = at }, given, schema)
  checked.space = space.compile(box, at, checked.space, checked.where)
  checked.at, checked.box = at, box
  checked.search_given, checked.stop_given = checked.search, checked.stop
  check_seed_name(checked)
  return (pioche.object("sweep", checked))
end

-- Settle what overrides and the project's defaults may change. `args`: the
-- command line's NAME=VALUE words.
function recipe.settle(self, args, defaults)
  for _, name in ipairs { "launch", "retry", "keep" } do
    self[name] = project.merge(name, self[name], defaults)
  end
  self.launch.on = defaults.on or self.launch.on
  recipe.override(self, args)
  self.launch.parallel = self.launch.parallel or launcher.parallel(self.launch)
  self.search = choose_search(self, self.search_given)
  for name, value in next, self.search_overrides or {} do
    self.search.options[name] = value
    self.search.why = self.search.why .. ", " .. name .. " from the command line"
  end
  local stop = self.stop_given
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
  local schema = group and (group == "search" and require("pioche.samplers.random").schema
    or group == "launch.pool" and launcher.pool_schema
    or (group == "launch" or group == "retry" or group == "keep") and project[group])
  local rule = schema and schema[key]
  local kind = rule and rule.kind
  if name == "seeds" then
    local values = {}
    for i, item in ipairs(split(text)) do values[i] = parse_value(word, item, "integer") end
    local list, expected = seeds(#values == 1 and values[1] or values)
    if not list then errors.raise("invalid", "%s: expected %s", word, expected) end
    self.seeds = list
    check_seed_name(self)
    return true
  elseif not rule then
    return false
  end
  local is_text = type(kind) == "function" or kind == "string"
  local value = parse_value(word, text, is_text and "string" or kind == "boolean" and kind or "number")
  local kept, expected = (fields.kinds[kind] or kind)(value)
  if kept == nil then errors.raise("invalid", "%s: expected %s", word, expected) end
  if group == "search" then
    local given = self.search_given
    if given and given.module.schema == nil then
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
      for _, group in ipairs { "launch", "retry", "keep" } do
        for _, key in ipairs(fields.sorted(project[group])) do names[#names + 1] = group .. "." .. key end
      end
      for _, key in ipairs(fields.sorted(launcher.pool_schema)) do
        names[#names + 1] = "launch.pool." .. key
      end
      for _, known in ipairs { "seeds", "search.runs", "search.seed" } do names[#names + 1] = known end
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

-- The spec of a sweep as canonical JSON: what makes it the same plan.
function recipe.spec(self, sweep, code)
  local program = sweep.program
  local has_code = sweep.where ~= nil or program.args ~= nil
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
    goal = sweep.goal and { key = sweep.goal.key, goal = sweep.goal.goal } or nil,
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
    command = list(program.command), sources = list(program.sources), build = list(program.build),
    inputs = program.inputs, env = program.env, setup = program.setup, wrap = list(program.wrap),
    args = program.args and space.function_digest(program.box, program.args) or nil,
  }
end

return recipe
