-- plan: what a recipe would run; launches nothing.
local aims = require "pioche.aims"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local find = require "pioche.sweep.find"
local json = require "pioche.core.json"
local launcher = require "pioche.launcher"
local plan = require "pioche.plan"
local pools = require "pioche.pools"
local recipe = require "pioche.recipe"
local space = require "pioche.space"
local sweeps = require "pioche.sweeps"
local sys = require "pioche.core.sys"
local term = require "pioche.term"
local warm = require "pioche.sweep.warm"

local shown_max = 8

-- The store if there is one, for what is finished already; else nil.
local function existing_store(ctx)
  local path = require("pioche.cli").store_path(ctx.options)
  if not path or sys.type(path .. "/pioche.db") ~= "file" then return nil end
  return ctx.store("read"), path
end

-- The snapshot that a run would take. Only asked for when the store knows the
-- experiment: else nothing can be finished, and git is left alone.
local function snapshot_of(self, store, path, experiment)
  if not store or not store:one("SELECT 1 AS x FROM experiment WHERE name = ?", experiment) then
    return nil
  end
  local git = require "pioche.core.git"
  return errors.check(git.snapshot(self.root, path))
end

-- The sweep that it is in the store, once it was run.
local function identity_of(self, sweep, prepared)
  return (errors.check(sys.sha256(errors.check(json.encode(recipe.spec(self, sweep, prepared.code))))))
end

local stopped_by_it = "EXISTS (SELECT 1 FROM rung g JOIN sweep s ON s.id = g.sweep_id WHERE s.identity = ?1"
  .. " AND g.run_id = r.id AND g.verdict = 'stop')"

-- Is the run done, for this sweep? What another's rule stopped is not.
local function is_done(store, identity, run)
  if run.status ~= "stopped" then return run.status == "finished" end
  return errors.check(store:one("SELECT 1 AS x FROM run r WHERE r.id = ?2 AND " .. stopped_by_it,
    identity, run.id)) ~= nil
end

-- How many of its runs are: of a search that learns the first points alone are known here.
local function count_done(store, identity)
  return errors.check(store:one("SELECT count(*) AS n FROM run r WHERE r.id IN (SELECT p.run_id FROM"
    .. " proposal_run p JOIN sweep s ON s.id = p.sweep_id WHERE s.identity = ?1) AND (r.status = 'finished'"
    .. " OR r.status = 'stopped' AND " .. stopped_by_it .. ")", identity)).n
end

-- What the search knows from the beginning, as it is on record or would be.
local function warm_of(sweep, store, identity)
  local row = identity and errors.check(store:one("SELECT id FROM sweep WHERE identity = ?", identity))
  return not sweep.warm and {} or row and warm.on_record(store, row.id) or warm.all(store, sweep)
end

