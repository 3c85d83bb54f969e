-- nodes: the machines that ran something, and which of them are left out.
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local format = require "pioche.format"
local nodes = require "pioche.nodes"
local runs = require "pioche.runs"
local tables = require "pioche.table"
local value = require "pioche.query.value"

-- The checks of the newest attempt that had any on this node.
local function checks(store, name)
  return store:rows("SELECT c.name, c.state, c.message, c.time_ns FROM node_check c WHERE c.node = ?1"
    .. " AND c.attempt_id = (SELECT attempt_id FROM node_check WHERE node = ?1"
    .. " ORDER BY time_ns DESC, attempt_id DESC LIMIT 1) ORDER BY c.name", name)
end

local function until_text(node)
  if not node.is_excluded then return nil end
  return node.excluded_until_ns == nodes.forever and "cleared" or runs.time(node.excluded_until_ns)
end

local function to_json(store, node)
  local list = json.array {}
  for i, check in ipairs(checks(store, node.name)) do
    list[i] = { name = check.name, state = check.state, message = check.message,
      time = runs.time(check.time_ns) }
  end
  return { name = node.name, excluded = node.is_excluded, excluded_until = until_text(node),
    reason = node.reason, attempts = node.attempts, failures = node.failures, slow = node.slow,
    score = node.score, first_seen = runs.time(node.first_seen_ns),
    last_seen = runs.time(node.last_seen_ns), checks = list }
end

local function print_csv(ctx, list)
  ctx.out(csv.line { "name", "excluded_until", "attempts", "failures", "slow", "score", "last_seen",
    "reason" })
  for _, node in ipairs(list) do
    ctx.out(csv.line({ node.name, until_text(node), node.attempts, node.failures, node.slow, node.score,
      runs.time(node.last_seen_ns), node.reason }, 8))
  end
end

