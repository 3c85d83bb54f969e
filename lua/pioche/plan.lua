-- plan.lua: from a checked recipe to runs: points, their arguments, identities.
local aims = require "pioche.aims"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local identity = require "pioche.identity"
local inputs = require "pioche.inputs"
local launcher = require "pioche.launcher"
local population = require "pioche.population"
local pioche = require "pioche"
local region = require "pioche.region"
local recipe = require "pioche.recipe"

local plan = {}

local rehearsed_max = 1000      -- points that are looked at before anything is written

-- ---- one run ---------------------------------------------------------------------

local function mapped(t, f)
  local result = {}
  for key, value in next, t do result[key] = f(value) end
  return result
end

-- The words after the program: `args` of the recipe, or --name=value each.
function plan.arguments(program, params, view, input_paths, seed)
  if program.objective then return {} end
  local words = table.move(program.command, 1, #program.command, 1, {})
  if program.args then
    local ok, given = program.box:try(program.args, view)
    if not ok then errors.raise(given.code, "%s (in args)", given.message) end
    if type(given) ~= "table" then
      program.box:blame(program.at, "args", "the function returned %s: expected a list of words",
        fields.show(given))
    end
    for i = 1, rawlen(given) do
      local word = rawget(given, i)
      if type(word) ~= "string" and type(word) ~= "number" and type(word) ~= "boolean" then
        program.box:blame(program.at, "args", "item %d of the list is %s: expected a word", i,
          fields.show(word))
      end
      words[#words + 1] = identity.word(word)
    end
    return words
  end
  for _, name in ipairs(fields.sorted(input_paths)) do
    words[#words + 1] = "--" .. name .. "=" .. input_paths[name]
  end
  for _, name in ipairs(fields.sorted(params)) do
    words[#words + 1] = "--" .. name .. "=" .. identity.word(params[name])
  end
  if seed then words[#words + 1] = ("--seed=%d"):format(seed) end
  return words
end

-- The words of a run whose parameters and inputs are known.
local function words_of(spec, found, space)
  local known = {}
  for name, value in next, spec.params do known[name] = value end
  if spec.seed then known.seed = spec.seed end
  for name, item in next, found do
    if known[name] == nil then known[name] = item.path end
  end
  return plan.arguments(spec.program, spec.params, space and space:view(known) or known,
    mapped(found, function(item) return item.path end), spec.seed)
end

-- A run to be: everything that decides it. spec = { program, params, launch,
-- seed, from = manifest }, prepared = { code, inputs } (see plan.prepare).
function plan.run(spec, prepared, space)
  local params, program = spec.params, spec.program
  return {
    identity = identity.of {
      code = prepared.code, program = recipe.program_record(program), params = params,
      inputs = mapped(prepared.inputs, function(item) return item.sha256 end),
      from = spec.from, launch = spec.launch, seed = spec.seed,
    },
    params = params, seed = spec.seed, inputs = prepared.inputs,
    words = words_of(spec, prepared.inputs, space),
  }
end

-- ---- a sweep ------------------------------------------------------------------------

-- Names that functions of the recipe may read beside the parameters.
local function extend(sweep)
  local extra = { seed = sweep.seeds ~= nil or nil }
  for name in next, sweep.program.inputs or {} do
    extra[name] = true
    if sweep.space.known[name] then
      sweep.box:blame(sweep.program.at, "inputs." .. name,
        "the space has a parameter of that name, too")
    end
  end
  sweep.space.extra = extra
end

-- The samplers that know what to do with several goals.
local function several_words()
  local words = {}
  for _, name in ipairs(pioche.names "samplers") do
    if pioche.plugin("samplers", name).several then words[#words + 1] = "pioche." .. name end
  end
  return table.concat(words, ", ")
end

-- The options of a search with what was changed of them; the same table where nothing was.
local function options_of(sweep, changes)
  local given, runs = sweep.search.options, changes and changes.runs
  if not runs or math.type(given.runs) ~= "integer" then return given end
  local options = {}
  for name, value in next, given do options[name] = value end
  options.runs = math.max(runs, given.runs)
  if sweep.search.module.inherit then sweep.search.module.inherit(options, given) end
  return options
end

-- The sweep's sampler, ready to propose. One that reads no results is the same
-- each time: what it proposed once is not worked out again. changes: what was changed of the
-- sweep, { runs, workers, frozen, priors }, as sweep/history.lua has it; nil: it is to begin. Also
-- gives the space that it searches.
function plan.sampler(sweep, changes)
  local is_changed = changes and (changes.changed > 0)
  local workers = sweep.launch.parallel
  if changes then workers = changes.workers end
  if sweep.sampler and not is_changed and sweep.sampler_workers == workers then return sweep.sampler, sweep.space end
  extend(sweep)
  local space = is_changed and next(changes.frozen) and sweep.space:fixed(changes.frozen) or sweep.space
  space.region = changes and region.new(space) -- points.lua looks there
  local sampler = sweep.search.module.new(space, options_of(sweep, changes),
    aims.of(sweep, is_changed and changes.priors or 0, workers))
  if not sampler.adaptive and not is_changed then sweep.sampler, sweep.sampler_workers = sampler, workers end
  if sampler.is_population then population.fit(sweep) end
  if sampler.adaptive and not sweep.goal then
    sweep.box:blame(sweep.at, "goal", "is missing: search = pioche.%s learns from results, expected "
      .. "pioche.minimize \"metric\" or pioche.maximize \"metric\"", sweep.search.name)
  elseif sampler.adaptive and sweep.goals and not sweep.search.module.several then
    sweep.box:blame(sweep.at, "goal", "pioche.%s learns from one goal, and there are %d (%s): expected search"
      .. " = %s, or none", sweep.search.name, #sweep.goals, aims.text(sweep), several_words())
  end
  return sampler, space
end

-- Names of the parameters that are chosen anew for each point: a set. In a ladder what follows
-- from the tokens is.
function plan.varying(sweep)
  local names = {}
  for _, parameter in ipairs(sweep.space.parameters) do
    local d = parameter.domain
    local is_free = d.kind ~= "fixed" and (d.kind ~= "derived" or sweep.search.name == "ladder")
    if is_free and not (d.values and #d.values == 1) then
      names[parameter.name] = true
    end
  end
  return names
end

-- All proposals of a sampler that does not wait for results, or the first `limit`.
function plan.points(sampler, limit)
  local points = {}
  while true do
    if #points == limit then return points end
    local point = sampler:propose(#points + 1)
    if not point then return points end
    points[#points + 1] = point
  end
end

-- Check the program and digest its inputs, before any code is looked at.
function plan.check(self, program, store)
  if program.objective then return {} end
  inputs.check_program(program, self.root)
  return inputs.digest(program, self.root, store)
end

-- Only a search that learns is served by what others have found.
local function check_warm(sweep)
  if not sweep.warm or sweep.search.name == "auto" then return end
  local sampler = plan.sampler(sweep)
  if not sampler.adaptive or not sampler.adopt then
    sweep.box:blame(sweep.at, "warm", "search = pioche.%s learns nothing from results: expected one that does, as"
      .. " pioche.tpe", sweep.search.name)
  end
end

-- Everything that can be wrong with a sweep before there is a store, the code is
-- looked at or anything is written: what `plan` and `run` both do first.
function plan.rehearse(self, sweep)
  if sweep.rehearsed then return end
  sweep.rehearsed = true
  launcher.check(sweep.box, sweep.at, sweep.launch)
  local shape = sweep.stop.options.launch
  if shape and not sweep.program.objective then
    local box = setmetatable({ blame = function(_, at, field, ...)
      local name = field:match("^launch%.(.*)$")
      sweep.box:blame(at, (not name or shape[name] ~= nil) and "stop." .. field or field, ...)
    end }, { __index = sweep.box })
    launcher.check(box, sweep.stop_given.at, launcher.reshaped(sweep.launch, shape))
  end
  if not sweep.program.objective then inputs.check_program(sweep.program, self.root) end
  local found = inputs.find(sweep.program, self.root)
  check_warm(sweep)
  local sampler = plan.sampler(sweep)
  if sampler.adaptive then return end
  for _, point in ipairs(plan.points(sampler, rehearsed_max)) do
    for _, seed in ipairs(sweep.seeds or { false }) do
      words_of({ program = sweep.program, params = point, seed = seed or nil }, found, sweep.space)
      if sweep.program.args == nil then break end
    end
  end
end

-- The run of a point with this seed, or without one. from: { manifest, id } of a checkpoint in
-- place of the sweep's; nil: none.
function plan.run_of(sweep, params, prepared, seed, from)
  local origin = from or sweep.from
  local run = plan.run({ program = sweep.program, params = params, launch = sweep.launch, seed = seed,
    from = origin and origin.manifest }, prepared, sweep.space)
  run.from = from
  return run
end

-- Runs of a proposal, one a seed; without seeds one with seed nil.
function plan.runs_of(sweep, params, prepared, from)
  local runs = {}
  for i, seed in ipairs(sweep.seeds or { false }) do
    runs[i] = plan.run_of(sweep, params, prepared, seed or nil, from)
  end
  return runs
end

-- ---- what is on record -----------------------------------------------------------------

-- Newest generation of an identity: { id, name, status, stop_ns } or nil.
function plan.find(store, run_identity)
  return errors.check(store:one([[
    SELECT r.id AS id, e.name || '-' || r.number AS name, r.status AS status,
           r.stop_requested_ns AS stop_ns
      FROM run r JOIN experiment e ON e.id = r.experiment_id
     WHERE r.identity = ? ORDER BY r.generation DESC LIMIT 1]], run_identity))
end

-- Has a person set this run aside? Then it counts for nothing (sweep/surgery.lua).
function plan.is_aside(store, run_id)
  return errors.check(store:one("SELECT EXISTS (SELECT 1 FROM tag WHERE run_id = ? AND name = 'aside') AS x",
    run_id)).x == 1
end

-- Resolve a checkpoint of another run: sets its manifest digest and id.
function plan.resolve_from(from, store, at, box)
  if not from or from.manifest then return end
  local function blame(format, ...) box:blame(at, "from", format, ...) end
  if not store then blame("%s: there is no store to look it up in", fields.show(from.run)) end
  local runs = require "pioche.runs"
  local ok, run_id = pcall(runs.find, store, from.run)
  if not ok then
    if errors.is(run_id) then blame("%s", run_id.message) end
    error(run_id, 0)
  end
  local goal = errors.check(store:one([[SELECT goal_key AS key, goal FROM experiment e
    JOIN run r ON r.experiment_id = e.id WHERE r.id = ?]], run_id)) or {}
  local id
  if from.which == "best" and goal.key then
    id = errors.check(store:checkpoint_best(run_id, goal.key, goal.goal))
  else
    id = errors.check(store:checkpoint_newest(run_id))
  end
  if not id then blame("%s has no checkpoint", fields.show(from.run)) end
  from.id = id
  from.manifest = errors.check(store:one(
    "SELECT manifest_sha256 AS m FROM checkpoint WHERE id = ?", id)).m
end

return plan
