-- run: run a recipe; only what is missing.
local cli = require "pioche.cli"
local driver = require "pioche.driver"
local errors = require "pioche.errors"
local find = require "pioche.sweep.find"
local launcher = require "pioche.launcher"
local outcomes = require "pioche.sweep.outcomes"
local plan = require "pioche.plan"
local recipe = require "pioche.recipe"
local runs = require "pioche.runs"
local standing = require "pioche.sweep.standing"
local sweeps = require "pioche.sweeps"
local sys = require "pioche.core.sys"
local term = require "pioche.term"
local warm = require "pioche.sweep.warm"

local function best_line(session, sweep)
  if not sweep.goal then return "" end
  if sweep.goals then
    local found = find.one(session.store, sweep.name)
    return ("; %d on the front: pioche sweep front %s"):format(
      #outcomes.of(session.store, found):front(), sweep.name)
  end
  local ok, id = pcall(runs.find, session.store, sweep.name .. "/best")
  if not ok then return "" end
  local row = session.store:one([[SELECT e.name || '-' || r.number AS name, s.last AS value
    FROM run r JOIN experiment e ON e.id = r.experiment_id JOIN series s ON s.run_id = r.id
    WHERE r.id = ? AND s.key = ? ORDER BY s.rank LIMIT 1]], id, sweep.goal.key)
  if not row or not row.value then return "" end
  return ("; best of all is %s: %s %.6g"):format(row.name, term.clean(sweep.goal.key), row.value)
end

local function run_sweep(ctx, self, session)
  local sweep = self.sweep
  local jobs, id = sweeps.run(session, sweep)
  local came = sweeps.came(session, sweep, id, jobs)
  for _, line in ipairs(came.lines) do ctx.note("pioche: " .. line .. "\n") end
  if session.interrupts > 0 then
    ctx.note(("interrupted: %d of %d runs are finished; the same command goes on from here\n")
      :format(came.finished, jobs:count()))
    return 130
  end
  ctx.note(("%s%d of %d runs are finished%s%s\n"):format(
    not came.launched and #came.lines == 0 and "nothing to do: " or "", came.finished, jobs:count(),
    came.failed > 0 and (", %d failed"):format(came.failed) or "", best_line(session, sweep)))
  local raced = sweep.race and standing.of(session.store, find.by_id(session.store, id))
  if raced then ctx.note(standing.verdict(raced) .. "\n") end
  if ctx.json then
    runs.print_json(ctx, session.store, jobs.ids)
  end
  return (#came.lines > 0 or came.finished < jobs:count()) and 1 or 0
end

-- What can be wrong without a store is told before one is made or changed.
local function rehearse(ctx, self)
  local path = cli.store_path(ctx.options)
  local has_store = path and sys.type(path .. "/pioche.db") == "file"
  if self.sweep then
    plan.rehearse(self, self.sweep)
    if not has_store then
      plan.resolve_from(self.sweep.from, nil, self.sweep.at, self.sweep.box)
      if self.sweep.warm then warm.all(nil, self.sweep) end
    end
  elseif not has_store then
    -- Its function may change what it closed over: what runs later is loaded anew.
    require("pioche.lab").rehearse(recipe.load(self.path, nil, { on = ctx.options.on }))
  end
end

local function run(ctx)
  local self = recipe.load(ctx.args[1], table.move(ctx.args, 2, #ctx.args, 1, {}),
    { on = ctx.options.on })
  if ctx.options.extend and not self.sweep then
    errors.raise("invalid", "--extend: %s is a function of a lab; its sweeps may say `warm`", self.display)
  end
  rehearse(ctx, self)
  local session = driver.open(ctx, self, { again = ctx.options.again, extends = ctx.options.extend })
  local ok, result = xpcall(function()
    if self.sweep then return run_sweep(ctx, self, session) end
    return require("pioche.lab").run(ctx, self, session)
  end, function(e)
    if require("pioche.errors").is(e) then return e end
    return debug.traceback(tostring(e), 2)
  end)
  if session.progress then session.progress:finish() end
  session:close()
  if not ok then error(result, 0) end
  return result
end

return {
  summary = "run a recipe: what is missing, nothing twice",
  usage = "run RECIPE [NAME=VALUE...] [--again] [--extend] [--on WHERE]",
  help = [[
Takes a snapshot of the code, makes the runs that the recipe plans, launches
those that are not finished yet, and follows them: progress and ETA on stderr.
A run is known by its content (code, program, parameters, inputs, launch shape,
seed), so the same command again does nothing, and an interrupted one goes on
where it was, from the newest checkpoint of each run.

NAME=VALUE overrides a parameter (lr=3e-4), gives it a list of choices
(depth=2,3), or changes a setting (launch.parallel=2, seeds=3, search.runs=8).
`pioche help recipe` tells all that a recipe and these words may say.

What needs more than one node runs as jobs of Slurm, where there is sbatch, and
the rest here; `launch.on`, or --on, says otherwise. Jobs wait and run whether or
not this command lives: the same command again finds them and goes on. A job runs
the version of pioche that submitted it, of which the store keeps a copy.

With launch.pool = { nodes = 16, time = "4h" } runs are no jobs of their own: they are
packed, back to back, into one allocation of so many nodes, or into one after another
as long as there are runs. Each has whole nodes of it, as many as launch.nodes says;
runs whose launches ask the same share a pool, and so do sessions. A run is started
only if the pool's time is sure to be enough: for launch.time or launch.timeout_s,
which is then its limit; else for 1.2 times the longest finished run of its experiment
and 10 s; before one has finished, while half of the pool's time is left. Runs behind
one that waits for nodes go ahead where that does not delay it. When nothing is left
to do the pool ends, and without a supervisor after launch.pool.idle, 5 minutes. A run
that a pool took with it goes on in the next one.

A recipe whose space, search, rule or code changed makes a new sweep. With --extend
its search begins with all that the experiment's sweep before it has found, as far as
that is of the new space, and has its own budget; `pioche sweep show` tells what of it
is known. The same command goes on with it, with --extend or without.

Ctrl-C stops the runs politely, Ctrl-C again at once; the exit status is then
130. The third, as the end of the terminal, waits for nobody and leaves jobs of
Slurm alone. The exit status is 1 when a run failed or was
cancelled.]],
  examples = "pioche run recipe.lua\npioche run recipe.lua lr=3e-4 depth=2,3 launch.parallel=2\n"
    .. "pioche run recipe.lua --on slurm",
  args = { 1, nil, what = "a recipe" },
  options = { { name = "again", help = "run everything anew, also what is finished" },
    { name = "extend", help = "a changed recipe goes on from what its experiment's last sweep has found" },
    launcher.option },
  run = run,
}
