-- table.lua: tables for people.
--
-- A column is { title, align = "left"|"right", min = n, drop = n, flex = true }; in `cells` it
-- may bring its own, of which cell 0 becomes its title. On a terminal too narrow for
-- everything, columns marked flex are cut down to
-- `min`, then columns with `drop` disappear, highest `drop` first and last ones
-- first among equals, and those that are empty in every row are not shown at
-- all. Columns without `drop` always stay. A cell is a string,
-- nil, or { text, style }. Without a width (a pipe) nothing is cut or dropped.
local term = require "pioche.term"
local core = require "pioche.core.text"

local M = {}

-- A column as it is shown: its title and cells as text.lines (core/bind/text.c) takes
-- them, the title's row being 0, and whether it is empty below the title.
local function measure(column, count)
  local cells = column.cells
  cells[0] = { column.title, "bold" }
  local below, plain = core.measure(cells, 1, count)
  local shown = { cells = cells, width = math.max(below, #column.title), right = column.align == "right",
    empty = below == 0 }
  if not plain or column.title:find("[^ -~]") then
    shown.cells, shown.widths, shown.width = {}, {}, 0
    for r = 0, count do
      local cell = cells[r] or ""
      local whole, style = cell, nil
      if type(cell) == "table" then whole, style = cell[1], cell[2] end
      local clean, width = term.shown(whole)
      shown.cells[r], shown.widths[r] = style and { clean, style } or clean, width
      shown.width = math.max(shown.width, width)
    end
  end
  return shown
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

-- Cut what is wider than its column came to be, and paint what has a style.
local function fit(shown, width, count, color)
  local cut = shown.width > width
  if not cut and not color then return end
  local cells, widths = {}, {}
  for r = 0, count do
    local cell, style = shown.cells[r] or "", nil
    if type(cell) == "table" then cell, style = cell[1], cell[2] end
    local taken = shown.widths and shown.widths[r] or #cell
    if taken > width then
      cell = term.cut(cell, width)
      taken = term.width(cell)
    end
    cells[r], widths[r] = term.paint(cell, style, color), taken
  end
  shown.cells, shown.widths, shown.width = cells, widths, width
end

-- The table of columns that have their `cells`, `count` of them, as M.render gives it.
local function render_columns(columns, count, options)
  local gap, indent = options.gap or 2, options.indent or 0
  local shown, widths = {}, {}
  for c, column in ipairs(columns) do
    shown[c] = measure(column, count)
    widths[c] = shown[c].width
  end
  local kept, dropped, list = filled(columns, shown), 0, {}
  if options.width then
    local limit = options.width - indent
    dropped = drop_columns(columns, widths, kept, limit, gap)
    squeeze(columns, widths, kept, limit, gap)
  end
  for i, c in ipairs(kept) do
    fit(shown[c], widths[c], count, options.color)
    list[i] = shown[c]
  end
  return core.lines(list, options.header == false and 1 or 0, count, gap, indent), dropped
end

-- Columns with their cells, out of rows.
local function with_cells(columns, rows)
  local list = {}
  for c, column in ipairs(columns) do
    local cells = {}
    for r, row in ipairs(rows) do cells[r] = row[c] end
    list[c] = setmetatable({ cells = cells }, { __index = column })
  end
  return list
end

-- The table as text, and how many columns were left out. `options`: width (nil:
-- no limit), color, indent (columns), gap (default 2), header = false.
function M.render(columns, rows, options)
  return render_columns(with_cells(columns, rows), #rows, options)
end

-- Print a table of columns that have their `cells`, `count` of them, on a command's
-- standard output: fitted to a terminal, whole in a pipe or with --wide.
function M.print_columns(ctx, columns, count, options)
  options = options or {}
  options.color = ctx.color
  if ctx.stdout_tty and not ctx.options.wide then options.width = ctx.cols end
  local lines, dropped = render_columns(columns, count, options)
  ctx.out(lines)
  if dropped > 0 then
    local note = string.format("+%d column%s: --wide", dropped, dropped == 1 and "" or "s")
    ctx.out((" "):rep(options.indent or 0) .. term.paint(note, "dim", ctx.color) .. "\n")
  end
end

-- The same of rows.
function M.print(ctx, columns, rows, options)
  M.print_columns(ctx, with_cells(columns, rows), #rows, options)
end

return M
