-- table.lua: tables for people.
--
-- A column is { title, align = "left"|"right", min = n, drop = n, flex = true }:
-- on a terminal too narrow for everything, columns marked flex are cut down to
-- `min`, then columns with `drop` disappear, highest `drop` first and last ones
-- first among equals, and those that are empty in every row are not shown at
-- all. Columns without `drop` always stay. A cell is a string,
-- nil, or { text, style }. Without a width (a pipe) nothing is cut or dropped.
local term = require "pioche.term"

local M = {}

-- Spaces at the end go. (A pattern that begins with %s+ would try at each space.)
local function trim(text)
  return text:find(" ", -1, true) and (text:match("^.*%S") or "") or text
end

-- A column as it is shown: of each row the text and its style, the title's at 0; widths, or nil
-- where all is ASCII and a text's width its length; widest; is it empty below its title?
local function measure(title, rows, c)
  local texts, styles = { [0] = title }, { [0] = "bold" }
  for r, row in ipairs(rows) do
    local cell = row[c]
    if type(cell) == "table" then cell, styles[r] = cell[1], cell[2] end
    texts[r] = cell or ""
  end
  local all, widths, widest = table.concat(texts), nil, 0
  if (title .. all):find("[^ -~]") then
    widths = {}
    for r = 0, #rows do texts[r], widths[r] = term.shown(texts[r]) end
  end
  for r = 0, #rows do
    local width = widths and widths[r] or #texts[r]
    if width > widest then widest = width end
  end
  return { texts = texts, styles = styles, widths = widths, widest = widest, empty = all == "" }
end

local function total(widths, kept, gap)
  local sum = 0
  for i, c in ipairs(kept) do sum = sum + widths[c] + (i > 1 and gap or 0) end
  return sum
end

-- Cut flexible columns, widest first, until the table fits or all are at min.
local function squeeze(columns, widths, kept, limit, gap)
  local over = total(widths, kept, gap) - limit
  while over > 0 do
    local widest, second = nil, 0
    for _, c in ipairs(kept) do
      local room = widths[c] - (columns[c].min or 8)
      if columns[c].flex and room > 0 then
        if not widest or widths[c] > widths[widest] then
          second = widest and widths[widest] or second
          widest = c
        elseif widths[c] > second then
          second = widths[c]
        end
      end
    end
    if not widest then return end
    local floor = math.max(columns[widest].min or 8, math.min(second, widths[widest] - 1))
    local cut = math.min(over, widths[widest] - floor)
    widths[widest] = widths[widest] - math.max(1, cut)
    over = total(widths, kept, gap) - limit
  end
end

-- Least width a table of these columns can take.
local function least(columns, widths, kept, gap)
  local sum = 0
  for i, c in ipairs(kept) do
    local width = widths[c]
    if columns[c].flex then width = math.min(width, columns[c].min or 8) end
    sum = sum + width + (i > 1 and gap or 0)
  end
  return sum
end

-- Numbers of the columns to show: those that may be dropped need a cell that
-- is not empty.
local function filled(columns, shown)
  local kept = {}
  for c, column in ipairs(columns) do
    if not column.drop or not shown[c].empty then kept[#kept + 1] = c end
  end
  return kept
end

-- Take columns out of `kept` until the rest can fit; returns how many went.
local function drop_columns(columns, widths, kept, limit, gap)
  local dropped = 0
  while least(columns, widths, kept, gap) > limit do
    local victim
    for i, c in ipairs(kept) do
      local drop = columns[c].drop
      if drop and (not victim or drop >= columns[kept[victim]].drop) then victim = i end
    end
    if not victim then break end
    table.remove(kept, victim)
    dropped = dropped + 1
  end
  return dropped
end

local spaces = setmetatable({}, { __index = function(self, n)
  self[n] = (" "):rep(n)
  return self[n]
end })

-- Row r (0: the titles) of columns (see measure) as text, the columns `widths` wide.
local function render_line(columns, shown, widths, kept, gap, indent, r, color)
  local parts = {}
  for i, c in ipairs(kept) do
    local column = shown[c]
    local text = column.texts[r]
    local width = column.widths and column.widths[r] or #text
    if width > widths[c] then
      text = term.cut(text, widths[c])
      width = term.width(text)
    end
    local padding = spaces[widths[c] - width]
    if color then text = term.paint(text, column.styles[r], color) end
    parts[i] = columns[c].align == "right" and padding .. text or text .. padding
  end
  return trim(indent .. table.concat(parts, spaces[gap]))
end

-- string.format's way to write a line of ASCII, or nil where it has none: it
-- pads to two digits at most, and not to none.
local function plain_pattern(columns, widths, kept, gap, indent)
  local parts = {}
  for i, c in ipairs(kept) do
    if widths[c] > 99 then return nil end
    parts[i] = widths[c] == 0 and "%s" or "%" .. (columns[c].align == "right" and "" or "-") .. widths[c] .. "s"
  end
  return indent .. table.concat(parts, spaces[gap])
end

-- The texts of row r in the columns that are kept; nil where one would have to be
-- cut, or has another width than its bytes.
local function kept_texts(shown, widths, kept, r)
  local list = {}
  for i, c in ipairs(kept) do
    local column = shown[c]
    local text = column.texts[r]
    if #text > widths[c] or column.widths and column.widths[r] ~= #text then return nil end
    list[i] = text
  end
  return list
end

-- The table as text, and how many columns were left out. `options`: width (nil:
-- no limit), color, indent (columns), gap (default 2), header = false.
function M.render(columns, rows, options)
  local gap, indent = options.gap or 2, (" "):rep(options.indent or 0)
  local shown, widths = {}, {}
  for c, column in ipairs(columns) do
    shown[c] = measure(column.title, rows, c)
    widths[c] = shown[c].widest
  end
  local kept, dropped = filled(columns, shown), 0
  if options.width then
    local limit = options.width - #indent
    dropped = drop_columns(columns, widths, kept, limit, gap)
    squeeze(columns, widths, kept, limit, gap)
  end
  local pattern, lines = not options.color and plain_pattern(columns, widths, kept, gap, indent), {}
  for r = options.header == false and 1 or 0, #rows do
    local texts = pattern and kept_texts(shown, widths, kept, r)
    lines[#lines + 1] = texts and trim(pattern:format(table.unpack(texts)))
      or render_line(columns, shown, widths, kept, gap, indent, r, options.color)
  end
  lines[#lines + 1] = ""
  return table.concat(lines, "\n"), dropped
end

-- Print a table on a command's standard output: fitted to a terminal, whole in
-- a pipe or with --wide.
function M.print(ctx, columns, rows, options)
  options = options or {}
  options.color = ctx.color
  if ctx.stdout_tty and not ctx.options.wide then options.width = ctx.cols end
  local text, dropped = M.render(columns, rows, options)
  ctx.out(text)
  if dropped > 0 then
    local note = string.format("+%d column%s: --wide", dropped, dropped == 1 and "" or "s")
    ctx.out((" "):rep(options.indent or 0) .. term.paint(note, "dim", ctx.color) .. "\n")
  end
end

return M
