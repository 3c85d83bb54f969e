-- space.lua: the parameters of a sweep as data.
--
-- A space is compiled from a recipe's table into a list of parameters sorted
-- by full name. A conditional (one_of) is a parameter whose value is the
-- branch's name; the parameters of a branch carry the condition. So a space
-- can be counted, printed, hashed, overridden and walked before anything runs.
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local json = require "pioche.core.json"
local sweep = require "pioche.core.sweep"
local sys = require "pioche.core.sys"

local space = {}
local show = fields.show

-- ---- domains -------------------------------------------------------------------

local domain_meta = { __metatable = false, __name = "domain",
  __tostring = function(d) return d.kind end,
  __newindex = function() error("a domain cannot be changed", 2) end }

local function domain(kind, values)
  values.kind = kind
  return setmetatable(values, domain_meta)
end

local function is_domain(value)
  return type(value) == "table" and debug.getmetatable(value) == domain_meta
end

local function is_scalar(value)
  local t = type(value)
  return t == "string" or t == "boolean" or (t == "number" and value == value)
end

local function whole(value)
  if type(value) ~= "number" then return nil end
  return math.tointeger(value)
end

local exact_max = 1 << 53      -- whole numbers up to here are exact where samplers work with them

-- What is wrong with the ends of a range, or nil.
local function range_problem(kind, low, high)
  local integer, log = kind == "int" or kind == "log_int", kind:find("^log_") ~= nil
  local call = ("%s(%s, %s)"):format(kind, show(low), show(high))
  for name, value in next, { low = low == nil and 0 or low, high = high == nil and 0 or high } do
    if type(value) ~= "number" or value ~= value or math.abs(value) == math.huge then
      return ("%s: %s must be a finite number"):format(call, name)
    end
  end
  if low == nil or high == nil then return call .. ": expected two numbers, low and high" end
  if integer and not (whole(low) and whole(high)) then
    return call .. ": low and high must be whole numbers"
  elseif log and low <= 0 then
    return call .. ": low must be > 0, because the logarithm of " .. show(low) .. " is not a number"
  elseif low > high or (low == high and not integer) then
    return call .. ": low must be smaller than high"
  elseif integer and (low < -exact_max or high > exact_max) then
    return ("%s: expected numbers within %d and %d, beyond which a search cannot tell neighbours apart"):format(call,
      -exact_max, exact_max)
  elseif high - low == math.huge then
    return call .. ": high - low must be a finite number: expected a narrower range, or log_uniform"
  end
end

local function range(kind)
  return function(low, high)
    local problem = range_problem(kind, low, high)
    if not problem and (kind == "int" or kind == "log_int") then
      low, high = whole(low), whole(high)
    elseif not problem then
      low, high = low + 0.0, high + 0.0
    end
    return domain(kind, { low = low, high = high, problem = problem })
  end
end

space.uniform, space.log_uniform = range "uniform", range "log_uniform"
space.int, space.log_int = range "int", range "log_int"

local function list_problem(values)
  local what = "a list of choices"
  if rawlen(values) == 0 then
    return next(values) == nil and "an empty list has no choice: expected at least one value"
      or "a table with names is no list of choices: expected { 1, 2, 4 }, or pioche.one_of { ... }"
  end
  local seen = {}
  for i = 1, rawlen(values) do
    local value = rawget(values, i)
    if not is_scalar(value) then
      return ("item %d of %s is %s: expected a number, a string or a boolean"):format(i, what, show(value))
    end
    if seen[value] then return ("%s: the choice %s is there twice"):format(what, show(value)) end
    seen[value] = true
  end
  for key in next, values do
    if math.type(key) ~= "integer" or key < 1 or key > rawlen(values) then
      return ("%s has the key %s: expected a list only"):format(what, show(key))
    end
  end
end

function space.choice(values)
  if type(values) ~= "table" then
    return domain("choice", { problem = "choice: expected a list, got " .. show(values) })
  end
  local kept, problem = {}, list_problem(values)
  for i = 1, rawlen(values) do kept[i] = rawget(values, i) end
  return domain("choice", { values = kept, problem = problem })
end

function space.one_of(branches)
  if type(branches) ~= "table" or next(branches) == nil then
    return domain("one_of", { branches = {},
      problem = "one_of: expected a table of branches, such as { adamw = {}, sgd = {} }" })
  end
  return domain("one_of", { branches = branches })
end

