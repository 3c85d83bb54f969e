-- sql: ask the store in plain SQL, without a way to change it.
local json = require "pioche.core.json"
local csv = require "pioche.csv"
local format = require "pioche.format"
local tables = require "pioche.table"
local term = require "pioche.term"

-- What a table is for: the comment on the first line of its CREATE statement.
local function purpose(sql)
  return sql and sql:match("^[^\n]*%(%s*%-%-%s*([^\n]+)") or ""
end

local function list_tables(store)
  local list = {}
  for _, row in ipairs(store:rows("SELECT name, sql FROM sqlite_schema WHERE type IN"
    .. " ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY name")) do
    local columns = json.array {}
    for i, column in ipairs(store:rows("SELECT name FROM pragma_table_info(?)", row.name)) do
      columns[i] = column.name
    end
    list[#list + 1] = { name = row.name, purpose = purpose(row.sql), columns = columns }
  end
  list[#list + 1] = { name = "point", purpose = "every point that was logged (virtual)",
    columns = json.array { "run", "key", "rank", "attempt", "step", "time_ns", "value", "bits" } }
  list[#list + 1] = { name = "series_lod",
    purpose = "a metric in few rows: series_lod(run, key, buckets [, rank])",
    columns = json.array { "first_step", "last_step", "count", "min", "max", "mean" } }
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

local function print_tables(ctx, store)
  local list = list_tables(store)
  if ctx.json then
    ctx.out(ctx.encode(json.array(list)) .. "\n")
    return
  elseif ctx.csv then
    ctx.out(csv.line { "table", "purpose", "columns" })
    for _, t in ipairs(list) do
      ctx.out(csv.line { t.name, t.purpose, table.concat(t.columns, " ") })
    end
    return
  end
  local rows, fits = {}, true
  for i, t in ipairs(list) do
    rows[i] = { { t.name, "bold" }, t.purpose, table.concat(t.columns, " ") }
    fits = fits and 50 + #rows[i][3] <= ctx.cols
  end
  if ctx.stdout_tty and not ctx.options.wide and not fits then
    for i, t in ipairs(list) do
      ctx.out(term.paint(t.name, "bold", ctx.color)
        .. (t.purpose ~= "" and "  " .. term.paint(t.purpose, "dim", ctx.color) or "") .. "\n")
      for _, line in ipairs(term.wrap(rows[i][3], math.max(20, ctx.cols - 4))) do
        ctx.out("    " .. line .. "\n")
      end
    end
    return
  end
  tables.print(ctx, { { title = "table" }, { title = "what", flex = true, min = 12, drop = 1 },
    { title = "columns", flex = true, min = 20 } }, rows)
end

-- Bytes that are not text are shown as SQLite writes a blob.
local function plain(value)
  if value == json.null then return nil end
  if type(value) == "string" and not utf8.len(value) then
    return "x'" .. value:gsub(".", function(c) return string.format("%02x", c:byte()) end) .. "'"
  end
  return value
end

local function print_json(ctx, result)
  local lead = "["
  for _, row in ipairs(result.rows) do
    local object = {}
    for c, name in ipairs(result.columns) do
      local value = plain(row[c])
      object[name] = value == nil and json.null or value
    end
    ctx.out(lead .. ctx.encode(object))
    lead = ",\n"
  end
  ctx.out((lead == "[" and "[" or "") .. "]\n")
end

local function print_csv(ctx, result)
  ctx.out(csv.line(result.columns))
  for _, row in ipairs(result.rows) do
    local line = {}
    for c = 1, #result.columns do line[c] = plain(row[c]) end
    ctx.out(csv.line(line, #result.columns))
  end
end

-- A row a block, a column a line.
local function print_blocks(ctx, columns, rows)
  local widest = 0
  for _, column in ipairs(columns) do widest = math.max(widest, term.width(column.title)) end
  for i, row in ipairs(rows) do
    ctx.out(term.paint("row " .. i, "dim", ctx.color) .. "\n")
    for c, column in ipairs(columns) do
      local cell = row[c]
      local text, style = cell, nil
      if type(cell) == "table" then text, style = cell[1], cell[2] end
      ctx.out("  " .. term.paint(term.pad(column.title, widest), "bold", ctx.color) .. "  "
        .. term.paint(term.clean(text), style, ctx.color) .. "\n")
    end
  end
end

local function print_table(ctx, result)
  local columns, rows = {}, {}
  for c, name in ipairs(result.columns) do
    columns[c] = { title = term.clean(name), flex = true, min = 8, align = "right" }
  end
  for i, row in ipairs(result.rows) do
    rows[i] = {}
    for c = 1, #result.columns do
      local value = row[c]
      if value == json.null then
        rows[i][c] = { "NULL", "dim" }
      elseif type(value) == "number" then
        rows[i][c] = format.exact(value)
      else
        columns[c].align = nil
        rows[i][c] = utf8.len(value) and value or "<" .. format.bytes(#value) .. ">"
      end
    end
  end
  -- Where not even cut columns have room beside each other, they stand one below
  -- the other, whole.
  if ctx.stdout_tty and not ctx.options.wide and #rows > 0 then
    local head = tables.render(columns, { rows[1] }, { width = ctx.cols, color = false })
    if term.width(head:match("^[^\n]*")) > ctx.cols then
      return print_blocks(ctx, columns, rows)
    end
  end
  tables.print(ctx, columns, rows)
end

local function run(ctx)
  local store = ctx.reading()
  local query = ctx.args[1]
  if not query then
    print_tables(ctx, store)
    return 0
  end
  if query == "-" then query = io.read("a") end
  local result = store:columns_rows(query)
  if ctx.json then
    print_json(ctx, result)
  elseif ctx.csv then
    print_csv(ctx, result)
  else
    print_table(ctx, result)
  end
  return 0
end

return {
  summary = "ask the store in SQL, read-only",
  usage = "sql ['SELECT ...' | -]",
  help = [[
Without a query: the tables, what each is for, and their columns. '-' reads the
query from standard input. A statement that would write is refused. On a terminal
too narrow for the columns each row is a block of lines.

Besides the tables there are

  point(run, key, rank, attempt, step, time_ns, value, bits)
      every point that was logged; run is a name such as 'gpt-17'. An int64 is an
      INTEGER; a NaN shows as NULL, bits are its IEEE 754 bits. With attempt = N
      all of that attempt. Of conditions on run, key (=, IN, GLOB, LIKE), rank
      (=, IN) and step only the chunks are read that can hold such points.
  series_lod(run, key, buckets [, rank])
      a metric in few rows: first_step, last_step, count, min, max, mean
  area_under(x, y), quantile(value, q)
      the trapezoid rule over the points sorted by x; type 7, exact
  smooth(value, alpha) OVER (ORDER BY step)
      m = alpha m + (1 - alpha) value, shown as m / (1 - alpha^n), as TensorBoard;
      of one rank, or with PARTITION BY rank: rows of one step are taken together

All leave out NULL. Times are nanoseconds since 1970. The sqlite3 shell, and
Python's sqlite3, have the same once they load the extension:

  sqlite3 .pioche/pioche.db -cmd ".load PREFIX/lib/pioche/pioche_sqlite"

Any SQLite reads the other tables. Runs, their parameters, their latest metrics:

  sqlite3 .pioche/pioche.db "SELECT e.name || '-' || r.number AS run, r.status
    FROM run r JOIN experiment e ON e.id = r.experiment_id"
  sqlite3 .pioche/pioche.db "SELECT e.name || '-' || r.number AS run, p.name, p.value
    FROM param p JOIN run r ON r.id = p.run_id
    JOIN experiment e ON e.id = r.experiment_id"
  sqlite3 .pioche/pioche.db "SELECT e.name || '-' || r.number AS run, s.key, s.rank,
    s.last_step, s.last FROM series s JOIN run r ON r.id = s.run_id
    JOIN experiment e ON e.id = r.experiment_id"]],
  options = {
    { name = "wide", short = "w", help = "cut nothing, whatever the terminal's width" },
  },
  examples = [[
pioche sql "SELECT status, count(*) FROM run GROUP BY status"
pioche sql "SELECT step, value FROM point WHERE run = 'gpt-3' AND key = 'loss' AND rank = 0" --csv
pioche sql "SELECT name, value FROM param WHERE name = 'lr'" --json
pioche sql "SELECT * FROM series_lod('gpt-3', 'train/loss', 20)"]],
  args = { 0, 1 },
  run = run,
}
