-- scratch.lua: folders below a store's staging/ that a command works in for a while.
local errors = require "pioche.errors"
local sys = require "pioche.core.sys"

-- The path of one for this process, which is the caller's to make and to remove; those that
-- processes which are gone left there for the same `purpose` go.
return function(store, purpose)
  local staging = errors.check(sys.realpath(store:path())) .. "/staging"
  local head = purpose .. "-" .. sys.hostname():gsub("[^%w.]", "_") .. "-"
  for _, name in ipairs(sys.list(staging) or {}) do
    local pid = name:sub(1, #head) == head and name:match("^(%d+)$", #head + 1)
    if pid and not sys.type("/proc/" .. pid) then sys.remove_tree(staging .. "/" .. name) end
  end
  return staging .. "/" .. head .. sys.pid()
end
