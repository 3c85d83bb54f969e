-- query/field.lua: what a query may ask of a run itself.
--
-- A field is { type, expr, within }: `expr` is SQL over run r; where the values
-- stand in another table `expr` is over that, and `within` says which runs rows
-- of it belong to, %s being a condition. Such a field may have several values:
-- a comparison holds if it holds for one of them, != and !~ if = and ~ do for none;
-- `sort` is SQL over run r where it can be sorted by all the same.
local field = {}

local of_snapshot = "r.snapshot_id IN (SELECT id FROM snapshot WHERE %s)"
local of_newest_attempt = "r.id IN (SELECT a.run_id FROM attempt a WHERE %s AND NOT EXISTS (SELECT 1"
  .. " FROM attempt b WHERE b.run_id = a.run_id AND b.number > a.number))"
local newest_attempt = "(SELECT a.%s FROM attempt a WHERE a.run_id = r.id ORDER BY a.number DESC LIMIT 1)"

field.all = {
  name = { type = "text", help = "gpt-17",
    expr = "(SELECT e.name FROM experiment e WHERE e.id = r.experiment_id) || '-' || r.number" },
  experiment = { type = "text", expr = "name", help = "its name",
    sort = "(SELECT e.name FROM experiment e WHERE e.id = r.experiment_id)",
    within = "r.experiment_id IN (SELECT id FROM experiment WHERE %s)" },
  number = { type = "number", expr = "r.number", help = "17 of gpt-17" },
  ulid = { type = "text", expr = "r.ulid", help = "its ULID" },
  status = { type = "status", expr = "r.status",
    help = "planned queued running finished failed stopped cancelled, or a result" },
  result = { type = "result", expr = "a.result", within = of_newest_attempt,
    sort = newest_attempt:format("result"),
    help = "of its newest attempt: ok failed signal timeout ... lost" },
  reason = { type = "text", expr = "coalesce(r.reason, " .. newest_attempt:format("message") .. ")",
    help = "what went wrong" },
  seed = { type = "number", expr = "r.seed", help = "of its draws" },
  attempts = { type = "number", expr = "(SELECT count(*) FROM attempt a WHERE a.run_id = r.id)",
    help = "how many" },
  created = { type = "time", expr = "r.created_ns", help = "when" },
  started = { type = "time", expr = "r.started_ns", help = "when its first attempt began" },
  ended = { type = "time", expr = "r.ended_ns", help = "when" },
  age = { type = "duration", expr = "%NOW% - r.created_ns", help = "since it was created" },
  duration = { type = "duration", expr = "coalesce(r.ended_ns, %NOW%) - r.started_ns",
    help = "how long it took so far" },
  commit = { type = "commit", expr = "commit_id", within = of_snapshot,
    help = "= the beginning of its commit or of HEAD; ~ also in HEAD's subject" },
  branch = { type = "text", expr = "branch", within = of_snapshot, help = "that HEAD was on" },
  dirty = { type = "boolean", expr = "dirty", within = of_snapshot,
    help = "true where the code differed from HEAD" },
  node = { type = "text", expr = "node", help = "a machine that it ran on; also: host",
    within = "r.id IN (SELECT a.run_id FROM attempt a WHERE a.id IN (SELECT attempt_id FROM"
      .. " (SELECT attempt_id, node FROM rank UNION ALL SELECT id, node FROM attempt) WHERE %s))" },
  note = { type = "text", expr = "message", help = "a note on it",
    within = "r.id IN (SELECT run_id FROM event WHERE kind = 'note' AND %s)" },
}
field.all.host = field.all.node

field.names = {}
for name in pairs(field.all) do field.names[#field.names + 1] = name end
table.sort(field.names)

field.statuses = { "planned", "queued", "running", "finished", "failed", "stopped", "cancelled" }
field.results = { "ok", "failed", "signal", "timeout", "preempted", "node_fail", "oom", "hang",
  "cancelled", "lost" }

return field
