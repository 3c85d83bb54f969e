-- sweeps.lua: a recipe's sweep as a session runs it: its plan on record, its proposals
-- and their runs, and what is to be said when they are over.
local errors = require "pioche.errors"
local json = require "pioche.core.json"
local plan = require "pioche.plan"
local recipe = require "pioche.recipe"
local runs = require "pioche.runs"
local sys = require "pioche.core.sys"

local sweeps = {}
local check = errors.check

local function record(session, sweep, prepared)
  local spec = check(json.encode(recipe.spec(session.recipe, sweep, prepared.code)))
  local experiment = check(session.store:experiment(sweep.name, sweep.goal and sweep.goal.key,
    sweep.goal and sweep.goal.goal))
  local id = check(session.store:sweep_add { experiment_id = experiment,
    identity = check(sys.sha256(spec)), spec = spec, recipe_path = session.recipe.path,
    recipe = session.recipe.text })
  return { experiment_id = experiment, sweep_id = id, program = sweep.program,
    launch = sweep.launch, retry = sweep.retry, keep = sweep.keep, goal = sweep.goal,
    from = sweep.from, varying = plan.varying(sweep),
    stop = { name = sweep.stop.name, options = sweep.stop.options },
    rule = sweep.stop.module.new(sweep.stop.options, sweep.goal) }
end

-- Proposal `number` and its runs, in one transaction.
local function propose(session, sweep, spec, prepared, number, params, known)
  local jobs = {}
  check(session.store:begin())
  local ok, message = pcall(function()
    check(session.store:proposal_add(spec.sweep_id, number, check(json.encode(params))))
    for _, run in ipairs(plan.runs_of(sweep, params, prepared)) do
      local job = session:job(spec, run)
      check(session.store:proposal_run_add(spec.sweep_id, number, run.seed or 0, job.id))
      -- Two proposals may come to the same parameters: one run then.
      if not known[job.id] then jobs[#jobs + 1] = job end
      known[job.id] = true
    end
  end)
  if not ok then
    session.store:rollback()
    error(message, 0)
  end
  check(session.store:commit())
  return jobs
end

-- Run a sweep to its end in a session; returns its jobs.
function sweeps.run(session, sweep)
  plan.rehearse(session.recipe, sweep)
  plan.resolve_from(sweep.from, session.store, sweep.at, sweep.box)
  local prepared = session:prepare(sweep.program)
  local sampler = plan.sampler(sweep)
  local spec = record(session, sweep, prepared)
  local all, jobs, number, known = {}, {}, 0, {}
  local function fresh()
    local point = sampler:propose(number + 1)
    if not point then return nil end
    number = number + 1
    local made = propose(session, sweep, spec, prepared, number, point, known)
    table.move(made, 1, #made, #all + 1, all)
    return made
  end
  if not sampler.adaptive then
    repeat until not fresh()
    jobs = table.move(all, 1, #all, 1, {})
  end
  local waiting = {}
  local function more()
    while #waiting == 0 do
      local made = fresh()
      if not made then return nil end
      waiting = table.move(made, 1, #made, 1, {})
    end
    return table.remove(waiting, 1)
  end
  local total = sampler.adaptive and (sampler.size or 0) * #(sweep.seeds or { 1 }) or #jobs
  session:execute(jobs, sweep.launch.parallel, total, sampler.adaptive and more or nil)
  check(session.store:sweep_state(spec.sweep_id, session.interrupts > 0 and "interrupted" or "done"))
  return all
end

-- What is wrong with finished runs, lines for a person; and how many runs failed:
-- why, was said of each as it happened.
function sweeps.problems(session, jobs)
  local lines, failed, silent = {}, 0, nil
  for _, job in ipairs(jobs) do
    if job.status == "failed" then
      failed = failed + 1
    elseif job.status == "finished" and job.goal_key and session:newest_value(job) == nil
      and not check(session.store:one("SELECT 1 AS x FROM series WHERE run_id = ? AND key = ?"
        .. " AND count > 0", job.id, job.goal_key)) then
      silent = silent or job
      lines[#lines + 1] = ("%s finished, but never logged the goal '%s'"):format(job.name,
        job.goal_key)
    end
  end
  if silent then
    local keys = runs.keys(session.store, silent.id, 12)
    lines[#lines + 1] = ("goal: '%s' is not among what %s logged: %s%s"):format(silent.goal_key,
      silent.name, #keys > 0 and table.concat(keys, ", ") or "nothing at all",
      errors.suggestion(silent.goal_key, keys))
  end
  return lines, failed
end

return sweeps
