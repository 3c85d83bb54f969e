-- identity.lua: a run is its content.
--
-- The SHA-256 of canonical JSON of everything that decides what a run does:
-- the code's files, the program, the parameters, the inputs by digest, the
-- checkpoint it starts from, the launch shape, the seed. The same identity is
-- the same run, on record or to be made.
local fields = require "pioche.fields"
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local errors = require "pioche.errors"

local identity = {}

-- run = { code = hex, program = record, params, inputs = { name = sha256 },
-- from = manifest or nil, launch = {nodes, ranks_per_node}, seed or nil }
function identity.of(run)
  local program = run.program
  local text = errors.check(json.encode {
    v = 1, code = run.code,
    program = { command = program.command, args = program.args, build = program.build,
      env = program.env, setup = program.setup, wrap = program.wrap },
    params = run.params, inputs = run.inputs or {}, from = run.from or json.null,
    launch = { nodes = run.launch.nodes, ranks_per_node = run.launch.ranks_per_node },
    seed = run.seed or json.null,
  })
  return errors.check(sys.sha256(text))
end

-- A parameter as the program reads it.
function identity.word(value)
  if type(value) == "number" then return fields.number(value) end
  return tostring(value)
end

return identity
