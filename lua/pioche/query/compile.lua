-- query/compile.lua: a query's tree to SQL. Every text and number of the query
-- is bound, none becomes part of the SQL.
--
-- A comparison becomes SQL of the set of the runs for which it holds (run_set of
-- core/store/run_set.h), by one walk of an index or, where few runs are left to
-- ask of, by looking each of them up; and, or, not join sets. So logic has two
-- values: a comparison is false for a run without the value, and `not` is
-- everything else.
local lex = require "pioche.query.lex"
local errors = require "pioche.errors"
local field = require "pioche.query.field"
local metric = require "pioche.query.metric"
local resolve = require "pioche.query.resolve"
local value = require "pioche.query.value"

local compile = {}

-- ---- binding ---------------------------------------------------------------------

local builder = {}
builder.__index = builder

-- The mark of a value in the SQL.
function builder:bind(v)
  self.binds[#self.binds + 1] = v
  return "?" .. #self.binds
end

function builder:list(values)
  local marks = {}
  for i, v in ipairs(values) do marks[i] = self:bind(v) end
  return table.concat(marks, ", ")
end

-- SQL that leaves of the rows those of the runs that are asked of.
function builder:only(run_id)
  return self.among and string.format(" AND %s IN (SELECT value FROM json_each(%s))", run_id, self:bind(self.among))
    or ""
end

function builder:fail(place, format, ...)
  lex.fail(self.text, place.first, place.last, format, ...)
end

local function is_order(relation)
  return relation == "<" or relation == "<=" or relation == ">" or relation == ">="
end

local function is_like(relation)
  return relation == "~" or relation == "!~"
end

-- ---- conditions by type --------------------------------------------------------------
-- Each gives SQL that is true where `expr` stands in the relation to the values.

local conditions = {}

local function no_pattern(b, node, what)
  if is_like(node.relation) then b:fail(node.operator, "%s is no text: ~ and !~ are for texts", what) end
end

local function numbers_of(b, node, read, what)
  local list, nan = {}, false
  for _, v in ipairs(node.values) do
    local number = not v.quoted and read(v.text) or nil
    if number == nil then b:fail(v, "expected %s, got '%s'", what, v.text) end
    if number ~= number then
      if is_order(node.relation) then b:fail(v, "nan is not above or below anything: only = and !=") end
      nan = true
    else
      list[#list + 1] = number
    end
  end
  return list, nan
end

-- `nan`: SQL that is true where the value is NaN (expr is NULL then).
local function number_condition(b, node, expr, nan, list, has_nan)
  if is_order(node.relation) then
    return string.format("%s %s %s", expr, node.relation, b:bind(list[1]))
  end
  local inside = #list > 0 and string.format("%s IN (%s)", expr, b:list(list))
  if node.relation == "=" then
    if inside and has_nan then return "(" .. inside .. " OR " .. nan .. ")" end
    return inside or nan
  end
  local outside = inside and string.format("%s NOT IN (%s)", expr, b:list(list))
    or expr .. " IS NOT NULL"
  return has_nan and outside or "(" .. outside .. " OR " .. nan .. ")"
end

function conditions.number(b, node, expr, nan)
  no_pattern(b, node, "a number")
  local list, has_nan = numbers_of(b, node, value.number, "a number")
  return number_condition(b, node, expr, nan or "0", list, has_nan)
end

local function seconds_or_duration(text)
  local ns = value.duration(text)
  if ns then return ns end
  local seconds = value.number(text)
  return seconds and seconds == seconds and math.abs(seconds) < 9e9 and seconds * 1e9 or nil
end

function conditions.duration(b, node, expr)
  no_pattern(b, node, "a duration")
  local list = numbers_of(b, node, seconds_or_duration, "a duration as 90s, 5m, 1h30m or 2d")
  return number_condition(b, node, expr, "0", list, false)
end

-- Some lists become a chain of ORs, of which SQLite takes about 160.
local chain_max = 100

local function check_chain(b, node, what)
  local excess = node.values[chain_max + 1]
  if excess then b:fail(excess, "at most %d %s in one list", chain_max, what) end
end

function conditions.time(b, node, expr)
  no_pattern(b, node, "a time")
  check_chain(b, node, "times")
  local spans = {}
  for i, v in ipairs(node.values) do
    local first, last = value.time(v.text, b.now_ns)
    if not first then
      b:fail(v, "expected a time, got '%s': 3d (the moment 3 days ago), today, yesterday,"
        .. " 2026-11-01 or 2026-11-01T12:30 (UTC)", v.text)
    end
    if node.relation == "<" or node.relation == ">=" then last = first end
    if is_order(node.relation) then
      return string.format("%s %s %s", expr, node.relation, b:bind(last))
    end
    spans[i] = string.format("%s BETWEEN %s AND %s", expr, b:bind(first), b:bind(last))
  end
  return (node.relation == "!=" and "NOT " or "") .. "(" .. table.concat(spans, " OR ") .. ")"
end

local function texts_of(node)
  local list = {}
  for i, v in ipairs(node.values) do list[i] = v.text end
  return list
end

local function like(b, node, exprs)
  local parts, wanted = {}, node.values[1]
  if wanted.text:find("\0", 1, true) then b:fail(wanted, "a NUL byte is in no text") end
  local mark = b:bind(value.pattern(wanted.text))
  for i, expr in ipairs(exprs) do parts[i] = string.format("%s LIKE %s ESCAPE '\\'", expr, mark) end
  return (node.relation == "!~" and "NOT " or "") .. "(" .. table.concat(parts, " OR ") .. ")"
end

function conditions.text(b, node, expr)
  if is_like(node.relation) then return like(b, node, { expr }) end
  if is_order(node.relation) then
    return string.format("%s %s %s", expr, node.relation, b:bind(node.values[1].text))
  end
  return string.format("%s %sIN (%s)", expr, node.relation == "!=" and "NOT " or "", b:list(texts_of(node)))
end

function conditions.boolean(b, node, expr)
  if node.relation ~= "=" and node.relation ~= "!=" then
    b:fail(node.operator, "true and false have no order: only = and !=")
  end
  local list = {}
  for i, v in ipairs(node.values) do
    local flag = value.boolean(v.text)
    if flag == nil then b:fail(v, "expected true or false, got '%s'", v.text) end
    list[i] = flag and 1 or 0
  end
  return string.format("%s %sIN (%s)", expr, node.relation == "!=" and "NOT " or "", b:list(list))
end

-- A word of a fixed set, or of a second one, for which `more` says which runs.
local function word_condition(b, node, words, expr, more_words, more)
  if node.relation ~= "=" and node.relation ~= "!=" then
    b:fail(node.operator, "a status has no order and is no text: only =, != and in")
  end
  local first, second, list_of, known = {}, {}, {}, {}
  for _, set in ipairs { { words, first }, { more_words, second } } do
    for _, word in ipairs(set[1]) do
      if not list_of[word] then list_of[word], known[#known + 1] = set[2], word end
    end
  end
  for _, v in ipairs(node.values) do
    local list = list_of[v.text]
    if not list then
      b:fail(v, "unknown word '%s'%s; expected %s", v.text, errors.suggestion(v.text, known),
        table.concat(known, ", "))
    end
    list[#list + 1] = v.text
  end
  local parts = {}
  if #first > 0 then parts[1] = string.format("%s IN (%s)", expr, b:list(first)) end
  if #second > 0 then
    parts[#parts + 1] = more.within:format(string.format("%s IN (%s)", more.expr, b:list(second)))
  end
  return (node.relation == "!=" and "NOT " or "") .. "(" .. table.concat(parts, " OR ") .. ")"
end

function conditions.status(b, node, expr)
  return word_condition(b, node, field.statuses, expr, field.results, field.all.result)
end

function conditions.result(b, node, expr)
  return word_condition(b, node, field.results, expr, {})
end

-- An abbreviation is as good as the whole; people know HEAD's commit rather than
-- that of the snapshot.
function conditions.commit(b, node)
  if is_like(node.relation) then
    return like(b, node, { "commit_id", "coalesce(parent_id, '')", "coalesce(subject, '')" })
  elseif is_order(node.relation) then
    b:fail(node.operator, "commits have no order: only =, !=, ~ and !~")
  end
  check_chain(b, node, "commits")
  local parts = {}
  for i, v in ipairs(node.values) do
    if not v.text:match("^%x%x%x%x+$") then
      b:fail(v, "expected 4 or more digits of a commit, got '%s'; ~ looks into its subject", v.text)
    end
    local mark = b:bind(v.text:lower() .. "*")
    parts[i] = string.format("commit_id GLOB %s OR coalesce(parent_id, '') GLOB %s", mark, mark)
  end
  return (node.relation == "!=" and "NOT " or "") .. "(" .. table.concat(parts, " OR ") .. ")"
end

-- ---- parameters: each value has a kind of its own -------------------------------------

local kinds_of = { number = "kind IN ('int', 'real')", text = "kind = 'text'", bool = "kind = 'bool'" }

-- The same of values that are above or below another of the kind: in SQL numbers
-- come before texts.
local ordered_kinds = { number = "value < '' AND kind != 'bool'", text = "kind = 'text'" }

-- The kind of value that a word means, and the value.
local function param_value(v)
  if v.quoted then return "text", v.text end
  local number = value.number(v.text)
  if number then return "number", number end
  local flag = value.boolean(v.text)
  if flag ~= nil then return "bool", flag and 1 or 0 end
  return "text", v.text
end

-- Complain where no value of the parameter is of the kind that was written.
local function check_kind(b, target, v, kind)
  local function any(condition)
    return b.store:one("SELECT 1 AS found FROM param WHERE name = ? AND " .. condition .. " LIMIT 1",
      target.name)
  end
  if any(kinds_of[kind]) then return end
  if kind ~= "text" and any(kinds_of.text) then
    b:fail(v, "the values of '%s' are texts: write \"%s\"", target.name, v.text)
  elseif kind == "text" and any(kinds_of.number) then
    b:fail(v, "the values of '%s' are numbers, got the text '%s'", target.name, v.text)
  elseif kind ~= "bool" and any(kinds_of.bool) then
    b:fail(v, "the values of '%s' are true or false, got '%s'", target.name, v.text)
  end
end

local function param_condition(b, node, target)
  if is_like(node.relation) then
    return "kind IN ('text', 'json') AND " .. like(b, node, { "value" })
  end
  local by_kind, nan = { number = {}, text = {}, bool = {} }, false
  for _, v in ipairs(node.values) do
    local kind, read = param_value(v)
    if read == read and read ~= math.huge and read ~= -math.huge then check_kind(b, target, v, kind) end
    if read ~= read then nan = true else table.insert(by_kind[kind], read) end
    if is_order(node.relation) then
      if kind == "bool" or nan then
        b:fail(v, "'%s' is not above or below anything: only = and !=", v.text)
      end
      -- The value first: it is told apart quicker than the words for its kind.
      return string.format("value %s %s AND %s", node.relation, b:bind(read), ordered_kinds[kind])
    end
  end
  local parts = {}
  for _, kind in ipairs { "number", "text", "bool" } do
    if #by_kind[kind] > 0 then
      parts[#parts + 1] = string.format("%s AND value IN (%s)", kinds_of[kind], b:list(by_kind[kind]))
    end
  end
  -- What JSON cannot carry arrives as a text from programs that speak JSON.
  local foreign = {}
  for _, number in ipairs(by_kind.number) do
    if number == math.huge or number == -math.huge then
      foreign[#foreign + 1] = number > 0 and "Infinity" or "-Infinity"
    end
  end
  if nan then
    parts[#parts + 1] = "kind = 'real' AND value IS NULL"
    foreign[#foreign + 1] = "NaN"
  end
  if #foreign > 0 then
    parts[#parts + 1] = string.format("%s AND value IN (%s)", kinds_of.text, b:list(foreign))
  end
  local equal = "coalesce(" .. table.concat(parts, " OR ") .. ", 0)"
  return (node.relation == "!=" and "NOT " or "") .. equal
end

-- ---- metrics ---------------------------------------------------------------------------

-- Which of the rows of a key count, for a metric without a reduction.
local function of_rank(b, spec)
  return spec.rank and "s.rank = " .. b:bind(spec.rank) or metric.lowest_rank
end

local function metric_set(b, spec, condition)
  if metric.is_reduced(spec) then
    -- Rows in order of ranks: of several that are largest the lowest is taken.
    return string.format("(SELECT run_set(run_id) FROM (SELECT s.run_id, %s AS x FROM series s"
      .. " WHERE s.key = %s%s GROUP BY s.run_id) WHERE %s)", metric.reduced(spec.rank, spec.stat),
      b:bind(spec.key), b:only("s.run_id"), condition("x"))
  end
  return string.format("(SELECT run_set(s.run_id) FROM series s WHERE s.key = %s%s AND %s AND %s)",
    b:bind(spec.key), b:only("s.run_id"), of_rank(b, spec), condition(metric.stat_expr[spec.stat]))
end

-- ---- the tree ----------------------------------------------------------------------------

-- The relation turned around, where another table says which runs have it.
local positive = { ["!="] = "=", ["!~"] = "~" }

local function field_expr(b, f)
  return (f.expr:gsub("%%NOW%%", function() return b:bind(b.now_ns) end))
end

local function field_set(b, node, f)
  if not f.within then
    local expr = field_expr(b, f)
    return string.format("(SELECT run_set(r.id) FROM run r WHERE %s%s)", conditions[f.type](b, node, expr),
      b:only("r.id"))
  end
  local wanted = positive[node.relation]
  local plain = { relation = wanted or node.relation, values = node.values, operator = node.operator }
  local function set(condition)
    return string.format("(SELECT run_set(r.id) FROM run r WHERE %s%s)", f.within:format(condition), b:only("r.id"))
  end
  local found = set(conditions[f.type](b, plain, f.expr))
  return wanted and string.format("run_set_minus(%s, %s)", set(f.expr .. " IS NOT NULL"), found) or found
end

local function tag_condition(b, node)
  for _, v in ipairs(node.values) do
    if is_order(node.relation) and not v.quoted and value.number(v.text) then
      b:fail(v, "a tag is text, which %s would put in the order of letters; write \"%s\" where that"
        .. " is meant", node.relation, v.text)
    end
  end
  return conditions.text(b, node, "value")
end

local leaf = {}

function leaf.compare(b, node)
  local target = resolve.name(b.store, b.text, node.name)
  if target.kind == "field" then
    return field_set(b, node, target.field)
  elseif target.kind == "metric" then
    local spec = target.spec
    local nan = not metric.is_reduced(spec) and spec.stat == "last" and metric.last_is_nan
    return metric_set(b, spec, function(expr) return conditions.number(b, node, expr, nan) end)
  elseif target.kind == "tag" then
    return string.format("(SELECT run_set(run_id) FROM tag WHERE name = %s%s AND %s)", b:bind(target.name),
      b:only("run_id"), tag_condition(b, node))
  end
  return string.format("(SELECT run_set(run_id) FROM param WHERE name = %s%s AND %s)", b:bind(target.name),
    b:only("run_id"), param_condition(b, node, target))
end

function leaf.has(b, node)
  local target = resolve.name(b.store, b.text, node.name)
  if target.kind == "metric" then
    local spec = target.spec
    return metric_set(b, spec, function(expr)
      if metric.is_reduced(spec) then return expr .. " IS NOT NULL" end
      return spec.stat == "last" and "s.count > 0" or expr .. " IS NOT NULL"
    end)
  elseif target.kind == "field" then
    local f = target.field
    local present = "(" .. field_expr(b, f) .. ") IS NOT NULL"
    return string.format("(SELECT run_set(r.id) FROM run r WHERE %s%s)",
      f.within and f.within:format(present) or present, b:only("r.id"))
  end
  return string.format("(SELECT run_set(run_id) FROM %s WHERE name = %s%s)", target.kind, b:bind(target.name),
    b:only("run_id"))
end

local function new_builder(store, text, now_ns)
  return setmetatable({ store = store, text = text, now_ns = now_ns, binds = {} }, builder)
end

-- The plan of a filter (parse.query): of a comparison { sql, binds }, SQL of the
-- set of the runs for which it holds, and among(ids), the same of the runs with
-- these ids (JSON) alone; "and", "or" and "not" are as in the tree. They are no
-- SQL, which would nest as deep as the query does: SQLite has limits there, and a
-- query has none that a person meets.
function compile.filter(store, tree, now_ns)
  local function plan(node)
    if leaf[node.op] then
      local function among(ids)
        local b = new_builder(store, tree.text, now_ns)
        b.among = ids
        return { sql = leaf[node.op](b, node), binds = b.binds, among = not ids and among or nil }
      end
      return among(nil)
    elseif node.op == "not" then
      return { op = "not", item = plan(node.item) }
    end
    local items = {}
    for i, item in ipairs(node.items) do items[i] = plan(item) end
    return { op = node.op, items = items }
  end
  return plan(tree.filter)
end

local function joined(store, how, a, b)
  return store:one("SELECT run_set_" .. how .. "(?, ?) AS found", a, b).found
end

-- Ids of the set as JSON where they are so few that looking each up takes less
-- than a walk over all runs, in which a run takes a tenth of the time.
function compile.few(store, found)
  local ids = found and store:one("SELECT run_set_ids(?1, -1) AS ids"
    .. " WHERE run_set_count(?1) * 10 < (SELECT max(id) FROM run)", found)
  return ids and "[" .. ids.ids:gsub(" ", ",") .. "]"
end

-- The set of those runs among `found` (nil: of all) for which a plan holds.
function compile.run(store, plan, found)
  if plan.sql then
    local few = compile.few(store, found)
    local asked = few and plan.among(few) or plan
    local holds = store:one("SELECT " .. asked.sql .. " AS found", table.unpack(asked.binds)).found
    return found and joined(store, "and", found, holds) or holds
  elseif plan.op == "not" then
    return joined(store, "minus", found or store:one("SELECT run_set(id) AS found FROM run").found,
      compile.run(store, plan.item, found))
  elseif plan.op == "and" then
    for _, item in ipairs(plan.items) do found = compile.run(store, item, found) end
    return found
  end
  local any
  for _, item in ipairs(plan.items) do
    local holds = compile.run(store, item, found)
    any = any and joined(store, "or", any, holds) or holds
  end
  return any
end

-- ---- sorting -------------------------------------------------------------------------------

local function sort_expr(b, target)
  if target.kind == "field" then
    local f = target.field
    return f.sort or not f.within and field_expr(b, f) or nil
  elseif target.kind == "metric" then
    local spec = target.spec
    if metric.is_reduced(spec) then
      return string.format("(SELECT %s FROM series s WHERE s.key = %s AND s.run_id = r.id)",
        metric.reduced(spec.rank, spec.stat), b:bind(spec.key))
    end
    return string.format("(SELECT %s FROM series s WHERE s.key = %s AND s.run_id = r.id%s"
      .. " ORDER BY s.rank LIMIT 1)", metric.stat_expr[spec.stat], b:bind(spec.key),
      spec.rank and " AND s.rank = " .. b:bind(spec.rank) or "")
  end
  return string.format("(SELECT value FROM %s WHERE name = %s AND run_id = r.id)", target.kind,
    b:bind(target.name))
end

-- The terms of an ORDER BY over run r, each followed by a comma, for keys of
-- parse.sort; runs without the value come last. `binds` is added to.
function compile.order(store, tree, now_ns, binds)
  local b, terms = new_builder(store, tree.text, now_ns), {}
  b.binds = binds
  for i, key in ipairs(tree.sort) do
    local expr = sort_expr(b, resolve.name(store, tree.text, key.name))
    if not expr then b:fail(key.name, "'%s' may have several values: no order by it", key.name.text) end
    terms[i] = string.format("%s %s NULLS LAST, ", expr, key.descending and "DESC" or "ASC")
  end
  return table.concat(terms)
end

return compile
