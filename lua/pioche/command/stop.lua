-- stop: ask the supervisor of a run to end it; cancel what has not begun.
local json = require "pioche.core.json"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local launcher = require "pioche.launcher"
local query = require "pioche.query"
local runs = require "pioche.runs"

local lines_shown = 10       -- of what is over already, else its number

local ended = { finished = true, failed = true, stopped = true, cancelled = true }

-- True when some `pioche run` holds the store's lease, as far as can be told
-- without taking it.
local function supervised(store)
  local look = store:lease_look()
  return look.state == "held" or look.state == "far"
end

-- What is done with one run: a word for scripts, and a sentence; `dry`: nothing
-- is done.
local function stop(store, run, lease_held, dry)
  if ended[run.status] then return "over", "is " .. run.status .. " already" end
  local open
  for _, attempt in ipairs(run.attempts) do
    if attempt.state ~= "ended" then open = attempt end
  end
  if open and open.launcher == "standalone" then
    return "refused", string.format("runs on its own, without pioche: stop its process%s",
      open.agent_pid and string.format(" (kill %d on %s)", open.agent_pid, open.node or "its node")
      or "")
  elseif open or run.status == "running" then
    if not dry then store:stop_request(run.id) end
    if lease_held then return "requested", "is asked to stop" end
    if open and open.place then
      local failure = not dry and launcher.stop_placed(store:path() .. "/" .. open.dir)
      return failure and "refused" or "requested", failure and "could not be stopped: " .. failure
        or "is asked to stop, in its pool, job " .. (open.job or "unknown") .. " of Slurm"
    elseif open and open.job then
      local failure = not dry and launcher.cancel(open.job, open.state == "starting")
      return failure and "refused" or "requested", failure and "could not be stopped: " .. failure
        or "is asked to stop, as job " .. open.job .. " of Slurm"
    end
    return "requested", "has no supervisor now: the next `pioche run` or `pioche supervise` settles it"
  end
  if not dry then
    store:stop_request(run.id)
    store:run_set_status(run.id, "cancelled", "cancelled before it began")
  end
  return "cancelled", "is cancelled: it had not begun"
end

local function run(ctx)
  local dry = ctx.options.dry_run
  if not dry then ctx.store("write") end
  local store = ctx.reading()
  local ids = query.choose(store, ctx.args, {})
  if #ids == 0 then errors.raise("not_found", "no run to stop: none matches") end
  local loaded = runs.load(store, ids, { attempts = true })
  local lease_held, refused, over, list = supervised(store), 0, 0, json.array {}
  if ctx.csv then ctx.out(csv.line { "run", "done", "message" }) end
  for i, found in ipairs(loaded) do
    local word, sentence = stop(store, found, lease_held, dry)
    if word == "refused" then refused = refused + 1 end
    list[i] = { id = found.name, done = word, message = found.name .. " " .. sentence }
    if ctx.csv then
      ctx.out(csv.line { found.name, word, list[i].message })
    elseif word == "over" and #loaded > lines_shown then
      over = over + 1
    elseif not ctx.json then
      ctx.out((dry and word ~= "over" and "would: " or "") .. list[i].message .. "\n")
    end
  end
  if ctx.json then
    ctx.out(ctx.encode(list) .. "\n")
  elseif over > 0 then
    ctx.out(string.format("%d run%s over already\n", over, over == 1 and " is" or "s are"))
  end
  return refused > 0 and 1 or 0
end

return {
  summary = "stop runs, cancel planned ones",
  usage = "stop RUN|EXPERIMENT|QUERY... [--dry-run]",
  help = [[
A run that is going on is asked to stop. Where its program asks at each step
whether to end (run.should_stop, pio_should_stop), all its ranks are told the same
step, and may save a checkpoint there; else, and where they do not come to it in
time, its ranks get SIGTERM, which is the time to save one, and SIGKILL after their
grace (launch.grace_s, 10 seconds). `pioche run` of its recipe later goes on from that
checkpoint. A job of Slurm is asked from here where no supervisor lives. A run that
has not begun becomes cancelled. What is over stays as it is. A run that was started
without pioche cannot be
stopped from here: its process is named, and the exit status is 1.

QUERY stops what it finds, as 'lr > 1' (`pioche help query`); --dry-run shows
first what that is.

JSON: an array of {id, done, message}; done is requested, cancelled, over or
refused.]],
  options = {
    { name = "dry-run", help = "say what would be done, and do nothing" },
  },
  examples = "pioche stop gpt-17\npioche stop gpt\npioche stop 'status = running and train/loss > 10'",
  args = { 1, nil, what = "a RUN, an EXPERIMENT or a QUERY" },
  run = run,
}
