-- project.lua: defaults of a project: an optional pioche.lua beside .pioche/,
-- in the same sandbox as a recipe, returning { launch, keep, retry, remotes, aliases }.
local fields = require "pioche.fields"
local launcher = require "pioche.launcher"
local pioche = require "pioche"
local preflight = require "pioche.preflight"
local sandbox = require "pioche.sandbox"
local sys = require "pioche.core.sys"

local project = {}

project.launch = {
  nodes = { kind = "positive" }, ranks_per_node = { kind = "positive" },
  parallel = { kind = "positive" }, timeout_s = { kind = "positive" },
  grace_s = { kind = "count" }, hang_s = { kind = "count" }, share_code = { kind = "boolean" },
  mpi_env = { kind = "boolean" }, preflight = { kind = preflight.kind }, telemetry = { kind = "boolean" },
  bind = { kind = fields.one_of("auto", "gpu", "cores", "none") },
}
for name, rule in next, launcher.schema do project.launch[name] = rule end
project.retry = {
  attempts = { kind = "positive" }, backoff_s = { kind = "seconds" }, total = { kind = "positive" },
  node_hours = { kind = "hours" }, exclude = { kind = "boolean" },
}
project.keep = { last = { kind = "count" }, best = { kind = "count" }, code = { kind = "boolean" } }

-- What holds where neither the recipe nor the project says otherwise.
project.defaults = {
  launch = { nodes = 1, ranks_per_node = 1 }, -- parallel: launcher.parallel
  retry = { attempts = 1, backoff_s = 1, total = 20, exclude = true },
  keep = { last = 1, best = 1, code = false },
}

local function any_table(value)
  if type(value) == "table" then return value end
  return nil, "a table"
end

-- Load the defaults of the project whose root is `root`; {} when it has none.
function project.load(root)
  local path = root .. "/pioche.lua"
  if sys.type(path) ~= "file" then return {} end
  local box = sandbox.new(path, pioche.api)
  box.display = #path <= 56 and path or "pioche.lua"
  local given = box:call(box:compile(path, box.display))
  local at = { display = box.display, line = 1 }
  local function section(name)
    return { kind = function(value)
      return fields.check({ box = box, at = at, path = name }, value, project[name])
    end }
  end
  return fields.check({ box = box, at = at }, given, {
    launch = section "launch", retry = section "retry", keep = section "keep",
    remotes = { kind = any_table }, aliases = { kind = any_table },
  })
end

-- The settings of a section: the recipe's over the project's over the built-in.
function project.merge(name, given, defaults)
  local result = {}
  for _, layer in ipairs { project.defaults[name], defaults[name] or {}, given or {} } do
    for key, value in next, layer do result[key] = value end
  end
  return result
end

return project
