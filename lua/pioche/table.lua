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

local function cell_text(cell)
  if type(cell) == "table" then return cell[1] or "", cell[2] end
  return cell or ""
end

-- Spaces at the end go. (A pattern that begins with %s+ would try at each space.)
local function trim(text)
  return text:match("^.*%S") or ""
end

local function measure(columns, rows)
  local widths = {}
  for c, column in ipairs(columns) do
    column.title = term.clean(column.title)
    widths[c] = term.width(column.title)
  end
  for _, row in ipairs(rows) do
    for c = 1, #columns do
      local text, style = cell_text(row[c])
      text = term.clean(text)
      local width = term.width(text)
      row[c] = { text, style, width }
      if width > widths[c] then widths[c] = width end
    end
  end
  return widths
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
local function filled(columns, rows)
  local kept = {}
  for c, column in ipairs(columns) do
    local useful = not column.drop
    for _, row in ipairs(rows) do
      if useful then break end
      useful = (cell_text(row[c])) ~= ""
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

-- `cells`: measured cells, {text, style, width}.
local function render_line(columns, widths, kept, gap, indent, cells, color)
  local parts = {}
  for i, c in ipairs(kept) do
    local cell = cells[c]
    local text, style, width = cell[1], cell[2], cell[3]
    if width > widths[c] then
      text = term.cut(text, widths[c])
      width = term.width(text)
    end
    local padding = (" "):rep(widths[c] - width)
    if style and color and text ~= "" then text = term.paint(text, style, color) end
    parts[i] = columns[c].align == "right" and padding .. text or text .. padding
  end
  return trim(indent .. table.concat(parts, (" "):rep(gap)))
end

-- The table as text, and how many columns were left out. `options`: width (nil:
-- no limit), color, indent (columns), gap (default 2), header = false.
function M.render(columns, rows, options)
  local gap, indent = options.gap or 2, (" "):rep(options.indent or 0)
  local widths = measure(columns, rows)
  local kept, dropped = filled(columns, rows), 0
  if options.width then
    local limit = options.width - #indent
    dropped = drop_columns(columns, widths, kept, limit, gap)
    squeeze(columns, widths, kept, limit, gap)
  end
  local lines = {}
  if options.header ~= false then
    local titles = {}
    for c, column in ipairs(columns) do
      titles[c] = { column.title, "bold", term.width(column.title) }
    end
    lines[1] = render_line(columns, widths, kept, gap, indent, titles, options.color)
  end
  for _, row in ipairs(rows) do
    lines[#lines + 1] = render_line(columns, widths, kept, gap, indent, row, options.color)
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
