-- query/resolve.lua: what a name means: a field of the run, a parameter, a
-- metric or a tag, by what the store holds.
--
-- A field's name means the field. Else a parameter or a metric of that name; if
-- there are both the user must say which. param.NAME, metric.KEY, tag.NAME and
-- run.FIELD say it. A metric may end in @REDUCTION and .STAT; what stands in
-- quotes is a name as it is, with such an ending or without.
local errors = require "pioche.errors"
local field = require "pioche.query.field"
local lex = require "pioche.query.lex"

local resolve = {}

resolve.stats = { "last", "min", "max", "mean", "count", "first_step", "last_step" }
resolve.reductions = { "mean", "max", "min", "argmax" }

local names_max = 5000

local function set_of(list)
  local set = {}
  for _, item in ipairs(list) do set[item] = true end
  return set
end

local is_stat, is_reduction = set_of(resolve.stats), set_of(resolve.reductions)

-- ---- what the store holds ----------------------------------------------------------

-- Distinct values of the first column of an index, by one seek each.
local function distinct(store, from, column)
  local list = {}
  for i, row in ipairs(store:rows(("WITH RECURSIVE n(x) AS (SELECT min(COLUMN) FROM FROM_ UNION ALL"
    .. " SELECT (SELECT min(COLUMN) FROM FROM_ WHERE COLUMN > x) FROM n WHERE x IS NOT NULL LIMIT ?)"
    .. " SELECT x FROM n WHERE x IS NOT NULL"):gsub("COLUMN", column):gsub("FROM_", from), names_max)) do
    list[i] = row.x
  end
  return list
end

function resolve.metric_keys(store)
  return distinct(store, "series", "key")
end

function resolve.param_names(store)
  return distinct(store, "param", "name")
end

function resolve.tag_names(store)
  return distinct(store, "tag", "name")
end

local function has_metric(store, key)
  return store:one("SELECT 1 AS found FROM series WHERE key = ? LIMIT 1", key) ~= nil
end

local function has_param(store, name)
  return store:one("SELECT 1 AS found FROM param WHERE name = ? LIMIT 1", name) ~= nil
end

-- ---- metrics -------------------------------------------------------------------------

-- The rank or reduction that stands behind an @; nil for another word.
local function reduction(word)
  if is_reduction[word] then return word end
  return math.tointeger(tonumber(word:match("^rank=(%d+)$") or word:match("^(%d+)$")))
end

