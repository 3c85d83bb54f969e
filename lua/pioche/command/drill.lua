-- drill: bring a failure about in a running attempt, and tell what came of it.
local drill = require "pioche.drill"
local errors = require "pioche.errors"
local json = require "pioche.core.json"
local reach = require "pioche.reach"
local runs = require "pioche.runs"
local sys = require "pioche.core.sys"

-- The run that is meant: the one that is named, else the only one that runs.
local function find_run(store, word)
  if word then return runs.find(store, word) end
  local rows = store:rows("SELECT r.id FROM run r JOIN attempt a ON a.run_id = r.id"
    .. " WHERE a.state = 'running' AND a.launcher != 'standalone' ORDER BY r.id LIMIT 2")
  if #rows == 0 then errors.raise("not_found", "drill: no run is running") end
  if #rows > 1 then errors.raise("usage", "drill: several runs are running: name the one that is meant") end
  return rows[1].id
end

local function find_attempt(store, run)
  local row = store:one("SELECT * FROM attempt WHERE run_id = ? AND state = 'running'"
    .. " ORDER BY number DESC LIMIT 1", run.id)
  if not row then
    errors.raise("not_found", "drill: %s is %s: there is no attempt to hurt", run.name, run.status)
  elseif row.launcher == "standalone" then
    errors.raise("invalid", "drill: %s runs on its own: nobody would go on with it", run.name)
  end
  return row
end

local function confirm(ctx, case)
  if ctx.options.yes then return end
  local what = ("%s: %s"):format(case.run.name, case.target)
  if not sys.isatty(0) or not sys.isatty(2) then
    errors.raise("usage", "drill hurts a run (%s): --yes says that this is meant", what)
  end
  ctx.note(("%s: %s of %s\nit may lose work since its newest checkpoint. Do it? [y/N] "):format(
    case.kind, drill.kinds[case.kind].summary, what))
  local answer = io.read("l")
  if not answer or not answer:lower():match("^y") then errors.raise("cancelled", "nothing was done") end
end

local function seconds(case, ns)
  return ns and (ns - case.began_ns) / 1e9 or nil
end

local function report(ctx, store, case)
  local run = store:one("SELECT status, reason FROM run WHERE id = ?", case.run.id)
  local next_attempt = store:one("SELECT number, resume_checkpoint FROM attempt WHERE run_id = ?"
    .. " AND number > ? ORDER BY number LIMIT 1", case.run.id, case.attempt.number)
  local found, well = case.detected, case.recovered_ns ~= nil
  if ctx.json then
    ctx.out(ctx.encode { kind = case.kind, id = case.run.name, attempt = case.attempt.number,
      target = case.target, detected_s = seconds(case, found and found.ns) or json.null,
      detected = found and found.what or json.null,
      recovered_s = seconds(case, case.recovered_ns) or json.null, recovered = well,
      next_attempt = next_attempt and next_attempt.number or json.null, status = run.status,
      supervisor = case.restarted and case.restarted.pid or json.null } .. "\n")
    return well and 0 or 1
  end
  ctx.out(("%s of %s, attempt %d: %s\n"):format(case.kind, case.run.name, case.attempt.number, case.target))
  ctx.out(found and ("detected after %.2f s: %s\n"):format(seconds(case, found.ns), found.what)
    or "not detected\n")
  if case.restarted then
    ctx.out(("nobody supervised the store any more: `pioche supervise --detach` did it, pid %d, log %s\n")
      :format(case.restarted.pid, case.restarted.log))
  end
  if well then
    ctx.out(("recovered after %.2f s: %s\n"):format(seconds(case, case.recovered_ns), next_attempt
      and ("attempt %d goes on%s"):format(next_attempt.number, next_attempt.resume_checkpoint
        and " from checkpoint " .. next_attempt.resume_checkpoint:sub(1, 12) or " from the beginning")
      or "the attempt goes on"))
  else
    ctx.out(("not recovered: %s is %s%s\n"):format(case.run.name, run.status,
      run.reason and ": " .. run.reason or ""))
  end
  return well and 0 or 1
