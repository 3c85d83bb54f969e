-- sweeps.lua: a recipe's sweep as a session runs it: its plan on record, its proposals
-- and their runs, and what is to be said when they are over.
local aims = require "pioche.aims"
local attention = require "pioche.attention"
local driver = require "pioche.driver"
local errors = require "pioche.errors"
local extend = require "pioche.sweep.extend"
local history = require "pioche.sweep.history"
local json = require "pioche.core.json"
local judge = require "pioche.judge"
local members = require "pioche.members"
local objective = require "pioche.objective"
local plan = require "pioche.plan"
local population = require "pioche.population"
local recipe = require "pioche.recipe"
local retention = require "pioche.retention"
local repeats = require "pioche.sweep.repeats"
local runs = require "pioche.runs"
local sweep_jobs = require "pioche.sweep.jobs"
local sys = require "pioche.core.sys"
local transaction = require "pioche.transaction"
local warm = require "pioche.sweep.warm"

local sweeps = {}
local check = errors.check
local old_max = 100            -- proposals in a row that bring no run

-- The judge of a sweep; nil where it has no rule. stop: { name, options, module }.
function sweeps.judge(store, sweep_id, stop, goal)
  if stop.name == "none" then return nil end
  return judge.new(store, sweep_id, stop.name, stop.module.new(stop.options, goal), goal,
    stop.options)
end

