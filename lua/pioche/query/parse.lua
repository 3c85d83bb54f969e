-- query/parse.lua: a query's text to its tree, by recursive descent. Names are
-- not looked up here: query/resolve.lua does that.
--
--   query  = [ filter ] [ "sort" "by" key { "," key } ] [ "limit" NUMBER ]
--   filter = both { "or" both }
--   both   = one { "and" one }
--   one    = "not" one | "(" filter ")" | "has" "(" NAME ")"
--          | NAME ( = != < <= > >= ~ !~ ) VALUE | NAME [ "not" ] "in" "(" VALUE { "," VALUE } ")"
--   key    = NAME [ "asc" | "desc" ]
--
-- A node of the tree is { op, ... }: "and" and "or" with { items }, "not" with
-- { item }, "has" with { name }, "compare" with { name, relation, values }, where
-- `in` is the relation "=" with several values and `not in` is "!=".
local lex = require "pioche.query.lex"
local errors = require "pioche.errors"

local parse = {}

local depth_max = 50          -- of brackets and `not`
local comparisons_max = 200
local values_max = 1000

local relations = { ["="] = true, ["!="] = true, ["<"] = true, ["<="] = true, [">"] = true,
  [">="] = true, ["~"] = true, ["!~"] = true }
local keywords = { "and", "or", "not", "in", "has", "sort", "limit" }

local parser = {}
parser.__index = parser