end

local function list(ctx)
  if ctx.json then
    local all = json.array {}
    for i, name in ipairs(drill.names) do all[i] = { kind = name, summary = drill.kinds[name].summary } end
    ctx.out(ctx.encode(all) .. "\n")
    return 0
  end
  for _, name in ipairs(drill.names) do
    ctx.out(("%-16s %s\n"):format(name, drill.kinds[name].summary))
  end
  return 0
end

local function run(ctx)
  local name = ctx.args[1]
  if not name then return list(ctx) end
  if name == "here" and #ctx.args == 3 then
    ctx.out(reach.answer(ctx.args[2], ctx.args[3]) .. "\n")
    return 0
  elseif #ctx.args > 2 then
    errors.raise("usage", "drill: unexpected argument '%s'", ctx.args[3])
  end
  local kind = drill.kinds[name]
  if not kind then
    errors.raise("usage", "drill: there is no kind '%s'%s (`pioche drill` lists them)", name,
      errors.suggestion(name, drill.names))
  elseif ctx.options.seconds and name ~= "full-disk" and name ~= "slow-rank" then
    errors.raise("usage", "drill: --seconds belongs to full-disk and slow-rank")
  end
  local store = ctx.writing()
  local found = runs.load(store, { find_run(store, ctx.args[2]) })[1]
  local case = { kind = name, store = store, run = found, attempt = find_attempt(store, found),
    options = ctx.options }
  kind.prepare(case)
  confirm(ctx, case)
  store:event(found.id, { kind = "drill", attempt_id = case.attempt.id,
    message = name .. ": " .. case.target })
  drill.run(case, ctx.options.timeout or 600)
  return report(ctx, store, case)
end

return {
  summary = "bring about a failure, and see whether the run survives it",
  usage = "drill KIND [RUN] [--rank N] [--yes]\ndrill",
  help = [[
Hurts a running attempt in the way KIND says, then tells what was noticed of it and
after how long, and when the run went on. Without KIND it lists the kinds. RUN may
be left out where only one is running.

The failure is real: what the run did since its newest checkpoint is done again, as
after any other. So it asks before, unless --yes says that this is meant. It
works on processes of this machine, and by `srun --overlap` on those of a job of
Slurm, whichever of its nodes they are on (there `pioche drill here ...` finds
them); other machines' processes are out of its reach, and kill-controller wants
to be where the supervisor is. What it cannot do it says before anything is hurt:
full-disk fills only file systems with at most 1 GB free, drop-network needs the
right to trace the rank.

Where the failure takes the supervisor (kill-controller, full-disk), the drill
starts another one in the background (`pioche supervise --detach`) and says so.

Times count from the moment of the failure, with what srun takes to bring it about on
another node. Detected is what the store has of it: the first failing rank by its
agent's clock, an event, or the attempt's end. Recovered is the first point that the
next attempt logs. The exit status is 1 where the run did not recover.

JSON: {kind, id, attempt, target, detected_s, detected, recovered_s, recovered,
next_attempt, status, supervisor}.]],
  options = {
    { name = "rank", short = "r", arg = "N", type = "integer", min = 0,
      help = "this rank, or its agent or node; else the last rank" },
    { name = "seconds", arg = "S", type = "integer", min = 1, max = 3600,
      help = "how long full-disk (10) and slow-rank (30) last" },
    { name = "timeout", arg = "S", type = "integer", min = 1, help = "how long it is watched (600)" },
    { name = "yes", short = "y", help = "do not ask" },
  },
  examples = "pioche drill\npioche drill kill-rank gpt-17 --rank 3\n"
    .. "pioche drill torn-checkpoint gpt/last --yes --json",
  args = { 0, 3 },
  run = run,
}
