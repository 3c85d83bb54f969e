-- inputs.lua: the program's files, before anything launches.
local core = require "pioche.core.store"
local sys = require "pioche.core.sys"
local fields = require "pioche.fields"

local inputs = {}

-- A path of a recipe, which starts at `root`.
local function absolute(root, path)
  return path:sub(1, 1) == "/" and path or root .. "/" .. path:gsub("^%./+", "")
end

-- A program's inputs, which must be there: { name = { path = absolute } }.
-- Relative paths start at `root`.
function inputs.find(program, root)
  local result = {}
  for _, name in ipairs(fields.sorted(program.inputs or {})) do
    local given = program.inputs[name]
    local path = absolute(root, given)
    if sys.type(path) == nil then
      program.box:blame(program.at, "inputs." .. name, "there is no file or folder %s (%s)",
        fields.show(given), path)
    end
    result[name] = { path = sys.realpath(path) or path }
  end
  return result
end

-- The same with digests: { name = { path, sha256, bytes } }. `store` (may be nil)
-- remembers those of unchanged files.
function inputs.digest(program, root, store)
  local result = inputs.find(program, root)
  for _, name in ipairs(fields.sorted(result)) do
    local item = result[name]
    item.sha256, item.bytes = core.input_digest(store, item.path)
    if not item.sha256 then
      program.box:blame(program.at, "inputs." .. name, "%s", item.bytes)
    end
  end
  return result
end

-- Is the program there and executable? What `build` makes, `setup` puts into
-- PATH or `wrap` brings along cannot be known before the run.
function inputs.check_program(program, root)
  local box, at, name = program.box, program.at, program.command[1]
  for _, path in ipairs(program.sources or {}) do
    if sys.type(root .. "/" .. path) == nil then
      box:blame(at, "sources", "there is no %s in %s", fields.show(path), root)
    end
  end
  local function blame(format, ...) box:blame(at, "command", format, ...) end
  if program.wrap or program.build and name:find("/", 1, true) then return end
  if name:find("/", 1, true) then
    local path = absolute(root, name)
    local kind = sys.type(path)
    if kind == nil then
      blame("there is no program %s (%s); does it need `build`?", fields.show(name), path)
    elseif kind ~= "file" then
      blame("%s is no file (%s)", fields.show(name), path)
    elseif not sys.access_x(path) then
      blame("%s is not executable (%s): chmod +x, or name its interpreter", fields.show(name), path)
    end
  elseif not program.setup then
    local search = program.env and program.env.PATH or sys.getenv("PATH") or "/usr/bin:/bin"
    for dir in search:gmatch("[^:]+") do
      local path = dir .. "/" .. name
      if sys.type(path) == "file" and sys.access_x(path) then return end
    end
    blame("there is no program %s in PATH", fields.show(name))
  end
end

return inputs