-- A value of a space's table as a domain.
local function as_domain(value)
  if is_domain(value) then return value end
  if type(value) == "function" then return domain("derived", { fn = value }) end
  if type(value) == "table" then return space.choice(value) end
  if is_scalar(value) then return domain("fixed", { value = value }) end
  return domain("fixed", { problem = "expected a scalar, a list, a domain or a function, got " .. show(value) })
end

-- Number of values; nil when continuous.
local function cardinality(d)
  if d.kind == "choice" then return #d.values end
  if d.kind == "int" or d.kind == "log_int" then
    local n = d.high - d.low + 1
    return n > 0 and n or nil
  end
  if d.kind == "fixed" or d.kind == "derived" then return 1 end
end

-- The value of a range below which the part u of it lies, 0 <= u < 1.
local function at_part(d, u)
  if d.kind == "uniform" then
    local value = d.low + u * (d.high - d.low)
    return value < d.high and value or d.low
  end
  local integer = d.kind == "log_int"
  local low = sweep.log(integer and d.low - 0.5 or d.low)
  local high = sweep.log(integer and d.high + 0.5 or d.high)
  local value = sweep.exp(low + u * (high - low))
  if integer then value = math.floor(value + 0.5) end
  return math.max(d.low, math.min(d.high, value))
end

