-- sources.lua: finding what `pioche import` can take below the paths it is given.
local age = require "pioche.age"
local exchange = require "pioche.core.exchange"
local sys = require "pioche.core.sys"
local pack = require "pioche.core.pack"
local errors = require "pioche.errors"

local sources = {}

local formats = { tensorboard = true, wandb = true, trackio = true, mlflow = true, bundle = true }
local depth_max = 32

local function basename(path)
  return path:match("([^/]+)/*$") or path
end

local function bytes_of(path)
  local stat = sys.stat(path)
  return stat and stat.size or 0
end

-- Names of the event files in a directory.
local function event_files(dir)
  local names = {}
  for _, name in ipairs(sys.list(dir) or {}) do
    if name:find("tfevents", 1, true) then names[#names + 1] = name end
  end
  return names
end

local function size_of(source)
  if source.format ~= "tensorboard" or sys.type(source.path) == "file" then
    return bytes_of(source.path)
  end
  local bytes = 0
  for _, name in ipairs(event_files(source.path)) do
    bytes = bytes + bytes_of(source.path .. "/" .. name)
  end
  return bytes
end

-- Files that are looked into for what they are.
local function may_be_source(name)
  return name:find("%.wandb$") or name:find("%.db$") or name:find("%.sqlite3?$")
    or name:find("%.swanlab$") or name:find("%.tar$") or name:find("%.tar%.zst$")
end

local function add(found, seen, source)
  local real = sys.realpath(source.path) or source.path
  if seen[real] then return end
  seen[real] = true
  source.path = real
  source.bytes = size_of(source)
  found[#found + 1] = source
end

-- Walk a tree in the order of its names; links are followed, each place once.
local function walk(found, seen, visited, dir, root, depth, wanted)
  local real = sys.realpath(dir) or dir
  if visited[real] or depth > depth_max then return end
  visited[real] = true
  local function take(path, name)
    local format = exchange.format(path)
    if format and formats[format] and (not wanted or wanted == format) then
      add(found, seen, { path = path, format = format, experiment = basename(root.real),
        name = name })
    end
  end
  take(dir, dir == root.path and basename(root.real) or dir:sub(#root.path + 2))
  for _, name in ipairs(sys.list(dir) or {}) do
    local path = dir .. "/" .. name
    local type = name:sub(1, 1) ~= "." and sys.type(path)
    if type == "dir" then
      walk(found, seen, visited, path, root, depth + 1, wanted)
    elseif type == "file" and may_be_source(name) then
      take(path)
    end
  end
end

local function refuse(path, format)
  if format == "swanlab" then
    errors.raise("invalid", "%s: a log of SwanLab, which is not imported", path)
  elseif format == "safetensors" then
    errors.check(pack.verify(path))
    errors.raise("invalid", "%s: a safetensors file, which is of no run: `pioche checkpoint` takes"
      .. " those", path)
  end
  errors.raise("invalid", "%s: neither event files of TensorBoard, nor a .wandb log, nor a database"
    .. " of trackio or MLflow, nor a bundle of pioche%s", path, sys.type(path) == "dir" and " is in it" or "")
end

-- What is below these paths: array of { path (absolute), format, experiment and
-- name where the source has none, bytes }. Raises where a path holds nothing.
function sources.find(paths, wanted)
  local found, seen = {}, {}
  for _, path in ipairs(paths) do
    local type, before = sys.type(path), #found
    if path == "-" then
      found[#found + 1] = { path = path, format = "bundle", bytes = 0 }
      goto next
    end
    if not type then errors.raise("not_found", "%s: there is no such file or directory", path) end
    path = #path > 1 and path:gsub("/+$", "") or path
    local real = sys.realpath(path) or path
    local root = { path = path, real = real }
    if type == "dir" then
      walk(found, seen, {}, path, root, 1, wanted)
      if #found == before and not seen[real] then refuse(path, nil) end
    else
      local encrypted = age.is_encrypted(path)
      local format = wanted or encrypted and "bundle" or exchange.format(path)
      if not formats[format] then refuse(path, format) end
      local parent = real:match("^(.*)/[^/]*$")
      add(found, seen, { path = path, format = format, encrypted = encrypted, experiment = basename(parent),
        name = format == "tensorboard" and basename(parent) or nil })
    end
    ::next::
  end
  return found
end

-- A text that changes when the source grows.
function sources.mark(source)
  local words = {}
  local function look(path)
    local stat = sys.stat(path)
    if stat then words[#words + 1] = stat.size .. " " .. stat.mtime_ns end
  end
  if source.format == "tensorboard" and sys.type(source.path) == "dir" then
    for _, name in ipairs(event_files(source.path)) do look(source.path .. "/" .. name) end
  else
    look(source.path)
    look(source.path .. "-wal")
  end
  return table.concat(words, ",")
end

return sources
