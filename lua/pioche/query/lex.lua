-- query/lex.lua: a query's text as tokens, and the one way in which every part
-- of the language complains: the query echoed, a caret under the place.
--
-- A token is { kind, text, first, last }: kind "word", an operator or bracket as
-- itself, or "end"; first and last are its bytes. There is no arithmetic, so
-- that `val/loss`, `grad-norm` and `-1e-3` are words like any other. A word is
-- whatever stands together: its parts, { text, quoted }, may be quoted or bare,
-- as in metric."odd key".min.
local errors = require "pioche.errors"
local term = require "pioche.term"

local lex = {}

lex.bytes_max = 10000

local shown_max = 100        -- columns of a query in a message

-- The query around bytes first..last, and a line of carets under them.
local function picture(text, first, last)
  local before = term.clean(text:sub(1, first - 1))
  local place = term.clean(text:sub(first, last))
  local line, at = before .. place .. term.clean(text:sub(last + 1)), term.width(before)
  if term.width(line) > shown_max then
    local tail = {}
    for _, code in utf8.codes(before, true) do tail[#tail + 1] = utf8.char(code) end
    before = table.concat(tail, "", math.max(1, #tail - shown_max // 2 + 1))
    if at > term.width(before) then before = "…" .. before end
    at = term.width(before)
    line = term.cut(before .. place .. term.clean(text:sub(last + 1)), shown_max)
  end
  local carets = math.max(1, math.min(term.width(place), term.width(line) - at))
  return "  " .. line .. "\n  " .. (" "):rep(at) .. ("^"):rep(carets)
end

-- Raise: the message, then the picture.
function lex.fail(text, first, last, format, ...)
  errors.raise("invalid", "%s\n%s", string.format(format, ...), picture(text, first, last))
end

-- Bytes of words; the rest are brackets, operators or mistakes.
local bare = "[%w_./@:%%#+*?\x80-\xff-]"
local operators = { "<=", ">=", "!=", "!~", "==", "<>", "=", "<", ">", "~" }
local spelled = { ["=="] = "=", ["<>"] = "!=" }
local advice = {
  ["&"] = "; write `and`", ["|"] = "; write `or`", ["!"] = "; write `not`, != or !~",
  ["["] = "; a list stands in ( )", ["`"] = "; quote with \" or '",
}
local escapes = { n = "\n", t = "\t", r = "\r" }

-- The quoted part that begins at `at`: its text, and where it ends.
local function quoted_part(text, at)
  local mark, parts, from = text:sub(at, at), {}, at + 1
  while true do
    local stop = text:find("[" .. mark .. "\\]", from)
    if not stop then lex.fail(text, at, at, "this quote has no end: expected another %s", mark) end
    parts[#parts + 1] = text:sub(from, stop - 1)
    if text:sub(stop, stop) == mark then return table.concat(parts), stop end
    local escaped = text:sub(stop + 1, stop + 1)
    parts[#parts + 1] = escapes[escaped] or escaped
    from = stop + 2
  end
end

-- The word that begins at `at`, its parts together.
local function word(text, at)
  local parts, from = {}, at
  while true do
    local mark = text:match("^[\"']", from)
    if mark then
      local part, stop = quoted_part(text, from)
      parts[#parts + 1] = { text = part, quoted = true }
      from = stop + 1
    else
      local run = text:match("^" .. bare .. "+", from)
      if not run then break end
      from = from + #run
      -- key@rank=371.min: the one sign of equality inside a word.
      local rank = run:match("@rank$") and text:match("^=%d" .. bare .. "*", from)
      if rank then
        run, from = run .. rank, from + #rank
      end
      parts[#parts + 1] = { text = run }
    end
  end
  return { kind = "word", parts = parts, text = text:sub(at, from - 1), first = at, last = from - 1 }
end

local function operator(text, at)
  for _, sign in ipairs(operators) do
    if text:sub(at, at + #sign - 1) == sign then
      return { kind = spelled[sign] or sign, text = sign, first = at, last = at + #sign - 1 }
    end
  end
  return nil
end

-- All tokens of a text, the last of kind "end".
function lex.tokens(text)
  if #text > lex.bytes_max then
    errors.raise("invalid", "a query of %d bytes: at most %d are taken", #text, lex.bytes_max)
  end
  local list, at = {}, 1
  while true do
    at = text:find("%S", at)
    if not at then break end
    local char = text:sub(at, at)
    local token = char:match("[(),]") and { kind = char, text = char, first = at, last = at }
      or (char:match("[\"']") or char:match(bare)) and word(text, at) or operator(text, at)
    if not token then
      lex.fail(text, at, at, "unexpected '%s'%s", term.clean(char), advice[char]
        or "; a name or a text that holds it is quoted")
    end
    list[#list + 1], at = token, token.last + 1
  end
  list[#list + 1] = { kind = "end", text = "", first = #text + 1, last = #text + 1 }
  return list
end

return lex
