-- checkpoint export --hf: the model as Hugging Face's loaders read it: whole tensors,
-- whatever ranks saved of them, in files of a size, and the index that names them.
--
-- The folder appears whole or not at all: it is made beside its place, synced and
-- renamed. Every file that is read is compared with its digest before.
local core = require "pioche.core.store"
local json = require "pioche.core.json"
local checkpoints = require "pioche.checkpoints"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local format = require "pioche.format"
local retention = require "pioche.retention"
local sys = require "pioche.core.sys"
local tensors = require "pioche.tensors"
local term = require "pioche.term"

local align_bytes = 8

-- Of a file, unless told: what most file systems and tools take well.
local shard_bytes = 4 << 30
local header_bytes_max, header_bytes_around = 99 * 1000 * 1000, 128

-- ---- whole tensors of parts --------------------------------------------------------------

local parts_sql = [[
  SELECT f.rank, f.sha256, t.name, t.dtype, t.shape, t.offset, t.bytes, t.whole_shape, t.part_begin, t.own
    FROM checkpoint_file f JOIN tensor t ON t.sha256 = f.sha256
   WHERE f.checkpoint_id = ? AND f.role = ? ORDER BY t.name, f.rank]]

local function count_of(shape)
  local count = 1
  for _, size in ipairs(shape) do count = count * size end
  return count
end

local function place(store, row)
  return { path = store:object_path(row.sha256), offset = row.offset, bytes = row.bytes, dtype = row.dtype }
end

