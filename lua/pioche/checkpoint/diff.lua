-- checkpoint diff: what changed between two checkpoints, tensor by tensor.
--
-- Tensors of the same rank, role and name belong together, and of one that is in several
-- files its first slices, its second ones, and so on. What lies in the same file
-- at the same place is the same, and is not read.
local core = require "pioche.core.store"
local json = require "pioche.core.json"
local checkpoints = require "pioche.checkpoints"
local csv = require "pioche.csv"
local format = require "pioche.format"
local sys = require "pioche.core.sys"
local tables = require "pioche.table"
local tensors = require "pioche.tensors"
local term = require "pioche.term"

local pairs_sql = [[
  WITH x AS (SELECT f.rank, f.role, t.name, t.dtype, t.shape, t.offset, t.bytes, t.sha256,
                    row_number() OVER (PARTITION BY f.rank, f.role, t.name ORDER BY f.part) AS slice
               FROM checkpoint_file f JOIN tensor t ON t.sha256 = f.sha256 WHERE f.checkpoint_id = ?1),
       y AS (SELECT f.rank, f.role, t.name, t.dtype, t.shape, t.offset, t.bytes, t.sha256,
                    row_number() OVER (PARTITION BY f.rank, f.role, t.name ORDER BY f.part) AS slice
               FROM checkpoint_file f JOIN tensor t ON t.sha256 = f.sha256 WHERE f.checkpoint_id = ?2)
  SELECT coalesce(x.rank, y.rank) AS rank, coalesce(x.role, y.role) AS role,
         coalesce(x.name, y.name) AS name, x.dtype AS a_dtype, x.shape AS a_shape,
         x.offset AS a_offset, x.bytes AS a_bytes, x.sha256 AS a_file, y.dtype AS b_dtype,
         y.shape AS b_shape, y.offset AS b_offset, y.bytes AS b_bytes, y.sha256 AS b_file
    FROM x FULL JOIN y ON x.rank = y.rank AND x.role = y.role AND x.name = y.name AND x.slice = y.slice
   ORDER BY 1, 2, coalesce(x.offset, y.offset), 3, coalesce(x.slice, y.slice)]]

-- What can be told without reading; nil where it has to be read.
local function kind_of(row)
  if not row.a_file then return "added" end
  if not row.b_file then return "removed" end
  if row.a_shape ~= row.b_shape then return "reshaped" end
  if row.a_file == row.b_file and row.a_offset == row.b_offset then return "same" end
  local a, b = row.a_dtype, row.b_dtype
  -- A complex number, or a packed one, compares with its like alone.
  local alone = a == "C64" or b == "C64" or tensors.is_packed(a) or tensors.is_packed(b)
  return a ~= b and alone and "reshaped" or nil
end

local function place(store, row, side)
  return { path = store:object_path(row[side .. "_file"]), offset = row[side .. "_offset"],
    bytes = row[side .. "_bytes"], dtype = row[side .. "_dtype"] }
end

-- "[3,17]": where in the tensor an element is.
local function index_text(shape, at)
  local parts = {}
  for i = #shape, 1, -1 do
    parts[i], at = at % shape[i], at // shape[i]
  end
  return "[" .. table.concat(parts, ",") .. "]"
end