-- What did not pass, and why the node is left out.
local function remarks(store, node)
  local list = {}
  if node.is_excluded then list[1] = node.reason end
  for _, check in ipairs(checks(store, node.name)) do
    if check.state ~= "ok" then list[#list + 1] = check.message end
  end
  return table.concat(list, "; ")
end

local function print_table(ctx, store, list, now_ns)
  if #list == 0 then return ctx.note("no node has run anything yet\n") end
  local rows = {}
  for i, node in ipairs(list) do
    local left = node.is_excluded and (node.excluded_until_ns == nodes.forever and "until cleared"
      or "for " .. format.age(node.excluded_until_ns - now_ns + 60000000000))
    rows[i] = { node.name, left and { left, "yellow" } or "", tostring(node.attempts),
      { tostring(node.failures), node.failures > 0 and "red" or nil }, tostring(node.slow),
      ("%.1f"):format(node.score), format.age(now_ns - node.last_seen_ns), remarks(store, node) }
  end
  tables.print(ctx, { { title = "node" }, { title = "left out" },
    { title = "attempts", align = "right", drop = 2 },
    { title = "failures", align = "right" }, { title = "slow", align = "right", drop = 2 },
    { title = "score", align = "right", drop = 1 }, { title = "seen", align = "right", drop = 1 },
    { title = "why", flex = true, min = 20, drop = 1 } }, rows)
end

local function show(ctx)
  for _, name in ipairs { "for", "why" } do
    if ctx.options[name] then errors.raise("usage", "nodes: --%s goes with `nodes exclude NAME`", name) end
  end
  local store, now_ns = ctx.reading(), sys.now_ns()
  local list = nodes.list(store, now_ns)
  if ctx.csv then return print_csv(ctx, list) end
  if not ctx.json then return print_table(ctx, store, list, now_ns) end
  local values = json.array {}
  for i, node in ipairs(list) do values[i] = to_json(store, node) end
  ctx.out(ctx.encode(values) .. "\n")
end

-- ---- pools -----------------------------------------------------------------------

-- Those that are open, and the newest that are over.
local pools_sql = [[
  SELECT p.ulid, p.job, p.state, p.nodes, p.spec ->> '$.slots' AS slots, p.message, p.created_ns,
         p.started_ns, p.ended_ns, count(a.id) FILTER (WHERE a.state <> 'ended') AS running,
         count(a.id) FILTER (WHERE a.state = 'ended') AS ended
    FROM pool p LEFT JOIN attempt a ON a.pool_id = p.id
   WHERE p.state <> 'ended' OR p.id IN (SELECT id FROM pool ORDER BY id DESC LIMIT 10)
   GROUP BY p.id ORDER BY p.id DESC]]

local function pool_json(pool)
  return { id = pool.ulid, job = pool.job, state = pool.state, nodes = pool.nodes,
    slots = pool.slots or json.null, running = pool.running, ended_attempts = pool.ended,
    message = pool.message, created = runs.time(pool.created_ns), started = runs.time(pool.started_ns),
    ended = runs.time(pool.ended_ns) }
end

local function print_pools(ctx, list, now_ns)
  if #list == 0 then return ctx.note("no pool was asked for yet\n") end
  local rows = {}
  for i, pool in ipairs(list) do
    rows[i] = { pool.job or "", pool.state, tostring(pool.nodes), pool.slots and tostring(pool.slots) or "",
      tostring(pool.running), tostring(pool.ended), format.age(now_ns - pool.created_ns), pool.message or "" }
  end
  tables.print(ctx, { { title = "job" }, { title = "pool" }, { title = "nodes", align = "right" },
    { title = "slots", align = "right", drop = 1 }, { title = "running", align = "right" },
    { title = "done", align = "right" }, { title = "asked for", align = "right", drop = 2 },
    { title = "why", flex = true, min = 20, drop = 1 } }, rows)
end

local function show_pools(ctx)
  local list = ctx.reading():rows(pools_sql)
  if ctx.csv then
    ctx.out(csv.line { "job", "state", "nodes", "slots", "running", "ended_attempts", "created", "message" })
    for _, pool in ipairs(list) do
      ctx.out(csv.line({ pool.job, pool.state, pool.nodes, pool.slots, pool.running, pool.ended,
        runs.time(pool.created_ns), pool.message }, 8))
    end
  elseif ctx.json then
    local values = json.array {}
    for i, pool in ipairs(list) do values[i] = pool_json(pool) end
    ctx.out(ctx.encode(values) .. "\n")
  else
    print_pools(ctx, list, sys.now_ns())
  end
end

-- ---- leaving out -----------------------------------------------------------------

local function names_of(ctx)
  local names = table.move(ctx.args, 2, #ctx.args, 1, {})
  if #names == 0 then errors.raise("usage", "nodes %s: expected the NAME of a node", ctx.args[1]) end
  for _, name in ipairs(names) do
    if not name:match("^[%w_][%w_.%-]*$") then
      errors.raise("usage", "nodes: '%s': expected the name of one node, as dgx-017", name)
    end
  end
  return names
end

local function tell(ctx, list)
  if ctx.csv then
    ctx.out(csv.line { "name", "done" })
    for _, item in ipairs(list) do ctx.out(csv.line { item.name, item.done }) end
  elseif ctx.json then
    ctx.out(ctx.encode(list) .. "\n")
  else
    for _, item in ipairs(list) do ctx.out(item.message .. "\n") end
  end
end

local function exclude(ctx)
  local names, text = names_of(ctx), ctx.options["for"]
  local span_ns = text and value.duration(text)
  if text and not (span_ns and span_ns > 0) then
    errors.raise("usage", "--for: expected a duration as 90s, 12h or 2d, got '%s'", text)
  end
  local store, list = ctx.writing(), json.array {}
  local until_ns = span_ns and sys.now_ns() + math.tointeger(math.min(span_ns, 3e18) // 1) or nodes.forever
  for i, name in ipairs(names) do
    store:node_exclude(name, until_ns, ctx.options.why or "a person said so")
    list[i] = { name = name, done = "excluded", message = span_ns
      and ("%s is left out until %s"):format(name, runs.time(until_ns))
      or name .. " is left out until it is cleared" }
  end
  tell(ctx, list)
end

local function clear(ctx)
  local names = names_of(ctx)
  local store, list = ctx.writing(), json.array {}
  store:begin()
  for i, name in ipairs(names) do
    store:node_clear(name)
    list[i] = { name = name, done = "cleared", message = name .. " is used again; what it did is forgotten" }
  end
  store:commit()
  tell(ctx, list)
end

local function run(ctx)
  local what = ctx.args[1]
  if not what then
    show(ctx)
  elseif what == "exclude" then
    exclude(ctx)
  elseif what == "clear" then
    clear(ctx)
  elseif what == "pools" then
    show_pools(ctx)
  else
    errors.raise("usage", "nodes: expected exclude, clear or pools, got '%s'", what)
  end
  return 0
end

return {
  summary = "the machines, how they failed, which are left out",
  usage = "nodes\nnodes exclude NAME... [--for 2d] [--why TEXT]\nnodes clear NAME...\nnodes pools",
  help = [[
Each machine that ran something: attempts that it took part in, how often it was
the first to fail, how often one of its ranks was slow for a while, and what was
found wrong with it before ranks started.

The score is the sum of its first failures, each worth half after a week; what
may be the program's fault counts less, and what the same run did elsewhere too
not at all. A node of the cluster whose score comes to 2.5 is left out of new jobs
for a day. `exclude` leaves nodes out for a time, or until they are cleared;
`clear` uses them again and forgets what they did.

`pools` lists the allocations of Slurm into which runs were packed (launch.pool),
newest first: those that are there, and ten that are over.

JSON: an array of {name, excluded, excluded_until, reason, attempts, failures,
slow, score, first_seen, last_seen, checks[{name, state, message, time}]}; of pools {id, job, state, nodes,
slots, running, ended_attempts, message, created, started, ended}.]],
  options = {
    { name = "for", arg = "DURATION", help = "of exclude: so long, as 90s, 12h or 2d; else until cleared" },
    { name = "why", arg = "TEXT", help = "of exclude: the reason that is shown" },
    { name = "wide", short = "w", help = "every column, whatever the terminal's width" },
  },
  examples = "pioche nodes exclude dgx-017 --for 2d --why 'fan 3 is loud'\npioche nodes clear dgx-017",
  args = { 0, nil },
  run = run,
}
