-- sandbox.lua: where recipe code runs.
--
-- A recipe sees an allow list of globals, frozen; `pairs` and `next` walk in
-- sorted order, `table.sort` is stable, nothing shows an address, and all its
-- code runs in coroutines whose instructions are counted. So the same recipe
-- makes the same plan in every process. Trusted code calls into it only by
-- box:call and box:try.
local core = require "pioche.core.state"
local sweep = require "pioche.core.sweep"
local sys = require "pioche.core.sys"
local errors = require "pioche.errors"
local source = require "pioche.source"

local sandbox = {}
local box_methods = {}
box_methods.__index = box_methods

sandbox.budget = 50000000

local function grouped(n)
  local text = tostring(n):reverse():gsub("(%d%d%d)", "%1,"):reverse()
  return (text:gsub("^,", ""))
end

-- ---- what recipe code may use -----------------------------------------------

local key_rank = { number = 1, string = 2, boolean = 3 }

local function key_less(a, b)
  local ta, tb = type(a), type(b)
  if ta ~= tb then return key_rank[ta] < key_rank[tb] end
  if ta == "boolean" then return not a and b end
  return a < b
end

-- Keys in the one order that is the same in each process; `level` blames the caller.
local function sorted_keys(t, what, level)
  local keys, n = {}, 0
  for key in next, t do
    if not key_rank[type(key)] then
      error(("%s: a key that is a %s has no order that is the same in each process; "
        .. "use strings or numbers"):format(what, type(key)), level + 1)
    end
    n = n + 1
    keys[n] = key
  end
  table.sort(keys, key_less)
  return keys
end
sandbox.key_less = key_less

local function sorted_pairs(t)
  local meta = debug.getmetatable(t)
  if type(meta) == "table" and meta.__pairs then return meta.__pairs(t) end
  if type(t) ~= "table" then
    error("pairs: expected a table, got " .. type(t), 2)
  end
  local keys, i = sorted_keys(t, "pairs", 2), 0
  return function()
    local value
    repeat
      i = i + 1
      if keys[i] == nil then return nil end
      value = rawget(t, keys[i])
    until value ~= nil
    return keys[i], value
  end
end

local function sorted_next(t, after)
  if type(t) ~= "table" then error("next: expected a table, got " .. type(t), 2) end
  local best
  for key in next, t do
    if not key_rank[type(key)] then sorted_keys(t, "next", 2) end
    if (after == nil or key_less(after, key)) and (best == nil or key_less(key, best)) then
      best = key
    end
  end
  if best == nil then return nil end
  return best, t[best]
end

-- Merge sort: stable, so equal elements keep their order whatever the machine
-- (stock Lua picks pivots by the clock for large arrays).
local function stable_sort(t, less)
  if type(t) ~= "table" then error("table.sort: expected a table, got " .. type(t), 2) end
  less = less or function(a, b) return a < b end
  local n, from, to = #t, {}, {}
  for i = 1, n do from[i] = t[i] end
  local width = 1
  while width < n do
    for low = 1, n, 2 * width do
      local middle, high = math.min(low + width, n + 1), math.min(low + 2 * width, n + 1)
      local i, j = low, middle
      for k = low, high - 1 do
        if i < middle and (j >= high or not less(from[j], from[i])) then
          to[k], i = from[i], i + 1
        else
          to[k], j = from[j], j + 1
        end
      end
    end
    from, to, width = to, from, 2 * width
  end
  for i = 1, n do t[i] = from[i] end
end

local function guarded_setmetatable(t, meta)
  if type(t) ~= "table" then error("setmetatable: expected a table, got " .. type(t), 2) end
  if type(meta) == "table" then
    for _, name in ipairs { "__gc", "__mode", "__metatable" } do
      if rawget(meta, name) ~= nil then
        error("setmetatable: " .. name .. " is not available in a recipe", 2)
      end
    end
  end
  return setmetatable(t, meta)
end

local function guarded_getmetatable(t)
  if type(t) ~= "table" then return nil end
  return getmetatable(t)
end

local why = "a recipe is a deterministic program: the same file makes the same plan on every "
  .. "machine, at every time"

local function refuse(name, hint)
  return name .. " is not available in a recipe: " .. why .. (hint and "; " .. hint or "")
end

