-- supervise: go on with everything that is open in a store, without the recipes.
local driver = require "pioche.driver"
local errors = require "pioche.errors"
local query = require "pioche.query"
local runs = require "pioche.runs"
local supervise = require "pioche.supervise"
local sys = require "pioche.core.sys"

local look_ms = 50

local function plural(count, word)
  return ("%d %s%s"):format(count, word, count == 1 and "" or "s")
end

-- ---- here -------------------------------------------------------------------------

local function report(ctx, session, jobs, failed)
  local finished = 0
  for _, job in ipairs(jobs) do
    if job.status == "finished" or job.status == "stopped" then finished = finished + 1 end
  end
  if session.interrupts > 0 then
    ctx.note(("interrupted: %d of %s finished; `pioche supervise` goes on from here\n"):format(finished,
      plural(#jobs, "run")))
    return 130
  end
  ctx.note(("%d of %s finished%s\n"):format(finished, plural(#jobs, "run"),
    failed > 0 and (", %d failed"):format(failed) or ""))
  return failed > 0 and 1 or 0
end

local function go_on(ctx, session)
  local only
  if ctx.args[1] then
    only = {}
    for _, id in ipairs(query.choose(ctx.checked("write"), ctx.args, {})) do only[id] = true end
  end
  local jobs, unknown = supervise.jobs(session, only)
  if #unknown > 0 then
    ctx.note(("%s%s planned by an older pioche: `pioche run` of the recipe goes on with %s\n"):format(
      table.concat(unknown, ", ", 1, math.min(#unknown, 5)),
      #unknown == 1 and " was" or #unknown > 5 and " and more were" or " were",
      #unknown == 1 and "it" or "them"))
  end
  if #jobs == 0 then
    ctx.note("nothing to do: no run is open\n")
    if ctx.json then ctx.out("[]\n") end
    return 0
  end
  ctx.note(supervise.going_on .. plural(#jobs, "run") .. "\n")
  local status = report(ctx, session, jobs, supervise.run(session, jobs))
  if ctx.json then
    local ids = {}
    for i, job in ipairs(jobs) do ids[i] = job.id end
    runs.print_json(ctx, ctx.checked("write"), ids)
  end
  return status
end

local function here(ctx)
  local session = driver.open(ctx, nil, {})
  local ok, result = xpcall(go_on, function(e)
    return errors.is(e) and e or debug.traceback(tostring(e), 2)
  end, ctx, session)
  if session.progress then session.progress:finish() end
  session:close()
  if not ok then error(result, 0) end
  return result
end

-- ---- apart ------------------------------------------------------------------------

local function detach(ctx)
  local store = ctx.checked("write")
  local other = supervise.holder(store)
  if other then
    errors.raise("busy", "store %s is in use by another pioche (%s): `pioche supervise --stop` ends it",
      store:path(), other.holder)
  end
  local pid, log, words = supervise.detach(store, ctx.args)
  if not pid then
    ctx.note(words)
    return log
  end
  if ctx.json then
    ctx.out(ctx.encode { pid = pid, host = sys.hostname(), log = log } .. "\n")
  else
    ctx.out(("supervising: pid %d on %s, log %s\n"):format(pid, sys.hostname(), log))
  end
  return 0
end

-- ---- its end ----------------------------------------------------------------------

local function stop(ctx)
  local store = ctx.checked("read")
  local first = supervise.holder(store)
  if not first then
    ctx.out("nobody supervises this store\n")
    return 0
  elseif not first.pid then
    errors.raise("busy", "the store is held from another machine (%s): stop it there", first.holder)
  end
  errors.check(sys.kill(first.pid, "SIGINT"))
  if ctx.options.now then
    sys.sleep_ms(look_ms)
    sys.kill(first.pid, "SIGINT") -- gone already: so much the better
  end
  repeat
    sys.sleep_ms(look_ms)
    local holder = supervise.holder(store)
  until not holder or holder.holder ~= first.holder
  ctx.out("stopped: " .. first.holder .. "\n")
  return 0
end

local function run(ctx)
  local options = ctx.options
  if options.stop and (options.detach or ctx.args[1]) then
    errors.raise("usage", "supervise: --stop stands alone")
  elseif options.now and not options.stop then
    errors.raise("usage", "supervise: --now belongs to --stop")
  end
  if options.stop then return stop(ctx) end
  if options.detach then return detach(ctx) end
  return here(ctx)
end

return {
  summary = "go on with all runs that are open, without their recipes",
  usage = "supervise [RUN|EXPERIMENT|QUERY...] [--detach]\nsupervise --stop [--now]",
  help = [[
Takes up every run of the store that is planned, queued or running, or that Ctrl-C
interrupted, and runs it to its end: with the code, the command and the settings
that were planned, from its newest checkpoint, with the retries and the stopping
rule of its recipe. What an earlier supervisor left behind is settled first. A
recipe whose next proposals depend on results needs `pioche run` for those.

There is one supervisor a store; who comes second is told who is there. --detach
starts it in a session of its own, so that it survives the end of the terminal; it
writes to supervise.log in the store. `pioche attach RUN` follows a run of it,
`pioche watch` shows all. (Where the machine ends the processes of a user who logs
out, `loginctl enable-linger` lets them live.)

--stop ends whoever supervises the store from this machine, as Ctrl-C does: the
ranks are asked to stop and have their grace to save a checkpoint. It returns when
that is done. --now waits for nobody.

JSON: with --detach {pid, host, log}, else an array of the runs.]],
  args = { 0, nil },
  options = {
    { name = "detach", short = "d", help = "in the background, beyond this terminal" },
    { name = "stop", help = "end the store's supervisor" },
    { name = "now", help = "with --stop: do not wait for the ranks" },
  },
  examples = "pioche supervise --detach\npioche supervise gpt --detach\npioche supervise --stop",
  run = run,
}
