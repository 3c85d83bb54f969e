-- checkpoint ls and checkpoint show.
local json = require "pioche.core.json"
local checkpoints = require "pioche.checkpoints"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local format = require "pioche.format"
local query = require "pioche.query"
local runs = require "pioche.runs"
local tables = require "pioche.table"
local tensors = require "pioche.tensors"
local term = require "pioche.term"

local list = {}

local tensors_shown = 40      -- unless --all
local encoded_column = 6      -- of ls, where something is

-- How sure it is that the files are what they were: a cell of a table.
local function state_cell(row)
  if row.damage then return { "damaged", "red" } end
  return { row.state, row.state == "reread" and "green" or nil }
end

-- How its files are encoded, and how many times smaller they are for it.
local function encoding_text(row)
  return row.encoding and ("%s %.2fx"):format(row.encoding, row.ratio) or ""
end

-- What came of the newest `checkpoint prove`.
local function proof_cell(row)
  if not row.proof then return "" end
  return { row.proof, row.proof == "same" and "green" or "red" }
end

-- ---- ls ---------------------------------------------------------------------------------

local function print_table(ctx, found)
  local values, cells, encoded = {}, {}, false
  for i, row in ipairs(found) do
    values[i] = row.value
    encoded = encoded or row.encoding ~= nil
  end
  local texts = format.column(values, #found)
  local goal = found[1].goal_key
  for i, row in ipairs(found) do
    if row.goal_key ~= goal then goal = "goal" end
    cells[i] = { row.name, row.sha256:sub(1, 12), texts[i], table.concat(checkpoints.marks(row), " "),
      format.bytes(row.bytes), encoding_text(row), tostring(row.files), tostring(row.writers),
      format.duration(row.stall_ns),
      row.total_ns and format.duration(row.total_ns) or "", state_cell(row), proof_cell(row),
      runs.time(row.created_ns) }
  end
  local columns = { { title = "checkpoint" }, { title = "id", drop = 2 },
    { title = goal or "goal", align = "right", drop = 1 }, { title = "", drop = 1 },
    { title = "size", align = "right" }, { title = "encoded", drop = 2 },
    { title = "files", align = "right", drop = 4 }, { title = "ranks", align = "right", drop = 4 },
    { title = "stall", align = "right", drop = 3 }, { title = "took", align = "right", drop = 4 },
    { title = "state", drop = 1 },
    { title = "resumes", drop = 1 }, { title = "saved", drop = 3 } }
  if not encoded then
    table.remove(columns, encoded_column)
    for _, row in ipairs(cells) do table.remove(row, encoded_column) end
  end
  tables.print(ctx, columns, cells)
end

function list.ls(ctx, words)
  local store = ctx.reading()
  local found = checkpoints.list(store, (query.choose(store, words, {})))
  if ctx.json then
    local values = json.array {}
    for i, row in ipairs(found) do values[i] = checkpoints.to_json(row) end
    ctx.out(ctx.encode(values) .. "\n")
  elseif ctx.csv then
    ctx.out(csv.line { "checkpoint", "id", "run", "step", "attempt", "bytes", "files", "ranks", "stall_ms",
      "state", "value", "marks", "created", "encoding", "stored_bytes",
      "total_ms", "hash_cpu_ms", "fsyncs", "sync", "asynchronous" })
    for _, row in ipairs(found) do
      ctx.out(csv.line({ row.name, row.sha256, row.run, row.step, row.attempt, row.bytes, row.files,
        row.writers, row.stall_ns / 1e6, row.state, row.value, table.concat(checkpoints.marks(row), " "),
        runs.time(row.created_ns), row.encoding, row.stored_bytes, row.total_ns and row.total_ns / 1e6,
        row.hash_ns and row.hash_ns / 1e6, row.fsyncs, row.sync, row.asynchronous }, 20))
    end
  elseif #found == 0 then
    ctx.note("no checkpoints\n")
  else
    print_table(ctx, found)
  end
  return 0
end

-- ---- show ---------------------------------------------------------------------------------

local function elements_of(row)
  local count = 1
  for _, size in ipairs(tensors.shape(row)) do count = count * size end
  return count
end

-- By role: { role, files, bytes, tensors, elements, dtypes } in the order of the roles.
local function roles_of(files, rows)
  local roles, by_role = {}, {}
  for _, file in ipairs(files) do
    local role = by_role[file.role]
    if not role then
      role = { role = file.role, files = 0, bytes = 0, tensors = 0, elements = 0, dtypes = {} }
      by_role[file.role], roles[#roles + 1] = role, role
    end
    role.files, role.bytes = role.files + 1, role.bytes + file.bytes
  end
  for _, row in ipairs(rows) do
    local role = by_role[row.role]
    role.tensors, role.elements = role.tensors + 1, role.elements + elements_of(row)
    if not role.dtypes[row.dtype] then
      role.dtypes[row.dtype] = true
      role.dtypes[#role.dtypes + 1] = row.dtype
    end
  end
  return roles
end

local function heading(ctx, text)
  ctx.out("\n" .. term.paint(text, "bold", ctx.color) .. "\n")
end

local function print_roles(ctx, files, rows)
  local cells = {}
  for i, role in ipairs(roles_of(files, rows)) do
    cells[i] = { role.role, format.bytes(role.bytes), tostring(role.files), tostring(role.tensors),
      format.count(role.elements), table.concat(role.dtypes, " ") }
  end
  heading(ctx, "roles")
  tables.print(ctx, { { title = "role" }, { title = "size", align = "right" },
    { title = "files", align = "right" }, { title = "tensors", align = "right" },
    { title = "elements", align = "right" }, { title = "types" } }, cells, { indent = 2 })
end

local function print_files(ctx, files)
  local cells = {}
  for i, file in ipairs(files) do
    local sound = file.verified == "write" or file.verified == "quick" or file.verified == "reread"
    local role = file.role .. (file.part > 0 and "-" .. file.part or "")
    cells[i] = { tostring(file.rank), role, file.sha256:sub(1, 16), format.bytes(file.bytes),
      { (file.verified == "write" and "written" or file.verified) .. (file.codec and (", %s %.2fx%s"):format(
        file.codec, file.bytes / file.stored_bytes, file.anchor and " from " .. file.anchor:sub(1, 16) or "")
        or ""), not sound and "red" or nil } }
  end
  heading(ctx, "files")
  tables.print(ctx, { { title = "rank", align = "right" }, { title = "role" }, { title = "sha256" },
    { title = "size", align = "right" }, { title = "state", flex = true, min = 8 } }, cells, { indent = 2 })
end

local function print_tensors(ctx, rows, writers)
  local limit = ctx.options.all and #rows or math.min(#rows, tensors_shown)
  local cells = {}
  for i = 1, limit do
    local row = rows[i]
    cells[i] = { row.role .. "/" .. row.name, writers > 1 and tostring(row.rank) or "", row.dtype,
      tensors.shape_text(row), format.bytes(row.bytes) }
  end
  heading(ctx, "tensors")
  tables.print(ctx, { { title = "tensor", flex = true, min = 20 },
    { title = "rank", align = "right", drop = 2 }, { title = "type" }, { title = "shape" },
    { title = "size", align = "right", drop = 1 } }, cells, { indent = 2 })
  if limit < #rows then
    ctx.out(term.paint(("  +%s tensors: --all or --json\n"):format(format.count(#rows - limit)), "dim",
      ctx.color))
  end
end

-- "stall 12 ms of 830 ms, asynchronous; SHA-256 410 ms of processor; 5 fsyncs": of what was
-- saved before that was told, less.
local function cost_of(row)
  local stall = "stall " .. format.duration(row.stall_ns)
  local synced = ("%d fsync%s"):format(row.fsyncs, row.fsyncs == 1 and "" or "s")
  if row.sync == "syncfs" or row.sync == "both" then synced = synced .. ", of them syncfs" end
  if not row.total_ns then return stall .. "; " .. synced end
  return ("%s of %s%s; SHA-256 %s of processor; %s"):format(stall, format.duration(row.total_ns),
    row.asynchronous == 1 and ", asynchronous" or "", format.duration(row.hash_ns), synced)
end

local function print_head(ctx, row)
  local manifest = json.decode(row.manifest)
  local function line(label, text)
    if text and text ~= json.null then ctx.out("  " .. term.pad(label, 12) .. text .. "\n") end
  end
  ctx.out(term.paint(row.name, "bold", ctx.color) .. "  " .. row.sha256 .. "\n\n")
  line("saved", runs.time(row.created_ns) .. " by attempt " .. row.attempt)
  line("size", ("%s in %d file%s of %d rank%s"):format(format.bytes(row.bytes), row.files,
    row.files == 1 and "" or "s", row.writers, row.writers == 1 and "" or "s"))
  line("encoded", row.encoding and ("%s, as %s"):format(encoding_text(row), format.bytes(row.stored_bytes)))
  line("cost", cost_of(row))
  local cell = state_cell(row)
  line("state", term.paint(cell[1], cell[2], ctx.color)
    .. (row.verified_ns and " " .. runs.time(row.verified_ns) or "")
    .. (row.damage and ": a file " .. row.damage or ""))
  line("resumes", row.proof and row.proof .. ": " .. term.clean(row.proof_message))
  line("pinned", row.pinned and (row.pinned ~= "" and row.pinned or "yes"))
  line("code", manifest.commit)
  line("from", manifest.from ~= json.null and manifest.from and "checkpoint " .. manifest.from)
end

local function show_json(ctx, row, files, rows)
  local value = checkpoints.to_json(row)
  local manifest = json.decode(row.manifest)
  value.commit, value.from = manifest.commit, manifest.from
  value.file_list, value.tensors = json.array {}, json.array {}
  for i, file in ipairs(files) do
    value.file_list[i] = { rank = file.rank, role = file.role, part = file.part, sha256 = file.sha256,
      bytes = file.bytes, verified = file.verified or json.null, codec = file.codec or json.null,
      anchor = file.anchor or json.null, stored_bytes = file.stored_bytes or file.bytes }
  end
  for i, item in ipairs(rows) do
    value.tensors[i] = { rank = item.rank, role = item.role, name = item.name, dtype = item.dtype,
      shape = json.array(tensors.shape(item)), bytes = item.bytes, offset = item.offset,
      file = item.sha256 }
  end
  ctx.out(ctx.encode(value) .. "\n")
end

-- The row of one, with its marks and the goal's value.
local function load(store, word)
  local wanted = checkpoints.find(store, word)
  for _, row in ipairs(checkpoints.list(store, { wanted.run_id })) do
    if row.id == wanted.id then return row end
  end
  errors.raise("not_found", "%s: dropped meanwhile", word)
end

function list.show(ctx, words)
  local store = ctx.reading()
  local row = load(store, words[1])
  local files, rows = checkpoints.files(store, row), {}
  for item in checkpoints.tensors(store, row) do rows[#rows + 1] = item end
  if ctx.json then
    show_json(ctx, row, files, rows)
  elseif ctx.csv then
    ctx.out(csv.line { "rank", "role", "name", "dtype", "shape", "bytes", "offset", "file" })
    for _, item in ipairs(rows) do
      ctx.out(csv.line { item.rank, item.role, item.name, item.dtype, item.shape, item.bytes, item.offset,
        item.sha256 })
    end
  else
    print_head(ctx, row)
    print_roles(ctx, files, rows)
    if ctx.options.all or #files <= tensors_shown then print_files(ctx, files) end
    print_tensors(ctx, rows, row.writers)
  end
  return 0
end

return list
