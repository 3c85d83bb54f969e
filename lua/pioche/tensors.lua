-- tensors.lua: one tensor of a checkpoint: which is meant, and its bytes, as they are,
-- as a file of NumPy, as numbers.
local core = require "pioche.core.store"
local json = require "pioche.core.json"
local checkpoints = require "pioche.checkpoints"
local errors = require "pioche.errors"

local tensors = {}

local block_bytes = 1048576   -- a multiple of every element's size
local names_told = 8          -- in an error

-- ---- finding one ------------------------------------------------------------------------

-- ROLE/NAME: a name may have a '/' of its own.
local function matching(store, checkpoint, word)
  local list = {}
  for row in checkpoints.tensors(store, checkpoint, word) do list[#list + 1] = row end
  local role, name = word:match("^([^/]+)/(.+)$")
  if #list > 0 or not role then return list end
  for row in checkpoints.tensors(store, checkpoint, name) do
    if row.role == role then list[#list + 1] = row end
  end
  return list
end

-- Of what they are together: from the first one's begin to the last one's end.
local function shape_of_slices(slices)
  local first, last = slices[1], slices[#slices]
  local from, to = json.decode(first.part_begin), json.decode(last.part_begin)
  local shape = json.decode(last.shape)
  if type(from) == "number" then return { to + shape[1] - from } end
  for i, size in ipairs(shape) do shape[i] = to[i] + size - from[i] end
  return shape
end

local function not_found(store, checkpoint, word)
  local names, seen = {}, {}
  for row in checkpoints.tensors(store, checkpoint) do
    if not seen[row.name] then names[#names + 1] = row.name end
    seen[row.name] = true
  end
  local told = table.concat(names, ", ", 1, math.min(names_told, #names))
  local near = errors.nearest(word:match("[^/]*$"), names)
  errors.raise("not_found", "%s has no tensor '%s'; %s%s%s", checkpoint.name, word,
    near and ("did you mean '%s'? it has "):format(near) or "it has ", told, #names > names_told
      and (" and %d more"):format(#names - names_told) or "")
end

-- The rows that are left when one role is taken: the model's where nothing is said.
local function of_one_role(list, word)
  local roles, by_role = {}, {}
  for _, row in ipairs(list) do
    if not by_role[row.role] then
      by_role[row.role] = {}
      roles[#roles + 1] = row.role
    end
    table.insert(by_role[row.role], row)
  end
  if #roles > 1 and not by_role.model then
    errors.raise("invalid", "'%s' is in several roles; write %s/%s", word,
      table.concat(roles, "/" .. word .. ", "), word)
  end
  return by_role.model or by_role[roles[1]]
end

-- Slices of one rank's tensor that was too large for a file follow one another, and are cut
-- along one dimension after the other: it is a row again, of them all.
local function put_together(list)
  local joined = {}
  for _, row in ipairs(list) do
    local before = joined[#joined]
    if before and before.rank == row.rank then
      before.slices[#before.slices + 1] = row
      before.bytes = before.bytes + row.bytes
    else
      joined[#joined + 1] = setmetatable({ slices = { row }, bytes = row.bytes }, { __index = row })
    end
  end
  for _, tensor in ipairs(joined) do
    if #tensor.slices > 1 then tensor.shape = json.encode(json.array(shape_of_slices(tensor.slices))) end
  end
  return joined
end

-- Are the files of all their slices the same?
local function is_same(a, b)
  for i, slice in ipairs(a.slices) do
    if not b.slices[i] or slice.sha256 ~= b.slices[i].sha256 then return false end
  end
  return #a.slices == #b.slices
end

-- The tensor of a checkpoint that NAME or ROLE/NAME means, of one rank. Raises where
-- there is none, or where several ranks have others.
function tensors.find(store, checkpoint, word, rank)
  local list = matching(store, checkpoint, word)
  if #list == 0 then not_found(store, checkpoint, word) end
  list = put_together(of_one_role(list, word))
  local ranks, are_same = {}, true
  for i, row in ipairs(list) do
    if row.rank == rank then return row end
    ranks[i] = row.rank
    are_same = are_same and is_same(row, list[1])
  end
  if rank or not are_same then
    errors.raise(rank and "not_found" or "invalid", "%s: '%s' is of rank%s %s%s", checkpoint.name, word,
      #ranks == 1 and "" or "s", table.concat(ranks, ", "), rank and ", not of " .. rank
        or ", each with a part or bytes of its own: say which by --rank N")
  end
  return list[1]
end

function tensors.shape(row)
  return json.decode(row.shape)
end

-- "[256,128]" for people.
function tensors.shape_text(row)
  local shape = tensors.shape(row)
  return #shape > 0 and table.concat(shape, "×") or "scalar"
end

-- ---- its bytes ----------------------------------------------------------------------------

-- Give visit(bytes) all of a tensor, a block at a time.
function tensors.read(store, row, visit)
  for _, slice in ipairs(row.slices) do
    local object <close> = errors.check(core.object(store:object_path(slice.sha256)))
    for at = 0, slice.bytes - 1, block_bytes do
      visit(errors.check(object:read(slice.offset + at, math.min(slice.bytes - at, block_bytes))))
    end
  end
end

-- NumPy's names; of floats that it has none for, the next larger one is exact.
local npy_types = { BOOL = "|b1", U8 = "|u1", I8 = "|i1", U16 = "<u2", I16 = "<i2", U32 = "<u4", I32 = "<i4",
  U64 = "<u8", I64 = "<i8", F16 = "<f2", F32 = "<f4", F64 = "<f8", C64 = "<c8", BF16 = "<f4",
  F8_E4M3 = "<f4", F8_E5M2 = "<f4", F8_E8M0 = "<f4" }

local function widen(dtype)
  if dtype == "BF16" then
    return function(bytes) return (bytes:gsub("..", "\0\0%0")) end
  elseif dtype:find("^F8") then
    local known = {}
    for b = 0, 255 do
      known[string.char(b)] = string.pack("<f", core.numbers(dtype, string.char(b))[1])
    end
    return function(bytes) return (bytes:gsub(".", known)) end
  end
  return function(bytes) return bytes end
end

-- Has a byte several elements, or a part of one?
function tensors.is_packed(dtype)
  return dtype == "F4" or dtype:find("^F6_") ~= nil
end

local function refuse_packed(row)
  if tensors.is_packed(row.dtype) then
    errors.raise("invalid", "%s is %s, several elements a byte: its bytes alone can be had", row.name,
      row.dtype)
  end
end

-- A whole file of NumPy's format 1.0, to visit(bytes).
function tensors.npy(store, row, visit)
  refuse_packed(row)
  local shape = tensors.shape(row)
  local head = ("{'descr': '%s', 'fortran_order': False, 'shape': (%s%s), }"):format(npy_types[row.dtype],
    table.concat(shape, ", "), #shape == 1 and "," or "")
  head = head .. (" "):rep(-(#head + 11) % 64) .. "\n"
  visit("\x93NUMPY\1\0" .. string.pack("<s2", head))
  local convert = widen(row.dtype)
  tensors.read(store, row, function(bytes) visit(convert(bytes)) end)
end

-- ---- its numbers -------------------------------------------------------------------------

local function unsigned(value)
  if value >= 0 then return tostring(value) end
  local tens = (value >> 1) // 5
  return ("%d%d"):format(tens, value - tens * 10)
end

-- Text from which the same element can be read again.
local function text_of(dtype)
  if dtype == "U64" then return unsigned end
  local pattern = dtype == "F64" and "%.17g" or "%.9g"
  return function(value)
    if math.type(value) == "integer" then return tostring(value) end
    if value ~= value then return "NaN" end
    if value - value ~= 0 then return value > 0 and "Infinity" or "-Infinity" end
    return pattern:format(value)
  end
end

-- Give visit(text) each number in order; a complex one is two.
function tensors.numbers(store, row, visit)
  refuse_packed(row)
  local text = text_of(row.dtype)
  tensors.read(store, row, function(bytes)
    for _, value in ipairs(core.numbers(row.dtype, bytes)) do visit(text(value)) end
  end)
end

-- Numbers in a line: those of the last dimension.
function tensors.columns(row)
  local shape = tensors.shape(row)
  return (shape[#shape] or 1) * (row.dtype == "C64" and 2 or 1)
end

return tensors