local function describe_points(self, sweep, prepared, store)
  local points, runs, finished = {}, {}, 0
  local identity = store and prepared.code ~= "unknown" and identity_of(self, sweep, prepared)
  local known = warm_of(sweep, store, identity)
  local sampler = #known > 0 and sweeps.warm_sampler(sweep, known) or plan.sampler(sweep)
  while not sampler.adaptive or #points < shown_max do
    local point = sampler:propose(#points + 1)
    if not point then break end
    points[#points + 1] = point
    for _, run in ipairs(plan.runs_of(sweep, point, prepared)) do
      run.known = identity and plan.find(store, run.identity)
      if run.known and is_done(store, identity, run.known) then finished = finished + 1 end
      runs[#runs + 1] = run
    end
  end
  if sampler.adaptive and identity then finished = math.max(finished, count_done(store, identity)) end
  local size = sampler.adaptive and sampler.size or #points
  return { points = points, runs = runs, finished = finished, proposals = size,
    total = size * (sweep.seeds and #sweep.seeds or 1), sampler = sampler, warm = known }
end

local function warm_report(found)
  local list = json.array {}
  for i, item in ipairs(found) do
    list[i] = { sweep = item.sweep, experiment = item.experiment, told = #item.told, of = item.count,
      missed = item.missed }
  end
  return list
end

local function report(self, sweep, prepared, found)
  local points, runs = json.array {}, json.array {}
  for i, point in ipairs(found.points) do points[i] = point end
  for i, run in ipairs(found.runs) do
    runs[i] = { identity = run.identity, params = run.params, seed = run.seed or json.null,
      command = json.array(run.words), run = run.known and run.known.name or json.null,
      status = run.known and run.known.status or json.null }
  end
  local s = prepared.snapshot
  return {
    recipe = self.display, form = "sweep", experiment = sweep.name,
    space = sweep.space:describe(), cardinality = sweep.space:count() or json.null,
    search = { name = sweep.search.name, options = sweep.search.options, why = sweep.search.why },
    warm = warm_report(found.warm), stop = { name = sweep.stop.name, options = sweep.stop.options },
    goal = sweep.goal and { key = sweep.goal.key, goal = sweep.goal.goal } or json.null,
    goals = recipe.goals_record(sweep.goals) or json.null,
    constraints = #(sweep.constraints or {}),
    seeds = sweep.seeds and json.array(table.move(sweep.seeds, 1, #sweep.seeds, 1, {})) or json.null,
    race = sweep.race or json.null, launch = sweep.launch, retry = sweep.retry, keep = sweep.keep,
    program = recipe.program_record(sweep.program), points = points, runs = runs,
    runs_total = found.total, runs_finished = found.finished,
    code = { root = self.root, git = self.git, snapshot = s and s.commit or json.null },
  }
end

local function print_space(out, sweep)
  local width = 0
  for _, parameter in ipairs(sweep.space.parameters) do width = math.max(width, #parameter.name) end
  out("space\n")
  for _, parameter in ipairs(sweep.space.parameters) do
    local when = ""
    for _, condition in ipairs(parameter.conditions) do
      when = when .. ("   when %s is %s"):format(condition.name, condition.value)
    end
    out(("  %-" .. width .. "s  %s%s\n"):format(parameter.name,
      term.clean(space.text(parameter.domain)), when))
  end
  if #sweep.space.parameters == 0 then out("  no parameters: one point\n") end
  if sweep.where then out("  where the recipe's function is true\n") end
  local count = sweep.space:count()
  out(("  %s%s\n\n"):format(count and ("%d point%s"):format(count, count == 1 and "" or "s")
    or "infinitely many points", sweep.where and " before `where`" or ""))
end

-- The parameters that vary; where none does, all.
local function point_text(point, varying)
  local words = {}
  for _, name in ipairs(fields.sorted(point)) do
    if varying[name] or next(varying) == nil then
      words[#words + 1] = name .. "=" .. (type(point[name]) == "number"
        and ("%.6g"):format(point[name]) or term.clean(tostring(point[name])))
    end
  end
  return #words > 0 and table.concat(words, " ") or "(no parameters)"
end

-- What is run, and where.
local function print_program(out, self, store, sweep, prepared, found)
  if sweep.program.objective then
    out(("program  a function of the recipe, %d at a time: nothing is launched\n"):format(
      sweep.launch.parallel))
    return
  end
  out(("program  %s\n"):format(term.clean(table.concat(found.runs[1] and found.runs[1].words
    or sweep.program.command, " "))))
  out(("launch   %d node%s x %d rank%s%s, %d at a time; attempts %d\n"):format(sweep.launch.nodes,
    sweep.launch.nodes == 1 and "" or "s", sweep.launch.ranks_per_node,
    sweep.launch.ranks_per_node == 1 and "" or "s", launcher.place(sweep.launch),
    sweep.launch.parallel, sweep.retry.attempts))
  if sweep.launch.pool then
    local line = pools.describe(sweep.launch, sweep.name, found.total - found.finished, store)
    if line then out(("pool     %s\n"):format(line)) end
  end
  out(("code     %s%s\n"):format(self.git and "a snapshot of " .. self.root
    or self.root .. ", which is no git repository: a snapshot in the store",
    prepared.snapshot and ", commit " .. prepared.snapshot.commit:sub(1, 12) or ""))
end

local function print_plan(ctx, self, store, sweep, prepared, found)
  local out = ctx.out
  out(("%s: experiment %s\n\n"):format(self.display, sweep.name))
  print_space(out, sweep)
  out(("search   %s: %s\n"):format(find.text(sweep.search), sweep.search.why))
  for i, item in ipairs(found.warm) do out(("%s %s\n"):format(i == 1 and "warm    " or "        ", warm.text(item))) end
  if sweep.goal then out(("goal%s    %s\n"):format(sweep.goals and "s" or " ", term.clean(aims.text(sweep)))) end
  for _, constraint in ipairs(sweep.constraints or {}) do
    out(("meet     the constraint of %s:%d\n"):format(constraint.at.display, constraint.at.line))
  end
  if sweep.stop.name ~= "none" then out(("stop     %s\n"):format(find.text(sweep.stop))) end
  if sweep.race then
    out(("race     up to %d repeats, at most %d seeds a point, until one is the best with probability %g\n")
      :format(sweep.race.runs, sweep.race.max, sweep.race.sure))
  end
  print_program(out, self, store, sweep, prepared, found)
  out(("runs     %d%s%s\n\n"):format(found.total,
    sweep.seeds and (" (%d point%s x %d seed%s)"):format(found.proposals,
      found.proposals == 1 and "" or "s", #sweep.seeds, #sweep.seeds == 1 and "" or "s") or "",
    found.finished > 0 and (", %d of them finished already"):format(found.finished) or ""))
  local varying = plan.varying(sweep)
  for i = 1, math.min(shown_max, #found.points) do
    out(("  %d  %s\n"):format(i, point_text(found.points[i], varying)))
  end
  if found.proposals > shown_max then
    out(("  ... and %d more%s\n"):format(found.proposals - shown_max,
      found.sampler.adaptive and ", by what came out" or ""))
  end
end

local function plan_sweep(ctx, self, store, path)
  local sweep = self.sweep
  plan.rehearse(self, sweep)
  plan.resolve_from(sweep.from, store, sweep.at, sweep.box)
  if ctx.options.script then
    ctx.out(launcher.script(sweep.launch, sweep.name, path or self.root .. "/.pioche"))
    return 0
  end
  local prepared = { inputs = plan.check(self, sweep.program, store), code = "unknown" }
  prepared.snapshot = not sweep.program.objective and snapshot_of(self, store, path, sweep.name) or nil
  if sweep.program.objective then
    prepared.code = sweep.program.digest
  elseif prepared.snapshot then
    local git = require "pioche.core.git"
    prepared.code = errors.check(git.subtree(prepared.snapshot.repository,
      prepared.snapshot.commit, sweep.program.sources or {}))
  end
  local found = describe_points(self, sweep, prepared, store)
  if ctx.json then
    ctx.out(errors.check(json.encode(report(self, sweep, prepared, found), { pretty = true })) .. "\n")
  else
    print_plan(ctx, self, store, sweep, prepared, found)
  end
  return 0
end

local function run(ctx)
  local path = ctx.args[1]
  local self = recipe.load(path, table.move(ctx.args, 2, #ctx.args, 1, {}), { on = ctx.options.on })
  local store, store_path = existing_store(ctx)
  if self.sweep then return plan_sweep(ctx, self, store, store_path) end
  if ctx.options.script then
    errors.raise("invalid", "--script: %s is a function of a lab, whose launches are known as it runs",
      self.display)
  end
  return require("pioche.lab").plan(ctx, self, store, store_path)
end

return {
  summary = "show what a recipe would run; launches nothing",
  usage = "plan RECIPE [NAME=VALUE...] [--script] [--on WHERE]",
  help = [[
Reads the recipe, checks it, and prints the space, its size, the sampler and
why it was chosen, the number of runs, the first points, the launch shape and
what is finished already. Nothing is launched. A mistake is shown with file,
line, field, value and what was expected.

NAME=VALUE overrides a parameter (lr=3e-4), gives it a list of choices
(depth=2,3), or changes a setting (launch.parallel=2, seeds=3, search.runs=8).
`pioche help recipe` tells all that a recipe and these words may say.

A recipe that is a function of a lab is followed with the results that the
store has, up to the first one that is not known yet.]],
  examples = "pioche plan recipe.lua\npioche plan recipe.lua seeds=3 lr=1e-3,3e-3\n"
    .. "pioche plan recipe.lua --on slurm --script",
  args = { 1, nil, what = "a recipe" },
  options = {
    { name = "script", help = "print the job script that Slurm would get for an attempt, or for a pool" },
    launcher.option,
  },
  run = run,
}
