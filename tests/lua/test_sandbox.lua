-- The sandbox: what recipe code cannot do, and that it does the same in each process.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local sys = require "pioche.core.sys"
local errors = require "pioche.errors"
local sandbox = require "pioche.sandbox"
local pioche = require "pioche"
local test, equal, contains = tap.test, tap.equal, tap.contains

local dir = (os.getenv("TMPDIR") or "/tmp") .. "/test-sandbox-" .. sys.pid()
assert(sys.mkdirs(dir))

local function box_of(text, budget)
  local path = dir .. "/r.lua"
  assert(sys.write_file(path, text))
  local box = sandbox.new(path, pioche.api, budget)
  box.display = "r.lua"
  return box
end

-- Result of a recipe's text.
local function run(text, budget)
  local box = box_of(text, budget)
  return box:call(box:compile(box.path, "r.lua"))
end

local function fails(text, budget)
  local message, raised = tap.raises(run, text, budget)
  assert(errors.is(raised), "not a failure of ours: " .. message)
  equal(raised.code, "invalid")
  return message
end

test("what reaches outside is refused with its line and a reason", function()
  for _, name in ipairs { "os.execute", "os.time", "io.open", "debug.getinfo", "package.loaded",
    "coroutine.create" } do
    local message = fails("\nlocal x = " .. name .. "\n")
    contains(message, "r.lua:2: " .. name .. " is not available in a recipe: a recipe is a "
      .. "deterministic program")
  end
  for _, name in ipairs { "load", "dofile", "loadfile", "collectgarbage", "print", "rawset", "_G" } do
    contains(fails("\n\nlocal x = " .. name), "r.lua:3: " .. name .. " is not available in a recipe")
  end
  contains(fails "local x = math.random()", "math.random is not available in a recipe")
  contains(fails "local x = string.dump", "string.dump is not available")
  contains(fails 'local x = ("x").dump', "string.dump is not available")
end)

test("globals: none can be made, unknown ones are named", function()
  contains(fails "\nx = 1", "r.lua:2: 'x' would be a global: write `local x`")
  contains(fails "function f() end", "'f' would be a global")
  contains(fails "local y = pars()", "r.lua:1: 'pars' is not defined; did you mean 'pairs'?")
end)

test("what is there is frozen", function()
  contains(fails 'string.rep = nil', "string cannot be changed")
  contains(fails 'math.pi = 3', "math cannot be changed")
  contains(fails 'require("pioche").sweep = nil', "pioche cannot be changed")
  contains(fails 'getmetatable(string).__index = 1', "attempt to index")
  equal(run 'return getmetatable("")', nil)
  equal(run 'return getmetatable(math)', false)
  contains(fails 'setmetatable({}, { __gc = function() end })', "__gc is not available")
  contains(fails 'setmetatable({}, { __mode = "k" })', "__mode is not available")
  equal(run 'local C = {} C.__index = C function C.f() return 4 end return setmetatable({}, C).f()', 4)
end)

test("a handle shows nothing of what is behind it", function()
  equal(run [[local p = require "pioche"
    local g = p.minimize "loss"
    return tostring(g) .. tostring(g.key) .. tostring(getmetatable(g))]], "pioche.goalnilfalse")
  contains(fails [[local p = require "pioche"
    p.minimize("loss").key = "x"]], "r.lua:2: a goal cannot be changed")
end)

test("no address shows", function()
  equal(run 'return tostring({}) .. tostring(pairs) .. ("%s"):format({})', "tablefunctiontable")
  contains(fails 'return ("%p"):format({})', "'%p' would show an address")
  contains(fails 'return ("%5.3p"):format({})', "'%p' would show an address")
  equal(run 'return ("%d%% %s %q %5.2f"):format(3, true, "x", 1.5)', '3% true "x"  1.50')
  equal(run 'return tostring(setmetatable({}, { __tostring = function() return "mine" end }))', "mine")
end)

