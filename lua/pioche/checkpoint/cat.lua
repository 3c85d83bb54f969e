-- checkpoint cat: the bytes, or the numbers, of one tensor.
local checkpoints = require "pioche.checkpoints"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local json = require "pioche.core.json"
local tensors = require "pioche.tensors"

-- Numbers in lines, a line for each place in the dimensions before the last.
local function print_lines(ctx, store, row, separator, line_end)
  local columns, at = tensors.columns(row), 0
  tensors.numbers(store, row, function(text)
    at = at + 1
    ctx.out(text .. (at % columns == 0 and line_end or separator))
  end)
end

-- Numbers that are none are words, as everywhere in JSON here.
local function print_json(ctx, store, row)
  local head = { dtype = row.dtype, name = row.name, rank = row.rank, role = row.role,
    shape = json.array(tensors.shape(row)) }
  local lead = ""
  ctx.out(ctx.encode(head):sub(1, -2) .. ',"values":[')
  tensors.numbers(store, row, function(text)
    ctx.out(lead .. (text:find("[NI]") and '"' .. text .. '"' or text))
    lead = ","
  end)
  ctx.out("]}\n")
end

local function print_csv(ctx, store, row)
  ctx.out(csv.line { "index", "value" })
  local index = -1
  tensors.numbers(store, row, function(text)
    index = index + 1
    ctx.out(("%d,%s\r\n"):format(index, text))
  end)
end

return function(ctx, words)
  local store = ctx.reading()
  local row = tensors.find(store, checkpoints.find(store, words[1]), words[2], ctx.options.rank)
  local options = ctx.options
  local forms = (options.text and 1 or 0) + (options.npy and 1 or 0) + ((ctx.json or ctx.csv) and 1 or 0)
  if forms > 1 then errors.raise("usage", "--text, --npy, --json and --csv exclude each other") end
  if forms == 0 or options.npy then
    if ctx.stdout_tty then
      errors.raise("usage", "bytes are no text for a terminal: --text, or > FILE")
    end
    local how = options.npy and tensors.npy or tensors.read
    how(store, row, ctx.out)
  elseif options.text then
    print_lines(ctx, store, row, "\t", "\n")
  elseif ctx.json then
    print_json(ctx, store, row)
  else
    print_csv(ctx, store, row)
  end
  return 0
end