-- Of parts that several ranks have alike one is enough.
local function without_copies(store, rows)
  local kept, by_place = {}, {}
  for _, row in ipairs(rows) do
    local key = (row.part_begin or "whole") .. " " .. row.shape
    local other = by_place[key]
    if not other then
      by_place[key], kept[#kept + 1] = row, row
    elseif other.sha256 ~= row.sha256 and (row.own or not row.whole_shape) then
      local same = other.dtype == row.dtype
        and core.tensor_diff(place(store, other), place(store, row)).changed == 0
      if not same then
        errors.raise("invalid", "ranks %d and %d have a '%s' each, not the same, and the checkpoint does not"
          .. " say how they go together", other.rank, row.rank, row.name)
      end
    end
  end
  return kept
end

local function is_apart(a, b)
  for i, begin in ipairs(a.begin) do
    if begin + a.shape[i] <= b.begin[i] or b.begin[i] + b.shape[i] <= begin then return true end
  end
  return #a.begin == 0
end

-- Runs, or boxes that follow one another along one dimension, are compared with their
-- neighbours; others with all others.
local function check_apart(name, parts)
  local function fail(a, b)
    errors.raise("invalid", "the parts of '%s' that ranks %d and %d saved overlap", name, a.rank, b.rank)
  end
  local function order(part)
    if part.first then return part.first end
    for i, begin in ipairs(part.begin) do
      if part.shape[i] ~= part.whole[i] then return begin end
    end
    return 0
  end
  table.sort(parts, function(a, b) return order(a) < order(b) end)
  for i, a in ipairs(parts) do
    for k = i + 1, #parts do
      local b = parts[k]
      if a.first and a.first + a.elements > b.first or not a.first and not is_apart(a, b) then fail(a, b) end
      if a.first or order(a) < order(b) and #parts > 64 then break end
    end
  end
end

-- One tensor: { name, dtype, shape, bytes, parts }, its parts covering it once.
local function assemble(store, rows)
  rows = without_copies(store, rows)
  local first = rows[1]
  local shape = json.decode(first.whole_shape or first.shape)
  local whole = { name = first.name, dtype = first.dtype, shape = shape, parts = {}, bytes = 0 }
  local elements = 0
  for i, row in ipairs(rows) do
    if i > 1 and (row.dtype ~= first.dtype or not row.whole_shape
      or row.whole_shape ~= first.whole_shape) then
      errors.raise("invalid", "'%s' of ranks %d and %d has other types or shapes: they are no parts of one"
        .. " tensor", first.name, first.rank, row.rank)
    end
    local part = place(store, row)
    part.sha256, part.rank, part.elements = row.sha256, row.rank, count_of(json.decode(row.shape))
    local begin = row.part_begin and json.decode(row.part_begin)
    if type(begin) == "table" and #shape > 0 then
      part.whole, part.begin, part.shape = shape, begin, json.decode(row.shape)
    else
      part.first = type(begin) == "number" and begin or 0
    end
    whole.parts[i], whole.bytes, elements = part, whole.bytes + row.bytes, elements + part.elements
  end
  check_apart(first.name, whole.parts)
  if elements ~= count_of(shape) then
    errors.raise("invalid", "the parts of '%s' have %d of its %d elements", first.name, elements,
      count_of(shape))
  end
  return whole
end

-- The whole tensors of a role, by name.
local function load(store, checkpoint, role)
  local list, group = {}, {}
  local function finish()
    if #group > 0 then list[#list + 1] = assemble(store, group) end
    group = {}
  end
  for _, row in ipairs(store:rows(parts_sql, checkpoint.id, role)) do
    if #group > 0 and group[1].name ~= row.name then finish() end
    group[#group + 1] = row
  end
  finish()
  if #list > 0 then return list end
  local roles = store:column("SELECT DISTINCT role FROM checkpoint_file WHERE checkpoint_id = ?"
    .. " ORDER BY role", checkpoint.id)
  errors.raise("not_found", "%s has no tensors of role '%s'; it has %s: --role says which", checkpoint.name,
    role, table.concat(roles, ", "))
end

-- ---- files -------------------------------------------------------------------------------

-- Tensors in files of at most `limit` bytes, whose headers readers of the format take; a larger
-- tensor has its own.
local function split(list, limit)
  local files, bytes, header = { {} }, 0, 0
  for _, tensor in ipairs(list) do
    local entry = header_bytes_around + 6 * #tensor.name + 24 * #tensor.shape -- at most
    if bytes > 0 and bytes + tensor.bytes > limit or header + entry > header_bytes_max then
      files[#files + 1], bytes, header = {}, 0, 0
    end
    table.insert(files[#files], tensor)
    bytes, header = bytes + tensor.bytes, header + entry
  end
  return files
end

local function element_order(tensor)
  local bits = tonumber(tensor.dtype:match("%d+")) or 8
  return tensor.dtype:find("^F8") and 8 or bits
end

-- The header of a file; its tensors get `at`, where their bytes begin. The widest come
-- first, as the format wants it, so that each is aligned.
local function header_of(file, metadata)
  table.sort(file, function(a, b)
    local x, y = element_order(a), element_order(b)
    if x ~= y then return x > y end
    return a.name < b.name
  end)
  local parts, offset = { '"__metadata__":' .. json.encode(metadata) }, 0
  for i, tensor in ipairs(file) do
    tensor.at = offset
    offset = offset + tensor.bytes
    parts[i + 1] = json.encode(tensor.name) .. ":" .. json.encode { dtype = tensor.dtype,
      shape = json.array(tensor.shape), data_offsets = json.array { tensor.at, offset } }
  end
  local text = "{" .. table.concat(parts, ",") .. "}"
  text = text .. (" "):rep(-#text % align_bytes)
  return string.pack("<s8", text), offset
end

local function write_file(path, file, metadata, progress)
  local header, bytes = header_of(file, metadata)
  local out <close> = errors.check(io.open(path, "wb"))
  errors.check(out:write(header))
  errors.check(out:close())
  for _, tensor in ipairs(file) do
    for _, part in ipairs(tensor.parts) do
      errors.check(core.tensor_copy(path, #header + tensor.at, part,
        { report = function(_, done) progress(done) end }))
      progress(part.bytes, true)
    end
  end
  local there = sys.stat(path)
  if not there or there.size ~= #header + bytes then
    errors.raise("io", "%s: %d bytes were to be written, it has %d", path, #header + bytes,
      there and there.size or 0)
  end
end

-- Every file that parts are taken from must be what its name says.
local function check_sources(list)
  local seen, total, done = {}, 0, 0
  for _, tensor in ipairs(list) do
    for _, part in ipairs(tensor.parts) do
      if not seen[part.sha256] then
        seen[part.sha256], seen[#seen + 1] = true, part
        local object <close> = errors.check(core.object(part.path))
        total = total + object:bytes()
      end
    end
  end
  local progress = term.progress("checking", format.bytes)
  for _, part in ipairs(seen) do
    local sha256, bytes = errors.check(core.object_sha256(part.path))
    if sha256 ~= part.sha256 then
      errors.raise("corrupt", "%s is damaged: it has other bytes than its name says", part.path)
    end
    done = done + bytes
    progress(done, total)
  end
  progress()
end

-- ---- the folder ---------------------------------------------------------------------------

-- What an earlier export of a process that is gone left beside the place.
local function sweep(parent, head)
  for _, name in ipairs(sys.list(parent) or {}) do
    local pid = name:sub(1, #head) == head and name:sub(#head + 1):match("^(%d+)%.part$")
    if pid and not sys.type("/proc/" .. pid) then sys.remove_tree(parent .. "/" .. name) end
  end
end

local function place_for(path)
  if sys.type(path) then errors.raise("exists", "%s: exists already", path) end
  local parent, name = path:gsub("/+$", ""):match("^(.-)/?([^/]+)$")
  parent = errors.check(sys.realpath(parent == "" and (path:sub(1, 1) == "/" and "/" or ".") or parent))
  local head = ("." .. name .. "-" .. sys.hostname():gsub("[^%w.]", "_") .. "-")
  sweep(parent, head)
  return parent:gsub("/$", "") .. "/" .. name, parent:gsub("/$", "") .. "/" .. head .. sys.pid() .. ".part"
end

local function write_all(made, list, metadata, limit)
  local total, done, names, map = 0, 0, json.array {}, {}
  for _, tensor in ipairs(list) do total = total + tensor.bytes end
  local files = split(list, limit)
  local show = term.progress("exporting", format.bytes)
  for i, file in ipairs(files) do
    names[i] = #files == 1 and "model.safetensors" or ("model-%05d-of-%05d.safetensors"):format(i, #files)
    write_file(made .. "/" .. names[i], file, metadata, function(bytes, ends)
      show(done + bytes, total)
      if ends then done = done + bytes end
    end)
    for _, tensor in ipairs(file) do map[tensor.name] = names[i] end
  end
  show()
  if #files > 1 then
    errors.check(sys.write_file(made .. "/model.safetensors.index.json",
      json.encode({ metadata = { total_size = total }, weight_map = map }, { pretty = true }) .. "\n"))
  end
  return names, total
end

return function(ctx, words)
  local store, options = ctx.reading(), ctx.options
  if not options.hf then errors.raise("usage", "checkpoint export: say where to, with --hf DIR") end
  local limit = shard_bytes
  if options.shard_size then
    limit = retention.size(options.shard_size) or errors.raise("usage",
      "--shard-size: expected a size, as 4GiB, got '%s'", options.shard_size)
  end
  local checkpoint = checkpoints.find(store, words[1])
  local path, made = place_for(options.hf)
  local list = load(store, checkpoint, options.role or "model")
  for _, tensor in ipairs(list) do
    if tensors.is_packed(tensor.dtype) and #tensor.parts > 1 then
      errors.raise("invalid", "'%s' is %s and in parts: bytes that several elements share cannot be put"
        .. " together", tensor.name, tensor.dtype)
    end
  end
  check_sources(list)
  errors.check(sys.mkdirs(made))
  -- "pt" is what transformers asks for before it loads a file.
  local ok, names, total = pcall(function()
    local names, total = write_all(made, list, { format = "pt", run = checkpoint.ulid,
      step = tostring(checkpoint.step), checkpoint = checkpoint.sha256 }, limit)
    errors.check(sys.publish(made, path))
    return names, total
  end)
  if not ok then
    sys.remove_tree(made)
    error(names, 0)
  end
  local result = { path = path, checkpoint = checkpoint.sha256, name = checkpoint.name, files = names,
    tensors = #list, bytes = total }
  if ctx.json then
    ctx.out(ctx.encode(result) .. "\n")
  elseif ctx.csv then
    ctx.out(csv.line { "path", "checkpoint", "files", "tensors", "bytes" })
    ctx.out(csv.line { path, checkpoint.sha256, #names, #list, total })
  else
    ctx.out(("%s  %s of %s in %d file%s, %d tensors\n"):format(options.hf, format.bytes(total),
      checkpoint.name, #names, #names == 1 and "" or "s", #list))
  end
  return 0
end
