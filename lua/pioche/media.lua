-- media.lua: histograms, images, tables and files that a run logged: which there
-- are, their bytes, and how a terminal shows them.
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local format = require "pioche.format"
local tables = require "pioche.table"
local term = require "pioche.term"

local media = {}

local rows_of_histogram = 20
local rows_of_table = 50         -- unless all are asked for
local kitty_bytes = 4096         -- of base64 in one escape sequence

local columns = "id, kind, key, step, rank, name, mime, bytes, sha256, time_ns"

-- Everything of a run, or of one key, oldest first; without the bytes.
function media.list(store, run, key)
  return store:rows("SELECT " .. columns .. " FROM media WHERE run_id = ?1 AND key = coalesce(?2, key)"
    .. " ORDER BY kind, key, step, rank, id", run.id, key)
end

-- One a key and kind: the newest step of the lowest rank, with `times`, how often
-- it was logged.
function media.newest(list)
  local by_key, order = {}, {}
  for _, item in ipairs(list) do
    local name = item.kind .. "\0" .. item.key
    local best = by_key[name]
    if not best then order[#order + 1] = name end
    local newer = not best or (item.step or math.mininteger) > (best.step or math.mininteger)
      or (item.step == best.step and item.rank <= best.rank)
    item.times = best and best.times or 0
    if newer then by_key[name], best = item, item end
    best.times = item.times + 1
  end
  for i, name in ipairs(order) do order[i] = by_key[name] end
  return order
end

-- What --media KEY, --step and --rank mean; raises where there is no such thing.
function media.find(store, run, key, step, rank)
  local list = media.list(store, run, key)
  if #list == 0 then
    local keys, seen = {}, {}
    for _, item in ipairs(media.list(store, run)) do
      if not seen[item.key] then keys[#keys + 1] = item.key end
      seen[item.key] = true
    end
    errors.raise("not_found", "%s has logged no histogram, image, table or file '%s'%s", run.name, key,
      #keys > 0 and (errors.suggestion(key, keys) .. "; there are " .. table.concat(keys, ", ")) or "")
  end
  local found = {}
  for _, item in ipairs(list) do
    if (not step or item.step == step) and (not rank or item.rank == rank) then
      found[#found + 1] = item
    end
  end
  if #found > 0 then return media.newest(found)[1] end
  local steps = {}
  for i, item in ipairs(list) do
    steps[i] = (item.step or "none") .. (item.rank > 0 and "@" .. item.rank or "")
  end
  errors.raise("not_found", "'%s' of %s was not logged %s%s; its steps are %s", key, run.name,
    step and "at step " .. step or "", rank and " by rank " .. rank or "",
    table.concat(steps, ", ", math.max(1, #steps - 19)))
end

-- The bytes of an item.
function media.bytes(store, item)
  if item.sha256 then return errors.check(sys.read_file(store:object_path(item.sha256))) end
  return store:one("SELECT data FROM media WHERE id = ?", item.id).data or ""
end

-- ---- a histogram ---------------------------------------------------------------------

-- Counts of `n` equal parts of [min, max]: a bucket gives each part its share.
local function rebinned(histogram, n)
  local low, high, parts = histogram.min, histogram.max, {}
  for i = 1, n do parts[i] = 0.0 end
  local width = (high - low) / n
  for _, bucket in ipairs(histogram.buckets) do
    local from, to = math.max(bucket.low, low), math.min(bucket.high, high)
    local first = math.max(1, math.min(n, math.floor((from - low) / width) + 1))
    local last = math.max(first, math.min(n, math.ceil((to - low) / width)))
    for i = first, last do
      local share = 1.0
      if to > from then
        local left, right = low + (i - 1) * width, low + i * width
        share = math.max(0, math.min(to, right) - math.max(from, left)) / (to - from)
      end
      parts[i] = parts[i] + bucket.count * share
    end
  end
  return parts, low, width
end

local eighths = { "▏", "▎", "▍", "▌", "▋", "▊", "▉" }

local function bar(share, width)
  local cells = share * width * 8 // 1
  local whole, rest = cells // 8, math.tointeger(cells % 8)
  return ("█"):rep(math.tointeger(whole)) .. (eighths[rest] or (share > 0 and whole == 0 and "▏" or ""))
end

function media.histogram_text(ctx, histogram)
  local h, lines = histogram, {}
  local facts = { format.count(h.finite) .. " values" }
  if h.finite > 0 then
    facts[#facts + 1] = "mean " .. format.number(h.sum / h.finite)
    facts[#facts + 1] = "from " .. format.number(h.min) .. " to " .. format.number(h.max)
  end
  for _, odd in ipairs { { h.nans, "NaN" }, { h.infinities, "inf" }, { h.negative_infinities, "-inf" } } do
    if odd[1] > 0 then facts[#facts + 1] = format.count(odd[1]) .. " " .. odd[2] end
  end
  lines[1] = table.concat(facts, ", ")
  if h.finite == 0 then return lines[1] .. "\n" end
  local whole = h.max > h.min and h.max - h.min < math.huge
  local parts, low, width = { h.finite }, h.min, 0.0
  if whole then parts, low, width = rebinned(h, rows_of_histogram) end
  local edges, most, label = {}, 0, 0
  for i, count in ipairs(parts) do
    edges[i] = low + (i - 1) * width
    most = math.max(most, count)
  end
  local texts = format.column(edges, #edges, 4)
  for _, text in ipairs(texts) do label = math.max(label, #text) end
  local room = math.max(10, math.min(ctx.cols, 100) - label - 16)
  for i, count in ipairs(parts) do
    lines[#lines + 1] = string.format("%s │%s %s", term.pad(texts[i], label, "right"),
      term.paint(bar(most > 0 and count / most or 0, room), "cyan", ctx.color),
      count >= 0.5 and format.count(math.floor(count + 0.5)) or "")
  end
  return table.concat(lines, "\n"):gsub(" +\n", "\n") .. "\n"
end

local function decode_histogram(bytes)
  return errors.check(require "pioche.core.histogram".decode(bytes))
end

-- ---- a table --------------------------------------------------------------------------

local function cell_text(value)
  if value == nil or value == json.null then return "" end
  if type(value) == "number" then return format.value(value) end
  return type(value) == "table" and json.encode(value) or tostring(value)
end

-- { columns, data } of a table's bytes, data being a list a column; and how many
-- rows it has.
local function decode_table(bytes, item)
  local ok, value = pcall(json.decode, bytes)
  if not ok or type(value) ~= "table" or type(value.columns) ~= "table" or type(value.data) ~= "table" then
    errors.raise("corrupt", "the table '%s' is no JSON of columns and data; --save writes its bytes",
      item.key)
  end
  local count = 0
  for c in ipairs(value.columns) do count = math.max(count, #(value.data[c] or {})) end
  return value, count
end

local function show_table(ctx, bytes, item)
  local value, count = decode_table(bytes, item)
  local list, rows = {}, {}
  for c, name in ipairs(value.columns) do
    list[c] = { title = tostring(name), flex = true, min = 8,
      align = type((value.data[c] or {})[1]) == "number" and "right" or "left" }
  end
  local shown = ctx.options.all and count or math.min(count, rows_of_table)
  for r = 1, shown do
    rows[r] = {}
    for c in ipairs(list) do rows[r][c] = cell_text((value.data[c] or {})[r]) end
  end
  tables.print(ctx, list, rows)
  if shown < count then
    ctx.out(term.paint(string.format("+%d rows: --all\n", count - shown), "dim", ctx.color))
  end
end

-- ---- an image ----------------------------------------------------------------------------

local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

function media.base64(bytes)
  local parts = {}
  for at = 1, #bytes, 3 do
    local a, b, c = bytes:byte(at, at + 2)
    local bits = a << 16 | (b or 0) << 8 | (c or 0)
    local function digit(shift)
      local i = (bits >> shift & 63) + 1
      return digits:sub(i, i)
    end
    parts[#parts + 1] = digit(18) .. digit(12) .. (b and digit(6) or "=") .. (c and digit(0) or "=")
  end
  return table.concat(parts)
end

-- The protocol by which this terminal shows an image: "kitty", "iterm" or nil.
-- Behind tmux and screen neither gets through.
function media.protocol(getenv)
  local name, program = getenv("TERM") or "", getenv("TERM_PROGRAM") or ""
  if name:match("^screen") or name:match("^tmux") or getenv("TMUX") then return nil end
  if name == "xterm-kitty" or name == "xterm-ghostty" or getenv("KITTY_WINDOW_ID")
    or program == "ghostty" then
    return "kitty"
  end
  local iterm = program == "iTerm.app" or program == "WezTerm" or getenv("LC_TERMINAL") == "iTerm2"
  return iterm and "iterm" or nil
end

-- The escape sequences that show an image; nil where the protocol cannot: kitty
-- takes PNG alone.
function media.image_text(protocol, bytes, mime)
  if protocol == "iterm" then
    return string.format("\27]1337;File=inline=1;size=%d:%s\7\n", #bytes, media.base64(bytes))
  elseif protocol ~= "kitty" or mime ~= "image/png" then
    return nil
  end
  local text, parts = media.base64(bytes), {}
  for at = 1, #text, kitty_bytes do
    local more = at + kitty_bytes <= #text and 1 or 0
    parts[#parts + 1] = string.format("\27_G%sm=%d;%s\27\\", at == 1 and "f=100,a=T," or "", more,
      text:sub(at, at + kitty_bytes - 1))
  end
  return table.concat(parts) .. "\n"
end

local function show_image(ctx, bytes, item)
  local text = ctx.stdout_tty and media.image_text(media.protocol(sys.getenv), bytes, item.mime)
  if text then
    ctx.out(text)
  else
    ctx.out("this terminal shows no image: --save PATH writes it to a file\n")
  end
end

-- ---- what `pioche show --media` does ------------------------------------------------------

function media.to_json(item)
  local function or_null(value)
    if value == nil then return json.null end
    return value
  end
  return { kind = item.kind, key = item.key, step = or_null(item.step), rank = item.rank,
    name = or_null(item.name), mime = item.mime, bytes = item.bytes, sha256 = or_null(item.sha256),
    time = sys.format_time(item.time_ns) }
end

-- With what is inside: { ..., histogram } or { ..., table }.
function media.whole_json(store, item)
  local whole = media.to_json(item)
  if item.kind == "histogram" then
    local histogram = decode_histogram(media.bytes(store, item))
    histogram.buckets = json.array(histogram.buckets)
    whole.histogram = histogram
  elseif item.kind == "table" then
    whole.table = json.decode(media.bytes(store, item))
  end
  return whole
end

-- A table's rows, or a histogram's buckets.
function media.print_csv(ctx, store, item)
  local bytes = media.bytes(store, item)
  if item.kind == "histogram" then
    ctx.out(csv.line { "low", "high", "count" })
    for _, bucket in ipairs(decode_histogram(bytes).buckets) do
      ctx.out(csv.line { bucket.low, bucket.high, bucket.count })
    end
  elseif item.kind == "table" then
    local value, count = decode_table(bytes, item)
    ctx.out(csv.line(value.columns))
    for r = 1, count do
      local line = {}
      for c in ipairs(value.columns) do
        local cell = (value.data[c] or {})[r]
        line[c] = type(cell) == "number" and cell or cell_text(cell)
      end
      ctx.out(csv.line(line))
    end
  else
    errors.raise("usage", "--csv: '%s' is no table; --save PATH writes it to a file", item.key)
  end
end

-- One line on an item.
function media.title(item)
  return string.format("%s %s%s%s  %s, %s", item.kind, term.clean(item.key),
    item.step and " at step " .. item.step or "", item.rank > 0 and " of rank " .. item.rank or "",
    item.mime, format.bytes(item.bytes))
end

function media.show(ctx, store, item)
  local bytes = media.bytes(store, item)
  ctx.out(term.paint(media.title(item), "bold", ctx.color) .. "\n")
  if item.kind == "histogram" then
    ctx.out(media.histogram_text(ctx, decode_histogram(bytes)))
  elseif item.kind == "table" then
    show_table(ctx, bytes, item)
  elseif item.kind == "image" then
    show_image(ctx, bytes, item)
  elseif utf8.len(bytes) and #bytes <= 65536 and not bytes:find("[%z\1-\8\14-\31]") then
    ctx.out((bytes:gsub("\n?$", "\n"):gsub("[^\n\t]+", term.clean)))
  else
    ctx.out("no text: --save PATH writes it to a file\n")
  end
end

-- Write an item's bytes to a file that does not exist yet, or into a folder under
-- its own name; returns the path.
function media.save(store, item, path, force)
  if sys.type(path) == "dir" then
    local name = (item.name or item.key):match("([^/]+)$") or "media"
    if name == "." or name == ".." then name = "media" end
    path = path:gsub("/+$", "") .. "/" .. name
  end
  if sys.type(path) and not force then
    errors.raise("exists", "%s: exists already; --force replaces it", path)
  end
  errors.check(sys.write_file(path, media.bytes(store, item)))
  return path
end

return media
