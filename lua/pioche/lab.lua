-- lab.lua: the function form of a recipe: science that branches on results.
--
-- The recipe's function runs in the sandbox. Each lab:run, lab:sweep and
-- lab:export is a request that it yields to the trusted side; the answer is a
-- result of the store. As every run is known by its content, a function that
-- is run again walks the same way through what is finished, and goes on.
local aims = require "pioche.aims"
local best = require "pioche.best"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local infeasible = require "pioche.infeasible"
local json = require "pioche.core.json"
local pioche = require "pioche"
local plan = require "pioche.plan"
local recipe = require "pioche.recipe"
local runs = require "pioche.runs"
local space = require "pioche.space"
local sweep_core = require "pioche.core.sweep"
local sweeps = require "pioche.sweeps"
local sys = require "pioche.core.sys"

local lab = {}
local check = errors.check

-- What a recipe may ask of a lab, of a run that it gave and of the results of a
-- sweep, for people.
lab.words = {
  lab = {
    run = { name = "lab:run { ... }", help = "run this, wait, and give the run; a run that failed ends the"
      .. " recipe" },
    sweep = { name = "lab:sweep(sweep)", help = "run a pioche.sweep { ... }, and give its results" },
    export = { name = "lab:export(run, path)", help = "write the bundle of a run; a relative path starts at"
      .. " the root of the work tree" },
    note = { name = "lab:note(text)", help = "tell a line to who looks on, as the recipe runs" },
  },
  results = {
    name = { name = "results.name", help = "the experiment" },
    runs = { name = "results:runs()", help = "the list of its runs" },
    best = { name = "results:best()", help = "the finished run that is best by the goal, of several by the"
      .. " first; of points with several seeds the middle one of the best point by its mean" },
    front = { name = "results:front()", help = "the finished runs that none beats in all goals, the best by"
      .. " the first goal first" },
  },
  run = {
    name = { name = "run.name", help = "its name, as \"gpt-17\"" },
    status = { name = "run.status",
      help = "finished, or stopped by a rule; in a sweep failed and so on, too" },
    seed = { name = "run.seed", help = "its seed, false where there is none" },
    params = { name = "run.params", help = "its parameters; params:with { lr = 1e-4 } is a changed copy" },
    metric = { name = "run:metric(key)", help = "the last value of a metric, nil where none was logged" },
    checkpoint = { name = "run:checkpoint(which)", help = "for `from`: \"best\" by the goal, also without"
      .. " `which`, or \"last\"" },
  },
}

-- A handle of a recipe, each word of which is explained.
local function explained(kind, values, public)
  for name in next, public do assert(lab.words[kind][name], name) end
  for name in next, lab.words[kind] do assert(public[name] ~= nil, name) end
  return (pioche.object(kind, values, public))
end

-- ---- what a recipe holds ----------------------------------------------------------

-- Parameters of a run, with `with`, which gives a changed copy.
local function params_view(box, params)
  local function with(self, changes)
    if type(changes) ~= "table" then
      -- p.with { ... } is forgiven: the table came first.
      changes = self
    end
    local copy = {}
    for name, value in next, params do copy[name] = value end
    for _, name in ipairs(fields.sorted(changes)) do
      local value = rawget(changes, name)
      local t = type(value)
      if type(name) ~= "string" or (t ~= "number" and t ~= "string" and t ~= "boolean") then
        box:complain("params:with: %s is %s: expected a number, a string or a boolean",
          fields.show(name), fields.show(value))
      end
      copy[name] = value
    end
    return params_view(box, copy)
  end
  local names = fields.sorted(params)
  return setmetatable({}, {
    __index = function(_, name)
      if name == "with" then return with end
      return params[name]
    end,
    __newindex = function() box:complain("params cannot be changed; params:with { ... } gives a copy") end,
    __pairs = function()
      local i = 0
      return function()
        i = i + 1
        if names[i] then return names[i], params[names[i]] end
      end
    end,
    __metatable = false, pioche_params = params,
  })
end

-- The plain parameters of what a recipe passes as params.
local function plain_params(box, at, value)
  local meta = type(value) == "table" and debug.getmetatable(value)
  local given = type(meta) == "table" and rawget(meta, "pioche_params") or value
  local result = {}
  if type(given) ~= "table" then
    box:blame(at, "params", "expected a table, got %s", fields.show(given))
  end
  for _, name in ipairs(fields.sorted(given)) do
    local item = rawget(given, name)
    local t = type(item)
    if type(name) ~= "string" or (t ~= "number" and t ~= "string" and t ~= "boolean")
      or item ~= item then
      box:blame(at, "params." .. tostring(name), "expected a number, a string or a boolean, got %s",
        fields.show(item))
    end
    result[name] = item
  end
  return result
