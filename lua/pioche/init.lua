-- pioche: what a recipe gets by require "pioche".
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local space = require "pioche.space"

local pioche = {}

-- Objects of a recipe: tables of ours that a recipe can hold and hand back, but
-- not change; `kind` says which.
local object_meta = {
  __metatable = false,
  __name = "pioche.object",
  __tostring = function(self) return "pioche." .. self.kind end,
  __newindex = function(self)
    error("a pioche." .. self.kind .. " cannot be changed", 2)
  end,
}

function pioche.object(kind, values)
  values.kind = kind
  return setmetatable(values, object_meta)
end

-- The kind of an object, nil for any other value.
function pioche.kind(value)
  return type(value) == "table" and debug.getmetatable(value) == object_meta and value.kind or nil
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

-- Constructors, bound to a recipe's box. Samplers and stopping rules are
-- found by name, so that a new module is a new word of the recipes.
function pioche.api(box)
  local api = {}
  local function at()
    local display, line = box:here()
    return { display = display or box.display, line = line or 1 }
  end

  for _, name in ipairs { "uniform", "log_uniform", "int", "log_int", "choice", "one_of" } do
    api[name] = space[name]
  end

  for _, goal in ipairs { "minimize", "maximize" } do
    api[goal] = function(key)
      if type(key) ~= "string" or key == "" then
        box:complain("%s: expected the name of a metric, such as \"val/loss\", got %s", goal,
          fields.show(key))
      end
      return pioche.object("goal", { goal = goal, key = key })
    end
  end

  -- Checked when a sweep uses it: there the whole plan is known.
  for _, kind in ipairs { "program", "sweep" } do
    api[kind] = function(given)
      if type(given) ~= "table" then
        box:complain("%s: expected a table, got %s", kind, fields.show(given))
      end
      local recipe = require "pioche.recipe"
      return recipe[kind](box, at(), given)
    end
  end

  -- checkpoint("gpt/best", "last"): the start of a run that grows from another.
  function api.checkpoint(run, which)
    which = which or "best"
    if type(run) ~= "string" or run == "" or (which ~= "best" and which ~= "last") then
      box:complain("checkpoint: expected a run, such as \"gpt/best\", and \"best\" or \"last\"; "
        .. "got %s, %s", fields.show(run), fields.show(which))
    end
    return pioche.object("checkpoint", { run = run, which = which })
  end

  local function constructor(folder, name, kind)
    return function(given)
      if given ~= nil and type(given) ~= "table" then
        box:complain("%s: expected a table of options, got %s", name, fields.show(given))
      end
      return pioche.object(kind, { name = name, given = given or {},
        module = plugin(folder, name), at = at() })
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
