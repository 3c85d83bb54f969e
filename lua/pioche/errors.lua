-- errors.lua: expected failures as values.
--
-- A failure is a table {code, message}; its code is one of the words of
-- core/base/err.h and decides the exit status of the process. Raise one where
-- the user or the system is at fault; a bug in pioche stays an ordinary Lua
-- error, and is shown with its traceback.
local errors = {}

local failure = {}
failure.__index = failure
failure.__name = "pioche.failure"
failure.__tostring = function(self) return self.message end

local status_of = {
  invalid = 1, not_found = 1, exists = 1, corrupt = 1, version = 1,
  usage = 2, cancelled = 130,
}

-- A failure, not yet raised. Without arguments `format` is taken as it is.
function errors.new(code, format, ...)
  local message = select("#", ...) > 0 and string.format(format, ...) or format
  return setmetatable({ code = code, message = message }, failure)
end

function errors.raise(code, format, ...)
  error(errors.new(code, format, ...), 0)
end

-- Turn `nil, message, code` of a core function into a raise; pass on the rest.
function errors.check(value, message, code, ...)
  if value == nil and message ~= nil then
    error(errors.new(code or "io", tostring(message)), 0)
  end
  return value, message, code, ...
end

function errors.is(value)
  return getmetatable(value) == failure
end

-- Exit status of a code; everything that is not the user's doing is 3.
function errors.exit_status(code)
  return status_of[code] or 3
end

-- Edits (insert, remove, replace, swap of neighbours) between two words; more
-- than `limit` is told as limit + 1.
local function distance(a, b, limit)
  if math.abs(#a - #b) > limit then return limit + 1 end
  local rows = { [0] = {} }
  for j = 0, #b do rows[0][j] = j end
  for i = 1, #a do
    local row, above, best = { [0] = i }, rows[i - 1], i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      local d = math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + cost)
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        d = math.min(d, rows[i - 2][j - 2] + 1)
      end
      row[j] = d
      best = math.min(best, d)
    end
    if best > limit then return limit + 1 end
    rows[i] = row
  end
  return rows[#a][#b]
end

-- The candidate nearest to `word`, or nil when none is near enough to be meant.
function errors.nearest(word, candidates)
  local limit = math.max(1, math.min(3, #word // 3))
  local found, found_distance = nil, limit + 1
  local lower = word:lower()
  for _, candidate in ipairs(candidates) do
    local d = distance(lower, candidate:lower(), limit)
    if d < found_distance then found, found_distance = candidate, d end
  end
  return found
end

-- "; did you mean 'x'?" or "".
function errors.suggestion(word, candidates)
  local found = errors.nearest(word, candidates)
  return found and ("; did you mean '" .. found .. "'?") or ""
end

return errors
