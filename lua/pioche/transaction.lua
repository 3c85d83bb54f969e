-- transaction.lua: what a function does in a store is on record as a whole, or not at all.
local errors = require "pioche.errors"

-- Do it in one transaction of the store, or as a part of the one that is open; gives what
-- `fn` does.
return function(store, fn)
  errors.check(store:begin())
  local ok, result = pcall(fn)
  if not ok then
    store:rollback()
    error(result, 0)
  end
  errors.check(store:commit())
  return result
end