local function measure(store, row, done, total, progress)
  local diff = core.tensor_diff(place(store, row, "a"), place(store, row, "b"),
    { report = function(_, bytes) progress(done + bytes, total) end })
  for name, value in pairs(diff) do row[name] = value end
  if row.max_abs and row.max_abs > 0 then
    local shape = tensors.shape { shape = row.b_shape }
    if row.b_dtype == "C64" then shape[#shape + 1] = 2 end
    row.max_index = index_text(shape, row.max_at)
  end
  return row.changed == 0 and row.a_dtype == row.b_dtype and "same" or "changed"
end

-- Rows of all pairs, with `kind` and, where both were read, what core.tensor_diff says;
-- and sums.
local function compare(store, a, b)
  local rows = store:rows(pairs_sql, a.id, b.id)
  local counts = { same = 0, changed = 0, added = 0, removed = 0, reshaped = 0, bytes_read = 0 }
  local total = 0
  for _, row in ipairs(rows) do
    row.kind = kind_of(row)
    if not row.kind then total = total + row.a_bytes + row.b_bytes end
  end
  local progress = term.progress("comparing", format.bytes)
  for _, row in ipairs(rows) do
    if not row.kind then
      row.kind = measure(store, row, counts.bytes_read, total, progress)
      counts.bytes_read = counts.bytes_read + row.a_bytes + row.b_bytes
    end
    counts[row.kind] = counts[row.kind] + 1
  end
  progress()
  return rows, counts
end

local measures = { "max", "rms", "relative", "cosine", "changed" }

-- What --by orders by, largest difference first; what was not measured comes last.
local function order_by(rows, name)
  local function size(row)
    local value
    if name == "changed" then
      value = row.changed and row.changed / math.max(1, row.elements)
    elseif name == "cosine" then
      value = row.cosine and -row.cosine
    else
      value = row[name == "max" and "max_abs" or name]
    end
    return value == value and value or -math.huge
  end
  local place_of, sizes = {}, {}
  for i, row in ipairs(rows) do place_of[row], sizes[row] = i, size(row) or -math.huge end
  table.sort(rows, function(x, y)
    if sizes[x] ~= sizes[y] then return sizes[x] > sizes[y] end
    return place_of[x] < place_of[y]
  end)
end

-- ---- printing ------------------------------------------------------------------------------

local function percent(row)
  if not row.changed then return "" end
  if row.elements == 0 or row.changed == 0 then return "0 %" end
  local share = row.changed / row.elements * 100
  return share == 100 and "100 %" or share < 0.01 and "<0.01 %" or ("%.2f %%"):format(share)
end

local function of_both(a, b)
  if a == b or not b then return a end
  return a and a .. " → " .. b or b
end

local function shape_of(text)
  return text and tensors.shape_text { shape = text }
end

local styles = { added = "green", removed = "red", reshaped = "yellow", changed = nil, same = "dim" }

local function print_table(ctx, rows, ranks)
  local cells = {}
  for _, row in ipairs(rows) do
    if row.kind ~= "same" or ctx.options.all then
      cells[#cells + 1] = { { row.kind, styles[row.kind] }, row.role .. "/" .. row.name,
        ranks > 1 and tostring(row.rank) or "", of_both(row.a_dtype, row.b_dtype),
        of_both(shape_of(row.a_shape), shape_of(row.b_shape)),
        format.number(row.max_abs), row.max_index or "", format.number(row.rms),
        format.number(row.relative), row.cosine and ("%.6g"):format(row.cosine) or "", percent(row),
        row.unfinite and row.unfinite > 0 and { format.count(row.unfinite), "red" } or "" }
    end
  end
  if #cells == 0 then return end
  tables.print(ctx, { { title = "" }, { title = "tensor", flex = true, min = 16 },
    { title = "rank", align = "right", drop = 4 }, { title = "type", drop = 5 },
    { title = "shape", drop = 4 },
    { title = "max |Δ|", align = "right" }, { title = "at", drop = 3 },
    { title = "RMS", align = "right", drop = 1 }, { title = "relative", align = "right", drop = 2 },
    { title = "cosine", align = "right", drop = 1 }, { title = "changed", align = "right" },
    { title = "NaN, Inf", align = "right", drop = 1 } }, cells)
end

local function summary(a, b, counts, seconds)
  local words = {}
  for _, kind in ipairs { "changed", "same", "added", "removed", "reshaped" } do
    if counts[kind] > 0 then words[#words + 1] = ("%s %s"):format(format.count(counts[kind]), kind) end
  end
  return ("%s → %s: %s%s\n"):format(a.name, b.name, #words > 0 and table.concat(words, ", ") or "no tensors",
    counts.bytes_read > 0 and ("; %s read, %s/s"):format(format.bytes(counts.bytes_read),
      format.bytes(math.floor(counts.bytes_read / seconds))) or "; nothing had to be read")
end

local function or_null(value)
  if value == nil then return json.null end
  return value
end

local function row_json(row)
  local function side(name)
    if not row[name .. "_file"] then return json.null end
    return { dtype = row[name .. "_dtype"],
      shape = json.array(tensors.shape { shape = row[name .. "_shape"] }),
      bytes = row[name .. "_bytes"], file = row[name .. "_file"] }
  end
  return { kind = row.kind, rank = row.rank, role = row.role, name = row.name, a = side "a", b = side "b",
    elements = or_null(row.elements), changed = or_null(row.changed), unfinite = or_null(row.unfinite),
    max_abs = or_null(row.max_abs), max_index = or_null(row.max_index), rms = or_null(row.rms),
    relative = or_null(row.relative), cosine = or_null(row.cosine) }
end

local diff = { measures = measures }

function diff.run(ctx, words)
  local store = ctx.reading()
  local a, b = checkpoints.find(store, words[1]), checkpoints.find(store, words[2])
  local begin = sys.mono_ns()
  local rows, counts = compare(store, a, b)
  local seconds = math.max(1, sys.mono_ns() - begin) / 1e9
  if ctx.options.by then order_by(rows, ctx.options.by) end
  if ctx.json then
    local list = json.array {}
    for i, row in ipairs(rows) do list[i] = row_json(row) end
    ctx.out(ctx.encode { a = a.sha256, b = b.sha256, tensors = list, same = counts.same,
      changed = counts.changed, added = counts.added, removed = counts.removed, reshaped = counts.reshaped,
      bytes_read = counts.bytes_read } .. "\n")
  elseif ctx.csv then
    ctx.out(csv.line { "kind", "rank", "role", "name", "elements", "changed", "unfinite", "max_abs",
      "max_index", "rms", "relative", "cosine" })
    for _, row in ipairs(rows) do
      ctx.out(csv.line({ row.kind, row.rank, row.role, row.name, row.elements, row.changed, row.unfinite,
        row.max_abs, row.max_index, row.rms, row.relative, row.cosine }, 12))
    end
  else
    print_table(ctx, rows, math.max(a.writers, b.writers))
    ctx.out(summary(a, b, counts, seconds))
  end
  return 0
end

return diff
