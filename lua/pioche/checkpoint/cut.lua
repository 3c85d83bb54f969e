-- cut.lua: a safetensors file of others that is larger than a checkpoint's may be, as
-- several.
--
-- In a file tensors follow one another, and so do slices along the first dimension of one:
-- wherever it is cut, a piece is a header of its own and one stretch of the file's bytes.
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local tensors = require "pioche.tensors"

local align_bytes = 4096          -- data begins on a page
local file_bytes = math.tointeger(sys.getenv("PIOCHE_FILE_BYTES") or 4 << 30) -- set for tests

-- At most, of what a header has of a tensor: its name twice escaped, and numbers.
local function entry_bytes(tensor)
  return 256 + 18 * #tensor.name + 72 * #tensor.shape
end

-- Slices [from, from + count) of a dimension before which each has one index.
local function slice(tensor, dim, from, count)
  local made = { name = tensor.name, dtype = tensor.dtype, whole = tensor.whole or tensor.shape,
    shape = table.move(tensor.shape, 1, #tensor.shape, 1, {}), begin = {} }
  for i = 1, #tensor.shape do made.begin[i] = tensor.begin and tensor.begin[i] or 0 end
  local stride = tensor.bytes // tensor.shape[dim]
  made.shape[dim], made.begin[dim] = count, made.begin[dim] + from
  made.offset, made.bytes = tensor.offset + from * stride, count * stride
  return made
end

-- Give visit() the tensor where it has at most `room` bytes, or slices that have: along the
-- first dimension of several indices, and where these are still too large, along the next.
local function each_slice(tensor, room, visit)
  local dim = 1
  while tensor.shape[dim] and tensor.shape[dim] <= 1 do dim = dim + 1 end
  local size = tensor.shape[dim]
  if tensor.bytes <= room or not size or tensors.is_packed(tensor.dtype) then return visit(tensor) end
  local most = math.max(1, room // (tensor.bytes // size))
  for from = 0, size - 1, most do
    each_slice(slice(tensor, dim, from, math.min(most, size - from)), room, visit)
  end
end

-- The pieces, lists of tensors and slices that follow one another: as many as fit, and of one
-- tensor no two.
local function pieces_of(list, around)
  local pieces, bytes = {}, math.huge
  for _, tensor in ipairs(list) do
    local room = math.max(1, file_bytes - around - entry_bytes(tensor))
    each_slice(tensor, room, function(one)
      local size, last = one.bytes + entry_bytes(one), pieces[#pieces]
      if bytes + size > file_bytes or last[#last].name == one.name then
        pieces[#pieces + 1], bytes = {}, around
      end
      table.insert(pieces[#pieces], one)
      bytes = bytes + size
    end)
  end
  return pieces
end

local function header_of(piece, metadata)
  local entries, parts, first = {}, {}, piece[1].offset
  for i, tensor in ipairs(piece) do
    entries[i] = json.encode(tensor.name) .. ":" .. json.encode { dtype = tensor.dtype,
      shape = json.array(tensor.shape), data_offsets = json.array { tensor.offset - first,
        tensor.offset + tensor.bytes - first } }
    if tensor.begin then
      parts[tensor.name] = { shape = json.array(tensor.whole), offset = json.array(tensor.begin) }
    end
  end
  local told = {}
  for key, text in pairs(metadata) do told[key] = text end
  if next(parts) then told.format, told.parts = "pioche", json.encode(parts) end
  local text = ('{"__metadata__":%s,%s}'):format(json.encode(told), table.concat(entries, ","))
  return string.pack("<s8", text .. (" "):rep(-(#text + 8) % align_bytes))
end

-- What a checkpoint has of the file at `path`: { path, header, offset, bytes } each, a header
-- where it is cut. `list`, `metadata`: what core.safetensors says of it.
return function(path, list, metadata)
  local decoded = metadata and json.decode(metadata) or {}
  if sys.stat(path).size <= file_bytes or decoded.format == "pioche" then return { { path = path } } end
  local files = {}
  for i, piece in ipairs(pieces_of(list, align_bytes + 128 + 6 * #(metadata or ""))) do
    local last = piece[#piece]
    files[i] = { path = path, header = header_of(piece, decoded), offset = piece[1].offset,
      bytes = last.offset + last.bytes - piece[1].offset }
  end
  return files
end
