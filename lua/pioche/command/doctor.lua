-- doctor: is everything in order, and what to do where it is not.
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local cli = require "pioche.cli"
local csv = require "pioche.csv"
local database = require "pioche.doctor.database"
local errors = require "pioche.errors"
local machine = require "pioche.doctor.machine"
local place = require "pioche.doctor.place"
local term = require "pioche.term"
local work = require "pioche.doctor.work"

local styles = { ok = "green", warn = "yellow", bad = "red+bold", fixed = "cyan" }
local words = { ok = "OK   ", warn = "WARN ", bad = "BAD  ", fixed = "FIXED" }

-- A check adds findings: report(state, name, message, advice, fix). State is "ok",
-- "warn", "bad" or "fixed"; `fix`, where it is safe, does something and returns
-- what, and is called with --fix alone.
local function reporter(ctx)
  local list, findings = json.array {}, 0
  if ctx.csv then ctx.out(csv.line { "check", "state", "message", "advice" }) end
  return function(state, name, message, advice, fix)
    if fix and ctx.options.fix then
      local ok, done = pcall(fix)
      if ok then
        state, message, advice = "fixed", message .. ": " .. done, nil
      else
        advice = "could not be fixed: " .. tostring(done)
      end
    elseif fix then
      advice = advice or "`pioche doctor --fix` does it"
    end
    if state == "warn" or state == "bad" then findings = findings + 1 end
    list[#list + 1] = { check = name, state = state, message = message,
      advice = advice or json.null }
    if ctx.csv then
      ctx.out(csv.line({ name, state, message, advice }, 4))
    elseif not ctx.json then
      ctx.out(term.paint(words[state], styles[state], ctx.color) .. " " .. term.pad(name, 15)
        .. term.clean(message .. (advice and " -> " .. advice or "")) .. "\n")
    end
  end, function()
    if ctx.json then ctx.out(ctx.encode(list) .. "\n") end
    return findings
  end
end

-- The store as it is; with --fix so that it can be written. Raises where there
-- is none, else a function that reports it, and returns it where it is sound.
local function open(ctx, path)
  if not ctx.options.fix and sys.type(path .. "/pioche.db") ~= "file"
    and sys.type(path .. "/staging") == "dir" then
    return function(report)
      report("warn", "store", path .. " has no database yet: what was logged waits in staging/",
        "any verb takes it in, `pioche ls` for one")
    end
  end
  local ok, store = pcall(ctx.checked, ctx.options.fix and "write" or "read")
  if not ok and not (errors.is(store) and store.code ~= "not_found") then error(store, 0) end
  return function(report)
    if not ok then
      return report("bad", "store", store.message, store.code == "corrupt"
        and "copy pioche.db away, then `sqlite3 pioche.db .recover`, or restore a backup" or nil)
    end
    report("ok", "store", string.format("%s, schema %d", path,
      store:one("SELECT user_version FROM pragma_user_version").user_version))
    return store
  end
end

local function show_progress(ctx)
  if not sys.isatty(2) or ctx.json or ctx.csv then return function() end end
  local shown_ns = 0
  return function(what, done, total)
    local now = sys.mono_ns()
    if total > 0 and now - shown_ns > 200000000 then
      shown_ns = now
      ctx.flush()
      sys.write(2, ("\r%s: %d %%\27[K\r"):format(what, 100 * done // total))
    end
  end
end

local function run(ctx)
  local report, close = reporter(ctx)
  local path = cli.store_path(ctx.options)
  local opened = path and open(ctx, path)
  machine.check(report)
  local store = opened and opened(report)
  if store then
    machine.check_clock(report, store)
    place.check(report, store, path)
    work.check(report, store)
    database.check(report, store, ctx.options, show_progress(ctx))
  elseif not path then
    report("ok", "store", "none in " .. sys.cwd() .. " or above: `pioche run` makes one")
  end
  return close() > 0 and 1 or 0
end

return {
  summary = "is everything in order, and what to do if not",
  usage = "doctor [--full] [--fix]",
  help = [[
Versions, shared memory, network address and clock of the machine; the store's
file system and mode, room and permissions; who supervises; attempts, journals
and rings without a process; what waits to be taken in; the database, and that
all objects are there. One line each: OK, WARN (worth a look) or BAD, with what
to do.

--full also reads every page and decodes every chunk of points, and counts every
series anew. --fix does what cannot do harm, and says so with FIXED: it takes in
runs and journals that wait, gives a dead supervisor's lease back, sweeps what
nobody works with any more, sets journals aside that cannot be read, reads points
that cannot be decoded again from their journals, and with --full looks for such
and corrects counts of series by their points. It removes nothing that was
logged. Without --fix nothing is written.

Where there is no store yet: what the machine and the installation have.

JSON: an array of {check, state, message, advice}; state is ok, warn, bad or
fixed.]],
  options = {
    { name = "full", help = "read and decode everything that the database holds" },
    { name = "fix", help = "do what is safe, and say what was done" },
  },
  examples = "pioche doctor\npioche doctor --full --fix",
  args = { 0, 0 },
  exit_status = "  0    nothing was found, or all of it was fixed\n  1    something was found\n"
    .. "  2    wrong usage\n  3    the system failed\n",
  run = run,
}