-- A sweep begins with what others have found, where its recipe says so, or `run --extend`.
local function begin_warm(session, sweep, id, is_new)
  local store, found = session.store, is_new and sweep.warm and warm.all(session.store, sweep, id) or {}
  if session.extends then found[#found + 1] = extend.of(store, sweep, id, is_new) end
  for _, item in ipairs(found) do
    warm.record(store, id, item)
    session:note("%s: the search knows %s", sweep.name, warm.text(item))
  end
end

-- Within a transaction.
local function record(session, sweep, prepared)
  local store, spec = session.store, check(json.encode(recipe.spec(session.recipe, sweep, prepared.code)))
  local experiment = check(store:experiment(sweep.name, sweep.goal and sweep.goal.key, sweep.goal and sweep.goal.goal))
  local id, existed = check(store:sweep_add { experiment_id = experiment, identity = check(sys.sha256(spec)),
    spec = spec, recipe_path = session.recipe.path, recipe = session.recipe.text })
  begin_warm(session, sweep, id, not existed)
  return { experiment_id = experiment, sweep_id = id, program = sweep.program,
    launch = sweep.launch, retry = sweep.retry, keep = sweep.keep, goal = sweep.goal,
    goals = sweep.goals, space = sweep.space, from = sweep.from, varying = plan.varying(sweep),
    stop = { name = sweep.stop.name, options = sweep.stop.options },
    judge = sweeps.judge(session.store, id, sweep.stop, sweep.goal) }
end

-- ---- what a sampler is told ------------------------------------------------------------
--
-- A sweep in progress is { session, sweep, spec, prepared, history (sweep/history.lua: its
-- sampler, and what that was told), lowest (number of what a person put in), open (proposals
-- that are not observed: { number, params, jobs }), jobs (sweep/jobs.lua: all), and of a population
-- jobs_of (numbers), collected (numbers whose checkpoints are gone) }.
-- The order of observations is on record, and with each proposal how many of them came before: so
-- the sampler of a later session, told the same in the same order, is in the same state.

-- How a run ended for its sampler, nil while it may go on in this session. What a rule has
-- paused counts as stopped there: it may never go on. What failed in an earlier session is
-- tried again.
local function end_of(progress, job)
  local judge_of, reason = progress.spec.judge, job.reason
  if job.status == "finished" or job.status == "stopped" then return job.status end
  if job.status == "planned" and judge_of and judge_of:paused(job) then return "stopped" end
  local is_lost = job.status == "failed" or job.status == "cancelled"
  return is_lost and reason ~= nil and reason ~= "interrupted" and "failed" or nil
end

-- The mean of the goal over those of these runs that ended well, and how they ended.
local function last_of(progress, jobs)
  local sum, values, status = 0, 0, "finished"
  for _, job in ipairs(jobs) do
    local ended = end_of(progress, job)
    local value = ended ~= "failed" and progress.session:newest_value(job)
    if value and value - value == 0 then
      sum, values = sum + value, values + 1
      if ended == "stopped" then status = "stopped" end
    end
  end
  return values > 0 and sum / values or nil, status
end

-- Those of these jobs whose run no person has set aside.
local function counted(progress, jobs)
  local list = {}
  for _, job in ipairs(jobs) do
    if not plan.is_aside(progress.session.store, job.id) then list[#list + 1] = job end
  end
  return list
end

-- What a proposal came to; nil while one of its runs is not over. Where a rule stopped one,
-- the value is that of the last rung which all of them passed, whatever was logged after.
local function outcome_of(progress, entry)
  local sweep, well = progress.sweep, {}
  for _, job in ipairs(entry.jobs) do
    if not end_of(progress, job) then return nil end
  end
  local jobs = counted(progress, entry.jobs)
  for _, job in ipairs(jobs) do
    if end_of(progress, job) ~= "failed" then well[#well + 1] = job end
  end
  if #jobs == 0 then return { status = "aside" }, well end
  for _, job in ipairs(#well == 0 and jobs or {}) do
    if job.result == "oom" then return { status = "oom" }, well end
  end
  if sweep.goals then
    local values = aims.values(progress.session.store, sweep.goals, well)
    return { status = values and "finished" or "failed", values = values and json.array(values) or nil }, well
  end
  local value, status = last_of(progress, jobs)
  if not value then return { status = (sweep.goal or #well == 0) and "failed" or "finished" }, well end
  local by_rule = progress.spec.judge
  local rungs = by_rule and by_rule:rungs(jobs) or {}
  local last = status == "stopped" and rungs[#rungs]
  return { status = status, value = not last and value or last.value, step = last and last.step or nil,
    rungs = by_rule and json.array(rungs) or nil }, well
end

-- The same, and how its constraints were met.
local function outcome(progress, entry)
  local observation, well = outcome_of(progress, entry)
  if observation and progress.sweep.constraints and #well > 0 then
    local weighed = aims.weigh(progress.session, progress.sweep, well)
    observation.constraints, observation.violation = json.array(weighed.constraints), weighed.violation
  end
  return observation
end

-- What a proposal on record comes to without the runs that are set aside by now; nil: nothing. How
-- constraints were met is left as it is: only the recipe can say.
function sweeps.came_to(store, row, number)
  local goal, stop, jobs, is_whole = row.spec.goal, row.spec.stop, {}, true
  local recorded = check(json.decode(check(store:one("SELECT observation FROM proposal WHERE sweep_id = ?"
    .. " AND number = ?", row.id, number)).observation))
  for _, run in ipairs(check(store:rows([[SELECT r.id AS id, r.status AS status,
      (SELECT result FROM attempt WHERE run_id = r.id ORDER BY number DESC LIMIT 1) AS result
    FROM proposal_run p JOIN run r ON r.id = p.run_id WHERE p.sweep_id = ? AND p.number = ? AND p.asked IS NULL
    ORDER BY p.seed]], row.id, number))) do -- repeats of a race are no part of it
    is_whole = is_whole and not plan.is_aside(store, run.id)
    jobs[#jobs + 1] = { id = run.id, status = run.status, result = run.result, reason = "it ended",
      goal_key = goal and goal.key, run = {} }
  end
  if is_whole then return recorded.status ~= "aside" and recorded or nil end
  local observation = outcome_of({ session = driver.reader(store), sweep = row.spec, spec = {
    judge = sweeps.judge(store, row.id, { name = stop.name, options = stop.options,
      module = require("pioche.stopping." .. stop.name) }, goal) } }, { jobs = jobs })
  if not observation or observation.status == "aside" then return nil end
  observation.constraints, observation.violation = recorded.constraints, recorded.violation
  return observation
end

-- Tell a sampler an observation: the lower its value the better, nil where it failed. row:
-- { number, observation, params }; a point that a person put in is told with it.
function sweeps.tell(sampler, sweep, row)
  local observation = row.observation
  if observation.status == "refused" or observation.status == "aside" then return end
  local violation = aims.violation(observation)
  local function loss(value)
    if value and violation and violation > 0 then return aims.penalty(violation) end
    return aims.loss(sweep.goal, value)
  end
  local values = observation.values and {}
  for g, value in ipairs(observation.values or {}) do values[g] = aims.loss(sweep.goals[g], value) end
  local rungs = {}
  for i, rung in ipairs(observation.rungs or {}) do
    rungs[i] = { step = rung.step, value = loss(rung.value), loss = aims.loss(sweep.goal, rung.value) }
  end
  if row.number < 0 and sampler.adopt then
    sampler:adopt(row.number, sweep.space:complete(check(json.decode(row.params))))
  end
  sampler:observe(row.number, loss(observation.value), { status = observation.status,
    step = observation.step, rungs = rungs, values = values, violation = violation,
    loss = aims.loss(sweep.goal, observation.value), constraints = observation.constraints,
    metrics = observation.metrics })
end

-- What a sampler asks to be told of beside the goal: the mean of the metrics' last values.
local function metrics_of(progress, names, jobs)
  local result = {}
  for _, name in ipairs(names) do
    local sum, count = 0, 0
    for _, job in ipairs(jobs) do
      local value = progress.session:newest_value { id = job.id, goal_key = name }
      if value and value - value == 0 then sum, count = sum + value, count + 1 end
    end
    result[name] = count > 0 and sum / count or nil
  end
  return next(result) and result or nil
end

-- How far what came is from what the sampler had said, as a part of that, and was it within what
-- it was sure of.
local function add_error(progress, number, observation)
  local row = check(progress.session.store:one("SELECT forecast FROM proposal WHERE sweep_id = ?"
    .. " AND number = ?", progress.spec.sweep_id, number))
  local said = row.forecast and check(json.decode(row.forecast))
  if said and said.value and observation.value then
    observation.error = observation.value / said.value - 1
    observation.within = observation.value >= said.low and observation.value <= said.high
  end
end

-- Put what a proposal came to on record, and tell the sampler.
local function settle(progress, entry, observation)
  local sampler = progress.broken and {} or progress.history:current()
  if sampler.metrics then observation.metrics = metrics_of(progress, sampler.metrics, entry.jobs or {}) end
  if sampler.forecast then add_error(progress, entry.number, observation) end
  check(progress.session.store:proposal_observe(progress.spec.sweep_id, entry.number,
    check(json.encode(observation))))
  progress.history:tell(entry.number, entry.params, observation)
end

local under_way = { queued = true, running = true }

local function is_open(entry)
  for _, job in ipairs(entry.jobs) do
    if under_way[job.status] then return true end
  end
  return false
end

-- Observe the proposals whose runs are over since, within a transaction.
local function observe(progress)
  local open = {}
  for _, entry in ipairs(progress.open) do
    local observation = not is_open(entry) and outcome(progress, entry)
    if observation then
      settle(progress, entry, observation)
    else
      open[#open + 1] = entry
    end
  end
  progress.open = open
end

-- The runs of a proposal, within a transaction: jobs of those that are new, and of all.
-- lineage: of a proposal of a population.
local function runs_of(progress, number, params, lineage)
  local session, spec, jobs, own = progress.session, progress.spec, {}, {}
  local from = lineage and members.origin(session.store, spec.sweep_id, number, lineage)
  progress.has_members = progress.has_members or lineage ~= nil
  for _, run in ipairs(plan.runs_of(progress.sweep, params, progress.prepared, from)) do
    run.is_spent = lineage and members.is_spent(session.store, spec.sweep_id, number, run.identity)
    local job = progress.jobs:find(run.identity) or session:job(spec, run)
    check(session.store:proposal_run_add(spec.sweep_id, number, run.seed or 0, job.id))
    -- Two proposals may come to the same parameters: one run then.
    if progress.jobs:add(job, run.identity) then jobs[#jobs + 1] = job end
    own[#own + 1] = job
  end
  progress.jobs_of[number] = own
  return jobs, own
end

-- The runs of a point that a person put in; what `where` is not true of is refused.
local function take_in(progress, row)
  local params = progress.sweep.space:complete(check(json.decode(row.params)))
  progress.lowest = math.min(progress.lowest, row.number)
  if params then
    local jobs, own = runs_of(progress, row.number, params)
    if not row.observed then
      progress.open[#progress.open + 1] = { number = row.number, params = row.params, jobs = own }
    end
    return jobs
  end
  if not row.observed then
    settle(progress, row, { status = "refused", reason = "the recipe's `where` is not true of it" })
    progress.session:note("the point that was enqueued as %d is refused: the recipe's `where` is not true"
      .. " of it", row.number)
  end
  return {}
end

-- Runs of points that were put in since; nil where there are none.
local function enqueued(progress)
  -- What violates a constraint is told early, but not so often that it takes time.
  local is_due = sys.mono_ns() - (progress.observed_ns or 0) > 1000000000
  if progress.sweep.constraints and not progress.history:current().adaptive and is_due then
    progress.observed_ns = sys.mono_ns()
    transaction(progress.session.store, function() observe(progress) end)
  end
  local rows = check(progress.session.store:rows("SELECT number, params, observed FROM proposal"
    .. " WHERE sweep_id = ? AND number < ? ORDER BY number DESC", progress.spec.sweep_id, progress.lowest))
  if #rows == 0 then return nil end
  return transaction(progress.session.store, function()
    local all = {}
    for _, row in ipairs(rows) do
      local jobs = take_in(progress, row)
      table.move(jobs, 1, #jobs, #all + 1, all)
    end
    return all
  end)
end

-- What the sampler proposes, checked: it may be anybody's.
local function proposal(progress, sampler, number)
  local sweep = progress.sweep
  local given, lineage = attention.call(sampler.propose, sampler, number)
  if given == nil then return nil end
  local point, problem = sweep.space:admit(given)
  if not point then
    sweep.box:blame(sweep.at, "search", "%s proposed no point of the space as number %d: %s", sweep.search.name,
      number, problem)
  end
  return point, sampler.is_population and lineage or nil
end

-- A search that proposes again and again what has run already would do so for ever.
local function check_news(progress, count)
  local sweep = progress.sweep
  progress.old = count > 0 and 0 or progress.old + 1
  if progress.old >= old_max then
    sweep.box:blame(sweep.at, "search", "%s proposed %d points in a row that it had proposed before",
      sweep.search.name, old_max)
  end
end

-- A transaction, of which nothing is left here either where it is undone: what was under way
-- before is so again.
local function undoable(progress, fn)
  local open, count, history_of = progress.open, #progress.open, progress.history
  local seen, number = history_of.seen, history_of.number
  local ok, made = pcall(transaction, progress.session.store, fn)
  if ok then return made end
  history_of.seen, history_of.number, history_of.stale = seen, number, true
  if progress.racing then progress.racing:forget() end
  progress.open = table.move(open, 1, count, 1, {})
  error(made, 0)
end

-- The sampler's next proposal; nil when there is no more.
local function fresh(progress)
  local store, history_of = progress.session.store, progress.history
  return undoable(progress, function()
    history_of:hear()
    local sampler, number = attention.call(history_of.current, history_of), history_of.number + 1
    if sampler.adaptive then observe(progress) end
    local point, lineage = proposal(progress, sampler, number)
    if not point then return nil end
    local text = check(json.encode(point))
    check(store:proposal_add(progress.spec.sweep_id, number, text, history_of.seen))
    history_of.number = number
    if lineage then check(store:proposal_lineage(progress.spec.sweep_id, number, check(json.encode(lineage)))) end
    local jobs, own = runs_of(progress, number, point, lineage)
    if sampler.forecast then
      check(store:proposal_forecast(progress.spec.sweep_id, number, check(json.encode(sampler:forecast(number)))))
    end
    progress.open[#progress.open + 1] = { number = number, params = text, jobs = own }
    check_news(progress, #jobs)
    return jobs
  end)
end

-- Take up a proposal of an earlier session: how many runs are new, and where it is not observed the
-- proposal. lineage: JSON.
local function retake(progress, number, lineage, is_observed)
  local first = not lineage and progress.jobs:over(number)
  if first then return progress.jobs:add_over(first), not is_observed and progress.jobs:entry(first) or nil end
  local params = check(progress.session.store:one("SELECT params FROM proposal WHERE sweep_id = ? AND number = ?",
    progress.spec.sweep_id, number)).params
  local jobs, own = runs_of(progress, number, check(json.decode(params)), lineage and check(json.decode(lineage)))
  for _, job in ipairs(lineage and own or {}) do job.is_replaced = is_observed end
  return #jobs, not is_observed and { number = number, params = params, jobs = own } or nil
end

-- Take up what an earlier session proposed and observed, in the same order.
local function resume(progress)
  local rows = progress.history:resume()
  progress.jobs = sweep_jobs.new(progress, progress.session:job_fields(progress.spec))
  local numbers, lineages, observed = rows.number, rows.lineage, rows.observed
  for place = 1, #numbers do
    local number = numbers[place]
    if number > 0 then
      local count, entry = retake(progress, number, lineages[place], observed[place] ~= nil)
      progress.old = count > 0 and 0 or progress.old + 1
      progress.open[#progress.open + 1] = entry
    end
  end
end

-- A search that begins with these points (warm.all), as it is before its first proposal.
function sweeps.warm_sampler(sweep, found)
  local rows = {}
  for _, item in ipairs(found) do table.move(item.told, 1, #item.told, #rows + 1, rows) end
  local sampler = plan.sampler(sweep,
    { changed = 1, workers = sweep.launch.parallel, frozen = {}, priors = #rows })
  history.tell_priors(sampler, sweep, rows, sweeps.tell)
  return sampler
end

-- The search of a sweep at its beginning.
function sweeps.history(store, sweep_id, sweep)
  return history.new(store, sweep_id, sweep, sweeps.tell)
end

-- A search that goes by how many points are under way at a time hears it from the record, where
-- each session puts its own number: what it proposes does not depend on who derives it again.
local function tell_workers(progress)
  local history_of, sweep, workers = progress.history, progress.sweep, progress.sweep.launch.parallel
  if not sweep.search.module.has_workers then return end
  history_of:hear()
  local sampler = history_of:current()
  local is_over = history_of.number >= (sampler.last or sampler.size or math.huge)
  if history_of.workers == workers or is_over then return end
  check(progress.session.store:change_add(progress.spec.sweep_id, "workers", check(json.encode { workers = workers })))
  history_of:hear()
end

-- All of its proposals, where they wait for nothing.
local function propose_all(progress)
  while not progress.history:current().adaptive do
    if not fresh(progress) then return end
  end
end

-- What a race asks for; nil where it asks for nothing.
local function repeated(progress)
  return progress.racing and undoable(progress, function()
    observe(progress)
    return progress.racing:next()
  end)
end

-- Further runs; nil where there are none now. Where its search cannot go on, what runs comes to
-- its end before that is told.
local function further(progress)
  local ok, made = pcall(function() return enqueued(progress) or fresh(progress) or repeated(progress) end)
  if ok then return made end
  local code = errors.is(made) and made.code
  if code and code ~= "invalid" and code ~= "cancelled" then error(made, 0) end
  if code == "cancelled" then
    progress.session:poll(0) -- the loop hears of it now
  else
    progress.broken = made
  end
  return nil
end

-- The sweep, what is known of it and what can be proposed at once are on record together: what is
-- wrong with one of these points leaves nothing of it behind.
local function begin(session, sweep, prepared)
  local spec = record(session, sweep, prepared)
  local progress = { session = session, sweep = sweep, prepared = prepared, spec = spec, lowest = 0, open = {},
    jobs_of = {}, collected = {}, old = 0,
    history = sweeps.history(session.store, spec.sweep_id, sweep) }
  progress.racing = sweep.race and repeats.new(progress)
  resume(progress)
  tell_workers(progress)
  propose_all(progress)
  if progress.racing then progress.racing:resume() end
  return progress
end

-- Run a sweep to its end in a session; returns its jobs (sweep/jobs.lua), and its id in the store.
function sweeps.run(session, sweep)
  plan.rehearse(session.recipe, sweep)
  if session.again and population.has(sweep.search.options) then
    sweep.box:blame(sweep.at, "search", "--again: what members grew from is gone; another search.seed makes"
      .. " another population")
  end
  plan.resolve_from(sweep.from, session.store, sweep.at, sweep.box)
  local prepared = session:prepare(sweep.program)
  local progress = attention.hold(function()
    return transaction(session.store, function() return begin(session, sweep, prepared) end)
  end)
  -- What a person put in goes first.
  local earlier, over = progress.jobs:made()
  local jobs, waiting = enqueued(progress) or {}, {}
  for _, job in ipairs(earlier) do
    if not job.is_replaced then jobs[#jobs + 1] = job end
  end
  local function more()
    members.collect(progress)
    while #waiting == 0 do
      local made = not progress.broken and further(progress)
      if not made then return nil end
      waiting = table.move(made, 1, #made, 1, {})
      session.progress.total = math.max(session.progress.total, progress.jobs:count())
    end
    return table.remove(waiting, 1)
  end
  local sampler = progress.history:current()
  local total = sampler.adaptive and (sampler.size or 0) * #(sweep.seeds or { 1 }) or #jobs + over
  session:execute(jobs, sweep.launch.parallel, { total = total, done = over }, more)
  objective.flush(session)
  transaction(session.store, function()
    observe(progress)
    if progress.racing then progress.racing:settle() end
  end)
  members.collect(progress)
  retention.settle(session)
  check(session.store:sweep_state(progress.spec.sweep_id,
    (session.interrupts > 0 or progress.broken) and "interrupted" or "done"))
  if progress.broken then error(progress.broken, 0) end
  return progress.jobs, progress.spec.sweep_id
end

-- Of each finished run of a sweep that has not logged a goal the first such goal, { [id] = key }.
local function unlogged(session, sweep, sweep_id)
  local result = {}
  for _, goal in ipairs(aims.goals(sweep)) do
    for _, id in ipairs(check(session.store:column("SELECT r.id FROM proposal_run q JOIN run r ON r.id = q.run_id"
      .. " WHERE q.sweep_id = ? AND r.status = 'finished' AND NOT EXISTS (SELECT 1 FROM series"
      .. " WHERE run_id = r.id AND key = ? AND count > 0)", sweep_id, goal.key))) do
      result[id] = result[id] or goal.key
    end
  end
  return result
end

-- What came of the jobs that sweeps.run gave: { finished (how many, with those that a rule stopped),
-- failed, launched (was any), lines (what is wrong with finished runs, for a person) }. Why a run
-- failed was said as it happened.
function sweeps.came(session, sweep, sweep_id, jobs)
  local made, over = jobs:made()
  local came, lines, silent = { finished = over, failed = 0, launched = false }, {}, nil
  for _, job in ipairs(made) do
    if job.status == "finished" or job.status == "stopped" then came.finished = came.finished + 1 end
    if job.status == "failed" then came.failed = came.failed + 1 end
    came.launched = came.launched or job.attempt > 0
  end
  local missing = unlogged(session, sweep, sweep_id)
  for _, job in ipairs(next(missing) and jobs:list() or {}) do
    local key = missing[job.id]
    if key then
      silent = silent or { job = job, key = key }
      lines[#lines + 1] = ("%s finished, but never logged the goal '%s'"):format(job.name, key)
    end
  end
  if silent then
    local keys = runs.keys(session.store, silent.job.id, 12)
    lines[#lines + 1] = ("goal: '%s' is not among what %s logged: %s%s"):format(silent.key,
      silent.job.name, #keys > 0 and table.concat(keys, ", ") or "nothing at all",
      errors.suggestion(silent.key, keys))
  end
  came.lines = lines
  return came
end

return sweeps
