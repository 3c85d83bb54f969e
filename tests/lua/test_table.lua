-- Tables: nothing is wider than the terminal, nothing is cut in a pipe.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local tables = require "pioche.table"
local term = require "pioche.term"
local test, equal = tap.test, tap.equal

local function lines_of(text)
  local list = {}
  for line in text:gmatch("([^\n]*)\n") do list[#list + 1] = line end
  return list
end

local function sample()
  return { { title = "run" }, { title = "loss", align = "right", drop = 1 },
    { title = "note", flex = true, min = 6, drop = 2 } },
    { { "gpt-1", "2.5", "a long remark about this run" }, { "gpt-10", "12.25", "short" } }
end

test("columns are aligned, numbers to the right", function()
  local columns, rows = sample()
  equal(lines_of((tables.render(columns, rows, {}))), {
    "run      loss  note",
    "gpt-1     2.5  a long remark about this run",
    "gpt-10  12.25  short",
  })
end)

test("alignment holds for wide and combining characters", function()
  local text = tables.render({ { title = "k" }, { title = "v" } },
    { { "日本", "1" }, { "e\u{301}", "2" }, { "🙂x", "3" } }, {})
  for _, line in ipairs(lines_of(text)) do
    equal(term.width(line:sub(1, line:find("%S$") - 1)), 6)
  end
end)

test("flexible columns shrink to the width", function()
  local columns, rows = sample()
  for width = 24, 60 do
    local text, dropped = tables.render(columns, rows, { width = width })
    equal(dropped, 0)
    for _, line in ipairs(lines_of(text)) do assert(term.width(line) <= width, width .. line) end
  end
  local text = tables.render(columns, rows, { width = 30 })
  tap.contains(text, "…")
end)

test("columns disappear by rank, last first, and are counted", function()
  local columns, rows = sample()
  local text, dropped = tables.render(columns, rows, { width = 16 })
  equal(dropped, 1)
  tap.lacks(text, "note")
  tap.contains(text, "loss")
  text, dropped = tables.render(columns, rows, { width = 8 })
  equal(dropped, 2)
  tap.contains(text, "gpt-10")
end)

test("among equals the last column goes first", function()
  local columns, row = { { title = "run" } }, { "r" }
  for i = 1, 4 do
    columns[i + 1], row[i + 1] = { title = "param" .. i, drop = 1 }, "0.001"
  end
  local text, dropped = tables.render(columns, { row }, { width = 20 })
  equal(dropped, 2)
  tap.contains(text, "param2")
  tap.lacks(text, "param3")
end)

test("a pipe gets everything whole", function()
  local columns, rows = sample()
  rows[1][3] = ("x"):rep(500)
  local text, dropped = tables.render(columns, rows, {})
  equal(dropped, 0)
  tap.contains(text, ("x"):rep(500))
end)

test("a line is laid out alike whatever is in it", function()
  local columns = { { title = "left" }, { title = "right", align = "right" }, { title = "last" } }
  local wide = ("w"):rep(120)
  equal(lines_of((tables.render(columns, { { "a%d", "1", "x " }, { "bb", "20", "" }, { "é", "3", "y" } }, {}))),
    { "left  right  last", "a%d       1  x", "bb       20", "é         3  y" })
  equal(lines_of((tables.render(columns, { { "a", "1", "x" }, { wide, "20", "y" } }, {}))),
    { "left" .. (" "):rep(118) .. "right  last", "a" .. (" "):rep(125) .. "1  x", wide .. "     20  y" })
  equal(lines_of((tables.render(columns, { { "a", "1", "x" } }, { indent = 3, header = false }))),
    { "   a         1  x" })
end)

test("names cannot break the table or the terminal", function()
  local text = tables.render({ { title = "a" } }, { { "two\nlines\27[2J" } }, {})
  equal(lines_of(text), { "a", "two\\nlines\\x1b[2J" })
end)

test("empty columns that may go are not shown", function()
  local text = tables.render({ { title = "run" }, { title = "from", drop = 1 } },
    { { "r", "" }, { "s" } }, {})
  equal(lines_of(text), { "run", "r", "s" })
end)

test("a column in which there is nothing at all takes no width", function()
  for _, align in ipairs { "left", "right" } do
    local columns = { { title = "a" }, { title = "", align = align }, { title = "b" } }
    equal(lines_of((tables.render(columns, { { "1", "", "2" }, { "3", "", "4" } }, {}))), { "a    b", "1    2", "3    4" })
  end
end)

test("colour comes only when asked, and does not change the layout", function()
  local rows = { { { "bad", "red" }, "1" }, { "ok", "2" } }
  local columns = { { title = "s" }, { title = "n" } }
  local plain = tables.render(columns, rows, {})
  local colored = tables.render(columns, rows, { color = true })
  tap.lacks(plain, "\27")
  tap.contains(colored, "\27[31mbad\27[0m")
  equal((colored:gsub("\27%[[%d;]*m", "")), plain)
end)

tap.done()
