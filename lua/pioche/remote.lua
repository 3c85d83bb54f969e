-- remote.lua: places that keep runs for stores: a directory, or what rclone reaches.
--
--   runs/<name>.<ULID>.<16 digits>.tar       a bundle of the run without weights; the
--                                            digits begin its SHA-256
--   runs/<name>.<ULID>.<16 digits>.objects   what its checkpoints need: a line
--                                            "<sha256> <bytes>" each
--   objects/ab/<sha256>                      that
--
-- Objects come first, then the list, then the bundle: what has its name is whole, and
-- what it needs is there. A directory gets files by rename, behind rclone it is the
-- storage that shows no half ones. Keys are rclone's own business: nothing of them is
-- in a store or in pioche.lua.
local pack = require "pioche.core.pack"
local core = require "pioche.core.store"
local sys = require "pioche.core.sys"
local errors = require "pioche.errors"
local scratch_folder = require "pioche.checkpoint.scratch"
local term = require "pioche.term"

local remote = {}

local batch_bytes, batch_files = 1 << 30, 1000

local function object_path(sha256)
  return sha256:sub(1, 2) .. "/" .. sha256
end

-- Lists of at most so many objects, and of about so many bytes.
local function batches(objects)
  return coroutine.wrap(function()
    local list, bytes = {}, 0
    for _, object in ipairs(objects) do
      list[#list + 1], bytes = object, bytes + object.bytes
      if bytes >= batch_bytes or #list >= batch_files then
        coroutine.yield(list, bytes)
        list, bytes = {}, 0
      end
    end
    if #list > 0 then coroutine.yield(list, bytes) end
  end)
end

-- Those of `objects` that are not there with their size, which size(object) tells.
local function absent(objects, size)
  local list = {}
  for _, object in ipairs(objects) do
    if size(object) ~= object.bytes then list[#list + 1] = object end
  end
  return list
end

-- ---- a directory ---------------------------------------------------------------------

local directory = {}
directory.__index = directory

-- { [name] = bytes } of runs/.
function directory:list()
  local found = {}
  for _, name in ipairs(sys.list(self.path .. "/runs") or {}) do
    local stat = sys.stat(self.path .. "/runs/" .. name)
    found[name] = stat and stat.size
  end
  return found
end

-- Objects { sha256, bytes } that are not there.
function directory:absent(objects)
  return absent(objects, function(object)
    local stat = sys.stat(self.path .. "/objects/" .. object_path(object.sha256))
    return stat and stat.size
  end)
end

local function copy_all(objects, from, to, progress)
  local before = 0
  for _, object in ipairs(objects) do
    errors.check(pack.copy { from = from(object), to = to(object), sha256 = object.sha256,
      bytes = object.bytes, progress = function(_, done) progress(before + done) end })
    before = before + object.bytes
  end
end

function directory:put_objects(store, objects, progress)
  copy_all(objects, function(object) return store:object_path(object.sha256) end, function(object)
    return self.path .. "/objects/" .. object_path(object.sha256)
  end, progress)
end

-- They lie in `folder` then, as in the remote's objects/.
function directory:get_objects(folder, objects, progress)
  copy_all(objects, function(object)
    return self.path .. "/objects/" .. object_path(object.sha256)
  end, function(object) return folder .. "/" .. object_path(object.sha256) end, progress)
end

function directory:put_file(path, name, sha256)
  errors.check(pack.copy { from = path, to = self.path .. "/runs/" .. name, sha256 = sha256 })
end

-- The path of a file of runs/ that may be read; `folder` is for what has to be fetched.
function directory:get_file(name)
  return self.path .. "/runs/" .. name
end

function directory:remove(name)
  errors.check(sys.remove_tree(self.path .. "/runs/" .. name))
end

-- ---- rclone ----------------------------------------------------------------------------

local rclone = {}
rclone.__index = rclone

local not_there = 3   -- its exit status for a directory that does not exist

-- What it prints; nil: there is no such directory.
local function ask(arguments, input)
  local argv = { "rclone", table.unpack(arguments) }
  local done, message, code = sys.run { argv = argv, input = input }
  if not done then
    errors.raise(code, "%s: a remote rclone:NAME:PATH needs the program rclone (Debian's package has"
      .. " that name)", message)
  end
  if done.cancelled then errors.raise("cancelled", "interrupted") end
  if done.status == not_there then return nil end
  if done.status ~= 0 then
    errors.raise("io", "rclone %s failed: %s", arguments[1],
      term.clean(done.stderr:match("([^\n]*%S)%s*$") or "it says nothing"))
  end
  return done.stdout
end

local function names_of(objects)
  local lines = {}
  for i, object in ipairs(objects) do lines[i] = object_path(object.sha256) .. "\n" end
  return table.concat(lines)
end

-- { [path] = bytes }
local function sizes(text)
  local found = {}
  for bytes, path in (text or ""):gmatch("(%d+)\t([^\n]+)") do found[path] = math.tointeger(bytes) end
  return found
end

function rclone:list()
  return sizes(ask { "lsf", "--files-only", "--format", "sp", "--separator", "\t", self.target .. "/runs" })
end

function rclone:absent(objects)
  local missing = {}
  for list in batches(objects) do
    local there = sizes(ask({ "lsf", "-R", "--files-only", "--format", "sp", "--separator", "\t",
      "--files-from-raw", "-", self.target .. "/objects" }, names_of(list)))
    for _, object in ipairs(absent(list, function(one) return there[object_path(one.sha256)] end)) do
      missing[#missing + 1] = object
    end
  end
  return missing
end

local function copy_batches(from, to, objects, progress)
  local before = 0
  for list, bytes in batches(objects) do
    if not ask({ "copy", "--files-from-raw", "-", from, to }, names_of(list)) then
      errors.raise("not_found", "%s: there is no such directory", from)
    end
    before = before + bytes
    progress(before)
  end
end

-- Objects that are encoded leave as what they are, by way of a folder in staging/.
local function put_encoded(self, store, objects, progress)
  local folder = scratch_folder(store, "push")
  for list, bytes in batches(objects) do
    for _, object in ipairs(list) do
      errors.check(pack.copy { from = store:object_path(object.sha256), sha256 = object.sha256,
        bytes = object.bytes, to = folder .. "/" .. object_path(object.sha256) })
    end
    copy_batches(folder, self.target .. "/objects", list, function() end)
    sys.remove_tree(folder)
    progress(bytes)
  end
end

-- Read and compared with their names before they leave; whether they arrived, their
-- sizes tell, and rclone where the storage tells digests.
function rclone:put_objects(store, objects, progress)
  local plain, encoded, bytes = {}, {}, 0
  for _, object in ipairs(objects) do
    local path = store:object_path(object.sha256)
    if errors.check(core.object_sha256(path)) ~= object.sha256 then
      errors.raise("corrupt", "object %s has other bytes than its name says; `pioche verify` tells whose"
        .. " it is", object.sha256)
    end
    local is_plain = sys.type(path) == "file"
    table.insert(is_plain and plain or encoded, object)
    bytes = bytes + (is_plain and object.bytes or 0)
  end
  copy_batches(store:path() .. "/objects", self.target .. "/objects", plain, progress)
  put_encoded(self, store, encoded, function(done)
    bytes = bytes + done
    progress(bytes)
  end)
  local missing = self:absent(objects)
  if #missing > 0 then
    errors.raise("io", "%s: %d of %d objects are not there after they were copied, or not whole",
      self.target, #missing, #objects)
  end
end

-- Whoever takes them compares them with their names.
function rclone:get_objects(folder, objects, progress)
  errors.check(sys.mkdirs(folder))
  copy_batches(self.target .. "/objects", folder, objects, progress)
end

function rclone:put_file(path, name)
  ask { "copyto", path, self.target .. "/runs/" .. name }
  local stat = errors.check(sys.stat(path))
  local there = sizes(ask { "lsf", "--files-only", "--format", "sp", "--separator", "\t", "--include",
    "/" .. name, self.target .. "/runs" })
  if there[name] ~= stat.size then
    errors.raise("io", "%s/runs/%s is not there after it was copied, or not whole", self.target, name)
  end
end

function rclone:get_file(name, folder)
  errors.check(sys.mkdirs(folder))
  if not ask { "copyto", self.target .. "/runs/" .. name, folder .. "/" .. name } then
    errors.raise("not_found", "%s/runs/%s: there is no such file", self.target, name)
  end
  return folder .. "/" .. name
end

function rclone:remove(name)
  ask { "deletefile", self.target .. "/runs/" .. name }
end

-- ---- which one ----------------------------------------------------------------------------

local expected = "a directory, or rclone:NAME:PATH where NAME is a remote of rclone's own configuration"

-- What a place may be in `remotes` of pioche.lua, and on the command line.
function remote.place(text)
  if type(text) ~= "string" or text == "" then return nil, expected end
  local target = text:match("^rclone:(.*)$")
  if target and not target:find("^[%w_][%w_.+@ -]*:") then return nil, expected end
  return text
end

-- `remotes` of pioche.lua: names with their places.
function remote.kind(value)
  if type(value) ~= "table" or rawlen(value) > 0 then return nil, "names with " .. expected end
  local list = {}
  for name, text in next, value do
    local place, why = remote.place(text)
    if type(name) ~= "string" or not name:find("^[%w_][%w_-]*$") then
      return nil, "names of letters, digits, '_' and '-', with " .. expected
    elseif not place then
      return nil, ("for %s %s"):format(name, why)
    end
    list[name] = place
  end
  return list
end

-- The remote that a word of the command line names: one of `remotes`, or a place.
-- A directory is made where `make` is set.
function remote.open(store, word, make)
  local root = store:path():match("^(.*)/[^/]+/*$")
  local known = (require "pioche.project".load(root).remotes or {})[word]
  local place = known or remote.place(word)
  local target = place and place:match("^rclone:(.*)$")
  if target then return setmetatable({ target = (target:gsub("/+$", "")) }, rclone) end
  if not known and not word:find("/", 1, true) and sys.type(word) ~= "dir" then
    errors.raise("not_found", "no remote '%s': expected a name in `remotes` of pioche.lua, %s",
      term.clean(word), expected)
  end
  local path = known and place:sub(1, 1) ~= "/" and root .. "/" .. place or place
  path = #path > 1 and path:gsub("/+$", "") or path
  if make then errors.check(sys.mkdirs(path)) end
  if sys.type(path) ~= "dir" then errors.raise("not_found", "%s: there is no such directory", path) end
  return setmetatable({ path = path }, directory)
end

-- ---- names ---------------------------------------------------------------------------------

local name_pattern = "^([%w._-]+)%.(" .. ("[%dA-Z]"):rep(26) .. ")%.(" .. ("[%da-f]"):rep(16) .. ")%.tar$"

-- Of a bundle, without .tar.
function remote.stem(run, sha256)
  return ("%s.%s.%s"):format(run.name, run.ulid, sha256:sub(1, 16))
end

-- Runs of a listing, by name: { stem, name, ulid, digits, bytes }.
function remote.runs(listing)
  local list = {}
  for file, bytes in pairs(listing) do
    local name, ulid, digits = file:match(name_pattern)
    if name then
      list[#list + 1] = { stem = file:sub(1, -5), name = name, ulid = ulid, digits = digits, bytes = bytes }
    end
  end
  table.sort(list, function(a, b) return a.stem < b.stem end)
  return list
end

-- The text of a list of objects, and back; nil where it is none.
function remote.objects_text(objects)
  local lines = {}
  for i, object in ipairs(objects) do lines[i] = ("%s %d\n"):format(object.sha256, object.bytes) end
  return table.concat(lines)
end

function remote.read_objects(text)
  local list = {}
  for line in text:gmatch("[^\n]*\n") do
    local sha256, bytes = line:match("^(" .. ("[%da-f]"):rep(64) .. ") (%d+)\n$")
    bytes = bytes and math.tointeger(bytes)
    if not bytes then return nil end
    list[#list + 1] = { sha256 = sha256, bytes = bytes }
  end
  return list
end

return remote
