-- fields.lua: checking the tables that a recipe gives, key by key.
--
-- A problem names file and line of the key, its full path, the value and what
-- was expected; an unknown key names the nearest known one.
local errors = require "pioche.errors"

local fields = {}

-- A value as a message shows it.
function fields.show(value)
  if type(value) == "string" then
    local text = #value > 60 and value:sub(1, 57) .. "..." or value
    return (("%q"):format(text):gsub("\\\n", "\\n"))
  elseif type(value) == "number" then
    return fields.number(value)
  elseif value == nil then
    return "nothing"
  elseif type(value) == "boolean" then
    return tostring(value)
  end
  return "a " .. type(value)
end

-- The shortest text that reads back as the same number.
function fields.number(value)
  if math.type(value) == "integer" then return ("%d"):format(value) end
  for _, format in ipairs { "%.15g", "%.16g", "%.17g" } do
    local text = format:format(value)
    if tonumber(text) == value then return text end
  end
  return ("%.17g"):format(value)
end

-- Keys of a table sorted by name, by raw access: no code of a recipe runs.
function fields.sorted(t)
  local keys, is_text = {}, true
  for key in next, t do
    keys[#keys + 1] = key
    is_text = is_text and type(key) == "string"
  end
  if is_text then
    table.sort(keys)
    return keys
  end
  table.sort(keys, function(a, b)
    if type(a) == type(b) and type(a) ~= "table" and type(a) ~= "function"
      and type(a) ~= "boolean" then
      return a < b
    end
    return tostring(a) < tostring(b)
  end)
  return keys
end

-- ---- kinds of values: each returns the value to keep, or nil and what was expected

local kinds = {}
fields.kinds = kinds

function kinds.string(value)
  if type(value) == "string" and value ~= "" then return value end
  return nil, "a string that is not empty"
end

function kinds.boolean(value)
  if type(value) == "boolean" then return value end
  return nil, "true or false"
end

function kinds.positive(value)
  local n = math.type(value) == "integer" and value
    or math.type(value) == "float" and math.tointeger(value)
  if n and n >= 1 then return n end
  return nil, "a whole number, at least 1"
end

function kinds.count(value)
  local n = math.type(value) == "integer" and value
    or math.type(value) == "float" and math.tointeger(value)
  if n and n >= 0 then return n end
  return nil, "a whole number, at least 0"
end

function kinds.seconds(value)
  if type(value) == "number" and value >= 0 and value < math.huge then return value end
  return nil, "a number of seconds, at least 0"
end

-- One of these words.
function fields.one_of(...)
  local words, known = { ... }, {}
  for _, word in ipairs(words) do known[word] = true end
  return function(value)
    if known[value] then return value end
    return nil, (#words > 1 and table.concat(words, ", ", 1, #words - 1) .. " or " or "") .. words[#words]
  end
end

function kinds.hours(value)
  if type(value) == "number" and value > 0 and value < math.huge then return value end
  return nil, "a number of hours, more than 0"
end

-- An array of strings with at least one item.
function kinds.words(value)
  local expected = "a list of strings, such as { \"make\", \"gpt\" }"
  if type(value) ~= "table" or rawlen(value) == 0 then return nil, expected end
  local list = {}
  for i = 1, rawlen(value) do
    local word = rawget(value, i)
    if type(word) == "number" then word = fields.number(word) end
    if type(word) ~= "string" then
      return nil, ("%s; item %d is %s"):format(expected, i, fields.show(word))
    end
    if word:find("\0", 1, true) then return nil, expected .. " without NULs" end
    list[i] = word
  end
  for key in next, value do
    if math.type(key) ~= "integer" or key < 1 or key > #list then
      return nil, expected .. ("; %s is no place in a list"):format(fields.show(key))
    end
  end
  return list
end

kinds["function"] = function(value)
  if type(value) == "function" then return value end
  return nil, "a function"
end

-- A schema is { name = rule }, and a rule is
--   kind       "positive", or a function as those above; or instead
--   schema     of the fields of a table; `example` is such a table
--   default    what is kept where nothing is given
--   required   what is missing then, in words
--   help       what it means, one line (reference.lua prints it)
--   otherwise  what holds where nothing is given and others decide, in words

local function check_of(rule)
  return type(rule.kind) == "function" and rule.kind or kinds[rule.kind]
end

-- What a rule expects, in the words of its error.
function fields.expected(rule)
  if rule.schema then return "a table" .. (rule.example and ", as " .. rule.example or "") end
  return (select(2, check_of(rule)(nil)))
end

-- Check `given` by `schema`. where = { box, at = {display, line}, path = "launch" or nil }.
function fields.check(where, given, schema)
  local box, at, prefix = where.box, where.at, where.path and where.path .. "." or ""
  if type(given) ~= "table" then
    box:blame(at, where.path, "expected a table, got %s", fields.show(given))
  end
  local names, result = fields.sorted(schema), {}
  for _, key in ipairs(fields.sorted(given)) do
    if type(key) ~= "string" or not schema[key] then
      box:blame(at, prefix .. tostring(key), "there is no such key%s; expected one of %s"
        .. " (`pioche help recipe%s`)",
        errors.suggestion(tostring(key), names):gsub(";", ",", 1), table.concat(names, ", "),
        where.path and " " .. where.path or "")
    end
  end
  for _, name in ipairs(names) do
    local rule, value = schema[name], rawget(given, name)
    if value == nil then
      if rule.required then
        box:blame(at, where.path, "%s is missing: expected %s", name, rule.required)
      end
      result[name] = rule.default
    else
      local kept, expected
      if not rule.schema then
        kept, expected = check_of(rule)(value)
      elseif type(value) == "table" then
        kept = fields.check({ box = box, at = at, path = prefix .. name }, value, rule.schema)
      else
        expected = fields.expected(rule)
      end
      if kept == nil then
        -- Where the check says which part of a table is wrong, that is the value.
        local says_part = type(value) == "table" and expected:find("; ", 1, true)
        box:blame(at, prefix .. name, "expected %s%s", expected,
          says_part and "" or ", got " .. fields.show(value))
      end
      result[name] = kept
    end
  end
  return result
end

return fields