-- Of a whole ending, "@mean.min": true, its statistic and its rank or reduction;
-- nil where it is none, and then third the word behind @.
local function ending(text)
  local stat = text:match("%.([%l_]+)$")
  if stat and not is_stat[stat] then return nil end
  local rest = stat and text:sub(1, -#stat - 2) or text
  if rest == "" then return true, stat or "last", nil end
  local word = rest:match("^@([%w_=]+)$")
  local rank = word and reduction(word)
  if not rank then return nil, nil, word end
  return true, stat or "last", rank
end

-- A metric as written, with { key, stat, rank } (rank: a number, a reduction or
-- nil), `known` where the store has the key; or `unknown`, the word behind the @
-- of a known key that is no reduction; nil where quotes stand wrongly.
function resolve.metric(store, parts)
  local first, second = parts[1], parts[2]
  if first.quoted then
    if #parts > 2 or (second and second.quoted) then return nil end
    local ok, stat, rank = ending(second and second.text or "")
    if not ok then return rank and { key = first.text, unknown = rank } end
    return { key = first.text, stat = stat, rank = rank, known = has_metric(store, first.text) }
  elseif second then
    return nil
  end
  local spec = { key = first.text, stat = "last" }
  if has_metric(store, spec.key) then
    spec.known = true
    return spec
  end
  local key, stat = spec.key:match("^(.+)%.([%l_]+)$")
  if key and is_stat[stat] then
    spec.key, spec.stat = key, stat
    spec.known = has_metric(store, key)
    if spec.known then return spec end
  end
  local base, word = spec.key:match("^(.+)@([%w_=]+)$")
  if base and reduction(word) then
    spec.key, spec.rank, spec.known = base, reduction(word), has_metric(store, base)
  elseif base and has_metric(store, base) then
    spec.unknown = word
  end
  return spec
end

function resolve.unknown_reduction(word)
  return string.format("unknown reduction '@%s'%s; expected @mean, @max, @min, @argmax or @rank=N"
    .. " (a key that ends so is quoted)", word, errors.suggestion(word, resolve.reductions))
end

-- ---- names ---------------------------------------------------------------------------

-- The parts without the beginning `prefix`, nil where they do not begin with it.
local function without(parts, prefix)
  local first = parts[1]
  if first.quoted or first.text:sub(1, #prefix) ~= prefix then return nil end
  local rest = { table.unpack(parts, 2) }
  if #first.text > #prefix then table.insert(rest, 1, { text = first.text:sub(#prefix + 1) }) end
  return #rest > 0 and rest or nil
end

local function fail(text, token, format, ...)
  lex.fail(text, token.first, token.last, format, ...)
end

-- One name, whole: quoted or bare, but no mixture of both.
local function plain(text, token, parts)
  if #parts > 1 then fail(text, token, "a quote inside a name: quote all of it") end
  return parts[1].text
end

local function all_names(store)
  local list = { table.unpack(field.names) }
  for _, names in ipairs { resolve.param_names(store), resolve.metric_keys(store) } do
    table.move(names, 1, #names, #list + 1, list)
  end
  return list
end

-- Near to "val/los.min" is "val/loss.min", near to "phase" may be a tag.
local function suggestion(store, name)
  local candidates = all_names(store)
  local base, rest = name:match("^(.+)(%.[%l_]+)$")
  local near = errors.nearest(name, candidates)
  if not near and base and is_stat[rest:sub(2)] then
    near = errors.nearest(base, candidates)
    near = near and near .. rest
  end
  if not near then
    near = errors.nearest(name, resolve.tag_names(store))
    near = near and "tag." .. near
  end
  return near and "; did you mean '" .. near .. "'?" or ""
end

local function param_target(store, text, token, parts)
  local name = plain(text, token, parts)
  if has_param(store, name) then return { kind = "param", name = name } end
  fail(text, token, "no run has a parameter '%s'%s", name,
    errors.suggestion(name, resolve.param_names(store)))
end

local function metric_target(store, text, token, parts)
  local spec = resolve.metric(store, parts)
  if not spec then fail(text, token, "a quote inside a name: quote the key, all of it") end
  if spec.unknown then fail(text, token, "%s", resolve.unknown_reduction(spec.unknown)) end
  if spec.known then return { kind = "metric", spec = spec } end
  fail(text, token, "no run has logged a metric '%s'%s", spec.key,
    errors.suggestion(spec.key, resolve.metric_keys(store)))
end

local function field_target(text, token, name)
  if field.all[name] then return { kind = "field", name = name, field = field.all[name] } end
  fail(text, token, "a run has no field '%s'%s; its fields are %s", name,
    errors.suggestion(name, field.names), table.concat(field.names, ", "))
end

-- A name without a prefix.
local function free(store, text, token)
  local parts = token.parts
  local name = #parts == 1 and parts[1].text
  if name and not parts[1].quoted and field.all[name] then return field_target(text, token, name) end
  local spec = resolve.metric(store, parts)
  if not spec then
    fail(text, token, "a quote inside a name: quote all of it, without its ending")
  end
  local param = name and has_param(store, name)
  if param and spec.known then
    fail(text, token, "'%s' is a parameter and a metric: write param.%s or metric.%s", name,
      token.text, token.text)
  elseif param then
    return { kind = "param", name = name }
  elseif spec.known and not spec.unknown then
    return { kind = "metric", spec = spec }
  elseif spec.unknown then
    fail(text, token, "%s", resolve.unknown_reduction(spec.unknown))
  elseif name and has_param(store, "summary/" .. name) then
    return { kind = "param", name = "summary/" .. name }
  end
  name = name or spec.key
  fail(text, token, "unknown name '%s'%s", name, suggestion(store, name))
end

-- What the name in this token of the query `text` means: { kind, ... } with kind
-- "field" (name, field), "param" or "tag" (name), "metric" (spec). Raises with a
-- caret where the store knows no such thing.
function resolve.name(store, text, token)
  local parts = without(token.parts, "param.")
  if parts then return param_target(store, text, token, parts) end
  parts = without(token.parts, "metric.")
  if parts then return metric_target(store, text, token, parts) end
  parts = without(token.parts, "tag.")
  if parts then return { kind = "tag", name = plain(text, token, parts) } end
  parts = without(token.parts, "run.")
  if parts then return field_target(text, token, plain(text, token, parts)) end
  return free(store, text, token)
end

return resolve
