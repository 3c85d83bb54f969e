-- source.lua: where in a recipe's text each key of its table constructors is.
--
-- Lua itself keeps no lines of table fields. One pass over the tokens gives
-- them, so that an error about `space.lr` can name its line, and finds keys
-- that are given twice, of which Lua would silently keep the last.
local source = {}

local block_open = { ["function"] = true, ["do"] = true, ["if"] = true, ["repeat"] = true }
local block_close = { ["end"] = true, ["until"] = true }

-- Next token from position i: kind ("name", "string", "symbol", "other"), its
-- text, the position after it, newlines before and in it.
local function token(text, i)
  local lines = 0
  local function skip(to)
    for _ in text:sub(i, to - 1):gmatch("\n") do lines = lines + 1 end
    i = to
  end
  while true do
    skip(text:match("^%s*()", i))
    if text:sub(i, i + 1) ~= "--" then break end
    local level = text:match("^%-%-%[(=*)%[", i)
    if level then
      local _, stop = text:find("]" .. level .. "]", i, true)
      skip((stop or #text) + 1)
    else
      skip(text:match("^[^\n]*()", i))
    end
  end
  local before = lines
  if i > #text then return nil end
  local name, after = text:match("^([%a_][%w_]*)()", i)
  if name then return "name", name, after, before, lines end
  local level = text:match("^%[(=*)%[", i)
  if level then
    local _, stop = text:find("]" .. level .. "]", i, true)
    skip((stop or #text) + 1)
    return "string", "", i, before, lines
  end
  local quote = text:match("^[\"']", i)
  if quote then
    local j = i + 1
    while j <= #text and text:sub(j, j) ~= quote do
      if text:sub(j, j) == "\\" then j = j + 1 end
      j = j + 1
    end
    local content = text:sub(i + 1, j - 1)
    skip(j + 1)
    return "string", content, i, before, lines
  end
  after = text:match("^%.?%d[%w%.]*()", i)
  if after then return "other", "0", after, before, lines end
  local two = text:sub(i, i + 1)
  if two == "==" or two == "~=" or two == "<=" or two == ">=" then
    return "symbol", two, i + 2, before, lines
  end
  return "symbol", text:sub(i, i), i + 1, before, lines
end

local function tokens(text)
  local list, i, line = {}, 1, 1
  while true do
    local kind, word, after, before, all = token(text, i)
    if not kind then return list end
    list[#list + 1] = { kind = kind, text = word, line = line + before }
    i, line = after, line + all
  end
end

-- If a field begins at list[i], its name and how many tokens up to the value.
local function key_at(list, i)
  local first, second = list[i], list[i + 1]
  if first.kind == "name" and second and second.text == "=" and second.kind == "symbol" then
    return first.text, 2
  end
  local third, fourth = list[i + 2], list[i + 3]
  if first.text == "[" and second and second.kind == "string" and third and third.text == "]"
    and fourth and fourth.text == "=" then
    return second.text, 4
  end
end

-- Tables of these calls begin their own paths wherever they stand.
local rooted = { program = true, sweep = true }

-- Scan a recipe: { keys = { {path, line, call} }, duplicates = { {path, line,
-- first} }, calls = { {name, line} } }. `call` is "sweep" for the table of
-- pioche.sweep { ... } and what is inside it.
function source.scan(text)
  local result = { keys = {}, duplicates = {}, calls = {} }
  local list, stack, i = tokens(text), {}, 1
  local function top() return stack[#stack] end
  local function base() -- path that a table opened here gets
    for depth = #stack, 1, -1 do
      local scope = stack[depth]
      if scope.kind == "block" then return "" end
      if scope.kind == "{" then return scope.key or scope.path, scope.call end
    end
    return ""
  end
  while list[i] do
    local t, scope, step = list[i], top(), 1
    if scope and scope.kind == "{" and scope.start then
      scope.start, scope.key = false, nil
      local name, length = key_at(list, i)
      if name then
        local path = scope.path == "" and name or scope.path .. "." .. name
        result.keys[#result.keys + 1] = { path = path, line = t.line, call = scope.call }
        if scope.seen[name] then
          table.insert(result.duplicates, { path = path, line = t.line, first = scope.seen[name] })
        end
        scope.seen[name], scope.key = t.line, path
        i = i + length
        goto continue
      end
    end
    if t.kind == "symbol" and t.text == "{" then
      local path, call = base()
      -- NAME { or NAME ({: the table's own function counts where it is no value of a field
      local back = list[i - 1] and list[i - 1].text == "(" and 2 or 1
      local name = list[i - back]
      if name and name.kind == "name" and (path == "" or rooted[name.text]) then
        path, call = "", name.text
        table.insert(result.calls, { name = call, line = name.line })
      end
      stack[#stack + 1] = { kind = "{", path = path, call = call, seen = {}, start = true }
    elseif t.kind == "symbol" and (t.text == "(" or t.text == "[") then
      stack[#stack + 1] = { kind = t.text }
    elseif t.kind == "symbol" and (t.text == "}" or t.text == ")" or t.text == "]") then
      stack[#stack] = nil
    elseif t.kind == "name" and block_open[t.text] then
      stack[#stack + 1] = { kind = "block" }
    elseif t.kind == "name" and block_close[t.text] then
      stack[#stack] = nil
    elseif t.kind == "symbol" and (t.text == "," or t.text == ";") and scope and scope.kind == "{" then
      scope.start = true
    end
    i = i + step
    ::continue::
  end
  return result
end

-- Line of the key `path` in the table of the call at line `from` (or after);
-- the key of an outer table when the text has none; nil when it has neither.
function source.line(scanned, path, from, call)
  local any
  for _, key in ipairs(scanned.keys) do
    if key.path == path and (not call or key.call == call) then
      if key.line >= (from or 1) then return key.line end
      any = any or key.line
    end
  end
  if any then return any end
  local shorter = path:match("^(.*)%.[^.]*$")
  return shorter and source.line(scanned, shorter, from, call)
end

-- Line of the last call of NAME { ... }.
function source.call_line(scanned, name)
  local line
  for _, call in ipairs(scanned and scanned.calls or {}) do
    if call.name == name then line = call.line end
  end
  return line
end

return source
