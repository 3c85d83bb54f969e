-- The command line: options, exit statuses, names of runs, and what the
-- reading verbs say about a small store.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local core = require "pioche.core.store"
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local cli = require "pioche.cli"
local errors = require "pioche.errors"
local project = require "pioche.project"
local reference = require "pioche.reference"
local test, equal, contains = tap.test, tap.equal, tap.contains

local dir = (os.getenv("TMPDIR") or "/tmp") .. "/test-cli-" .. sys.pid()
local store_dir = dir .. "/.pioche"

-- Run a command line; returns exit status, stdout, stderr.
local function pioche(...)
  local said, write = { "", "" }, sys.write
  sys.write = function(fd, text)
    said[fd] = said[fd] .. text
    return true
  end
  local isatty = sys.isatty
  sys.isatty = function() return false end
  local status = cli.main { "--store", store_dir, ... }
  sys.write, sys.isatty = write, isatty
  return status, said[1], said[2]
end

local function ok(...)
  local status, out, err = pioche(...)
  if status ~= 0 then error(table.concat({ ... }, " ") .. ": " .. status .. " " .. err, 2) end
  return out, err
end

local function fails(expected, ...)
  local status, out, err = pioche(...)
  equal(status, expected, table.concat({ ... }, " ") .. ": " .. err)
  equal(out, "")
  tap.lacks(err, "traceback")
  return err
end

local function sqlite(text)
  local done = errors.check(sys.run { argv = { "sqlite3", "-bail", store_dir .. "/pioche.db" },
    input = text })
  assert(done.status == 0, done.stderr)
end

-- gpt: 6 runs, 2 points of 3 seeds; gpt-5 failed; gpt-6 planned. odd: a run
-- with names and values that are hard to print.
local function make_store()
  errors.check(sys.mkdirs(dir))
  local store = errors.check(core.open(store_dir, "create"))
  local gpt = errors.check(store:experiment("gpt", "val/loss", "minimize"))
  local odd = errors.check(store:experiment("odd"))
  local statements = {}
  local function series(id, run, key, last, bits)
    statements[#statements + 1] = string.format("INSERT INTO series (id, run_id, key, rank, count,"
      .. " first_step, last_step, last, last_bits, min, max, sum, sum_low, finite, nans) VALUES"
      .. " (%d, %d, '%s', 0, 10, 0, 9, %s, %s, 0.5, 9.5, 25.0, 0.0, 10, 0);", id, run, key, last,
      bits or "NULL")
  end
  for i = 1, 6 do
    local seed = (i - 1) % 3 + 1
    local id = errors.check(store:run_create { experiment_id = gpt, identity = "identity" .. i,
      program = "{}", launch = "{}", seed = seed })
    errors.check(store:param_set(id, "lr", i <= 3 and 0.001 or 0.01))
    errors.check(store:param_set(id, "width", 64))
    errors.check(store:param_set(id, "seed", seed))
    if i < 6 then
      errors.check(store:run_set_status(id, i == 5 and "failed" or "finished",
        i == 5 and "rank 1 on n7: SIGKILL at step 12" or nil))
      series(i, id, "val/loss", i == 5 and 1.0 or 2 + i / 10)
      series(100 + i, id, "lr", 0.001)
    end
  end
  local id = errors.check(store:run_create { experiment_id = odd })
  errors.check(store:param_set(id, "two\nlines", "a,\"b\"\n"))
  errors.check(store:param_set(id, "nan", 0 / 0))
  errors.check(store:param_set(id, "flag", true))
  errors.check(store:param_set(id, "big", 9007199254740993))
  errors.check(store:tag_set(id, "phase", "ablation"))
  series(200, id, "nan", "NULL", string.unpack("<i8", string.pack("<d", 0 / 0)))
  store:close()
  sqlite(table.concat(statements, "\n"))
end

-- ---- words and options ----------------------------------------------------------

