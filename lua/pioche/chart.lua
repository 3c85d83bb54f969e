-- chart.lua: line charts in text. Pure: points in, text out.
--
-- A series is { label, x = {}, y = {}, low = {}, high = {} } (low and high where
-- one point stands for many). With colours every series is drawn in braille
-- dots, 2 x 4 to a character; without colours several series are told apart by
-- a letter each.
local format = require "pioche.format"
local term = require "pioche.term"

local chart = {}

chart.colors = { "cyan", "yellow", "magenta", "green", "red", "blue" }
chart.letters = "abcdefghijklmnopqrstuvwxyz"

local function finite(value)
  return value ~= nil and value == value and value ~= math.huge and value ~= -math.huge
end

-- Exponential moving average with factor `weight` in [0, 1), started without
-- bias; values that are not finite pass through and leave the average alone.
function chart.smooth(values, weight)
  local result, average, norm = {}, 0.0, 0.0
  for i, value in ipairs(values) do
    if finite(value) then
      average = weight * average + (1 - weight) * value
      norm = weight * norm + (1 - weight)
      result[i] = average / norm
    else
      result[i] = value
    end
  end
  return result
end

-- A step of 1, 2 or 5 times a power of ten that gives about `count` ticks.
local function nice_step(span, count)
  local raw = span / math.max(1, count)
  local power = 10.0 ^ math.floor(math.log(raw, 10))
  local unit = raw / power
  local nice = unit <= 1 and 1 or unit <= 2 and 2 or unit <= 5 and 5 or 10
  return nice * power
end

