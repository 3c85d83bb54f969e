-- reference.lua: all that a recipe may say, for people: what `pioche help recipe`
-- prints. It is made of the very tables by which recipes are checked; what a field
-- expects is told in the words of its own error.
local fields = require "pioche.fields"
local lab = require "pioche.lab"
local ladder = require "pioche.ladder"
local pioche = require "pioche"
local project = require "pioche.project"
local race = require "pioche.race"
local recipe = require "pioche.recipe"
local space = require "pioche.space"

local reference = {}

-- What holds where nothing is given, in words; nil where something must be.
local function default_of(rule, default)
  if default == nil then default = rule.default end
  if default == nil then default = rule.otherwise end
  if default == nil or rule.required then return nil end
  return type(default) == "string" and default or fields.show(default)
end

-- Tables of fields that are groups of their own.
local parts = { [project.launch] = true, [project.retry] = true, [project.keep] = true }

-- The fields of a schema as entries, those of a table among them after it.
local function add_fields(entries, schema, prefix, defaults)
  for _, name in ipairs(fields.sorted(schema)) do
    local rule, default = schema[name], (defaults or {})[name]
    entries[#entries + 1] = { name = prefix .. name, expects = fields.expected(rule),
      default = default_of(rule, default), required = rule.required ~= nil, help = rule.help }
    if rule.schema and not parts[rule.schema] then
      add_fields(entries, rule.schema, prefix .. name .. ".")
    end
  end
  return entries
end

local function section(name, title)
  return { name = name, title = title,
    entries = add_fields({}, project[name], name .. ".", project.defaults[name]) }
end

-- Samplers or stopping rules.
local function plugins(name, folder, title)
  local group = { name = name, title = title, entries = {} }
  for _, word in ipairs(pioche.names(folder)) do
    local module = pioche.plugin(folder, word)
    group.entries[#group.entries + 1] = { name = "pioche." .. word .. " { ... }",
      help = module.summary .. (module.usage and "; " .. module.usage or "") }
    add_fields(group.entries, module.schema or {}, word .. ".")
  end
  return group
end

local function lab_group()
  local group = { name = "lab", title = "what the function of a lab may ask for", entries = {} }
  for _, kind in ipairs { "lab", "results", "run" } do
    for _, word in ipairs(fields.sorted(lab.words[kind])) do
      group.entries[#group.entries + 1] = lab.words[kind][word]
    end
  end
  return group
end

local function overrides()
  local entries = {
    { name = "lr=3e-4", help = "a parameter of the space, by its full name (optimizer.beta2=0.95)" },
    { name = "depth=2,3", help = "a list of choices for it" },
    { name = "seeds=3, seeds=1,2,5", help = "as `seeds`" },
    { name = "inputs.NAME=PATH", help = "an input of the program; starts at the working directory" },
  }
  for _, name in ipairs(fields.sorted(recipe.settings)) do
    local words = {}
    for _, field in ipairs(fields.sorted(recipe.settings[name])) do
      if not recipe.settings[name][field].schema then words[#words + 1] = field end
    end
    entries[#entries + 1] = { name = name .. ".FIELD=VALUE",
      help = "a setting; FIELD is one of " .. table.concat(words, ", ") }
  end
  return { name = "overrides", title = "NAME=VALUE words after a recipe that returns a sweep",
    entries = entries }
end

-- { name, title, entries = { { name, expects, default, required, help } } }, in order;
-- entries that are no fields have a name and help alone.
function reference.groups()
  return {
    { name = "forms", title = "what a recipe is made of", entries = pioche.forms },
    { name = "sweep", title = "fields of pioche.sweep { ... }", entries =
      add_fields({}, recipe.sweep_schema, "") },
    { name = "ladder",
      title = "fields of pioche.ladder { ... }, beside those of a sweep but search, stop and where",
      entries = add_fields({}, ladder.schema, "ladder.") },
    { name = "program", title = "fields of pioche.program { ... }", entries =
      add_fields({}, recipe.program_schema, "") },
    { name = "space", title = "values in a sweep's space = { name = VALUE }", entries = space.forms },
    plugins("search", "samplers", "a sweep's search = ..."),
    plugins("stop", "stopping", "a sweep's stop = ..."),
    { name = "race", title = "a sweep's seeds = pioche.race { ... }",
      entries = add_fields({}, race.schema, "race.") },
    section("launch", "a sweep's launch = { ... }: where and how its ranks run"),
    section("retry", "a sweep's retry = { ... }: what is tried again"),
    section("keep", "a sweep's keep = { ... }: what stays on disk"),
    lab_group(),
    { name = "run", title = "fields of lab:run { ... }", entries = add_fields({}, recipe.run_schema, "") },
    { name = "project", title = "fields of what pioche.lua returns, a file in the root of the work tree",
      entries = add_fields({}, project.schema, "") },
    overrides(),
  }
end

-- Is the entry asked for by some of its name's parts? launch.pool.idle by pool or idle,
-- pioche.uniform(...) by uniform, lab:note(...) by that or note, random.runs by search.runs.
local function answers_to(group, entry, word)
  local name = entry.name:match("^[%w_]+[.:][%w_.]+") or entry.expects and entry.name
  if not name then return false end
  local dotted, asked = "." .. name:gsub(":", ".") .. ".", word:gsub(":", ".")
  return dotted:find("." .. asked .. ".", 1, true) ~= nil
    or asked == group.name .. "." .. name:match("[%w_]+$")
end

-- The groups of that name, or those with entries of that name, and only these; empty
-- where there is nothing of the kind.
function reference.find(word)
  local found = {}
  for _, group in ipairs(reference.groups()) do
    if group.name == word then return { group } end
    local some = { name = group.name, title = group.title, entries = {} }
    for _, entry in ipairs(group.entries) do
      if answers_to(group, entry, word) then some.entries[#some.entries + 1] = entry end
    end
    if #some.entries > 0 then found[#found + 1] = some end
  end
  return found
end

-- Names that `find` knows: those of the groups, and those of fields, each once.
function reference.names()
  local groups, names, seen = {}, {}, {}
  for i, group in ipairs(reference.groups()) do
    groups[i] = group.name
    for _, entry in ipairs(group.entries) do
      if entry.expects and not seen[entry.name] then names[#names + 1] = entry.name end
      seen[entry.name] = true
    end
  end
  return groups, names
end

return reference