end

local run_methods = {}

-- newest value of a metric, nil when it was never logged
function run_methods.metric(state, key)
  local row = check(state.store:one(
    "SELECT last AS value FROM series WHERE run_id = ? AND key = ? ORDER BY rank LIMIT 1",
    state.id, tostring(key)))
  return row and row.value
end

-- the start of another run: "best" by the goal, or "last"
function run_methods.checkpoint(state, which)
  which = which or "best"
  if which ~= "best" and which ~= "last" then
    state.box:complain("run:checkpoint: expected \"best\" or \"last\", got %s", fields.show(which))
  end
  local goal = state.goal
  local id
  if which == "best" and goal then
    id = check(state.store:checkpoint_best(state.id, goal.key, goal.goal))
  else
    id = check(state.store:checkpoint_newest(state.id))
  end
  if not id then state.box:complain("%s has no checkpoint", state.name) end
  local manifest = check(state.store:one(
    "SELECT manifest_sha256 AS m FROM checkpoint WHERE id = ?", id)).m
  return (pioche.object("checkpoint", { run = state.name, which = which, id = id,
    manifest = manifest }))
end

local function run_view(state)
  local view = { name = state.name, status = state.status, seed = state.seed or false,
    params = params_view(state.box, state.params) }
  for name, method in next, run_methods do
    view[name] = function(_, ...) return method(state, ...) end
  end
  return explained("run", state, view)
end

local function run_of_job(context, job, goal)
  local view = run_view { store = context.store, box = context.box, id = job.id, name = job.name,
    status = job.status, params = job.run.params, seed = job.run.seed, goal = goal }
  pioche.values(view).job = job
  return view
end

