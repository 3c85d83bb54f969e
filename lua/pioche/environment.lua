-- environment.lua: what an attempt ran on and with: its machines, and the
-- interpreter and packages of its program.
local json = require "pioche.core.json"
local errors = require "pioche.errors"
local runs = require "pioche.runs"
local tables = require "pioche.table"
local term = require "pioche.term"

local environment = {}

local function sorted(map)
  local list = {}
  for key in pairs(map) do list[#list + 1] = key end
  table.sort(list)
  return list
end

-- A document as { ["cpu.model"] = text }. The part "machine" needs no name.
local function flatten(prefix, value, flat)
  if type(value) ~= "table" then
    flat[prefix] = runs.value_text(value)
    return flat
  end
  for key, item in pairs(value) do
    flatten(prefix == "" and tostring(key) or prefix .. "." .. key, item, flat)
  end
  return flat
end

local function differences(of, from)
  local list = {}
  for name, value in pairs(of) do
    if from[name] ~= value then list[name] = value end
  end
  for name in pairs(from) do
    if of[name] == nil then list[name] = "(none)" end
  end
  return list
end

-- Of the run's newest attempt that told any: { facts = {NAME: text} of the first
-- node, documents = {part: table}, nodes = { {node, host, cwd, differs} } };
-- nil where there are none.
function environment.of(store, run)
  local rows = store:rows("SELECT e.part, e.node, e.host, e.cwd, d.document FROM attempt_environment e"
    .. " JOIN environment d ON d.sha256 = e.sha256 WHERE e.attempt_id = (SELECT max(a.id) FROM attempt a"
    .. " JOIN attempt_environment x ON x.attempt_id = a.id WHERE a.run_id = ?) ORDER BY e.node, e.part",
    run.id)
  if #rows == 0 then return nil end
  local nodes, documents = {}, {}
  for _, row in ipairs(rows) do
    local node = nodes[#nodes]
    if not node or node.node ~= row.node then
      node = { node = row.node, host = row.host, cwd = row.cwd, facts = {} }
      nodes[#nodes + 1] = node
    end
    local document = json.decode(row.document)
    documents[row.part] = documents[row.part] or document
    flatten(row.part == "machine" and "" or row.part, document, node.facts)
  end
  local facts = nodes[1].facts
  for _, node in ipairs(nodes) do
    node.differs, node.facts = differences(node.facts, facts), nil
  end
  return { facts = facts, documents = documents, nodes = nodes }
end

function environment.to_json(found)
  local nodes = json.array {}
  for i, node in ipairs(found.nodes) do
    nodes[i] = { node = node.node, host = node.host, cwd = node.cwd, differs = node.differs }
  end
  return { documents = found.documents, nodes = nodes }
end

function environment.print(ctx, found)
  local rows = {}
  for _, name in ipairs(sorted(found.facts)) do rows[#rows + 1] = { name, found.facts[name] } end
  for _, node in ipairs(found.nodes) do
    rows[#rows + 1] = { "node " .. node.node, node.host .. ", in " .. node.cwd }
    for _, name in ipairs(sorted(node.differs)) do
      rows[#rows + 1] = { "  " .. name, { node.differs[name], "yellow" } }
    end
  end
  tables.print(ctx, { { title = "", flex = true, min = 16 }, { title = "", flex = true, min = 20 } },
    rows, { header = false, indent = 2 })
end

-- What differs between the environments of several runs, name by name.
function environment.compare(ctx, store, loaded)
  if #loaded < 2 then
    errors.raise("usage", "--environment: expected at least two runs, got %d", #loaded)
  end
  local all, names, seen, same = {}, {}, {}, 0
  for i, run in ipairs(loaded) do
    local found = environment.of(store, run)
    if not found then errors.raise("not_found", "--environment: %s has none on record", run.name) end
    all[i] = found.facts
    for name in pairs(found.facts) do seen[name] = true end
  end
  for _, name in ipairs(sorted(seen)) do
    local differs = false
    for i = 2, #all do differs = differs or all[i][name] ~= all[1][name] end
    if differs then names[#names + 1] = name else same = same + 1 end
  end
  local titles = { { title = "", flex = true, min = 16 } }
  for i, run in ipairs(loaded) do titles[i + 1] = { title = run.name, flex = true, min = 12 } end
  local rows, different = {}, {}
  for r, name in ipairs(names) do
    rows[r], different[name] = { name }, json.array {}
    for i = 1, #all do
      rows[r][i + 1] = all[i][name] or ""
      different[name][i] = all[i][name] or json.null
    end
  end
  if ctx.json then
    local list = json.array {}
    for i, run in ipairs(loaded) do list[i] = run.name end
    ctx.out(ctx.encode { runs = list, different = different, same = same } .. "\n")
  elseif #names > 0 then
    tables.print(ctx, titles, rows)
  end
  if not ctx.json then
    local text = ("%d fact%s the same in all"):format(same, same == 1 and " is" or "s are")
    ctx.note(term.clean(text) .. "\n")
  end
  return 0
end

return environment
