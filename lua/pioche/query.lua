-- query.lua: which runs the arguments of a verb mean.
--
-- An argument that holds a space, a quote, a bracket, a comma or one of = < > ~ !
-- is a query; every other names a run or an experiment (pioche.naming). Names
-- say among which runs (those of all the names together; without one, all runs
-- of the store), and each query leaves only those for which it holds.
local sys = require "pioche.core.sys"
local compile = require "pioche.query.compile"
local errors = require "pioche.errors"
local naming = require "pioche.naming"
local parse = require "pioche.query.parse"

local query = {}

function query.is_query(word)
  return word:find("[%s\"'(),=<>~!]") ~= nil
end

-- The words that are names, and the trees of those that are queries.
function query.split(words)
  local names, trees = {}, {}
  for _, word in ipairs(words) do
    if query.is_query(word) then
      trees[#trees + 1] = parse.query(word)
    else
      names[#names + 1] = word
    end
  end
  return names, trees
end

-- An operator alone is a query whose quotes were forgotten.
local function check_quotes(words)
  for _, word in ipairs(words) do
    if #words > 1 and (word:match("^[=<>~!]+$") or word == "and" or word == "or" or word == "in") then
      errors.raise("usage", "a query is one argument: quote it, '%s'", table.concat(words, " "))
    end
  end
end

local function set_of_ids(store, ids)
  return store:one("SELECT run_set(value) AS found FROM json_each(?)",
    "[" .. table.concat(ids, ",") .. "]").found
end

local function both(store, a, b)
  return a and store:one("SELECT run_set_and(?, ?) AS found", a, b).found or b
end

-- Those among `found` that are of these experiments: the runs that are gone
-- through are theirs, or those of all others where these are fewer.
local function of_experiments(store, found, experiments)
  local list = "[" .. table.concat(experiments, ",") .. "]"
  local others = found and store:one("SELECT 2 * sum(next_number * (id IN (SELECT value FROM json_each(?))))"
    .. " > sum(next_number) AS fewer FROM experiment", list).fewer == 1
  local walked = store:one("SELECT run_set(id) AS found FROM run WHERE experiment_id IN (SELECT id FROM experiment"
    .. " WHERE id " .. (others and "NOT " or "") .. "IN (SELECT value FROM json_each(?)))", list).found
  if not others then return both(store, found, walked) end
  return store:one("SELECT run_set_minus(?, ?) AS found", found, walked).found
end

-- The set of the runs that names and trees leave; nil: all.
local function found_set(store, names, trees, now_ns)
  local experiments, found = #names > 0 and naming.only_experiments(store, names), nil
  if #names > 0 and not experiments then found = set_of_ids(store, (naming.select(store, names))) end
  for _, tree in ipairs(trees) do
    if tree.filter then found = compile.run(store, compile.filter(store, tree, now_ns), found) end
  end
  return experiments and of_experiments(store, found, experiments) or found
end

local function ids_of(text)
  local ids = {}
  for id in text:gmatch("%d+") do ids[#ids + 1] = math.tointeger(id) end
  return ids
end

-- `order`: the terms of ORDER BY; `binds` of them, the first being the set, or
-- false for all runs.
local function sorted(store, found, order, binds, limit)
  binds[#binds + 1] = limit
  return store:column(string.format("SELECT r.id FROM run r WHERE %s ORDER BY %s LIMIT ?%d",
    found and "run_set_has(?1, r.id)" or "?1 = 0", order, #binds), table.unpack(binds))
end

-- Ids of the runs that `words` mean, how many there are without the limit, and
-- true where the user said an order.
-- options: sort (names as in `sort by`), limit (both before what the queries
-- say; -1: all), or_limit (where neither says), newest_first (else oldest first,
-- and runs in the order of their names), status (array of words).
function query.choose(store, words, options)
  check_quotes(words)
  local names, trees = query.split(words)
  local sort, limit = options.sort and parse.sort(options.sort), options.limit
  for _, tree in ipairs(trees) do
    sort, limit = sort or (tree.sort and tree), limit or tree.limit
  end
  limit = limit or options.or_limit or -1
  if #trees == 0 and #names > 0 and not sort and not options.status and not options.newest_first then
    local ids = naming.select(store, names)
    local total = #ids
    if limit >= 0 and limit < #ids then ids = table.move(ids, 1, limit, 1, {}) end
    return ids, total
  end
  local now_ns = sys.now_ns()
  local found = found_set(store, names, trees, now_ns)
  if options.status then
    found = both(store, found, store:one("SELECT run_set(id) AS found FROM run WHERE status IN"
      .. " (SELECT value FROM json_each(?))", '["' .. table.concat(options.status, '","') .. '"]').found)
  end
  local total = found and store:one("SELECT run_set_count(?) AS n", found).n
    or store:one("SELECT count(*) AS n FROM run").n
  if sort then
    local binds = { found or false }
    local order = compile.order(store, sort, now_ns, binds) .. "r.id"
      .. (options.newest_first and " DESC" or "")
    return sorted(store, found, order, binds, limit), total, true
  elseif not found then
    return store:column("SELECT id FROM run ORDER BY id " .. (options.newest_first and "DESC" or "")
      .. " LIMIT ?", limit), total
  elseif options.newest_first then
    return ids_of(store:one("SELECT run_set_ids(?, ?) AS ids", found, limit).ids), total
  end
  local ids, list = ids_of(store:one("SELECT run_set_ids(?, -1) AS ids", found).ids), {}
  for i = 1, limit >= 0 and math.min(#ids, limit) or #ids do list[i] = ids[#ids - i + 1] end
  return list, total
end

-- Options of the verbs that choose runs so.
query.options = {
  { name = "sort", arg = "NAME,...", help = "order by these, each maybe followed by desc" },
  { name = "limit", short = "n", arg = "N", type = "integer", min = 0, help = "at most N runs" },
}

return query