test("options: long, inline, short, bundled, repeated, ended by --", function()
  local list = { { name = "limit", short = "n", arg = "N", type = "integer" },
    { name = "all-params", short = "p" }, { name = "metric", short = "m", arg = "K", multi = true } }
  local args, options = cli.parse({ "a", "--limit=3", "-pm", "x", "--metric", "y", "--json", "--",
    "--b" }, 1, list)
  equal(args, { "a", "--b" })
  equal(options, { limit = 3, all_params = true, metric = { "x", "y" }, json = true })
  equal(select(2, cli.parse({ "-n5" }, 1, list)), { limit = 5 })
end)

test("wrong options are usage errors that name what was expected", function()
  contains(fails(2, "ls", "--limti", "3"), "did you mean '--limit'?")
  contains(fails(2, "ls", "--limit"), "expected a value")
  contains(fails(2, "ls", "--limit", "x"), "expected an integer, got 'x'")
  contains(fails(2, "ls", "--limit", "-1"), "at least 0")
  contains(fails(2, "ls", "--all=yes"), "takes no value")
  contains(fails(2, "ls", "--json", "--csv"), "exclude each other")
  contains(fails(2, "ls", "-z"), "unknown option '-z'")
  contains(fails(2, "show"), "usage: pioche show RUN")
  contains(fails(2, "show", "a", "b"), "unexpected argument 'b'")
  contains(fails(2, "cmpare"), "did you mean 'compare'?")
  contains(fails(2, "../x"), "unknown verb")
end)

test("the nearest word, or none", function()
  local words = { "compare", "completion", "export", "verify" }
  equal(errors.nearest("comapre", words), "compare")
  equal(errors.nearest("exprot", words), "export")
  equal(errors.nearest("zzz", words), nil)
end)

