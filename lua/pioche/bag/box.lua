-- box.lua: a bundle (pioche.core.pack) while it is filled: what is in it, under
-- which path, with which digest, so that the same bytes need not be there twice.
local json = require "pioche.core.json"
local pack = require "pioche.core.pack"
local errors = require "pioche.errors"

local box = {}
box.__index = box
local check = errors.check

-- Where case does not count, files would overwrite each other, and a verifier says so:
-- true if a file at `path` would be one of them, or is there already.
function box:clashes(path)
  local spelled = self.spelled
  for parent in path:gmatch("()/") do
    local name = path:sub(1, parent - 1)
    if (spelled[name:lower()] or name) ~= name then return true end
  end
  return spelled[path:lower()] ~= nil
end

-- `options`: path, name, mtime (seconds), zstd; spool = the folder for what is made on
-- the way; note(text) hears what is left out.
function box.new(options)
  return setmetatable({ bundle = check(pack.bundle { path = options.path, name = options.name,
    mtime = options.mtime, zstd = options.zstd }), folder = options.spool, note = options.note, entries = {},
    by_digest = {}, spelled = {} }, box)
end

local function remember(self, path, sha256, bytes)
  self.entries[#self.entries + 1] = { path = path, sha256 = sha256, bytes = bytes }
  self.by_digest[sha256] = self.by_digest[sha256] or path
  for parent in path:gmatch("()/") do
    local name = path:sub(1, parent - 1)
    self.spelled[name:lower()] = name
  end
  self.spelled[path:lower()] = path
end

function box:text(path, text)
  remember(self, path, check(self.bundle:text(path, text)))
end

function box:json(path, value)
  self:text(path, check(json.encode(value, { pretty = true })) .. "\n")
end

-- A file as it is now; what is appended to it meanwhile is left out.
function box:file(path, file)
  remember(self, path, check(self.bundle:file(path, file)))
end

-- A file with a known digest, unless its bytes are there already; where they are.
function box:object(path, file, sha256, bytes)
  if not self.by_digest[sha256] then
    remember(self, path, check(self.bundle:file(path, file, sha256, bytes)))
  end
  return self.by_digest[sha256]
end

-- What make(fd) appends to an open file; or, where it is a text in parts, what it
-- gives to append(text).
function box:made(path, make)
  local fd, at = check(self.bundle:spool(self.folder))
  make(fd, function(text) check(self.bundle:append(self.folder, text)) end)
  remember(self, path, check(self.bundle:spooled(path, at)))
end

-- Files that lie one behind the other in what make(fd) appends and lists: {
-- { path, bytes } }. name(file) is its path here, nil: passed over. Those whose path no
-- bag can hold are listed in the answer.
function box:made_files(make, name)
  local fd, at = check(self.bundle:spool(self.folder))
  local odd = {}
  for _, file in ipairs(make(fd)) do
    local path = name(file)
    local sha256, bytes, code
    if path and self:clashes(path) then
      code = "invalid"
    elseif path then
      sha256, bytes, code = self.bundle:spooled(path, at, file.bytes)
    end
    if sha256 then
      remember(self, path, sha256, bytes)
    elseif code == "invalid" then
      odd[#odd + 1] = file.path
    elseif path then
      check(sha256, bytes, code)
    end
    at = at + file.bytes
  end
  return odd
end

return box
