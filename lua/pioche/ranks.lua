-- ranks.lua: the processes of an attempt: where they ran and how they ended.
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local format = require "pioche.format"
local tables = require "pioche.table"

local ranks = {}

-- Of the run's newest attempt: { rank, node, exit_code, signal, bind = {cpus,
-- memory, gpu} or nil, stalls, stalled_ns }, by rank.
function ranks.list(store, run)
  local rows = store:rows("SELECT rank, node, exit_code, signal, stalls, stalled_ns, bind FROM rank"
    .. " WHERE attempt_id = (SELECT id FROM attempt WHERE run_id = ? ORDER BY number DESC LIMIT 1)"
    .. " ORDER BY rank", run.id)
  for _, row in ipairs(rows) do
    row.bind = row.bind and json.decode(row.bind)
  end
  return rows
end

function ranks.to_json(rank)
  return { rank = rank.rank, node = rank.node, exit_code = rank.exit_code, signal = rank.signal,
    bind = rank.bind, stalls = rank.stalls, stalled_s = rank.stalled_ns / 1e9 }
end

local function ending(rank)
  if rank.signal then return { sys.signal_name(rank.signal) or "signal " .. rank.signal, "red" } end
  return rank.exit_code and { "exit " .. rank.exit_code, rank.exit_code ~= 0 and "red" or nil } or ""
end

function ranks.print(ctx, list)
  local rows = {}
  for i, rank in ipairs(list) do
    local bind = rank.bind or {}
    rows[i] = { tostring(rank.rank), rank.node, ending(rank), bind.cpus or "any",
      bind.memory and tostring(bind.memory) or "", bind.gpu or "",
      rank.stalls > 0 and format.duration(rank.stalled_ns) or "" }
  end
  tables.print(ctx, { { title = "rank", align = "right" }, { title = "node" }, { title = "ended" },
    { title = "CPUs", flex = true, min = 8 }, { title = "memory", align = "right", drop = 2 },
    { title = "GPU", drop = 1 }, { title = "waited", align = "right", drop = 3 } }, rows, { indent = 2 })
end

return ranks
