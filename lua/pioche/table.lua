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

-- A row as it is shown: of each cell its text, its style and its width; widths
-- is nil where all is ASCII, and a text's width its length.
local function measure(cells, count)
  local texts, styles = {}, {}
  for c = 1, count do
    local cell = cells[c]
    if type(cell) == "table" then cell, styles[c] = cell[1], cell[2] end
    texts[c] = cell or ""
  end
  if not table.concat(texts):find("[^ -~]") then return { texts = texts, styles = styles } end
  local widths = {}
  for c, text in ipairs(texts) do texts[c], widths[c] = term.shown(text) end
  return { texts = texts, styles = styles, widths = widths }
end

-- The titles and the rows as lines (see measure), and how wide each column is.
local function measure_all(columns, rows)
  local titles, lines, widths = {}, {}, {}
  for c, column in ipairs(columns) do titles[c], widths[c] = { column.title, "bold" }, 0 end
  local head = measure(titles, #columns)
  for r, row in ipairs(rows) do lines[r] = measure(row, #columns) end
  for c = 1, #columns do
    local widest = head.widths and head.widths[c] or #head.texts[c]
    for _, line in ipairs(lines) do
      local width = line.widths and line.widths[c] or #line.texts[c]
      if width > widest then widest = width end
    end
    widths[c] = widest
  end
  return head, lines, widths
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
local function filled(columns, lines)
  local kept = {}
  for c, column in ipairs(columns) do
    local useful = not column.drop
    for _, line in ipairs(lines) do
      if useful then break end
      useful = line.texts[c] ~= ""
    end
    if useful then kept[#kept + 1] = c end
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

-- A line (see measure) as text, its columns `widths` wide.
local function render_line(columns, widths, kept, gap, indent, line, color)
  local parts = {}
  for i, c in ipairs(kept) do
    local text = line.texts[c]
    local width = line.widths and line.widths[c] or #text
    if width > widths[c] then
      text = term.cut(text, widths[c])
      width = term.width(text)
    end
    local padding = spaces[widths[c] - width]
    if color then text = term.paint(text, line.styles[c], color) end
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

-- The texts of the columns that are kept; nil where one would have to be cut.
local function kept_texts(widths, kept, texts)
  local list = {}
  for i, c in ipairs(kept) do
    list[i] = texts[c]
    if #list[i] > widths[c] then return nil end
  end
  return list
end

-- The table as text, and how many columns were left out. `options`: width (nil:
-- no limit), color, indent (columns), gap (default 2), header = false.
function M.render(columns, rows, options)
  local gap, indent = options.gap or 2, (" "):rep(options.indent or 0)
  local head, lines, widths = measure_all(columns, rows)
  local kept, dropped = filled(columns, lines), 0
  if options.width then
    local limit = options.width - #indent
    dropped = drop_columns(columns, widths, kept, limit, gap)
    squeeze(columns, widths, kept, limit, gap)
  end
  local shown = {}
  if options.header ~= false then
    shown[1] = render_line(columns, widths, kept, gap, indent, head, options.color)
  end
  local pattern = not options.color and plain_pattern(columns, widths, kept, gap, indent)
  for _, line in ipairs(lines) do
    local texts = pattern and not line.widths and kept_texts(widths, kept, line.texts)
    shown[#shown + 1] = texts and trim(pattern:format(table.unpack(texts)))
      or render_line(columns, widths, kept, gap, indent, line, options.color)
  end
  shown[#shown + 1] = ""
  return table.concat(shown, "\n"), dropped
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
