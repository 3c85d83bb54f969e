-- tap.lua: what the Lua tests share: named tests, and comparisons that show
-- both sides. `dofile` it, define tests, end with tap.done().
local tap = { count = 0, failed = 0 }

local function show(value)
  if type(value) == "string" then return string.format("%q", value) end
  if type(value) ~= "table" then return tostring(value) end
  local keys, parts = {}, {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for i, key in ipairs(keys) do parts[i] = tostring(key) .. " = " .. show(value[key]) end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b and math.type(a) == math.type(b)
  end
  for key, value in pairs(a) do
    if not same(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

-- Deep equality; integers and floats differ.
function tap.equal(actual, expected, what)
  if same(actual, expected) then return end
  error(string.format("%s\n  expected: %s\n    actual: %s", what or "not equal", show(expected),
    show(actual)), 2)
end

function tap.contains(text, part)
  if not text:find(part, 1, true) then
    error(string.format("%q is not in:\n%s", part, text), 2)
  end
end

function tap.lacks(text, part)
  if text:find(part, 1, true) then error(string.format("%q is in:\n%s", part, text), 2) end
end

-- The message that `fn` raises; fails when it raises nothing.
function tap.raises(fn, ...)
  local ok, raised = pcall(fn, ...)
  if ok then error("nothing was raised", 2) end
  return tostring(raised), raised
end

function tap.test(name, fn)
  tap.count = tap.count + 1
  local ok, message = xpcall(fn, function(e) return debug.traceback(tostring(e), 2) end)
  if not ok then
    tap.failed = tap.failed + 1
    print("# " .. message:gsub("\n", "\n# "))
  end
  print(string.format("%s %d - %s", ok and "ok" or "not ok", tap.count, name))
end

function tap.done()
  print("1.." .. tap.count)
  os.exit(tap.failed == 0 and 0 or 1, true)
end

return tap
