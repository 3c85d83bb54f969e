-- inputs.lua: the program's files, before anything launches.
local core = require "pioche.core.store"
local sys = require "pioche.core.sys"
local fields = require "pioche.fields"

local inputs = {}

-- Digests of a program's inputs: { name = { path = absolute, sha256, bytes } }.
-- Relative paths start at `root`; `store` (may be nil) remembers digests of
-- unchanged files.
function inputs.digest(program, root, store)
  local result = {}
  for _, name in ipairs(fields.sorted(program.inputs or {})) do
    local given = program.inputs[name]
    local path = given:sub(1, 1) == "/" and given or root .. "/" .. given
    if sys.type(path) == nil then
      program.box:blame(program.at, "inputs." .. name, "there is no file or folder %s (%s)",
        fields.show(given), path)
    end
    local sha256, bytes = core.input_digest(store, path)
    if not sha256 then
      program.box:blame(program.at, "inputs." .. name, "%s", bytes)
    end
    result[name] = { path = sys.realpath(path) or path, sha256 = sha256, bytes = bytes }
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
    local path = name:sub(1, 1) == "/" and name or root .. "/" .. name
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