-- Tables of stock Lua that are not there; any use of a field explains itself.
local missing_tables = {
  os = "environment and time come from the program that runs", io = "files are `inputs` of a program",
  debug = false, package = false, coroutine = false,
}
local missing_functions = {
  load = false, loadstring = false, loadfile = false, dofile = "use require",
  collectgarbage = false, print = "`pioche plan` shows what the recipe means; lab:note(text) keeps a line",
  rawget = false, rawset = false, rawequal = false, rawlen = false, xpcall = "use pcall",
  _G = "globals are a fixed list; use local",
}

-- A read-only view of `fields`; unknown names explain themselves.
local function frozen(name, fields, missing)
  local names = {}
  for key in next, fields do names[#names + 1] = key end
  table.sort(names)
  return setmetatable({}, {
    __index = function(_, key)
      local value = fields[key]
      if value ~= nil then return value end
      local hint = missing and missing[key]
      if hint ~= nil then error(refuse(name .. "." .. tostring(key), hint or nil), 2) end
      local near = errors.suggestion(tostring(key), names)
      error(("%s.%s: there is no such thing%s"):format(name, tostring(key),
        near ~= "" and near or "; there are " .. table.concat(names, ", ")), 2)
    end,
    __newindex = function(_, key)
      error(("%s.%s: %s cannot be changed"):format(name, tostring(key), name), 2)
    end,
    __pairs = function()
      local i = 0
      return function()
        i = i + 1
        if names[i] then return names[i], fields[names[i]] end
      end
    end,
    __metatable = false,
  })
end
sandbox.frozen = frozen

local function absent(name, hint)
  local function explain(_, key)
    error(refuse(name .. "." .. tostring(key), hint or nil), 2)
  end
  return setmetatable({}, { __index = explain, __newindex = explain, __metatable = false })
end

local function copy(t, without)
  local result = {}
  for key, value in next, t do
    if not without[key] then result[key] = value end
  end
  return result
end

local seeded = "ask for pioche.uniform or pioche.int in the space: those are drawn from the seed"
local safe_string = frozen("string", copy(string, {}), { dump = false })
-- Methods of strings ("x"):rep(3) go the same way; the stock table stays ours.
getmetatable("").__index = safe_string
getmetatable("").__metatable = false

local safe_math = copy(math, { random = true, randomseed = true })
safe_math.exp = sweep.exp
safe_math.log = function(x, base)
  if base == nil then return sweep.log(x) end
  return sweep.log(x) / sweep.log(base)
end

local safe_table = copy(table, {})
safe_table.sort = stable_sort

local allowed = {
  assert = assert, error = error, ipairs = ipairs, next = sorted_next, pairs = sorted_pairs,
  pcall = pcall, select = select, tonumber = tonumber, tostring = tostring, type = type,
  setmetatable = guarded_setmetatable, getmetatable = guarded_getmetatable,
  math = frozen("math", safe_math, { random = seeded, randomseed = seeded }),
  string = safe_string, table = frozen("table", safe_table), utf8 = frozen("utf8", copy(utf8, {})),
  _VERSION = _VERSION,
}

local function environment(require_function)
  local fields = copy(allowed, {})
  fields.require = require_function
  for name, hint in next, missing_tables do fields[name] = absent(name, hint) end
  local names = sorted_keys(copy(allowed, {}), "pairs", 1)
  names[#names + 1] = "require"
  return setmetatable({}, {
    __index = function(_, name)
      local value = fields[name]
      if value ~= nil then return value end
      local hint = missing_functions[name]
      if hint ~= nil then error(refuse(tostring(name), hint or nil), 2) end
      error(("'%s' is not defined%s"):format(tostring(name),
        errors.suggestion(tostring(name), names)), 2)
    end,
    __newindex = function(_, name)
      error(("'%s' would be a global: write `local %s`"):format(tostring(name), tostring(name)), 2)
    end,
    __metatable = false,
  })
end

-- ---- the box ---------------------------------------------------------------------

-- A box for the recipe at `path`; `api(box)` makes what require "pioche" gives.
function sandbox.new(path, api, budget)
  -- The name in messages: Lua cuts chunk names at 59 characters.
  local display = #path <= 56 and path or path:match("[^/]*$"):sub(-56)
  local box = setmetatable({
    path = path, display = display, dir = path:match("^(.*)/[^/]*$") or ".",
    left = budget or sandbox.budget, budget = budget or sandbox.budget,
    files = {}, sources = {}, loaded = {},
  }, box_methods)
  box.api = frozen("pioche", api(box))
  box.env = environment(function(name) return box:require(name) end)
  return box
end

local function read_recipe(path)
  local text, message, code = sys.read_file(path)
  if not text then
    if sys.type(path) == nil then errors.raise("not_found", "%s: there is no such recipe", path) end
    errors.raise(code or "io", "%s", message)
  end
  return text
end

-- Compile a file of the recipe; its text becomes part of the record.
function box_methods:compile(path, display)
  local text = read_recipe(path)
  if text:sub(1, 1) == "\27" then
    errors.raise("invalid", "%s: compiled Lua is no recipe: expected source text", display)
  end
  local chunk, message = load(text:gsub("^#[^\n]*", "", 1), "@" .. display, "t", self.env)
  if not chunk then errors.raise("invalid", "%s", message) end
  self.files[display] = text
  self.sources[display] = source.scan(text)
  local twice = self.sources[display].duplicates[1]
  if twice then
    errors.raise("invalid", "%s:%d: %s: given twice in one table (first in line %d); "
      .. "Lua would keep only one of them", display, twice.line, twice.path, twice.first)
  end
  return chunk
end

-- Raise at the line where recipe code is now.
function box_methods:complain(format, ...)
  local display, line = self:here()
  errors.raise("invalid", "%s:%d: %s", display or self.display, line or 1, format:format(...))
end

-- require inside a recipe: "pioche", or a file beside the recipe.
function box_methods:require(name)
  if name == "pioche" then return self.api end
  if type(name) ~= "string" or not name:match("^[%w_][%w_%-%.]*$") or name:find("..", 1, true) then
    self:complain("require: expected \"pioche\" or the name of a file beside the recipe, got %s",
      type(name) == "string" and ("%q"):format(name) or type(name))
  end
  local known = self.loaded[name]
  if known then
    if known.busy then self:complain("require: %s requires itself", name) end
    return known.value
  end
  local file = name:gsub("%.", "/") .. ".lua"
  local path = self.dir .. "/" .. file
  if sys.type(path) ~= "file" then
    self:complain("require: there is no %s beside the recipe, and nothing else can be required", file)
  end
  local entry = { busy = true }
  self.loaded[name] = entry
  local folder = self.display:match("^(.*/)[^/]*$") or ""
  local chunk = self:compile(path, #folder + #file <= 56 and folder .. file or file)
  local value = chunk()
  entry.busy, entry.value = nil, value == nil and true or value
  return entry.value
end

-- What recipe code raised, as a failure: its own message with file and line.
function box_methods:failure(status, value, traceback)
  if errors.is(value) then return value end
  local text = tostring(value)
  if status == "budget" then
    text = text:gsub("its budget of instructions", grouped(self.budget) .. " instructions", 1)
  elseif text:find("^lua/pioche/") then
    error(text .. "\n" .. traceback, 0)
  end
  if not text:find("^[^\n]*:%d+: ") then text = self.display .. ": " .. text end
  return errors.new("invalid", text)
end

local function settle(box, thread, handler, left, status, ...)
  box.left = left
  if status == "yield" and handler then
    return settle(box, thread, handler, core.resume(thread, box.left, handler(...)))
  elseif status == "return" then
    return true, ...
  end
  return false, box:failure(status, ...)
end

-- Call recipe code: true and its results, or false and a failure. `handler`
-- answers what the code yields (requests of a lab).
function box_methods:drive(handler, fn, ...)
  local thread = coroutine.create(fn)
  return settle(self, thread, handler, core.resume(thread, self.left, ...))
end

function box_methods:try(fn, ...)
  return self:drive(nil, fn, ...)
end

local function results_or_raise(ok, first, ...)
  if not ok then error(first, 0) end
  return first, ...
end

function box_methods:call(fn, ...)
  return results_or_raise(self:try(fn, ...))
end

-- "recipes/x.lua", 12: where recipe code is now; nil outside of it.
function box_methods.here(_)
  local display, line = core.position():match("^(.*):(%d+): $")
  return display, math.tointeger(tonumber(line))
end

-- Raise a failure at the key `path` ("space.lr") of the table that was built at
-- `at` = { display, line }: there the line of the key, else that of the call.
function box_methods:blame(at, path, format, ...)
  local line = at.line
  local keys = self.sources[at.display]
  if keys and path then line = source.line(keys, path, at.line, at.call) or line end
  errors.raise("invalid", "%s:%d: %s%s", at.display or self.display, line or 1,
    path and path .. ": " or "", format:format(...))
end

return sandbox