-- Those of these runs that count, and that none of them beats in all goals; by the first goal.
local function front_of(context, sweep, jobs, list)
  if not sweep.goal then context.box:complain("front: the sweep '%s' has no goal", sweep.name) end
  local ids, rows, own = {}, {}, {}
  for i, job in ipairs(jobs) do ids[i] = job.id end
  local outside = infeasible.of(context.store, ids)
  for i, job in ipairs(jobs) do
    local counts = job.status == "finished" and not outside[job.id]
      and not plan.is_aside(context.store, job.id)
    local values = counts and aims.values(context.store, aims.goals(sweep), { job })
    if values then
      for g, goal in ipairs(aims.goals(sweep)) do values[g] = aims.loss(goal, values[g]) end
      rows[#rows + 1], own[#own + 1] = values, { run = list[i], place = i, loss = values[1] }
    end
  end
  local front, views = {}, {}
  for i, rank in ipairs(check(sweep_core.ranks(rows))) do
    if rank == 1 then front[#front + 1] = own[i] end
  end
  table.sort(front, function(a, b)
    if a.loss ~= b.loss then return a.loss < b.loss end
    return a.place < b.place
  end)
  for i, item in ipairs(front) do views[i] = item.run end
  return views
end

local function sweep_view(context, sweep, jobs)
  local list = {}
  for i, job in ipairs(jobs) do list[i] = run_of_job(context, job, sweep.goal) end
  local view = { name = sweep.name }
  function view.runs()
    return table.move(list, 1, #list, 1, {})
  end
  function view.best()
    if not sweep.goal then context.box:complain("best: the sweep '%s' has no goal", sweep.name) end
    local ids, known = {}, {}
    for i, job in ipairs(jobs) do ids[i] = job.id end
    local outside = sweep.constraints and infeasible.of(context.store, ids) or {}
    for i, run in ipairs(list) do
      local value = run.status == "finished" and not outside[ids[i]]
        and not plan.is_aside(context.store, ids[i]) and run:metric(sweep.goal.key)
      if value and value == value then
        known[#known + 1] = { id = ids[i], run = run, loss = aims.loss(sweep.goal, value),
          point = check(json.encode(jobs[i].run.params)) }
      end
    end
    local found = best.of(known)
    if not found then
      context.box:complain("best: no finished run of the sweep '%s'%s logged '%s'", sweep.name,
        next(outside) and " that meets its constraints" or "", sweep.goal.key)
    end
    return found.run
  end
  function view.front()
    return front_of(context, sweep, jobs, list)
  end
  return explained("results", {}, view)
end

-- ---- requests ---------------------------------------------------------------------------

-- lab:run { program, params, ... } as a sweep of one point.
local function sweep_of_run(context, at, given)
  local box = context.box
  local checked = fields.check({ box = box, at = at }, given, recipe.run_schema)
  local params = plain_params(box, at, checked.params or {})
  checked.name = checked.name or context.recipe.display:match("([^/]*)%.lua$") or "lab"
  checked.name = checked.name:gsub("[^%w_.%-]", "-")
  -- The newest sweep's goal says what "best" means here, too.
  checked.goal = checked.goal or context.goal
  checked.seeds = checked.seed and { checked.seed } or nil
  checked.seed, checked.params = nil, nil
  checked.at, checked.box = at, box
  checked.space = space.compile(box, at, params)
  return checked
end

-- What a recipe's function gets; its methods yield requests.
local function lab_object(box)
  local function at()
    local display, line = box:here()
    return { display = display or box.display, line = line or 1 }
  end
  local methods = {}
  function methods.run(_, given)
    if type(given) ~= "table" or pioche.kind(given) then
      box:complain("lab:run: expected { program = ..., params = ... }, got %s",
        pioche.kind(given) and "a pioche." .. pioche.kind(given) or fields.show(given))
    end
    return coroutine.yield { op = "run", at = at(), given = given }
  end
  function methods.sweep(_, sweep)
    if pioche.kind(sweep) ~= "sweep" then
      box:complain("lab:sweep: expected a pioche.sweep { ... }, got %s", fields.show(sweep))
    end
    return coroutine.yield { op = "sweep", at = at(), sweep = pioche.values(sweep) }
  end
  function methods.export(_, run, path)
    if pioche.kind(run) ~= "run" or type(path) ~= "string" or path == "" then
      box:complain("lab:export: expected a run of this lab and a path")
    end
    return coroutine.yield { op = "export", at = at(), job = pioche.values(run).job, path = path }
  end
  function methods.note(_, text)
    if type(text) ~= "string" then
      box:complain("lab:note: expected a text, got %s", fields.show(text))
    end
    return coroutine.yield { op = "note", at = at(), text = text }
  end
  return explained("lab", {}, methods)
end

local function settle(context, request)
  local sweep = request.op == "sweep" and request.sweep
    or sweep_of_run(context, request.at, request.given)
  if not context.settled[sweep] then
    recipe.settle(sweep, {}, context.recipe.defaults)
    context.settled[sweep] = true
  end
  if request.op == "sweep" and sweep.goal then context.goal = sweep.goal end
  return sweep
end

local function answer_of(context, request, sweep, jobs)
  if request.op == "sweep" then return sweep_view(context, sweep, jobs) end
  local job = jobs[1]
  if job.status ~= "finished" and job.status ~= "stopped" then
    errors.raise("invalid", "%s:%d: lab:run: %s is %s: %s", request.at.display, request.at.line,
      job.name, job.status, job.reason or "?")
  end
  return run_of_job(context, job, sweep.goal)
end

local function new_context(self, store)
  return { recipe = self, box = self.box, store = store, settled = {} }
end

-- ---- pioche run -----------------------------------------------------------------------------

-- Export a run; a bundle of it that is still at that place is left as it is, one
-- of another run is replaced, any other file is not.
local function export(ctx, context, request)
  local job = request.job
  local path = request.path
  if path:sub(1, 1) ~= "/" then path = context.recipe.root .. "/" .. path end
  local there = sys.stat(path)
  local known = there and check(context.store:one(
    "SELECT run_id, bytes, sha256 FROM bundle WHERE path = ? ORDER BY id DESC LIMIT 1",
    sys.realpath(path) or path))
  local is_ours = known and known.bytes == there.size
  if is_ours and known.run_id == job.id then return path end
  if there and not (is_ours and sys.sha256_file(path) == known.sha256) then
    errors.raise("exists", "%s:%d: lab:export: %s exists already, and is no bundle that pioche "
      .. "left there", request.at.display, request.at.line, path)
  end
  local function reading() return context.store end
  local sub = setmetatable({ args = { job.name }, options = { output = path, force = is_ours },
    json = false, csv = false, out = ctx.note, store = reading, reading = reading },
    { __index = ctx })
  require("pioche.command.export").run(sub)
  return path
end

-- Run a function recipe; returns the exit status.
function lab.run(ctx, self, session)
  local context = new_context(self, session.store)
  local problems, launched, total, finished, failed, ids = 0, false, 0, 0, 0, {}
  local function handle(request)
    if request.op == "note" then
      ctx.note(request.text .. "\n")
      return nil
    elseif request.op == "export" then
      return export(ctx, context, request)
    end
    local sweep = settle(context, request)
    local jobs, id = sweeps.run(session, sweep)
    local came = sweeps.came(session, sweep, id, jobs)
    total, finished, launched = total + jobs:count(), finished + came.finished, launched or came.launched
    problems, failed = problems + #came.lines, failed + came.failed
    table.move(jobs.ids, 1, jobs:count(), #ids + 1, ids)
    for _, line in ipairs(came.lines) do ctx.note("pioche: " .. line .. "\n") end
    if session.interrupts > 0 then
      errors.raise("cancelled", "interrupted: the same command goes on from here")
    end
    return answer_of(context, request, sweep, jobs:list())
  end
  local ok, failure = self.box:drive(handle, self.lab, lab_object(self.box))
  if not ok then error(failure, 0) end
  ctx.note(("%s%d of %d runs are finished%s\n"):format(
    not launched and problems == 0 and "nothing to do: " or "", finished, total,
    failed > 0 and (", %d failed"):format(failed) or ""))
  if ctx.json then runs.print_json(ctx, session.store, ids) end
  return (problems > 0 or finished < total) and 1 or 0
end

-- ---- pioche plan ------------------------------------------------------------------------------

-- The jobs of a sweep that the store has; nil and how many are missing.
local function known_jobs(context, sweep, path)
  local git = require "pioche.core.git"
  local prepared = { inputs = plan.check(context.recipe, sweep.program, context.store) }
  if not context.store then return nil, nil end
  plan.resolve_from(sweep.from, context.store, sweep.at, sweep.box)
  if sweep.program.objective then
    prepared.code = sweep.program.digest
  else
    context.snapshot = context.snapshot or check(git.snapshot(context.recipe.root, path))
    prepared.code = check(git.subtree(context.snapshot.repository, context.snapshot.commit,
      sweep.program.sources or {}))
  end
  local sampler, jobs, missing = plan.sampler(sweep), {}, 0
  for _, point in ipairs(plan.points(sampler)) do
    for _, run in ipairs(plan.runs_of(sweep, point, prepared)) do
      local row = plan.find(context.store, run.identity)
      if row and (row.status == "finished" or row.status == "stopped") then
        jobs[#jobs + 1] = { id = row.id, name = row.name, status = row.status, run = run }
      else
        missing = missing + 1
      end
    end
  end
  return missing == 0 and jobs or nil, missing, #jobs
end

local stop_here = {}

-- Its function up to the first request that needs a store: what is wrong there
-- needs none. `self` is used up.
function lab.rehearse(self)
  local context = new_context(self, nil)
  local function handle(request)
    if request.op == "note" then return nil end
    if request.op ~= "export" then
      local sweep = settle(context, request)
      plan.rehearse(self, sweep)
      plan.resolve_from(sweep.from, nil, sweep.at, sweep.box)
    end
    error(stop_here, 0)
  end
  local ok, failure = pcall(function()
    local fine, why = self.box:drive(handle, self.lab, lab_object(self.box))
    if not fine then error(why, 0) end
  end)
  if not ok and failure ~= stop_here then error(failure, 0) end
end

-- Follow a function recipe through the results that are in the store.
function lab.plan(ctx, self, store, path)
  local context = new_context(self, store)
  local steps = json.array {}
  local function handle(request)
    if request.op == "note" then return nil end
    if request.op == "export" then
      steps[#steps + 1] = { op = "export", path = request.path }
      return request.path
    end
    local sweep = settle(context, request)
    plan.rehearse(self, sweep)
    local jobs, missing, finished = known_jobs(context, sweep, path)
    local total = missing and missing + (finished or 0)
    if not total then
      local points = plan.points(plan.sampler(sweep))
      total = #points * (sweep.seeds and #sweep.seeds or 1)
    end
    steps[#steps + 1] = { op = request.op, experiment = sweep.name, line = request.at.line,
      runs_total = total, runs_finished = jobs and #jobs or finished or 0 }
    if not jobs then error(stop_here, 0) end
    return answer_of(context, request, sweep, jobs)
  end
  local ok, failure = pcall(function()
    local fine, why = self.box:drive(handle, self.lab, lab_object(self.box))
    if not fine then error(why, 0) end
  end)
  if not ok and failure ~= stop_here then error(failure, 0) end
  if ctx.json then
    ctx.out(check(json.encode({ recipe = self.display, form = "lab", steps = steps,
      complete = ok }, { pretty = true })) .. "\n")
    return 0
  end
  ctx.out(("%s: a function of a lab\n\n"):format(self.display))
  for i, step in ipairs(steps) do
    if step.op == "export" then
      ctx.out(("  %d  export to %s\n"):format(i, step.path))
    else
      ctx.out(("  %d  line %d: %s %s: %d run%s, %d finished already\n"):format(i, step.line, step.op,
        step.experiment, step.runs_total, step.runs_total == 1 and "" or "s", step.runs_finished))
    end
  end
  ctx.out(ok and "\nEverything that it asks for is finished.\n"
    or "\nWhat comes after depends on results that are not known yet.\n")
  return 0
end

return lab
