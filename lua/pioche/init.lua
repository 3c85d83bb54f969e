-- pioche: what a recipe gets by require "pioche".
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local source = require "pioche.source"
local space = require "pioche.space"

local pioche = {}

-- Objects of a recipe are handles: what is behind one (`values`) only trusted
-- code sees; the recipe can hold it, hand it back, and use what is `public`.
local behind = setmetatable({}, { __mode = "k" })

-- Returns the handle and the values, which get the field `kind`.
function pioche.object(kind, values, public)
  values.kind = kind
  local names = public and fields.sorted(public) or {}
  local handle = setmetatable({}, {
    __metatable = false,
    __name = "pioche.object",
    __tostring = function() return "pioche." .. kind end,
    __index = function(_, name)
      local value = public and public[name]
      if value == nil and public then
        error(("a %s has no '%s'%s"):format(kind, tostring(name),
          errors.suggestion(tostring(name), names)), 2)
      end
      return value
    end,
    __newindex = function() error("a " .. kind .. " cannot be changed", 2) end,
  })
  behind[handle] = values
  return handle, values
end

-- What is behind a handle, maybe only if it is of that kind; else nil.
function pioche.values(handle, kind)
  local values = type(handle) == "table" and behind[handle] or nil
  return values and (not kind or values.kind == kind) and values or nil
end

-- The kind of a handle, nil for any other value.
function pioche.kind(handle)
  local values = pioche.values(handle)
  return values and values.kind
end

-- A module pioche.<folder>.<name>, or nil.
local function plugin(folder, name)
  if type(name) ~= "string" or not name:match("^%l[%l%d_]*$") then return nil end
  local module = "pioche." .. folder .. "." .. name
  local ok, value = pcall(require, module)
  if ok then return value end
  if not tostring(value):find("module '" .. module .. "' not found", 1, true) then error(value, 0) end
  return nil
end
pioche.plugin = plugin

-- What a recipe is made of, for people; of spaces space.lua tells.
pioche.forms = {
  { name = "pioche.sweep { ... }", help = "a recipe returns one: runs of one program over a space" },
  { name = "function(lab) ... end", help = "or returns this: it asks for runs one after another and reads"
    .. " their results; finished ones are looked up, so that it goes on where it was" },
  { name = "pioche.ladder { ... }", help = "or this: a sweep up the sizes of a model, for a scaling law that"
    .. " predicts each size before it runs" },
  { name = "pioche.program { ... }", help = "the program of a sweep, or of a run of a lab" },
  { name = "pioche.objective(function(p, number) ... end)", help = "in place of a program: what the"
    .. " function gives, a number for the goal or { loss = 0.3 }, is the run; nothing is launched. \"oom\" is"
    .. " a run that was out of memory" },
  { name = "pioche.minimize \"metric\"", help = "a goal: the metric's last value, the lower the better" },
  { name = "pioche.maximize \"metric\"", help = "a goal: the metric's last value, the higher the better" },
  { name = "{ pioche.minimize \"a\", pioche.maximize \"b\" }", help = "several goals: what is sought are the"
    .. " points that nothing beats in all of them" },
  { name = "pioche.constraint(function(m) ... end)", help = "what a run must meet: 0 or less where it does,"
    .. " as m.memory_gb - 80; m.name is the last value of a metric, m[\"memory_gb@max\"] the highest of the"
    .. " ranks', or what the run's summary says" },
  { name = "pioche.race { ... }", help = "for `seeds`: repeats with further seeds, where they decide which"
    .. " point is the best" },
  { name = "pioche.checkpoint(run, which)", help = "for `from`: of another run, as \"gpt/best\", its \"best\""
    .. " one by the goal, also without `which`, or its \"last\"" },
  { name = "require \"name\"", help = "what name.lua beside the recipe returns" },
}

-- Constructors, bound to a recipe's box. Samplers and stopping rules are
-- found by name, so that a new module is a new word of the recipes.
function pioche.api(box)
  local api = {}
  -- Where the recipe calls; `return pioche.sweep {` is a tail call, of which Lua
  -- keeps no line, but the text does.
  local function at(call)
    local display, line = box:here()
    display = display or box.display
    return { display = display, call = call,
      line = line or call and source.call_line(box.sources[display], call) or 1 }
  end

  for _, name in ipairs(space.words) do
    api[name] = space[name]
  end

  for _, goal in ipairs { "minimize", "maximize" } do
    api[goal] = function(key)
      if type(key) ~= "string" or key == "" then
        box:complain("%s: expected the name of a metric, such as \"val/loss\", got %s", goal,
          fields.show(key))
      end
      return (pioche.object("goal", { goal = goal, key = key }))
    end
  end

  -- Checked when a sweep uses it: there the whole plan is known.
  for _, kind in ipairs { "program", "sweep", "ladder" } do
    api[kind] = function(given)
      if type(given) ~= "table" or pioche.kind(given) then
        box:complain("%s: expected a table, got %s", kind, fields.show(given))
      end
      local recipe = require "pioche.recipe"
      return recipe[kind](box, at(kind), given)
    end
  end

  -- objective(fn): a function of the recipe in place of a program.
  function api.objective(fn)
    if type(fn) ~= "function" then
      box:complain("objective: expected a function(p), got %s", fields.show(fn))
    end
    return (pioche.object("program", require("pioche.objective").program(box, at("objective"), fn)))
  end

  -- constraint(fn): what a run has to meet.
  function api.constraint(fn)
    if type(fn) ~= "function" then
      box:complain("constraint: expected a function(m), got %s", fields.show(fn))
    end
    return (pioche.object("constraint", { fn = fn, box = box, at = at("constraint") }))
  end

  -- race { max = 5 }: seeds that are a decision.
  function api.race(given)
    if given ~= nil and type(given) ~= "table" then
      box:complain("race: expected a table of options, got %s", fields.show(given))
    end
    return (pioche.object("race", { given = given or {}, at = at("race") }))
  end

  -- checkpoint("gpt/best", "last"): the start of a run that grows from another.
  function api.checkpoint(run, which)
    which = which or "best"
    if type(run) ~= "string" or run == "" or (which ~= "best" and which ~= "last") then
      box:complain("checkpoint: expected a run, such as \"gpt/best\", and \"best\" or \"last\"; "
        .. "got %s, %s", fields.show(run), fields.show(which))
    end
    return (pioche.object("checkpoint", { run = run, which = which }))
  end

  local function constructor(folder, name, kind)
    return function(given)
      if given ~= nil and type(given) ~= "table" then
        box:complain("%s: expected a table of options, got %s", name, fields.show(given))
      end
      return (pioche.object(kind, { name = name, given = given or {},
        module = plugin(folder, name), at = at(name) }))
    end
  end
  for _, module in ipairs(require("pioche.core.state").modules()) do
    local folder, name = module:match("^pioche%.(%l+)%.([%l%d_]+)$")
    if folder == "samplers" then
      api[name] = constructor(folder, name, "sampler")
    elseif folder == "stopping" then
      api[name] = constructor(folder, name, "rule")
    end
  end
  return api
end

-- Names of the samplers or stopping rules inside this executable.
function pioche.names(folder)
  local names = {}
  for _, module in ipairs(require("pioche.core.state").modules()) do
    names[#names + 1] = module:match("^pioche%." .. folder .. "%.([%l%d_]+)$")
  end
  return names
end

pioche.errors = errors
return pioche