-- The value of a domain for the draw (seed, number, key).
local function draw(d, seed, number, key)
  if d.kind == "choice" then
    return d.values[sweep.integer(seed, number, key, 1, #d.values)]
  elseif d.kind == "int" then
    return sweep.integer(seed, number, key, d.low, d.high)
  end
  return at_part(d, sweep.uniform(seed, number, key))
end

-- The value of a domain for its coordinate u of an even point, 0 <= u < 1.
local function even(d, u)
  if d.kind == "choice" then return d.values[math.floor(u * #d.values) + 1] end
  if d.kind == "int" then return d.low + math.floor(u * (d.high - d.low + 1)) end
  return at_part(d, u)
end

-- The value of a domain below which the part u of it lies, and about which part a value of
-- it is at; of a choice there is none.
space.at_part = even

function space.part_of(d, value)
  if d.kind == "int" then return (value - d.low + 0.5) / (d.high - d.low + 1) end
  if d.kind == "uniform" then return (value - d.low) / (d.high - d.low) end
  local half = d.kind == "log_int" and 0.5 or 0
  local low, high = sweep.log(d.low - half), sweep.log(d.high + half)
  return (sweep.log(value) - low) / (high - low)
end

-- What a space is made of, for people: the call or the form, and what it means.
space.forms = {
  { name = "a number, a text, true or false", help = "fixed: the same in every run" },
  { name = "{ 32, 64, 128 }", help = "a choice of these, as pioche.choice" },
  { name = "function(p) ... end", help = "derived: worked out of the other parameters, p.steps // 20;"
    .. " p.name is nil in a branch not taken" },
  { name = "pioche.choice { ... }", help = "one of a list of numbers, texts, true and false" },
  { name = "pioche.uniform(low, high)", help = "a real number from low to below high, all alike likely" },
  { name = "pioche.log_uniform(low, high)", help = "a real number, its logarithm uniform, as for rates; low > 0" },
  { name = "pioche.int(low, high)", help = "a whole number, both ends included" },
  { name = "pioche.log_int(low, high)", help = "a whole number, its logarithm nearly uniform; low > 0" },
  { name = "pioche.one_of { adamw = { ... }, sgd = { ... } }", help = "one of these branches, each with"
    .. " parameters of its own, maybe none: the value is the branch's name, and optimizer.beta2 the full name"
    .. " of a parameter of a branch of optimizer" },
}
space.words = { "uniform", "log_uniform", "int", "log_int", "choice", "one_of" }

-- ---- compiling -----------------------------------------------------------------------

local methods = {}
methods.__index = methods

local function compile_table(self, given, prefix, conditions, path)
  for _, key in ipairs(fields.sorted(given)) do
    local place = path .. "." .. tostring(key)
    if type(key) ~= "string" or not key:match("^[%a_][%w_%-]*$") then
      self.box:blame(self.at, place, "expected a parameter's name of letters, digits, '_' and '-', "
        .. "got %s", show(key))
    end
    local name, d = prefix .. key, as_domain(rawget(given, key))
    if d.problem then self.box:blame(self.at, place, "%s", d.problem) end
    local parameter = { name = name, domain = d, conditions = conditions, path = place }
    if d.kind == "one_of" then
      local branches = {}
      for _, branch in ipairs(fields.sorted(d.branches)) do
        local inner = rawget(d.branches, branch)
        if type(branch) ~= "string" or not branch:match("^[%w_][%w_%-%.]*$") then
          self.box:blame(self.at, place, "expected the name of a branch, got %s", show(branch))
        elseif type(inner) ~= "table" or is_domain(inner) then
          self.box:blame(self.at, place .. "." .. branch,
            "expected a table of the branch's parameters, maybe empty, got %s", show(inner))
        end
        branches[#branches + 1] = branch
        local deeper = table.move(conditions, 1, #conditions, 1, {})
        deeper[#deeper + 1] = { name = name, value = branch }
        compile_table(self, inner, name .. ".", deeper, place .. "." .. branch)
      end
      parameter.domain = domain("choice", { values = branches, branches = true })
    end
    self.parameters[#self.parameters + 1] = parameter
  end
end

local function excludes(a, b)
  for _, x in ipairs(a) do
    for _, y in ipairs(b) do
      if x.name == y.name and x.value ~= y.value then return true end
    end
  end
  return false
end

-- Sort by name and refuse names that could be two parameters at once.
local function settle_names(self)
  table.sort(self.parameters, function(a, b)
    if a.name ~= b.name then return a.name < b.name end
    return a.path < b.path
  end)
  self.names, self.known = {}, {}
  for i, parameter in ipairs(self.parameters) do
    for j = i - 1, 1, -1 do
      local other = self.parameters[j]
      if other.name ~= parameter.name then break end
      if not excludes(other.conditions, parameter.conditions) then
        self.box:blame(self.at, parameter.path, "the parameter '%s' is there twice, also as %s",
          parameter.name, other.path)
      end
    end
    if not self.known[parameter.name] then
      self.known[parameter.name] = true
      self.names[#self.names + 1] = parameter.name
    end
  end
end

-- Compile a recipe's table. at = { display, line } of the sweep.
function space.compile(box, at, given, where)
  local self = setmetatable({ box = box, at = at, parameters = {}, where = where }, methods)
  if given ~= nil and (type(given) ~= "table" or is_domain(given)) then
    box:blame(at, "space", "expected a table of parameters, got %s", show(given))
  end
  compile_table(self, given or {}, "", {}, "space")
  settle_names(self)
  return self
end

-- Replace the domain of a parameter (a value from the command line).
function methods:override(name, values)
  for _, parameter in ipairs(self.parameters) do
    if parameter.name == name then
      local d = parameter.domain
      if d.branches then
        for _, value in ipairs(values) do
          local known = false
          for _, branch in ipairs(d.values) do known = known or branch == value end
          if not known then
            errors.raise("invalid", "%s=%s: expected one of %s", name, tostring(value),
              table.concat(d.values, ", "))
          end
        end
      end
      parameter.domain = #values == 1 and not d.branches and domain("fixed", { value = values[1] })
        or domain("choice", { values = values, branches = d.branches })
    end
  end
end

-- The same space with some of its parameters fixed, { name = value }. Those of branches that
-- cannot be taken then are no more in it; functions may still ask for them.
function methods:fixed(values)
  local copy = {}
  for name, value in next, self do copy[name] = value end
  copy.parameters = {}
  for _, parameter in ipairs(self.parameters) do
    local d, value, is_there = parameter.domain, values[parameter.name], true
    for _, condition in ipairs(parameter.conditions) do
      local decided = values[condition.name]
      is_there = is_there and (decided == nil or decided == condition.value)
    end
    if is_there and value ~= nil then
      local only = d.branches and domain("choice", { values = { value }, branches = true })
        or domain("fixed", { value = value })
      parameter = { name = parameter.name, domain = only, conditions = parameter.conditions, path = parameter.path }
    end
    if is_there then copy.parameters[#copy.parameters + 1] = parameter end
  end
  return setmetatable(copy, methods)
end

-- "number", "integer", "string", "boolean" or "any": what an override must be.
function methods:type_of(name)
  local found
  for _, parameter in ipairs(self.parameters) do
    if parameter.name == name then
      local d, kind = parameter.domain, "any"
      if d.kind == "uniform" or d.kind == "log_uniform" then
        kind = "number"
      elseif d.kind == "int" or d.kind == "log_int" then
        kind = "integer"
      elseif d.kind == "choice" or d.kind == "fixed" then
        local first = d.kind == "fixed" and d.value or d.values[1]
        kind = type(first)
        for _, value in ipairs(d.values or {}) do
          if type(value) ~= kind then kind = "any" end
        end
      end
      if found and found ~= kind then return "any" end
      found = kind
    end
  end
  return found
end

-- ---- points -----------------------------------------------------------------------------

-- Are the conditions met by the raw choices so far?
function space.active(parameter, raw)
  for _, condition in ipairs(parameter.conditions) do
    if raw[condition.name] ~= condition.value then return false end
  end
  return true
end

-- Is it a value of this domain?
function space.has(d, value)
  if d.kind == "fixed" then return d.value == value end
  if d.kind == "choice" then
    for _, known in ipairs(d.values) do
      if known == value then return true end
    end
    return false
  end
  if type(value) ~= "number" or not (value >= d.low and value <= d.high) then return false end
  return d.kind:find("int$") == nil or math.type(value) == "integer"
end

-- The parameters that a search gave; nil and what is wrong where they are no point. Where one is
-- missing that follows from others, all that follows is worked out, and `where` asked.
function methods:admit(given)
  if type(given) ~= "table" then return nil, ("expected a table of parameters, got %s"):format(show(given)) end
  local raw, result, is_whole, follows = {}, {}, true, false
  for _, parameter in ipairs(self.parameters) do
    local d, name = parameter.domain, parameter.name
    if d.kind == "derived" then
      follows, is_whole = true, is_whole and (given[name] ~= nil or not space.active(parameter, raw))
    elseif space.active(parameter, raw) then
      local value = given[name]
      if value == nil and d.kind == "fixed" then value = d.value end
      if value == nil then return nil, ("%s is missing: expected %s"):format(name, space.text(d)) end
      if not space.has(d, value) then return nil, ("%s=%s: expected %s"):format(name, show(value), space.text(d)) end
      raw[name] = value
    end
  end
  for name, value in next, given do
    result[name] = value
    if name == self.granted then
      raw[name] = value -- the search gives it, and the space has not
    elseif not self.known[name] then
      return nil, ("there is no parameter '%s'%s"):format(tostring(name), errors.suggestion(tostring(name), self.names))
    end
  end
  for name, value in next, raw do result[name] = value end
  if is_whole and (follows or not self.where) then return result end
  local params = self:complete(raw)
  return params, not params and "`where` is not true of it" or nil
end

-- A random raw point: the draw (seed, number), tried for the `try`-th time.
function methods:draw(seed, number, try)
  local raw = {}
  for _, parameter in ipairs(self.parameters) do
    if space.active(parameter, raw) then
      local d = parameter.domain
      if d.kind == "fixed" then
        raw[parameter.name] = d.value
      elseif d.kind ~= "derived" then
        local key = try == 0 and parameter.name or parameter.name .. "#" .. try
        raw[parameter.name] = draw(d, seed, number, key)
      end
    end
  end
  return raw
end

-- Raw point number 1, 2, ... of a sequence that fills the space evenly; each parameter of
-- more than one value has a dimension of its own.
function methods:even(seed, number)
  local raw, dimension = {}, 0
  for _, parameter in ipairs(self.parameters) do
    local d = parameter.domain
    local is_free = d.kind ~= "fixed" and d.kind ~= "derived"
    if is_free then dimension = dimension + 1 end
    if space.active(parameter, raw) then
      if is_free then
        raw[parameter.name] = even(d, sweep.sobol(seed, number, dimension, parameter.path))
      elseif d.kind == "fixed" then
        raw[parameter.name] = d.value
      end
    end
  end
  return raw
end

-- Points of the space without `where`; nil when it is infinite.
function methods:count()
  local function branch_count(conditions)
    local product = 1
    for _, parameter in ipairs(self.parameters) do
      local direct = #parameter.conditions == #conditions
      for i, condition in ipairs(conditions) do
        local own = parameter.conditions[i]
        direct = direct and own.name == condition.name and own.value == condition.value
      end
      if direct then
        local n = 0
        if parameter.domain.branches then
          for _, branch in ipairs(parameter.domain.values) do
            local deeper = table.move(conditions, 1, #conditions, 1, {})
            deeper[#deeper + 1] = { name = parameter.name, value = branch }
            local inner = branch_count(deeper)
            if not inner then return nil end
            n = n + inner
          end
        else
          n = cardinality(parameter.domain)
        end
        if not n or n > 1000000000 or product * n > 1000000000 then return nil end
        product = product * n
      end
    end
    return product
  end
  return branch_count({})
end

-- What a function of the recipe reads: p.name, nil in a branch not taken, an
-- error for a name that is nowhere in the space.
local function view(self, params, derive)
  local function get(_, name)
    local value = params[name]
    if value ~= nil then return value end
    if derive then
      value = derive(name)
      if value ~= nil then return value end
    end
    if not self.known[name] and not (self.extra and self.extra[name]) then
      self.box:complain("there is no parameter '%s'%s", tostring(name), errors.suggestion(tostring(name), self.names))
    end
  end
  return setmetatable({}, {
    __index = get,
    __newindex = function(_, name)
      self.box:complain("p.%s: parameters cannot be changed here", tostring(name))
    end,
    __pairs = function()
      local i = 0
      return function()
        while self.names[i + 1] do
          i = i + 1
          local value = get(nil, self.names[i])
          if value ~= nil then return self.names[i], value end
        end
      end
    end,
    __metatable = false,
  })
end

-- A view of finished parameters, for `args`.
function methods:view(params)
  return view(self, params)
end

local function run_function(self, parameter, fn, p)
  local ok, value = self.box:try(fn, p)
  if ok then return value end
  errors.raise(value.code, "%s (in %s)", value.message, parameter)
end

-- Raw choices to parameters: derived values are added. nil when `where` says no.
function methods:complete(raw)
  local params, busy, pending = {}, {}, {}
  for name, value in next, raw do params[name] = value end
  for _, parameter in ipairs(self.parameters) do
    if parameter.domain.kind == "derived" and space.active(parameter, raw) then
      pending[parameter.name] = parameter
    end
  end
  local p
  local function derive(name)
    local parameter = pending[name]
    if not parameter then return nil end
    if busy[name] then
      self.box:blame(self.at, parameter.path, "depends on itself")
    end
    busy[name] = true
    local value = run_function(self, parameter.path, parameter.domain.fn, p)
    if not is_scalar(value) then
      self.box:blame(self.at, parameter.path,
        "the function returned %s: expected a number, a string or a boolean", show(value))
    end
    params[name], pending[name] = value, nil
    return value
  end
  p = view(self, params, derive)
  for _, name in ipairs(self.names) do derive(name) end
  if self.where then
    local verdict = run_function(self, "where", self.where, p)
    if verdict ~= nil and type(verdict) ~= "boolean" then
      self.box:blame(self.at, "where", "the function returned %s: expected true or false", show(verdict))
    end
    if not verdict then return nil end
  end
  return params
end

-- ---- description ----------------------------------------------------------------------------

-- Digest of a function of the recipe: its lines in the text.
function space.function_digest(box, fn)
  local info = debug.getinfo(fn, "S")
  local text = box.files[info.source:gsub("^@", "")] or ""
  local lines, n = {}, 0
  for line in (text .. "\n"):gmatch("([^\n]*)\n") do
    n = n + 1
    if n >= info.linedefined and n <= info.lastlinedefined then lines[#lines + 1] = line end
  end
  return sys.sha256(table.concat(lines, "\n"))
end

-- Canonical, for identities and for people: an array of {name, kind, ...}.
function methods:describe()
  local list = json.array {}
  for i, parameter in ipairs(self.parameters) do
    local d = parameter.domain
    local item = { name = parameter.name, kind = d.kind, low = d.low, high = d.high,
      value = d.value, values = d.values and json.array(table.move(d.values, 1, #d.values, 1, {})),
      ["function"] = d.fn and space.function_digest(self.box, d.fn) or nil }
    if d.branches then item.kind = "one_of" end
    if #parameter.conditions > 0 then
      item.when = {}
      for _, condition in ipairs(parameter.conditions) do
        item.when[condition.name] = condition.value
      end
    end
    list[i] = item
  end
  return list
end

-- One line of a domain for people.
function space.text(d)
  if d.kind == "choice" then
    local words = {}
    for i, value in ipairs(d.values) do
      words[i] = type(value) == "string" and value or show(value)
    end
    return (d.branches and "one of " or "") .. table.concat(words, ", ")
  elseif d.kind == "fixed" then
    return type(d.value) == "string" and d.value or show(d.value)
  elseif d.kind == "derived" then
    return "derived"
  end
  return ("%s(%s, %s)"):format(d.kind, show(d.low), show(d.high))
end

space.cardinality, space.draw = cardinality, draw
return space
