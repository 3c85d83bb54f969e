-- doctor: is everything in order, and what to do where it is not.
local gpu = require "pioche.core.gpu"
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local cli = require "pioche.cli"
local csv = require "pioche.csv"
local format = require "pioche.format"
local term = require "pioche.term"

local low_space_bytes = 2000000000

-- A check adds findings: report(state, name, message, advice), state is "ok",
-- "warn" (worth a look) or "bad" (exit status 1).

local function check_programs(report, store)
  local sqlite = store and "SQLite " .. store:one("SELECT sqlite_version() AS v").v .. ", " or ""
  report("ok", "versions", string.format("pioche %s, %s%s", sys.version(), sqlite, _VERSION))
  local lib, message = sys.lib_dir()
  if lib then
    report("ok", "client library", lib .. "/libpioche.so")
  else
    report("warn", "client library", message,
      "programs started by pioche cannot load libpioche.so: `make lib`, or install pioche")
  end
end

local function check_gpus(report)
  local found, message = gpu.list()
  if not found then
    report("warn", "GPUs", message, "the driver or a GPU is in trouble: nvidia-smi may say more")
  elseif found.driver == "" then
    report("ok", "GPUs", "none: no NVIDIA driver")
  else
    local names = {}
    for _, device in ipairs(found.gpus) do
      names[#names + 1] = string.format("%d %s %s", device.index, device.name,
        format.bytes(device.memory_bytes))
    end
    report("ok", "GPUs", string.format("driver %s: %s", found.driver,
      #names > 0 and table.concat(names, ", ") or "no GPU"))
  end
end

-- Asking SQLite would be a statement that can write; and pioche.db must never
-- be opened beside it: closing that file would drop SQLite's locks on it. An
-- open store has a -shm file exactly where it has a WAL; nil: not to be told.
local function journal_mode(store)
  if sys.type(store:path() .. "/pioche.db-shm") == "file" then return "WAL" end
  return store:is_writable() and "rollback" or nil
end

local function check_place(report, store)
  local path = store:path()
  local network = sys.is_network(path)
  local mode = journal_mode(store)
  report("ok", "store", string.format("%s, schema %d", path,
    store:one("SELECT user_version FROM pragma_user_version").user_version))
  local fits = not mode or (mode == "WAL") ~= (network and true or false)
  report(fits and "ok" or "warn", "file system", (network and "network" or "local")
    .. (mode and ", " .. mode .. " journal" or ""),
    not fits and "it changes when the store is next opened for writing" or nil)
  local free = sys.free_bytes(path)
  if free then
    report(free < low_space_bytes and "warn" or "ok", "free space", format.bytes(free),
      free < low_space_bytes and "checkpoints may not fit: make room" or nil)
  end
  if not store:is_writable() then
    report("warn", "permission", "the store cannot be written by " .. sys.user(),
      "reading works; live and standalone runs are not folded in")
  end
end

-- The state of the lease, which is not touched.
local function check_lease(report, store)
  local look = store:lease_look()
  if look.state == "free" then
    report("ok", "supervisor", "none is running")
  elseif look.state == "held" then
    report("ok", "supervisor", look.holder)
  elseif look.state == "dead" then
    report("warn", "supervisor", look.holder .. " is dead, and its lease is left",
      "the next `pioche run` takes it over at once")
  else
    report("ok", "supervisor", look.holder .. ", on another machine: this one cannot tell whether it lives",
      ("`pioche run` watches it for %.0f s and takes over if it is silent"):format(look.silent_ms / 1000))
  end
  return look.state
end

local function alive(pid, node)
  if node and node ~= sys.hostname() then return nil end
  return sys.type("/proc/" .. pid) == "dir"
end

local function check_attempts(report, store, lease)
  local open = store:rows("SELECT a.*, e.name || '-' || r.number AS run FROM attempt a"
    .. " JOIN run r ON r.id = a.run_id JOIN experiment e ON e.id = r.experiment_id"
    .. " WHERE a.state <> 'ended' ORDER BY a.id")
  if #open == 0 then report("ok", "attempts", "none is open") end
  for _, attempt in ipairs(open) do
    local what = string.format("%s attempt %d is %s (%s%s)", attempt.run, attempt.number,
      attempt.state, attempt.launcher, attempt.agent_pid and ", pid " .. attempt.agent_pid or "")
    if attempt.agent_pid and alive(attempt.agent_pid, attempt.node) == false then
      report("warn", "attempts", what .. ", its process is gone",
        attempt.launcher == "standalone" and "any reading verb settles it"
        or "`pioche run` of its recipe settles it")
    elseif attempt.launcher == "local" and lease == "free" then
      report("warn", "attempts", what .. ", without a supervisor",
        "`pioche run` of its recipe settles it")
    else
      report("ok", "attempts", what)
    end
  end
end

local function check_folding(report, store)
  local late = store:one("SELECT count(*) AS n FROM journal j JOIN attempt a ON a.id = j.attempt_id"
    .. " WHERE j.done = 0 AND a.state = 'ended'").n
  local live = store:one("SELECT count(*) AS n FROM journal WHERE done = 0").n - late
  report(late > 0 and "warn" or "ok", "journals", (live > 0 and live .. " of live attempts; " or "")
    .. (late > 0 and late .. " of ended attempts not in the database whole"
    or "all of ended attempts are in the database"),
    late > 0 and "the next `pioche run` folds them" or nil)
  local staged = sys.type(store:path() .. "/staging") == "dir"
    and #(sys.list(store:path() .. "/staging") or {}) or 0
  report("ok", "staging", staged == 0 and "empty"
    or string.format("%d folder%s of running or interrupted work", staged,
      staged == 1 and "" or "s"))
end

local function check_database(report, store, quick)
  local pragma = quick and "quick_check" or "integrity_check"
  local bad = 0
  for _, row in ipairs(store:rows("SELECT * FROM pragma_" .. pragma)) do
    if row[pragma] ~= "ok" then
      bad = bad + 1
      report("bad", "database", row[pragma], "copy pioche.db away, then `sqlite3 pioche.db .recover`")
    end
  end
  for _, row in ipairs(store:rows("SELECT * FROM pragma_foreign_key_check")) do
    bad = bad + 1
    report("bad", "database", string.format("%s row %s refers to a missing %s", row.table,
      row.rowid or "?", row.parent))
  end
  if bad == 0 then
    local size = sys.stat(store:path() .. "/pioche.db")
    report("ok", "database", string.format("sound%s", size and ", " .. format.bytes(size.size)
      or ""))
  end
end

local function check_objects(report, store)
  local findings = {}
  local result = store:verify { full = false, report = function(finding)
    if finding then findings[#findings + 1] = finding end
  end }
  for _, finding in ipairs(findings) do
    report("bad", "objects", finding, "`pioche verify` reads every byte")
  end
  if #findings == 0 then
    report("ok", "objects", string.format("%s, %s%s", format.count(result.objects),
      format.bytes(result.bytes), (result.orphans or 0) > 0
      and string.format(", %d orphans", result.orphans) or ""))
  end
end

local styles = { ok = "green", warn = "yellow", bad = "red+bold" }
local words = { ok = "OK  ", warn = "WARN", bad = "BAD " }

local function run(ctx)
  local store = cli.store_path(ctx.options) and ctx.reading()
  local list, wrong = json.array {}, false
  if ctx.csv then ctx.out(csv.line { "check", "state", "message", "advice" }) end
  local function report(state, name, message, advice)
    wrong = wrong or state == "bad"
    list[#list + 1] = { check = name, state = state, message = message,
      advice = advice or json.null }
    if ctx.csv then
      ctx.out(csv.line({ name, state, message, advice }, 4))
    elseif not ctx.json then
      ctx.out(term.paint(words[state], styles[state], ctx.color) .. " " .. term.pad(name, 15)
        .. term.clean(message) .. "\n")
      if advice then ctx.out((" "):rep(20) .. "-> " .. advice .. "\n") end
    end
  end
  check_programs(report, store)
  check_gpus(report)
  if store then
    check_place(report, store)
    check_attempts(report, store, check_lease(report, store))
    check_folding(report, store)
    check_database(report, store, ctx.options.quick)
    check_objects(report, store)
  else
    report("ok", "store", "none in " .. sys.cwd() .. " or above: `pioche run` makes one")
  end
  if ctx.json then ctx.out(ctx.encode(list) .. "\n") end
  return wrong and 1 or 0
end

return {
  summary = "is everything in order, and what to do if not",
  usage = "doctor [--quick]",
  help = [[
Versions, the store's place and file system, free space, who supervises, open
attempts, journals that wait to be folded, the database and the presence of all
objects. OK, WARN (worth a look) or BAD (exit status 1), with advice. Where there
is no store yet: what the machine and the installation have.

JSON: an array of {check, state, message, advice}.]],
  options = {
    { name = "quick", short = "q", help = "a faster, shallower check of the database" },
  },
  examples = "pioche doctor",
  args = { 0, 0 },
  exit_status = "  0    nothing is wrong\n  1    something is\n  2    wrong usage\n"
    .. "  3    the system failed\n",
  run = run,
}
