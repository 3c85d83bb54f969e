-- Where the store stands: its file system and mode, room, permissions, and what
-- was left lying about.
local sys = require "pioche.core.sys"
local format = require "pioche.format"

local low_space_bytes, low_files = 2000000000, 10000
local day_ns = 86400 * 1000000000
local unused_days = 30
local group_write = 16 -- 0020

local place = {}

-- Asking SQLite would be a statement that can write; and pioche.db must never
-- be opened beside it: closing that file would drop SQLite's locks on it.
local function journal_mode(path)
  return sys.type(path .. "/pioche.db-shm") == "file" and "WAL" or "TRUNCATE"
end

local function check_file_system(report, path, found)
  local why = found.forced and "because PIOCHE_FS says so" or "by statfs"
  local mode = journal_mode(path)
  local fits = (mode == "TRUNCATE") == found.is_network
  report(fits and "ok" or "warn", "file system", string.format("%s, %s (%s): %s journal, %s", found.name,
    found.is_network and "network" or "local", why, mode, found.is_network
    and "no shared memory in the store, a lease that is kept by beating"
    or "a lease that is a lock of the kernel"),
    not fits and "the journal changes when the store is next opened for writing" or nil)
  if found.forced and found.network and not found.is_network then
    report("warn", "file system", "PIOCHE_FS=local overrides what " .. found.name .. " is",
      "safe only as long as one machine alone uses this store")
  end
  if found.is_network and found.locks_local then
    report("bad", "file system", found.name .. " is mounted so that other machines see no locks",
      "mount it without nolock, local_lock, localflock or nobrl (Lustre: with flock),"
      .. " or use the store from one machine alone")
  end
end

local function check_room(report, found)
  local bytes, files = found.free_bytes, found.free_files
  local few = files and files < low_files
  local low = bytes and bytes < low_space_bytes
  report((few or low) and "warn" or "ok", "free space", (bytes and format.bytes(bytes) or "unknown")
    .. (few and ", and room for " .. files .. " files alone" or ""),
    (few or low) and "checkpoints may not fit: make room" or nil)
end

local function check_permissions(report, path)
  if not sys.access_w(path) or not sys.access_w(path .. "/pioche.db") then
    return report("warn", "permission", "the store cannot be written by " .. sys.user(),
      "reading works; live and standalone runs are not taken in")
  end
  local narrow = {}
  local function shared(name)
    local stat = sys.stat(path .. name)
    return not stat or stat.mode & group_write ~= 0
  end
  if shared "" then
    for _, name in ipairs { "pioche.db", "pioche.db-wal", "pioche.db-shm", "pioche.db-journal",
      "objects", "runs", "staging", "cache", "lease" } do
      if not shared("/" .. name) then narrow[#narrow + 1] = name end
    end
  end
  if #narrow > 0 then
    report("warn", "permission", "the group may write the store, but not " .. table.concat(narrow, ", "),
      "`chmod g+w` them in " .. path)
  else
    report("ok", "permission", shared "" and "writable, by the group too" or "writable")
  end
end

-- What a death left while a file was made: nobody comes back for it.
local function check_parts(report, path)
  local parts = {}
  for _, name in ipairs(sys.list(path) or {}) do
    local stat = name:find(".part.", 1, true) and sys.stat(path .. "/" .. name)
    if stat and sys.now_ns() - stat.mtime_ns > day_ns then parts[#parts + 1] = name end
  end
  if #parts == 0 then return end
  report("warn", "left-overs", table.concat(parts, ", ") .. ": never finished", nil, function()
    for _, name in ipairs(parts) do assert(sys.remove_tree(path .. "/" .. name)) end
    return "removed"
  end)
end

local function count_open(store)
  return store:one("SELECT (SELECT count(*) FROM attempt WHERE state <> 'ended')"
    .. " + (SELECT count(*) FROM pool WHERE state <> 'ended') AS n").n
end

-- Copies of pioche that jobs ran, an older version's for the most part. With the
-- lease nobody else makes an attempt that runs one.
local function remove_copies(store, path, names)
  return function()
    store:lease()
    local ok, message = pcall(function()
      if count_open(store) > 0 then error("an attempt was begun meanwhile", 0) end
      for _, name in ipairs(names) do assert(sys.remove_tree(path .. "/cache/" .. name)) end
    end)
    store:lease_drop()
    if not ok then error(message, 0) end
    return "removed"
  end
end

-- Code that was checked out, and copies of pioche. What is open may run them, since
-- whenever.
local function check_cache(report, store, path)
  local count, unused, copies, is_open = 0, {}, {}, count_open(store) > 0
  for _, name in ipairs(sys.list(path .. "/cache") or {}) do
    local stat = sys.type(path .. "/cache/" .. name) == "dir" and sys.stat(path .. "/cache/" .. name)
    if stat then
      count = count + 1
      if not is_open and sys.now_ns() - math.max(stat.atime_ns, stat.mtime_ns) > unused_days * day_ns then
        table.insert(name:find("^pioche%-") and copies or unused, name)
      end
    end
  end
  local function tell(names, advice, fix)
    if #names == 0 then return end
    report("warn", "checkouts", string.format("%d of %d in cache/ were not used for %d days: %s", #names,
      count, unused_days, table.concat(names, " ")), advice, fix)
  end
  tell(unused, "may be removed, pioche makes them again")
  tell(copies, nil, remove_copies(store, path, copies))
  if #unused + #copies == 0 then
    report("ok", "checkouts", count == 0 and "none" or count .. " in cache/")
  end
end

function place.check(report, store, path)
  local found = sys.place(path)
  check_file_system(report, path, found)
  check_room(report, found)
  check_permissions(report, path)
  check_parts(report, path)
  check_cache(report, store, path)
end

return place