function parser:peek(ahead)
  return self.tokens[math.min(self.at + (ahead or 0), #self.tokens)]
end

function parser:next()
  local token = self:peek()
  self.at = math.min(self.at + 1, #self.tokens)
  return token
end

function parser:fail(token, format, ...)
  lex.fail(self.text, token.first, token.last, format, ...)
end

-- What stands there, for a message.
local function shown(token)
  return token.kind == "end" and "the end" or "'" .. token.text .. "'"
end

-- The bare word that a token is, in lower case; nil where it is none or quoted.
local function bare_word(token)
  if token.kind ~= "word" or #token.parts > 1 or token.parts[1].quoted then return nil end
  return token.text:lower()
end

function parser:is(word, ahead)
  return bare_word(self:peek(ahead)) == word
end

function parser:expect(kind, what)
  local token = self:next()
  if token.kind ~= kind then self:fail(token, "expected %s, got %s", what, shown(token)) end
  return token
end

function parser:name()
  local token = self:next()
  if token.kind ~= "word" then
    self:fail(token, "expected a name (of a parameter, a metric, ...), got %s", shown(token))
  end
  local word = bare_word(token)
  for _, keyword in ipairs(keywords) do
    if word == keyword and not relations[self:peek().kind] then
      self:fail(token, "expected a name, got the word '%s'; quote it where it is one", token.text)
    end
  end
  return token
end

function parser:value()
  local token = self:next()
  if token.kind ~= "word" then
    self:fail(token, "expected a value, got %s; a text with odd characters is quoted", shown(token))
  elseif #token.parts > 1 then
    self:fail(token, "a quote inside a value: quote all of it")
  end
  self.values = self.values + 1
  if self.values > values_max then self:fail(token, "at most %d values in a query", values_max) end
  local part = token.parts[1]
  return { text = part.text, quoted = part.quoted, first = token.first, last = token.last }
end

function parser:list()
  self:expect("(", "( and values")
  local values = { self:value() }
  while self:peek().kind == "," do
    self:next()
    values[#values + 1] = self:value()
  end
  self:expect(")", "',' or ')'")
  return values
end

function parser:comparison()
  local name = self:name()
  self.comparisons = self.comparisons + 1
  if self.comparisons > comparisons_max then
    self:fail(name, "at most %d comparisons in a query", comparisons_max)
  end
  local token = self:peek()
  if relations[token.kind] then
    self:next()
    return { op = "compare", name = name, relation = token.kind, values = { self:value() },
      operator = token }
  end
  local relation = "="
  if self:is("not") and self:is("in", 1) then
    self:next()
    relation = "!="
  end
  if self:is("in") then
    self:next()
    return { op = "compare", name = name, relation = relation, values = self:list(),
      operator = token }
  end
  local word = bare_word(name)
  local near = errors.nearest(word or "", { "sort", "limit" })
  self:fail(token, "expected =, !=, <, <=, >, >=, ~, !~ or `in` after %s, got %s%s", shown(name),
    shown(token), token.kind == "end" and not near and "; has(" .. name.text .. ") asks if it is there"
    or near and "; did you mean `" .. near .. "`?" or "")
end

function parser:one(depth)
  local token = self:peek()
  if depth > depth_max then self:fail(token, "nested deeper than %d", depth_max) end
  if token.kind == "(" then
    self:next()
    local node = self:either(depth + 1)
    self:expect(")", "and, or, or the ')' of this bracket")
    return node
  elseif self:is("not") and not relations[self:peek(1).kind] then
    self:next()
    return { op = "not", item = self:one(depth + 1) }
  elseif self:is("has") and self:peek(1).kind == "(" then
    self:next()
    self:next()
    local name = self:name()
    self:expect(")", "')' after the name")
    self.comparisons = self.comparisons + 1
    return { op = "has", name = name }
  end
  return self:comparison()
end

function parser:joined(word, depth, part)
  local items = { part(self, depth) }
  while self:is(word) do
    self:next()
    items[#items + 1] = part(self, depth)
  end
  return #items == 1 and items[1] or { op = word, items = items }
end

function parser:both(depth)
  return self:joined("and", depth, self.one)
end

function parser:either(depth)
  return self:joined("or", depth, self.both)
end

function parser:sort_keys()
  local keys = {}
  repeat
    if #keys > 0 then self:next() end
    local key = { name = self:name(), descending = false }
    if self:is("desc") or self:is("asc") then key.descending = bare_word(self:next()) == "desc" end
    keys[#keys + 1] = key
    if #keys > 16 then self:fail(key.name, "at most 16 names to sort by") end
  until self:peek().kind ~= ","
  return keys
end

function parser:limit()
  local token = self:next()
  local limit = token.kind == "word" and token.text:match("^%d+$") and math.tointeger(tonumber(token.text))
  if not limit then self:fail(token, "expected how many, as in `limit 20`, got %s", shown(token)) end
  return limit
end

-- { filter, sort, limit }, each nil where it is not said. Raises with a caret.
function parse.query(text)
  local p = setmetatable({ text = text, tokens = lex.tokens(text), at = 1, comparisons = 0,
    values = 0 }, parser)
  local tree = { text = text }
  local function starts(word)
    return p:is(word) and not relations[p:peek(1).kind]
  end
  if not (p:peek().kind == "end" or starts("sort") or starts("limit")) then
    tree.filter = p:either(1)
  end
  if starts("sort") then
    p:next()
    if not p:is("by") then p:fail(p:peek(), "expected `by` after `sort`, got %s", shown(p:peek())) end
    p:next()
    tree.sort = p:sort_keys()
  end
  if starts("limit") then
    p:next()
    tree.limit = p:limit()
  end
  local rest = p:peek()
  if rest.kind ~= "end" then
    p:fail(rest, "expected %s, got %s", tree.limit and p:is("sort") and "`sort by` before `limit`"
      or tree.limit and "the end"
      or tree.sort and "asc, desc, ',', `limit` or the end"
      or "and, or, `sort by`, `limit` or the end", shown(rest))
  end
  return tree
end

-- The names of --sort: the part of a query behind `sort by`.
function parse.sort(text)
  local p = setmetatable({ text = text, tokens = lex.tokens(text), at = 1 }, parser)
  local keys = p:sort_keys()
  if p:peek().kind ~= "end" then
    p:fail(p:peek(), "expected asc, desc, ',' or the end, got %s", shown(p:peek()))
  end
  return { text = text, sort = keys }
end

-- A name alone, as an argument gives it.
function parse.name(text)
  local p = setmetatable({ text = text, tokens = lex.tokens(text), at = 1 }, parser)
  local name = p:name()
  if p:peek().kind ~= "end" then
    p:fail(p:peek(), "expected one name, got %s; quote what holds odd characters", shown(p:peek()))
  end
  return name
end

return parse