test("pairs and next walk in sorted order", function()
  equal(run [[local t, out = { b = 1, a = 2, [10] = 3, [2] = 4, [true] = 5, [1.5] = 6 }, {}
    for k in pairs(t) do out[#out + 1] = tostring(k) end
    return table.concat(out, " ")]], "1.5 2 10 a b true")
  equal(run [[local t, out, k = { z = 1, y = 2, x = 3 }, {}, nil
    repeat k = next(t, k) out[#out + 1] = k until k == nil
    return table.concat(out)]], "xyz")
  contains(fails "local t = {} t[{}] = 1 for k in pairs(t) do end", "has no order that is the same")
  contains(fails "pairs(nil)", "pairs: expected a table, got nil")
  equal(run "local t = {a=1,b=2,c=3} for k in pairs(t) do t[k] = nil end return next(t)", nil)
end)

test("table.sort is stable", function()
  equal(run [[local t = {}
    for i = 1, 500 do t[i] = { key = i % 7, i = i } end
    table.sort(t, function(a, b) return a.key < b.key end)
    for i = 2, #t do
      if t[i - 1].key > t[i].key then return "unsorted" end
      if t[i - 1].key == t[i].key and t[i - 1].i > t[i].i then return "unstable" end
    end
    return "good"]], "good")
  equal(run 'local t = { 3, 1, 2 } table.sort(t) return table.concat(t)', "123")
end)

test("an endless loop ends at the budget, also inside pcall", function()
  local message = fails("local i = 0\nwhile true do\n  i = i + 1\nend", 100000)
  assert(message:find("^r%.lua:[23]: still planning after 100,000 instructions: an endless loop%?"),
    message)
  contains(fails("while true do\n  pcall(function() while true do end end)\nend", 100000),
    "still planning after 100,000 instructions")
  contains(fails("local function f() return pcall(f) end\nwhile true do f() end", 100000),
    "still planning")
  contains(fails('local t = setmetatable({}, { __index = function() while true do end end })\n'
    .. 'pcall(function() return t.x end)', 100000), "still planning")
end)

test("one call cannot eat the memory of the machine", function()
  contains(fails '\nlocal s = ("x"):rep(1e12 // 1 | 0)', "r.lua:2: string.rep: the result would be")
  contains(fails 'local s = ("x"):rep(2^40 | 0, ",")', "longer than 64 MiB")
  contains(fails('while true do local s = ("x"):rep(60000000) end', 10000000), "still planning")
end)

test("errors of the recipe keep their line", function()
  contains(fails "local x = nil\nlocal y = x.z", "r.lua:2: attempt to index a nil value (local 'x')")
  contains(fails 'error "mine"', "r.lua:1: mine")
  contains(fails "local x = = 3", "r.lua:1: unexpected symbol near '='")
  contains(fails "local function f() return f() + 1 end f()", "stack overflow")
end)

test("compiled code is no recipe", function()
  contains(fails "\27Lua", "r.lua: compiled Lua is no recipe")
end)

test("require finds files beside the recipe, in the same sandbox, and keeps their text", function()
  assert(sys.write_file(dir .. "/lib.lua", "local n = 7\nreturn { n = n }"))
  assert(sys.mkdirs(dir .. "/sub"))
  assert(sys.write_file(dir .. "/sub/x.lua", "return os.time()"))
  local box = box_of 'return require("lib").n + require("lib").n'
  equal(box:call(box:compile(box.path, "r.lua")), 14)
  equal(box.files["lib.lua"], "local n = 7\nreturn { n = n }")
  contains(fails 'require "sub.x"', "sub/x.lua:1: os.time is not available")
  contains(fails 'require "nothing"', "r.lua:1: require: there is no nothing.lua beside the recipe")
  contains(fails 'require "../../etc/passwd"', "the name of a file beside the recipe")
  contains(fails 'require "..lib"', "the name of a file beside the recipe")
  contains(fails 'require "pioche.core.sys"', "there is no pioche/core/sys.lua")
  assert(sys.write_file(dir .. "/a.lua", 'return require "b"'))
  assert(sys.write_file(dir .. "/b.lua", 'return require "a"'))
  contains(fails 'require "a"', "requires itself")
end)

test("a key given twice in one table is refused", function()
  contains(fails "local t = {\n  a = 1,\n  b = { a = 2 },\n  [\"a\"] = 3,\n}", "r.lua:4: a: given twice")
  equal(run "local t = { a = 1, f = function() local a = 2 return { a = a } end } return t.a", 1)
end)

assert(sys.remove_tree(dir))
tap.done()
