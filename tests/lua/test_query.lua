-- The query language: what it accepts, what it finds, and how it complains.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local core = require "pioche.core.store"
local sys = require "pioche.core.sys"
local errors = require "pioche.errors"
local compile = require "pioche.query.compile"
local parse = require "pioche.query.parse"
local query = require "pioche.query"
local value = require "pioche.query.value"
local test, equal, contains = tap.test, tap.equal, tap.contains

local dir = (os.getenv("TMPDIR") or "/tmp") .. "/test-query-" .. sys.pid()

local function sqlite(text)
  local done = errors.check(sys.run { argv = { "sqlite3", "-bail", dir .. "/pioche.db" }, input = text })
  assert(done.status == 0, done.stderr)
end

local day = 86400 * 1000000000

-- Eight runs: a-1 .. a-6 and b-1, b-2 (ids 1 to 8), with values chosen so that
-- each rule of the language tells some of them from others.
local function make_store()
  local store = errors.check(core.open(dir, "create"))
  local a, b = errors.check(store:experiment("a", "val/loss", "minimize")), errors.check(store:experiment("b"))
  local params = {
    { lr = 0.001, width = 32, optimizer = "adamw", bf16 = true, precision = "16" },
    { lr = 0.01, width = 64, optimizer = "AdamW", bf16 = false, precision = 16 },
    { lr = 0.1, width = 128, optimizer = "sgd", ["odd name"] = 7, ["in"] = 1 },
    { lr = 0 / 0, width = 9007199254740993, optimizer = "sgd", ["x@mean"] = 5 },
    { lr = math.huge, width = -3, ["optimizer.lr"] = 0.5, optimizer = 3 },
    { width = 0, optimizer = "100%_sure\\", layers = { 1, 2 } },
    { lr = 1, both = 1, status = "blue", ["summary/score"] = 0.9 },
    { lr = 1.0, both = 2, date = "2026-11-01" },
  }
  for i, list in ipairs(params) do
    local id = errors.check(store:run_create { experiment_id = i <= 6 and a or b, seed = i <= 3 and i or nil })
    local names = {}
    for name in pairs(list) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do errors.check(store:param_set(id, name, list[name])) end
  end
  errors.check(store:tag_set(1, "phase", "ablation"))
  errors.check(store:tag_set(2, "phase", "final"))
  errors.check(store:tag_set(2, "n", "10"))
  errors.check(store:event(3, { kind = "note", message = "this one diverges" }))
  errors.check(store:event(3, { kind = "note", message = "second look: fine" }))
  errors.check(store:run_set_status(5, "failed", "rank 3 on n7: SIGKILL"))
  store:close()
  local now = sys.now_ns()
  local lines = { "UPDATE run SET created_ns = " .. now .. " - id * " .. day .. ";" }
  local function series(run, key, rank, last, min, int, bits)
    lines[#lines + 1] = string.format("INSERT INTO series (run_id, key, rank, count, first_step, last_step,"
      .. " last, last_int, last_bits, min, max, sum, sum_low, finite) VALUES (%d, '%s', %d, 4, %d, 9, %s, %s,"
      .. " %s, %s, 8.5, 6.0, 0.0, 4);", run, key, rank, run, last, int or "NULL", bits or "NULL", min)
  end
  for i = 1, 6 do series(i, "val/loss", 0, i / 2, i / 4) end
  series(8, "val/loss", 2, 0.25, 0.125)       -- logged by rank 2 and 3 alone
  series(8, "val/loss", 3, 99, 98)
  series(1, "val/loss", 1, 10.5, 5)
  series(7, "val/loss", 0, "NULL", "NULL", nil, (string.unpack("<i8", string.pack("<d", 0 / 0))))
  for i = 1, 3 do series(i, "both", 0, i, i) end
  series(2, "grad-norm", 0, 2, 2)
  series(2, "odd@mean", 0, 3, 3)
  series(3, "tokens", 0, 9007199254740992.0, 1, "9007199254740993")
  lines[#lines + 1] = "INSERT INTO attempt (id, run_id, number, state, result, launcher, dir, world_size,"
    .. " node, message, created_ns) VALUES (1, 4, 1, 'ended', 'lost', 'local', 'd', 2, 'n1', NULL, 1),"
    .. " (2, 5, 1, 'ended', 'oom', 'local', 'd', 2, 'n7', NULL, 1),"
    .. " (3, 5, 2, 'ended', 'signal', 'local', 'd', 2, 'n8', 'late', 1);"
    .. "INSERT INTO rank (attempt_id, rank, node) VALUES (1, 0, 'n1'), (1, 1, 'n2');"
    .. "INSERT INTO snapshot (id, commit_id, tree_id, parent_id, branch, dirty, repository, created_ns, subject)"
    .. " VALUES (1, '3f2a9c1e00', 't', 'aabbccdd00', 'main', 0, '/r', 1, 'Fix the warm-up'),"
    .. " (2, '77777777aa', 't', NULL, 'topic', 1, '/r', 1, NULL);"
    .. "UPDATE run SET snapshot_id = 1 WHERE id IN (1, 2); UPDATE run SET snapshot_id = 2 WHERE id = 3;"
    .. "UPDATE param SET kind = 'real', value = 9e999 WHERE value = 'Infinity';"
    .. "UPDATE param SET kind = 'real', value = NULL, bits = 9221120237041090560 WHERE value = 'NaN';"
    .. "INSERT INTO param (run_id, name, value, kind) VALUES (6, 'said', 'NaN', 'text'),"
    .. " (7, 'said', 'Infinity', 'text');"
    .. "UPDATE run SET started_ns = created_ns, ended_ns = created_ns + id * 3600000000000 WHERE id < 4;"
  sqlite(table.concat(lines, "\n"))
end

local prepared, problem = pcall(make_store)
if not prepared then
  local skip = tostring(problem):find("sqlite3", 1, true) and "sqlite3 is missing" or nil
  if skip then
    print("ok - queries # SKIP " .. skip)
  else
    test("a store to ask", function() error(problem, 0) end)
  end
  sys.remove_tree(dir)
  tap.done()
end

local raw = errors.check(core.open(dir, "read"))
local store = setmetatable({}, { __index = function(_, name)
  return function(_, ...) return errors.check(raw[name](raw, ...)) end
end })

-- Ids, oldest first, as text.
local function found(text, options)
  return table.concat((query.choose(store, { text }, options or {})), " ")
end

-- Each comparison holds of the same runs where they are looked up one by one.
local function check_lookups(plan, text)
  if not plan.sql then
    for _, item in ipairs(plan.items or { plan.item }) do check_lookups(item, text) end
    return
  end
  local function holds(asked) return store:one("SELECT " .. asked.sql .. " AS found", table.unpack(asked.binds)).found end
  local all = holds(plan)
  for id = 1, 9 do
    local alone = store:one("SELECT run_set_ids(?, -1) AS ids, run_set_has(?, ?) AS inside", holds(plan.among("[" .. id
      .. "]")), all, id)
    if alone.ids ~= (alone.inside == 1 and tostring(id) or "") then error(text .. ": of run " .. id .. " alone", 3) end
  end
end

local function finds(text, ids)
  local ok, got = pcall(found, text)
  if not ok then error(text .. ": " .. tostring(got), 2) end
  if got ~= ids then error(string.format("%s\n  expected: %s\n    actual: %s", text, ids, got), 2) end
  local tree = parse.query(text)
  if tree.filter then check_lookups(compile.filter(store, tree, sys.now_ns()), text) end
end

-- The query fails with `message`, and its carets are under `place`.
local function fails(text, message, place)
  local said, raised = tap.raises(found, text)
  if not errors.is(raised) then error("a bug: " .. said, 2) end
  contains(said, message)
  local echoed, carets = said:match("\n  ([^\n]*)\n  ([^\n]*)$")
  if not echoed then error("no caret in:\n" .. said, 2) end
  local from, to = carets:find("%^+")
  local first, last = utf8.offset(echoed, from), utf8.offset(echoed, to + 1)
  local under = first and echoed:sub(first, (last or #echoed + 1) - 1) or ""
  if place ~= under then error(string.format("%s\nthe caret is under %q, expected %q", said, under, place), 2) end
end

-- ---- precedence and form ---------------------------------------------------------

test("not binds tighter than and, and than or; brackets say otherwise", function()
  finds("width = 32 or width = 64 and lr = 0.1", "1")
  finds("(width = 32 or width = 64) and lr = 0.01", "2")
  finds("not width = 32 and lr < 1", "2 3")
  finds("not (width = 32 and lr < 1)", "2 3 4 5 6 7 8")
  finds("not not width = 32", "1")
  finds("width=32 OR width=64 Or width=128", "1 2 3")
end)

test("spaces do not matter, and there is no arithmetic", function()
  finds("  lr>1e-3   and\n val/loss<2 ", "2 3 8")
  finds("grad-norm>1", "2")
  finds("width>-4 and width<-2", "5")
  finds("width=-3", "5")
end)

test("names and queries together: names say among which", function()
  local function ids(...)
    return table.concat((query.choose(store, { ... }, {})), " ")
  end
  equal(ids("a", "lr = 0.01"), "2")
  equal(ids("lr > 0", "b"), "7 8")
  equal(ids("a-3", "a-2", "lr > 0"), "2 3")
  equal(ids("a-3", "a-2"), "3 2", "names keep their order")
  equal(ids("lr > 0.001", "width < 100"), "2 5")
  contains(tap.raises(ids, "lr", ">", "3"), "a query is one argument")
  contains(tap.raises(ids, "nope"), "no run or experiment 'nope'")
end)

-- ---- values ------------------------------------------------------------------------

test("numbers: every relation, exact integers, infinity, NaN", function()
  finds("lr < 0.01", "1")
  finds("lr <= 0.01", "1 2")
  finds("lr > 0.1", "5 7 8")
  finds("lr >= 0.1", "3 5 7 8")
  finds("lr = 1", "7 8")
  finds("lr == 1.0", "7 8")
  finds("lr != 1", "1 2 3 4 5")
  finds("lr <> 1", "1 2 3 4 5")
  finds("lr = inf", "5")
  finds("lr = nan", "4")
  finds("lr != nan", "1 2 3 5 7 8")
  finds("lr in (nan, 1, 0.1)", "3 4 7 8")
  finds("lr not in (nan, 1)", "1 2 3 5")
  finds("width = 9007199254740993", "4")
  finds("width = 9007199254740992", "")
  finds("width = .0", "6")
  finds("width > -inf", "1 2 3 4 5 6")
  finds("tokens = 9007199254740993", "3")
  finds("said = nan", "6")
  finds("said in (inf, -inf)", "7")
end)

test("a run without the value: no comparison holds, not is everything else", function()
  finds("lr != 1 or lr = 1", "1 2 3 4 5 7 8")
  finds("not lr = 1", "1 2 3 4 5 6")
  finds("not lr != 1", "6 7 8")
  finds("has(lr)", "1 2 3 4 5 7 8")
  finds("not has(lr)", "6")
  finds("has(layers)", "6")
  finds("has(tag.phase) and not has(tag.n)", "1")
  finds("has(val/loss.min)", "1 2 3 4 5 6 8")
  finds("has(ended)", "1 2 3 5")
  finds("has(commit)", "1 2 3")
end)

test("kinds: text is not a number, neither is a boolean; quotes make text", function()
  finds("optimizer = sgd", "3 4")
  finds("optimizer = \"sgd\"", "3 4")
  finds("optimizer = adamw", "1")
  finds("optimizer != sgd", "1 2 5 6")
  finds("optimizer = 3", "5")
  finds("optimizer in (3, sgd)", "3 4 5")
  finds("precision = 16", "2")
  finds("precision = '16'", "1")
  finds("precision in (16, \"16\")", "1 2")
  finds("bf16 = true", "1")
  finds("bf16 != true", "2")
  finds("optimizer >= b", "3 4")
  finds("date < \"2026-12\"", "8")
end)

test("~ is: contains, letters' case aside, * and ? inside, and nothing else special", function()
  finds("optimizer ~ adam", "1 2")
  finds("optimizer !~ adam", "3 4 6")
  finds("optimizer ~ 'a*w'", "1 2")
  finds("optimizer ~ 's?d'", "3 4")
  finds("optimizer ~ '%'", "6")
  finds("optimizer ~ '0%_s'", "6")
  finds("optimizer ~ 'sure\\\\'", "6")
  finds("optimizer ~ 'a_amw'", "")
  finds("reason ~ sigkill", "5")
  finds("layers ~ '1,2'", "6")
  equal(value.pattern("a*b?c\\*\\?\\d%_"), "%a%b_c*?\\\\d\\%\\_%")
end)

-- ---- metrics, tags, fields --------------------------------------------------------

test("metrics: statistics, ranks and reductions", function()
  finds("val/loss < 1", "1 8")
  finds("val/loss.min < 0.3", "1 8")
  finds("val/loss.max = 8.5", "1 2 3 4 5 6 7 8")
  finds("val/loss.mean = 1.5 and val/loss.count = 4", "1 2 3 4 5 6 7 8")
  finds("val/loss.first_step >= 6 and val/loss.last_step = 9", "6 7 8")
  finds("val/loss = nan", "7")
  finds("val/loss != nan", "1 2 3 4 5 6 8")
  finds("val/loss@rank=1 > 10", "1")
  finds("val/loss@rank=1.min = 5", "1")
  finds("'val/loss'@rank=1.min = 5", "1")
  finds("val/loss@1 > 10", "1")
  finds("val/loss@max > 10", "1 8")
  finds("val/loss@mean = 5.5", "1")
  finds("val/loss@min < 0.3", "8")
  finds("val/loss@argmax = 3", "8")
  finds("val/loss@max.min > 97", "8")
  finds("metric.grad-norm = 2", "2")
end)

test("quotes reach names that look like something else", function()
  finds("\"odd name\" = 7", "3")
  finds("param.'odd name' > 6", "3")
  finds("\"odd@mean\" = 3", "2")
  finds("odd@mean = 3", "2")
  finds("metric.\"odd@mean\".min = 3", "2")
  finds("metric.\"val/loss\"@max.min > 97", "8")
  finds("\"x@mean\" = 5", "4")
  finds("'in' = 1", "3")
  finds("in = 1", "3")
  finds("param.status = blue", "7")
  finds("optimizer.lr = 0.5", "5")
  finds("score > 0.5", "7")
end)

test("a parameter and a metric of one name: the user says which", function()
  finds("param.both = 2", "8")
  finds("metric.both = 2", "2")
  fails("val/loss < 1 and both = 2", "write param.both or metric.both", "both")
end)

test("tags are texts", function()
  finds("tag.phase = ablation", "1")
  finds("tag.phase != ablation", "2")
  finds("tag.n = 10", "2")
  finds("tag.phase ~ 'FIN'", "2")
  finds("tag.nothing = 1", "")
  fails("tag.n > 9", "order of letters", "9")
end)

test("fields of a run", function()
  finds("name = a-3", "3")
  finds("experiment = b", "7 8")
  finds("experiment != b and number < 3", "1 2")
  finds("seed in (1, 3)", "1 3")
  finds("seed != 1", "2 3")
  finds("status = failed", "5")
  finds("status in (failed, lost)", "4 5")
  finds("status not in (failed, lost)", "1 2 3 6 7 8")
  finds("result = signal", "5")
  finds("result != lost", "5")
  finds("attempts = 0", "1 2 3 6 7 8")
  finds("attempts >= 2", "5")
  finds("node = n2", "4")
  finds("host ~ n", "4 5")
  finds("node != n8", "4")
  finds("note ~ diverges", "3")
  finds("note !~ diverges", "")
  finds("reason ~ 'rank 3'", "5")
  finds("branch = main and dirty = false", "1 2")
  finds("run.status = planned and run.number = 1", "1 7")
end)

test("commit: an abbreviation of it or of HEAD; ~ looks into HEAD's subject", function()
  finds("commit = 3f2a9c1", "1 2")
  finds("commit = AABBCC", "1 2")
  finds("commit != 3f2a9c1", "3")
  finds("commit ~ 'fix'", "1 2")
  finds("commit ~ '3F2A'", "1 2")
  finds("commit ~ 'bccd'", "1 2")
  finds("commit !~ 'fix'", "3")
  fails("commit = fix", "4 or more digits", "fix")
end)

test("times: a duration is the moment so long ago; a date is the whole day, UTC", function()
  finds("created > 3d", "1 2")
  finds("created < 5d", "5 6 7 8")
  finds("created > 12h", "")
  finds("age < 36h", "1")
  finds("age > 1w", "7 8")
  finds("duration = 2h", "2")
  finds("duration > 3600", "2 3")
  finds("created < today and created > 100w", "1 2 3 4 5 6 7 8")
  equal({ value.date("2026-11-01") }, { 1793491200000000000, 1793577599999999999 })
  equal({ value.date("2026-11-01T12:30") }, { 1793536200000000000, 1793536259999999999 })
  equal({ value.date("2024-02-29 23:59:59.5Z") }, { 1709251199500000000, 1709251199599999999 })
  for _, bad in ipairs { "2026-13-01", "2026-02-29", "2026-11-01T25", "2026-11-01T1", "2026-1-1", "2026-11-01T12:30Q",
    "2026-11-01T12:30:1", "99999-01-01" } do
    equal(value.date(bad), nil, bad)
  end
  equal(value.duration("1h30m"), 5400000000000)
  equal(value.duration("2.5d"), 216000000000000)
  for _, bad in ipairs { "", "3", "3x", "d", "3 d", "1e3d" } do equal(value.duration(bad), nil, bad) end
end)

test("numbers as written", function()
  for text, number in pairs { ["1e-3"] = 1e-3, ["+4"] = 4, ["-0.5"] = -0.5, [".5"] = 0.5, ["1."] = 1.0,
    ["9223372036854775807"] = 9223372036854775807, ["1E5"] = 1e5, ["-Infinity"] = -math.huge } do
    equal(value.number(text), number, text)
  end
  for _, bad in ipairs { "0x10", "1e", "1e5.5", "e5", "", "-", "1_000", "--1", "+-1" } do
    equal(value.number(bad), nil, bad)
  end
end)

-- ---- order and limit ------------------------------------------------------------------

test("sort by names, missing values last either way, and a limit", function()
  finds("sort by val/loss", "8 1 2 3 4 5 6 7")
  finds("sort by val/loss desc", "6 5 4 3 2 1 8 7")
  finds("width > 0 sort by width desc limit 2", "4 3")
  finds("sort by lr desc, width asc limit 3", "5 7 8")
  finds("limit 2", "1 2")
  finds("limit 0", "")
  finds("sort by val/loss@max desc limit 1", "8")
  finds("sort by duration, experiment, result, tag.phase limit 1", "1")
  equal(found("lr < 1", { sort = "lr desc", limit = 1 }), "3")
  equal(found("lr < 1 sort by lr limit 3", { sort = "lr desc", limit = -1 }), "3 2 1")
  equal(found("lr < 1", { newest_first = true }), "3 2 1")
  local ids, total = query.choose(store, { "lr < 1 limit 1" }, { newest_first = true })
  equal(ids, { 3 })
  equal(total, 3)
end)

-- ---- complaints ---------------------------------------------------------------------------

test("each mistake is told with a caret under its place", function()
  fails("lr >", "expected a value, got the end", "")
  fails("lr > > 1", "expected a value, got '>'", ">")
  fails("lr ", "expected =, !=", "")
  fails("lr 3", "expected =, !=", "3")
  fails("> 3", "expected a name", ">")
  fails("lr > 1 and", "expected a name", "")
  fails("lr > 1 and or width = 1", "the word 'or'", "or")
  fails("lr > 1 width = 1", "expected and, or", "width")
  fails("(lr > 1", "')' of this bracket", "")
  fails("lr > 1)", "expected and, or", ")")
  fails("lr in 3", "expected ( and values", "3")
  fails("lr in (1, )", "expected a value", ")")
  fails("lr in ()", "expected a value", ")")
  fails("has lr", "the word 'has'", "has")
  fails("has(lr and", "expected ')' after the name", "and")
  fails("lr > 1 && width = 1", "write `and`", "&")
  fails("lr > 1 || width = 1", "write `or`", "|")
  fails("!lr = 1", "write `not`", "!")
  fails("lr = [1]", "a list stands in ( )", "[")
  fails("optimizer = \"adam", "this quote has no end", "\"")
  fails("optimizer = ad\"am\"", "quote all of it", "ad\"am\"")
  fails("lr > 1 sort val/loss", "expected `by`", "val/loss")
  fails("lr > 1 limit many", "expected how many", "many")
  fails("lr > 1 limit -1", "expected how many", "-1")
  fails("lr > 1 sort by lr limit 3 4", "expected the end", "4")
  fails("lr = 1 sotr by lr", "expected and, or", "sotr")
  fails(("("):rep(60) .. "lr = 1", "nested deeper than 50", "(")
  fails("sort by note", "no order by it", "note")
end)

test("names that are not there suggest what is", function()
  fails("vla/loss < 1", "did you mean 'val/loss'?", "vla/loss")
  fails("lr = 1 and val/los.min < 1", "did you mean 'val/loss.min'?", "val/los.min")
  fails("param.val/loss = 1", "no run has a parameter 'val/loss'", "param.val/loss")
  fails("metric.lr = 1", "no run has logged a metric 'lr'", "metric.lr")
  fails("run.colour = 1", "a run has no field 'colour'", "run.colour")
  fails("val/loss@median < 1", "unknown reduction '@median'", "val/loss@median")
  fails("\"val/loss\"@sum < 1", "unknown reduction '@sum'", "\"val/loss\"@sum")
  fails("status = finishd", "did you mean 'finished'?", "finishd")
  fails("phase = x", "did you mean 'tag.phase'?", "phase")
end)

test("values of the wrong kind name what was expected", function()
  fails("val/loss < low", "expected a number, got 'low'", "low")
  fails("val/loss < \"1\"", "expected a number", "\"1\"")
  fails("val/loss ~ 3", "is no text", "~")
  fails("val/loss < nan", "only = and !=", "nan")
  fails("lr > abc", "the values of 'lr' are numbers", "abc")
  fails("date > 3", "the values of 'date' are texts: write \"3\"", "3")
  fails("bf16 = 1", "are true or false", "1")
  fails("dirty = 1", "expected true or false", "1")
  fails("dirty > true", "have no order", ">")
  fails("created > blue", "expected a time", "blue")
  fails("age > 3x", "expected a duration", "3x")
  fails("status > failed", "no order", ">")
  fails("bf16 > true", "is not above or below", "true")
  fails("commit > 3f2a", "have no order", ">")
end)

test("the caret stands under what is shown, whatever the bytes", function()
  fails("é = 1 and \tzz > 3", "unknown name 'é'", "é")
  fails("lr = 1 and \27[31m > 3", "unexpected", "\\x1b")
  fails("lr = '\xff\xfe' and qq > 1", "are numbers", "'\\xff\\xfe'")
  local long = ("lr = 1 or "):rep(30)
  fails(long .. "nope = 3", "unknown name 'nope'", "nope")
  contains(tap.raises(found, ("lr = 1 or "):rep(1100) .. "lr = 1"), "at most 10000")
  contains(tap.raises(found, ("lr=1 or "):rep(201) .. "lr=1"), "at most 200 comparisons")
end)

-- ---- nothing of a query becomes SQL ------------------------------------------------------

test("hostile texts are texts", function()
  local texts = { "'; DROP TABLE run; --", "\" OR 1=1 --", "x' OR 'x'='x", "?1", "?99999", ":a", "@a", "$a", "%s%n",
    "\0", "a\0b", "/* */", ");", "\\", "\\'", "[x]", "`x`", "run_set(id)", ("a"):rep(4000), "\xff", "NULL", "''" }
  for _, text in ipairs(texts) do
    local quoted = '"' .. text:gsub('[\\"]', "\\%0") .. '"'
    finds("optimizer = " .. quoted, "")
    if text:find("\0", 1, true) then
      fails("optimizer ~ " .. quoted, "NUL", (quoted:gsub("%z", "\\x00")))
    else
      finds("optimizer ~ " .. quoted, text == "\\" and "6" or "")
    end
    finds("tag." .. quoted .. " = " .. quoted, "")
    local said, raised = tap.raises(found, quoted .. " = 1")
    assert(errors.is(raised) and not said:find("SQL", 1, true), said)
  end
  equal(store:one("SELECT count(*) AS n FROM run").n, 8)
end)

test("the largest queries that are taken are within what SQLite takes", function()
  finds(("not "):rep(48) .. "commit in (" .. ("abcd, "):rep(99) .. "3f2a9c1)", "1 2")
  finds(("not "):rep(48) .. "created in (" .. ("2026-11-01, "):rep(99) .. "1971-01-01)", "")
  finds("lr in (" .. ("1, "):rep(999) .. "0.1)", "3 7 8")
  finds(("lr=0.1 or "):rep(199) .. "lr=0.01", "2 3")
  finds(("("):rep(49) .. "lr = 1" .. (")"):rep(49), "7 8")
  finds(("not (lr = 1 and "):rep(23) .. "lr = 1" .. (")"):rep(23), "1 2 3 4 5 6")
  fails("lr in (" .. ("1, "):rep(1000) .. "2)", "at most 1000 values", "2")
  fails("commit in (" .. ("abcd, "):rep(100) .. "1234)", "at most 100 commits", "1234")
end)

test("the tree of a query", function()
  local tree = parse.query("a = 1 and not b in (2, 'x') or has(c) sort by d desc limit 5")
  equal(tree.filter.op, "or")
  equal(tree.filter.items[1].op, "and")
  equal(tree.filter.items[1].items[2].item.values[2].text, "x")
  equal(tree.filter.items[2].op, "has")
  equal(tree.sort[1].descending, true)
  equal(tree.limit, 5)
end)

test("each comparison walks one index and no table", function()
  local function explained(asked)
    local plan = {}
    for i, row in ipairs(store:rows("EXPLAIN QUERY PLAN SELECT " .. asked.sql, table.unpack(asked.binds))) do
      plan[i] = row.detail
    end
    return table.concat(plan, "\n")
  end
  for _, text in ipairs { "lr > 0.1", "val/loss.min < 1", "val/loss.mean < 1", "val/loss@mean < 1", "tag.phase = x",
    "status = failed", "optimizer ~ a" } do
    local leaf = compile.filter(store, parse.query(text), sys.now_ns())
    local plan = explained(leaf)
    assert(plan:find("USING COVERING INDEX", 1, true) and not plan:find("SCAN [psr]%l+$"), text .. "\n" .. plan)
    plan = explained(leaf.among("[1,2]"))
    assert(plan:find(text:find("status") and "COVERING INDEX" or "run_id=?", 1, true), text .. " of two runs\n" .. plan)
    assert(not plan:find("SCAN [psr]%l+$"), text .. " of two runs\n" .. plan)
  end
end)

test("where few runs are left, the rest is asked of them alone; names are the same before and after", function()
  local lines = {}
  for id = 9, 120 do
    lines[#lines + 1] = string.format("INSERT INTO run (id, ulid, experiment_id, number, status, created_ns)"
      .. " VALUES (%d, 'u%d', 2, %d, 'planned', 1);", id, id, id)
  end
  sqlite(table.concat(lines, "\n") .. "UPDATE experiment SET next_number = 121 WHERE name = 'b';")
  local function set_of(text) return compile.run(store, compile.filter(store, parse.query(text), sys.now_ns())) end
  equal(compile.few(store, set_of("lr > 0.001")), "[8,7,5,3,2]")
  equal(compile.few(store, set_of("status = planned")), nil)
  equal(compile.few(store, nil), nil)
  finds("lr >= 0.01 and val/loss.min < 1", "2 3 8")
  finds("val/loss.min < 1 and lr >= 0.01", "2 3 8")
  finds("lr >= 0.01 and not val/loss.min < 1 and not (width = -3 or param.both = 1)", "")
  finds("lr >= 0.01 and (val/loss.min < 0.6 or status = failed)", "2 5 8")
  finds("lr >= 0.01 and (val/loss.min < 0.6 or created < 1d)", "2 3 5 7 8")
  finds("lr < 0 and has(val/loss)", "")
  local function named(name, text) return table.concat((query.choose(store, { name, text }, {})), " ") end
  equal(named("a", "lr >= 0.01"), "2 3 5")
  equal(named("b", "lr >= 0.01"), "7 8")      -- most runs are of b: those of a are taken away
  equal(named("b-1", "lr >= 0.01"), "7")
  equal(#query.choose(store, { "b", "status = planned" }, {}), 114)
end)

raw:close()
sys.remove_tree(dir)
tap.done()