-- Ticks of a linear axis inside [low, high].
function chart.ticks(low, high, count)
  if high <= low then return { low } end
  local step = nice_step(high - low, count)
  local list, first = {}, math.ceil(low / step - 1e-9)
  for i = 0, 100 do
    local value = (first + i) * step
    if value > high + step * 1e-9 then break end
    list[#list + 1] = value
  end
  return list
end

local function log_ticks(low, high, count)
  local list = {}
  local first, last = math.floor(low), math.ceil(high)
  local mantissas = last - first <= 2 and { 1, 2, 5 } or { 1 }
  for exponent = first, last do
    for _, m in ipairs(mantissas) do
      local at = exponent + math.log(m, 10)
      if at >= low - 1e-9 and at <= high + 1e-9 then list[#list + 1] = at end
    end
  end
  while #list > count + 2 do
    local thin = {}
    for i = 1, #list, 2 do thin[#thin + 1] = list[i] end
    list = thin
  end
  if #list > 2 then return list end
  list = {}
  for i, value in ipairs(chart.ticks(10.0 ^ low, 10.0 ^ high, count)) do
    list[i] = math.log(value, 10)
  end
  return list
end

-- Numbers of an axis, equally precise.
local function tick_texts(ticks, log)
  local values = {}
  for i, at in ipairs(ticks) do values[i] = log and 10.0 ^ at or at end
  if log then
    local texts = {}
    for i, value in ipairs(values) do texts[i] = format.number(value) end
    return texts
  end
  local step = #values > 1 and math.abs(values[2] - values[1]) or math.abs(values[1])
  local largest = 0
  for _, value in ipairs(values) do largest = math.max(largest, math.abs(value)) end
  local texts = {}
  if step == 0 then step = 1 end
  local decimals = math.max(0, -math.floor(math.log(step, 10) + 1e-9))
  local pattern = (largest >= 1e7 or decimals > 6) and "%.3g" or "%." .. decimals .. "f"
  for i, value in ipairs(values) do
    if math.abs(value) < step * 1e-6 then value = 0.0 end
    texts[i] = string.format(pattern, value)
  end
  return texts
end

-- Short texts for steps: 1500 -> "1500", 20000 -> "20k".
local function step_text(value)
  local size = math.abs(value)
  for _, unit in ipairs { { 1e12, "T" }, { 1e9, "G" }, { 1e6, "M" }, { 1e3, "k" } } do
    if size >= unit[1] * (unit[2] == "k" and 10 or 1) then
      return string.format("%.4g", value / unit[1]) .. unit[2]
    end
  end
  return string.format("%.6g", value)
end

-- ---- canvas --------------------------------------------------------------------

local dot_bits = { [0] = { [0] = 0x01, 0x02, 0x04, 0x40 }, { [0] = 0x08, 0x10, 0x20, 0x80 } }

local function new_canvas(width, height)
  local canvas = { width = width, height = height, bits = {}, owner = {}, faint = {} }
  for i = 0, width * height - 1 do canvas.bits[i] = 0 end
  return canvas
end

-- Set a dot; x in [0, 2 width), y in [0, 4 height) from the top.
local function set_dot(canvas, x, y, owner, faint)
  if x < 0 or y < 0 or x >= 2 * canvas.width or y >= 4 * canvas.height then return end
  local cell = (y // 4) * canvas.width + x // 2
  if faint and canvas.owner[cell] and not canvas.faint[cell] then return end
  canvas.bits[cell] = canvas.bits[cell] | dot_bits[x % 2][y % 4]
  canvas.owner[cell] = owner
  canvas.faint[cell] = faint or nil
end

local function draw_line(canvas, x0, y0, x1, y1, owner)
  local dx, dy = math.abs(x1 - x0), -math.abs(y1 - y0)
  local sx, sy = x0 < x1 and 1 or -1, y0 < y1 and 1 or -1
  local err = dx + dy
  while true do
    set_dot(canvas, x0, y0, owner)
    if x0 == x1 and y0 == y1 then return end
    local twice = 2 * err
    if twice >= dy then
      err, x0 = err + dy, x0 + sx
    end
    if twice <= dx then
      err, y0 = err + dx, y0 + sy
    end
  end
end

-- ---- scales --------------------------------------------------------------------

-- Range of everything drawn: x, and y after the log.
local function ranges(series, log)
  local x0, x1, y0, y1 = math.huge, -math.huge, math.huge, -math.huge
  for _, s in ipairs(series) do
    for i = 1, #s.x do
      for _, list in ipairs { s.y, s.low or s.y, s.high or s.y } do
        local y = list[i]
        if finite(y) and (not log or y > 0) then
          y = log and math.log(y, 10) or y
          x0, x1 = math.min(x0, s.x[i]), math.max(x1, s.x[i])
          y0, y1 = math.min(y0, y), math.max(y1, y)
        end
      end
    end
  end
  if x0 > x1 then return nil end
  if y0 == y1 then
    local pad = y0 == 0 and 1 or math.abs(y0) * 0.05
    y0, y1 = y0 - pad, y1 + pad
  end
  return x0 + 0.0, x1 + 0.0, y0, y1
end

local function plot_series(canvas, s, index, scale)
  local function dot_of(x, y)
    if not finite(y) or (scale.log and y <= 0) then return nil end
    y = scale.log and math.log(y, 10) or y
    local px = scale.x1 > scale.x0 and (x - scale.x0) / (scale.x1 - scale.x0) or 0.5
    local py = (scale.y1 - y) / (scale.y1 - scale.y0)
    return math.floor(px * (2 * canvas.width - 1) + 0.5),
      math.floor(py * (4 * canvas.height - 1) + 0.5)
  end
  if scale.band and s.low and s.high then
    for i = 1, #s.x do
      local x, top = dot_of(s.x[i], s.high[i])
      local _, bottom = dot_of(s.x[i], s.low[i])
      for y = top or 0, bottom or -1 do
        if (x + y) % 2 == 0 then set_dot(canvas, x, y, index, true) end
      end
    end
  end
  local last_x, last_y
  for i = 1, #s.x do
    local x, y = dot_of(s.x[i], s.y[i])
    if x and last_x then
      draw_line(canvas, last_x, last_y, x, y, index)
    elseif x then
      set_dot(canvas, x, y, index)
    end
    last_x, last_y = x, y
  end
end

local function color_of(index)
  return chart.colors[(index - 1) % #chart.colors + 1]
end

local function letter_of(index)
  local i = (index - 1) % #chart.letters + 1
  return chart.letters:sub(i, i)
end

local function canvas_row(canvas, row, mode)
  local parts, column = {}, 0
  while column < canvas.width do
    local cell = row * canvas.width + column
    local owner, faint = canvas.owner[cell], canvas.faint[cell]
    local run = {}
    while column < canvas.width do
      cell = row * canvas.width + column
      if canvas.owner[cell] ~= owner or canvas.faint[cell] ~= faint then break end
      if not owner then
        run[#run + 1] = " "
      elseif mode.letters then
        run[#run + 1] = faint and "." or letter_of(owner)
      else
        run[#run + 1] = utf8.char(0x2800 + canvas.bits[cell])
      end
      column = column + 1
    end
    local text = table.concat(run)
    parts[#parts + 1] = owner and term.paint(text, color_of(owner) .. (faint and "+dim" or ""),
      mode.color) or text
  end
  return table.concat(parts)
end

-- ---- the chart -------------------------------------------------------------------

-- The axis below the chart, and the line of its labels; x_label at the end.
local function axis_lines(scale, width, left, x_label, x_format)
  local marks, labels, free = {}, {}, 1
  for i = 1, width do marks[i] = "─" end
  local room = width - term.width(x_label) - 1
  for _, value in ipairs(chart.ticks(scale.x0, scale.x1, math.max(2, width // 14))) do
    local share = scale.x1 > scale.x0 and (value - scale.x0) / (scale.x1 - scale.x0) or 0.5
    local column = math.floor(share * (width - 1) + 0.5) + 1
    local text = x_format(value)
    local start = math.max(free, column - term.width(text) // 2)
    marks[column] = "┬"
    if start + term.width(text) - 1 <= room then
      labels[#labels + 1] = (" "):rep(start - free) .. text .. " "
      free = start + term.width(text) + 1
    end
  end
  local line = term.pad(table.concat(labels), width - term.width(x_label)) .. x_label
  return (" "):rep(left) .. "└" .. table.concat(marks), (" "):rep(left + 1) .. line
end

-- The chart as text. `options`: title, width and height of the whole (columns,
-- lines), color, log (y axis), band (draw low..high), x_label, x_format.
-- Returns nil when there is nothing to draw.
function chart.render(series, options)
  local x0, x1, y0, y1 = ranges(series, options.log)
  if not x0 then return nil end
  local height = math.max(4, (options.height or 20) - 3 - (#series > 0 and 1 or 0))
  local count = math.max(2, height // 3)
  local ticks
  repeat
    ticks = options.log and log_ticks(y0, y1, count) or chart.ticks(y0, y1, count)
    count = count + 1
  until #ticks > 1 or count > 10
  local texts, left = tick_texts(ticks, options.log), 0
  for _, text in ipairs(texts) do left = math.max(left, #text) end
  left = left + 1
  local width = math.max(10, (options.width or 80) - left - 3)
  local scale = { x0 = x0, x1 = x1, y0 = y0, y1 = y1, log = options.log, band = options.band }
  local canvas = new_canvas(width, height)
  for i, s in ipairs(series) do plot_series(canvas, s, i, scale) end

  local at_row = {}
  for i, tick in ipairs(ticks) do
    local share = (y1 - tick) / (y1 - y0)
    at_row[math.floor(share * (4 * height - 1) + 0.5) // 4] = texts[i]
  end
  local mode = { color = options.color, letters = not options.color and #series > 1 }
  local lines = {}
  if options.title then lines[1] = term.paint(options.title, "bold", options.color) end
  for row = 0, height - 1 do
    local text = at_row[row]
    lines[#lines + 1] = term.pad(text or "", left - 1, "right") .. " " .. (text and "┤" or "│")
      .. canvas_row(canvas, row, mode):gsub("%s+$", "")
  end
  local axis, labels = axis_lines(scale, width, left, options.x_label or "step",
    options.x_format or step_text)
  lines[#lines + 1], lines[#lines + 2] = axis, labels
  for i, s in ipairs(series) do
    local sign = mode.letters and letter_of(i) or "━━"
    lines[#lines + 1] = (" "):rep(left + 1) .. term.paint(sign, color_of(i), options.color) .. " "
      .. s.label
  end
  return table.concat(lines, "\n") .. "\n"
end

return chart