test("every verb explains itself", function()
  for _, verb in ipairs(cli.verbs) do
    local command = cli.command(verb)
    assert(command, verb .. " does not load")
    assert(command.summary and command.usage and command.run, verb)
    contains(ok("help", verb), "usage")
    contains(ok(verb, "--help"), command.summary)
    for _, option in ipairs(command.options or {}) do
      assert(option.help and #option.help > 0, verb .. " --" .. option.name)
    end
  end
  contains(ok(), "compare")
  contains(ok("--help"), "compare")
end)

test("what a recipe may say is explained as a whole, in parts and by field", function()
  contains(ok("help"), "`pioche help recipe`")
  for _, verb in ipairs { "run", "plan" } do contains(ok("help", verb), "`pioche help recipe`") end
  local page = ok("help", "recipe")
  for _, group in ipairs(reference.groups()) do
    local part = ok("help", "recipe", group.name)
    contains(page, part)
    if not cli.command(group.name) then equal(ok("help", group.name), part) end
  end
  local field = ok("help", "launch.hang_s")
  contains(field, "  launch.hang_s  a whole number, at least 0 (default: learned")
  contains(field, "the result hang; 0:")
  tap.lacks(field, "grace_s")
  contains(ok("help", "where"), "a function (default: all of them)")
  contains(ok("help", "stop"), "pioche stop")
  contains(ok("help", "recipe", "stop"), "pioche.none { ... }")
  local said = json.decode((ok("help", "keep.code", "--json")))
  equal(said, { topic = "recipe", groups = { { name = "keep", title = said.groups[1].title, entries = { {
    name = "keep.code", expects = "true or false", default = "false", required = false,
    help = project.keep.code.help } } } } })
  contains(fails(2, "help", "launhc"), "did you mean 'launch'?")
  contains(fails(2, "help", "recipe", "launch.hagn_s"), "a recipe has no 'launch.hagn_s'; did you mean 'launch.hang_s'?")
  contains(fails(2, "help", "run", "launch"), "unexpected argument 'launch'; usage: pioche help run")
  contains(fails(2, "help", "query", "launch"), "unexpected argument 'launch'; usage: pioche help query")
end)

test("the version carries the contract with scripts", function()
  local version = json.decode((ok("--version", "--json")))
  equal(version.contract, cli.contract)
  contains(ok("--version"), "pioche " .. version.pioche)
end)

test("without a store the verbs refuse and make none", function()
  for _, verb in ipairs { "ls", "doctor", "compare", "verify", "sql" } do
    contains(fails(1, verb), "not a store")
  end
  equal(sys.type(store_dir), nil)
end)

-- ---- the store --------------------------------------------------------------------

local prepared, problem = pcall(make_store)
if not prepared then
  local skip = tostring(problem):find("sqlite3", 1, true) and "sqlite3 is missing" or nil
  if skip then
    print("ok - reading verbs # SKIP " .. skip)
  else
    test("a store to read", function() error(problem, 0) end)
  end
  sys.remove_tree(dir)
  tap.done()
end

local function list(...)
  return json.decode((ok("ls", "--json", "--all", ...)))
end

test("a run in JSON has exactly the promised names", function()
  local run = list("gpt-1")[1]
  local names = {}
  for name in pairs(run) do names[#names + 1] = name end
  table.sort(names)
  equal(table.concat(names, " "), "attempts commit created ended experiment front id metrics origin"
    .. " params reason seed started status tags ulid")
  equal(run.id, "gpt-1")
  equal(run.params, { lr = 0.001, width = 64, seed = 1 })
  equal(run.metrics["val/loss"], { last = 2.1, min = 0.5, max = 9.5, mean = 2.5, count = 10,
    first_step = 0, last_step = 9 })
  assert(run.created:match("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d[.%d]*Z$"), run.created)
end)

test("hard values survive the way to JSON", function()
  local run = list("odd")[1]
  equal(run.params.nan, "NaN")
  equal(run.params.flag, true)
  equal(run.params.big, 9007199254740993)
  equal(run.params["two\nlines"], "a,\"b\"\n")
  equal(run.metrics.nan.last, "NaN")
  equal(run.tags, { phase = "ablation" })
end)

test("ls: newest first, limited, by status", function()
  local runs = list()
  equal(#runs, 7)
  equal(runs[1].id, "odd-1")
  equal(#json.decode((ok("ls", "--json", "--limit", "2"))), 2)
  equal(list("--status", "failed")[1].id, "gpt-5")
  equal(list("--status", "stopped"), {})
  contains(fails(2, "ls", "--status", "finishd"), "did you mean 'finished'?")
  local _, err = ok("ls", "--limit", "1")
  contains(err, "1 of 7 runs")
end)

test("ls: a table shows what differs and what went wrong, whole in a pipe", function()
  local out = ok("ls", "gpt")
  contains(out, "rank 1 on n7: SIGKILL at step 12")
  contains(out, "lr")
  tap.lacks(out, "width")
  tap.lacks(out, "\27")
  contains(ok("ls", "gpt", "--csv"), "param.lr,param.seed,param.width,metric.lr,metric.val/loss\r\n")
  contains(ok("show", "odd-1"), "two\\nlines")
end)

test("a project has verbs of its own", function()
  local path = dir .. "/pioche.lua"
  local function aliases(text) errors.check(sys.write_file(path, "return { aliases = " .. text .. " }\n")) end
  aliases('{ failed = { "ls", "status = failed" }, one = { "show", "gpt-1" } }')
  equal(ok("failed", "--json"), (ok("ls", "status = failed", "--json")))
  equal(ok("one"), (ok("show", "gpt-1")))
  contains(fails(2, "faild"), "unknown verb 'faild'; did you mean 'failed'?")
  for text, expected in pairs {
    ['{ ls = { "ls" } }'] = "ls is a verb already",
    ['{ mine = { "lss" } }'] = 'for mine a verb first, got "lss"',
    ['{ mine = {} }'] = "for mine a list of strings",
    ['{ Mine = { "ls" } }'] = "a name is lower-case letters",
    ['{ "ls" }'] = "names of verbs with the words they stand for",
  } do
    aliases(text)
    local err = fails(1, "mine")
    contains(err, "pioche.lua:1: aliases: expected ")
    contains(err, expected)
    ok("ls")
  end
  sys.remove_tree(path)
end)

test("experiments are listed", function()
  local all = json.decode((ok("ls", "-e", "--json")))
  equal(#all, 2)
  equal(all[2].experiment, "gpt")
  equal(all[2].runs, 6)
  equal(all[2].finished, 4)
end)

local function id_of(word)
  return json.decode((ok("show", word, "--json"))).id
end

test("RUN is a number, a ULID's beginning, best or last", function()
  equal(id_of("gpt-3"), "gpt-3")
  equal(id_of(list("gpt-2")[1].ulid), "gpt-2")
  equal(id_of(list("gpt-2")[1].ulid:lower()), "gpt-2")
  equal(id_of("gpt/last"), "gpt-6")
  equal(id_of("gpt/best"), "gpt-1", "the failed run's lower loss does not count")
end)

test("a name that is not there, or not enough, is told with what is", function()
  contains(fails(1, "show", "gpt-77"), "'gpt' has 6 runs, the newest is gpt-6")
  contains(fails(1, "show", "gtp-1"), "did you mean 'gpt-1'?")
  contains(fails(1, "ls", "gtp"), "did you mean 'gpt'?")
  contains(fails(1, "show", "gpt"), "gpt/best")
  contains(fails(1, "show", "odd/best"), "has no goal")
  local prefix = list("gpt-1")[1].ulid:sub(1, 4)
  local err = fails(1, "show", prefix)
  contains(err, "beginning of several runs")
  contains(err, "(gpt-1)")
end)

test("compare: seeds become one row with mean and deviation", function()
  local rows = json.decode((ok("compare", "gpt", "--json")))
  equal(#rows, 2)
  equal(rows[1].runs, { "gpt-1", "gpt-2", "gpt-3" })
  equal(rows[1].best, { "val/loss" })
  equal(rows[1].params, { lr = 0.001 })
  local cell = rows[1].metrics["val/loss"]
  equal(cell.n, 3)
  assert(math.abs(cell.mean - 2.2) < 1e-12 and math.abs(cell.std - 0.1) < 1e-12)
  equal(rows[2].metrics["val/loss"].n, 1, "a failed run does not count in a mean")
  contains(ok("compare", "gpt"), "±")
end)

test("compare: a row a run when asked, best first, failed last", function()
  local rows = json.decode((ok("compare", "gpt", "--json", "--no-group")))
  local order = {}
  for i, row in ipairs(rows) do order[i] = row.id end
  equal(table.concat(order, " "), "gpt-1 gpt-2 gpt-3 gpt-4 gpt-6 gpt-5")
  equal(rows[1].best, { "val/loss" })
  equal(json.decode((ok("compare", "gpt", "--json", "--no-group", "--maximize", "val/loss")))[1].id,
    "gpt-4")
end)

test("compare: metrics and parameters on demand", function()
  local row = json.decode((ok("compare", "gpt-1", "gpt-4", "--json", "-m", "val/loss.min")))[1]
  equal(row.metrics["val/loss.min"].mean, 0.5)
  contains(fails(1, "compare", "gpt", "-m", "val/los"), "did you mean 'val/loss'?")
  contains(ok("compare", "gpt-1", "gpt-4", "--all-params"), "width")
  contains(ok("compare", "gpt-1", "gpt-4"), "same in all: seed=1 width=64")
  contains(fails(2, "compare", "gpt", "--code"), "exactly two runs")
  contains(fails(1, "compare", "gpt-1", "gpt-2", "--code"), "no code on record")
end)

test("sql reads and never writes", function()
  equal(json.decode((ok("sql", "SELECT 1 AS a, 'x' AS b, NULL AS c, 0.5 AS d", "--json")))[1],
    { a = 1, b = "x", c = json.null, d = 0.5 })
  equal(ok("sql", "SELECT name AS n FROM experiment ORDER BY 1", "--csv"), "n\r\ngpt\r\nodd\r\n")
  contains(fails(1, "sql", "DELETE FROM run"), "SQL")
  contains(fails(1, "sql", "SELEC 1"), "SELEC")
  equal(#list(), 7)
  contains(ok("sql"), "checkpoint")
end)

test("stop cancels what has not begun and leaves the rest", function()
  contains(ok("stop", "gpt-6"), "gpt-6 is cancelled")
  equal(list("gpt-6")[1].status, "cancelled")
  contains(ok("stop", "gpt-1"), "is finished already")
  equal(list("gpt-1")[1].status, "finished")
end)

test("stop refuses a run that pioche did not start", function()
  sqlite("UPDATE run SET status = 'running' WHERE id = 7; INSERT INTO attempt (run_id, number,"
    .. " state, launcher, dir, world_size, agent_pid, created_ns) VALUES (7, 1, 'running',"
    .. " 'standalone', 'runs/x/1', 1, " .. sys.pid() .. ", 1);")
  local status, out = pioche("stop", "odd-1")
  equal(status, 1)
  contains(out, "kill " .. sys.pid())
end)

test("doctor leaves SQLite's file and its locks alone", function()
  local open = io.open
  io.open = function(path, ...)
    assert(not path:find("pioche.db", 1, true), "opened " .. path)
    return open(path, ...)
  end
  local _, out = pioche("doctor")
  io.open = open
  contains(out, "WAL journal")
end)

test("doctor and verify find nothing wrong", function()
  local _, found = pioche("doctor", "--json")
  for _, check in ipairs(json.decode(found)) do
    assert(check.state ~= "bad", check.check .. ": " .. check.message)
  end
  equal(json.decode((ok("verify", "--json")))[1].ok, true)
end)

test("logs: rank by rank, the end of them, one stream", function()
  sqlite("INSERT INTO attempt (id, run_id, number, state, result, launcher, dir, world_size,"
    .. " created_ns) VALUES (50, 1, 1, 'ended', 'ok', 'local', 'runs/L/1', 2, 1);")
  local folder = store_dir .. "/runs/L/1"
  errors.check(sys.mkdirs(folder))
  errors.check(sys.write_file(folder .. "/rank-0.out", "a\nb\nc"))
  errors.check(sys.write_file(folder .. "/rank-1.out", "d\n"))
  errors.check(sys.write_file(folder .. "/rank-1.err", "oops\n"))
  equal(ok("logs", "gpt-1"), "[0] a\n[0] b\n[0] c\n[1] d\n[1 err] oops\n")
  equal(ok("logs", "gpt-1", "--rank", "0", "--tail", "2"), "b\nc\n")
  equal(ok("logs", "gpt-1", "--stderr"), "[1 err] oops\n")
  equal(ok("logs", "gpt-1", "--stderr", "--rank", "1"), "oops\n")
  equal(ok("logs", "gpt-1", "--rank", "0", "--tail", "0"), "")
  equal(json.decode((ok("logs", "gpt-1", "--rank", "1", "--stdout", "--json")))[1],
    { attempt = 1, rank = 1, stream = "stdout", lines = { "d" } })
  contains(fails(1, "logs", "gpt-1", "--rank", "5"), "ranks are 0 to 1")
  contains(fails(1, "logs", "gpt-2"), "was not launched")
end)

test("logs: when the files are gone, what the store keeps", function()
  sqlite("INSERT INTO attempt (id, run_id, number, state, result, launcher, dir, world_size,"
    .. " created_ns) VALUES (51, 2, 1, 'ended', 'ok', 'local', 'runs/gone/1', 1, 1);"
    .. " INSERT INTO rank (attempt_id, rank, node, stdout_tail, stderr_tail)"
    .. " VALUES (51, 0, 'n1', 'one' || char(10) || 'two', '');")
  equal(ok("logs", "gpt-2"), "one\ntwo\n")
  equal(ok("logs", "gpt-2", "--tail", "1"), "two\n")
end)

test("export: the same bytes twice, nothing overwritten, one flipped byte found", function()
  local path, again = dir .. "/x.tar", dir .. "/y.tar"
  local said = json.decode((ok("export", "gpt-1", "-o", path, "--json")))
  equal(said.sha256, (sys.sha256_file(path)))
  equal(json.decode((ok("export", "gpt-1", "-o", again, "--json"))).sha256, said.sha256)
  contains(fails(1, "export", "gpt-1", "-o", path), "exists already")
  ok("export", "gpt-1", "-o", path, "--force")
  local bytes = errors.check(sys.read_file(path))
  for _, name in ipairs { "run/config.json", "run/env.json", "run/metrics.csv" } do
    contains(bytes, "gpt-1/data/" .. name)
  end
  equal(sys.type(path .. ".metrics.part"), nil)
  equal(json.decode((ok("sql", "SELECT count(*) AS n FROM bundle", "--json")))[1].n, 3)
  contains(ok("verify", path), "good")
  local at = bytes:find('"experiment": "gpt"', 1, true)
  errors.check(sys.write_file(path, bytes:sub(1, at) .. "E" .. bytes:sub(at + 2)))
  local status, out = pioche("verify", path, again, "--json")
  local verdicts = json.decode(out)
  equal(status, 1)
  equal({ verdicts[1].ok, verdicts[2].ok }, { false, true })
  contains(table.concat(verdicts[1].findings), "config.json")
  contains(fails(1, "export", "gpt-1", "-o", again, "--force", "--checkpoints", "best"),
    "no checkpoint")
end)

test("who waits for an old store is told when it is a second", function()
  local real = { write = sys.write, isatty = sys.isatty, mono_ns = sys.mono_ns, term_size = sys.term_size }
  for _, tty in ipairs { true, false } do
    local now, said = 5, ""
    sys.write = function(fd, text) equal(fd, 2) said = said .. text return true end
    sys.isatty = function() return tty end
    sys.mono_ns = function() return now end
    sys.term_size = function() return 120 end
    local heard, done = cli.upgrade_progress()
    heard(nil, 100, 60000)
    now = now + 900000000
    heard(nil, 6000, 60000)
    equal(said, "")
    for _ = 1, 3 do
      now = now + 700000000
      heard(nil, 15000, 60000)
    end
    done()
    if tty then
      contains(said, "bringing the store up to date: row 15,000 of 60,000  25 %  4,966/s  0:09 left")
      equal(said:sub(-4), "\r\27[K")
    else
      equal(said, "pioche: bringing the store up to date: about 60,000 rows\n")
    end
  end
  for name, fn in pairs(real) do sys[name] = fn end
end)

test("completion is a script that bash accepts", function()
  local done = errors.check(sys.run { argv = { "bash", "-n" }, input = ok("completion", "bash") })
  equal(done.status, 0)
  contains(fails(2, "completion", "fish"), "bash or zsh")
end)

test("completion offers what help explains", function()
  local done = errors.check(sys.run { argv = { "bash" }, input = ok("completion", "bash") .. [[

for word in recip laun launch.hang quer comp; do
  COMP_WORDS=(pioche help $word) COMP_CWORD=2
  _pioche && echo "${COMPREPLY[@]}"
done]] })
  equal(done.stdout, "recipe\nlaunch\nlaunch.hang_s\nquery\ncompare completion\n")
end)

sys.remove_tree(dir)
tap.done()
