-- launcher.lua: where runs run: on this machine, or each attempt as a job of
-- Slurm; and what a launch may ask of either.
--
-- The job script, the calls and what answers mean are C (core/launch/slurm.h);
-- here is what a researcher says, and what is checked before anything exists.
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local json = require "pioche.core.json"
local launch = require "pioche.core.launch"
local partition = require "pioche.partition"
local pool = require "pioche.pool"
local preflight = require "pioche.preflight"
local sys = require "pioche.core.sys"

local launcher = {}

local test_timeout_s = 30      -- for Slurm's opinion of a job that is not submitted

-- ---- what a launch may say --------------------------------------------------------

-- Where runs may run; "auto": in Slurm what needs more than one node, where it is.
launcher.places = { "auto", "local", "slurm" }

local kinds = {}

function kinds.word(value)
  if type(value) == "string" and value ~= "" and not value:find("[\r\n]") then return value end
  return nil, "a string of one line that is not empty"
end

local units = { d = 86400, h = 3600, m = 60, s = 1 }
local time_forms = "minutes (240), \"4h\", \"1d12h\" or \"90m\", or, as Slurm has it, \"4:00:00\" or"
  .. " \"2-00:00:00\""

-- Seconds of a time as people or Slurm write it; nil for anything else.
local function seconds_of(text)
  local minutes = text:match("^%d+$")
  if minutes then return tonumber(minutes) * 60 end
  local days, rest = text:match("^(%d+)%-([%d:]+)$")
  local numbers = {}
  for number in (days and rest or text):gmatch("%d+") do numbers[#numbers + 1] = tonumber(number) end
  local shape = (days and rest or text):gsub("%d+", "n")
  if days and (shape == "n" or shape == "n:n" or shape == "n:n:n") then
    return tonumber(days) * 86400 + numbers[1] * 3600 + (numbers[2] or 0) * 60 + (numbers[3] or 0)
  elseif shape == "n:n:n" then
    return numbers[1] * 3600 + numbers[2] * 60 + numbers[3]
  elseif shape == "n:n" then
    return numbers[1] * 60 + numbers[2]
  end
  local sum, seen, order = 0, "", "dhms"
  for number, unit in text:gmatch("(%d+)(%a)") do
    if not units[unit] or (seen ~= "" and order:find(unit) <= order:find(seen)) then return nil end
    sum, seen = sum + tonumber(number) * units[unit], unit
  end
  return text:gsub("%d+[dhms]", "") == "" and text ~= "" and sum or nil
end

-- Kept in Slurm's form, so that a record says what was asked for.
function kinds.time(value)
  local text = math.type(value) == "integer" and tostring(value) or value
  local seconds = type(text) == "string" and #text < 20 and seconds_of(text)
  if not seconds or seconds < 60 or seconds > 0x7fffffff then
    return nil, time_forms .. (seconds and "; at least a minute" or "")
  end
  local minutes = (math.tointeger(seconds) + 59) // 60
  return ("%d-%02d:%02d:00"):format(minutes // 1440, minutes // 60 % 24, minutes % 60)
end

-- An option --on of a command.
launcher.option = { name = "on", arg = "WHERE", choices = launcher.places,
  help = "launch.on, whatever the recipe says: local, slurm, or auto" }

-- Options of sbatch; on a command line one, or several with commas between.
function kinds.flags(value)
  if type(value) == "string" then
    local list = {}
    for flag in value:gmatch("[^,]+") do list[#list + 1] = flag end
    value = list
  end
  local list = fields.kinds.words(value)
  for _, flag in ipairs(list or {}) do
    if not flag:find("^%-") or flag:find("[\r\n]") then list = nil end
  end
  if list then return list end
  return nil, "a list of options of sbatch, as { \"--mem=0\", \"--exclusive\" }"
end

-- Names of nodes, one text in Slurm's form or a list.
function kinds.nodes(value)
  if type(value) == "table" then
    local list = fields.kinds.words(value)
    value = list and table.concat(list, ",")
  end
  local kept = kinds.word(value)
  if kept then return kept end
  return nil, "names of nodes, as \"dgx-[003,017]\" or { \"dgx-003\", \"dgx-017\" }"
end

local idle_s = 300             -- of a pool that has nothing to do

-- One allocation into which runs are packed.
launcher.pool_schema = {
  nodes = { kind = "positive", required = "how many nodes it has, as 16",
    help = "nodes of the allocation: --nodes" },
  time = { kind = kinds.time, required = "how long it lasts, as \"4h\"",
    help = "the limit of the allocation: --time" },
  slots = { kind = "positive", otherwise = "none: a run has its nodes to itself",
    help = "ranks that a node has room for: runs of fewer share it, each with its part of GPUs and cores" },
  idle = { kind = kinds.time, otherwise = ("%d minutes"):format(idle_s // 60),
    help = "how long it goes on with nothing to do, and nobody to give it anything" },
}

local slurms = "Slurm's"       -- what it does where it is not told

-- Added to what project.lua says of a launch.
launcher.schema = {
  pool = { schema = launcher.pool_schema, example = "{ nodes = 16, time = \"4h\" }", otherwise = "none",
    help = "pack runs, back to back, into one allocation of Slurm of so many nodes, or into one after"
      .. " another: `pioche help run`" },
  on = { kind = fields.one_of(table.unpack(launcher.places)), otherwise = "auto",
    help = "where attempts run: local, this machine; slurm, each as a job; auto, as jobs where there is"
      .. " sbatch, and nodes is more than 1 or there is a pool" },
  partition = { kind = kinds.word, otherwise = slurms, help = "the partition to submit to: --partition" },
  account = { kind = kinds.word, otherwise = slurms, help = "the account that is charged: --account" },
  qos = { kind = kinds.word, otherwise = slurms, help = "the quality of service: --qos" },
  time = { kind = kinds.time, otherwise = slurms,
    help = "the limit of a job: --time; warn_s before it ranks are stopped, and where they saved a checkpoint"
      .. " the next attempt goes on from it; in a pool the limit of a run" },
  gres = { kind = kinds.word, otherwise = "none",
    help = "generic resources of each node, as \"gpu:h100:8\": --gres" },
  gpus_per_node = { kind = "positive", otherwise = "none asked for",
    help = "GPUs of each node, at least as many as ranks: --gpus-per-node" },
  cpus_per_rank = { kind = "positive", otherwise = slurms,
    help = "CPUs of each node for each of its ranks: --cpus-per-task" },
  constraint = { kind = kinds.word, otherwise = "none",
    help = "features that nodes must have: --constraint" },
  exclude = { kind = kinds.nodes, otherwise = "none",
    help = "nodes not to use, beside those that `pioche nodes` leaves out: --exclude" },
  reservation = { kind = kinds.word, otherwise = "none", help = "the reservation to run in: --reservation" },
  flags = { kind = kinds.flags, otherwise = "none", help = "further options of sbatch, as they are" },
  interface = { kind = kinds.word, otherwise = "the one by which packets to another node leave",
    help = "the network by which the nodes of a job reach the first one, as \"ib0\", which must be here too, or"
      .. " as \"10.1.0.0/16\"" },
  warn_s = { kind = "positive",
    otherwise = ("%d and grace_s"):format(launch.slurm_warn_s(0)),
    help = "seconds before the limit of a job when its ranks are stopped, at most half of it: --signal" },
  join_s = { kind = "positive", otherwise = launch.defaults.join_s,
    help = "seconds that the nodes of a job have to come up; after a tenth of them, spares stand in for"
      .. " those that are not there" },
  spares = { kind = "count", otherwise = 0,
    help = "nodes that a job has beyond `nodes`, to stand in for those that do not come up, or that preflight"
      .. " finds unfit or slow" },
}

-- What of a launch may be another for a run that a rule has promoted.
launcher.shape_schema = {
  nodes = { kind = "positive", otherwise = "the sweep's", help = "machines of each attempt from then on" },
  ranks_per_node = { kind = "positive", otherwise = "the sweep's",
    help = "processes on each machine; the program cuts what it has saved for other ranks" },
}
for _, name in ipairs { "gpus_per_node", "cpus_per_rank", "time" } do
  launcher.shape_schema[name] = { kind = launcher.schema[name].kind, otherwise = "the sweep's",
    help = launcher.schema[name].help }
end

-- A launch with what a shape says in place of its own.
function launcher.reshaped(options, shape)
  local copy = {}
  for _, layer in ipairs { options, shape } do
    for name, value in next, layer do copy[name] = value end
  end
  return copy
end

-- ---- choosing -----------------------------------------------------------------------

local function has_program(name)
  for dir in (sys.getenv("PATH") or ""):gmatch("[^:]+") do
    local path = dir .. "/" .. name
    if sys.type(path) == "file" and sys.access_x(path) then return true end
  end
  return false
end

-- "local" or "slurm": what "auto" comes to on this machine.
function launcher.choose(options)
  local on = options.on or "auto"
  if on ~= "auto" then return on end
  return (options.nodes > 1 or options.pool) and has_program("sbatch") and "slurm" or "local"
end

-- GPUs a node that the launch asks for; nil where it asks for none.
local function gpus_asked(options)
  return options.gpus_per_node or partition.gpus(options.gres or "")
end

-- A launch's options as C has them.
local function for_slurm(options)
  local given = { nodes = options.nodes, ranks_per_node = options.ranks_per_node,
    time_s = options.time and math.tointeger(seconds_of(options.time)) }
  for _, name in ipairs { "partition", "account", "qos", "gres", "gpus_per_node", "cpus_per_rank",
    "constraint", "exclude", "reservation", "interface", "warn_s", "join_s",
    "spares" } do
    given[name] = options[name]
  end
  given.bandwidth = preflight.bandwidth(options.preflight)
  given.flags = options.flags and json.array(table.move(options.flags, 1, #options.flags, 1, {}))
  return given
end

-- ---- pools --------------------------------------------------------------------------

-- The launch of the allocation itself.
function launcher.pool_options(options)
  local copy = {}
  for name, value in next, options do copy[name] = value end
  copy.pool, copy.nodes, copy.time = nil, options.pool.nodes, options.pool.time
  copy.ranks_per_node = options.pool.slots or options.ranks_per_node
  return copy
end

-- What it is asked for; only its owner can use it. `narrower`: its options without some nodes.
function launcher.pool_request(options, narrower)
  return { user = sys.user(), slurm = for_slurm(narrower or launcher.pool_options(options)),
    warn_s = options.warn_s or launch.slurm_warn_s(options.grace_s), slots = options.pool.slots,
    idle_s = options.pool.idle and math.tointeger(seconds_of(options.pool.idle)) or idle_s }
end

-- Seconds that a run may take; nil where its launch does not say.
function launcher.limit_s(options)
  local time_s = options.time and math.tointeger(seconds_of(options.time))
  return time_s and options.timeout_s and math.min(time_s, options.timeout_s) or time_s or options.timeout_s
end

-- How many runs of this launch its pool has room for.
function launcher.pool_room(options)
  local side_by_side = options.pool.slots and options.pool.slots // options.ranks_per_node or 1
  return math.max(1, options.pool.nodes // options.nodes * side_by_side)
end

-- How many runs of a launch that does not say so are started at a time: in a pool as
-- many as find a place.
function launcher.parallel(options)
  return options.pool and launcher.choose(options) == "slurm" and launcher.pool_room(options) or 1
end

local function check_pool(box, at, options)
  for _, name in ipairs { "nodes", "time" } do
    if not options.pool[name] then
      box:blame(at, "launch.pool", "%s is missing: expected %s", name, launcher.pool_schema[name].required)
    end
  end
  local request, limit = launcher.pool_request(options), launcher.limit_s(options)
  local longest = pool.longest_s(request.slurm.time_s, request.warn_s)
  if options.nodes > options.pool.nodes then
    box:blame(at, "launch.nodes", "expected at most %d, the nodes of launch.pool, got %d",
      options.pool.nodes, options.nodes)
  elseif options.pool.slots and options.ranks_per_node > options.pool.slots then
    box:blame(at, "launch.ranks_per_node", "expected at most %d, the slots of a node of launch.pool, got %d",
      options.pool.slots, options.ranks_per_node)
  elseif options.spares then
    box:blame(at, "launch.spares", "expected none: in a pool another node is taken, got %d", options.spares)
  elseif limit and limit > longest then
    box:blame(at, options.time and "launch.time" or "launch.timeout_s", "a run may take %d s, and surely"
      .. " ends in a pool of %s only if it takes at most %d: expected less, or a longer launch.pool.time",
      limit, (options.pool.time:gsub("^0%-", "")), math.max(0, longest))
  end
end

-- ---- what Slurm has against it ---------------------------------------------------------

-- What Slurm says of such a job, submitting nothing; nil where it has nothing
-- against it, or cannot be asked now. It counts on nodes that work now.
local function refusal(options)
  local argv = { "sbatch", "--test-only", "--wrap=true" }
  for _, word in ipairs(errors.check(launch.slurm_options(for_slurm(options)))) do
    argv[#argv + 1] = word
  end
  local result = sys.run { argv = argv, timeout_s = test_timeout_s }
  if not result or result.status == 0 or result.timed_out then return nil end
  local kind, words = launch.slurm_answer(result.stderr)
  if kind ~= "refused" or words == "" then return nil end
  return words
end

-- What Slurm has against such a job for ever: where nodes are down, drained or
-- reserved it waits for them, as any other job does.
local function objection(options)
  local words = refusal(options)
  if not words or not words:find("Requested node configuration is not available", 1, true) then
    return words
  end
  local never, why = partition.never_has(options, { nodes = options.nodes + (options.spares or 0),
    cpus = options.ranks_per_node * (options.cpus_per_rank or 1), gpus = gpus_asked(options) or 0 })
  return never and words .. (why and ": " .. why or "") or nil
end

-- A name is looked for on this machine, as a job would find too late that it is a wrong
-- one. A range need not be reached from here.
local function check_interface(box, at, interface)
  local _, message, code = launch.address(interface)
  local is_elsewhere = code == "not_found" and interface:find("/", 1, true)
  if code and not is_elsewhere then
    box:blame(at, "launch.interface", "%s%s", message, code == "not_found" and "; what only the nodes have is named"
      .. " by its range, as \"10.1.0.0/16\"" or "")
  end
end

-- What can be wrong with a launch before anything is made; raises at the recipe's line.
function launcher.check(box, at, options)
  local where = launcher.choose(options)
  if where == "local" then
    if options.pool then
      box:blame(at, "launch.pool", "expected none, because a pool is nodes of Slurm, and these runs are"
        .. " local%s", options.on == "local" and "" or ": there is no sbatch")
    end
    if options.nodes > 1 then
      box:blame(at, "launch.nodes", "expected 1, because this machine is one node%s, got %d",
        options.on == "local" and "" or " and there is no sbatch", options.nodes)
    elseif (options.spares or 0) > 0 then
      box:blame(at, "launch.spares", "expected 0, because this machine is one node, got %d", options.spares)
    end
    return
  end
  for _, name in ipairs { "sbatch", "srun", "squeue", "scontrol", "scancel" } do
    if not has_program(name) then
      box:blame(at, "launch.on", "\"slurm\", but Slurm's %s is not in PATH", name)
    end
  end
  local gpus = gpus_asked(options)
  if gpus and options.ranks_per_node > gpus then
    box:blame(at, "launch.ranks_per_node", "%d, more than the %d GPU%s asked for on each node",
      options.ranks_per_node, gpus, gpus == 1 and "" or "s")
  end
  if options.pool then check_pool(box, at, options) end
  if options.interface then check_interface(box, at, options.interface) end
  local words = objection(options.pool and launcher.pool_options(options) or options)
  if words then box:blame(at, "launch", "Slurm refuses such a job: %s", words) end
end

-- ---- starting ------------------------------------------------------------------------

-- The options without these nodes too; nil and Slurm's words where too few are left
-- that work now: a bad node may do, one that is down surely does not. A name that is
-- no node of the partition needs no leaving out, and Slurm would not take it.
function launcher.without(options, names)
  local copy = {}
  names = partition.known(options, names)
  if #names == 0 then return options end
  for name, value in next, options do copy[name] = value end
  copy.exclude = (options.exclude and options.exclude .. "," or "") .. table.concat(names, ",")
  local words = refusal(copy)
  if words then return nil, words end
  return copy
end

-- Put into a spec of the supervisor where its attempt runs.
function launcher.complete(spec, options)
  if launcher.choose(options) == "slurm" then
    spec.launcher, spec.slurm = "slurm", for_slurm(options)
  end
  return spec
end

-- Ask a job to end, where no supervisor does: its head lets the ranks save what they
-- have; one that `waits` just goes. nil, or what Slurm says against it.
function launcher.cancel(job, waits)
  local argv = waits and { "scancel", "--state=PENDING", job }
    or { "scancel", "--batch", "--signal=TERM", job }
  local result, message = sys.run { argv = argv, timeout_s = test_timeout_s }
  if not result then return message end
  if result.status == 0 then return nil end
  return select(2, launch.slurm_answer(result.stderr))
end

-- Ask an attempt that is part of a pool's job to end, where no supervisor does.
function launcher.stop_placed(dir)
  local ok, message = sys.write_file(dir .. "/order", "stop\n")
  return not ok and message or nil
end

-- Where, in few words, as a plan shows it.
function launcher.place(options)
  if launcher.choose(options) == "local" then return "" end
  if options.pool then
    return (", in a pool of %d node%s"):format(options.pool.nodes, options.pool.nodes == 1 and "" or "s")
      .. launcher.place(launcher.pool_options(options))
  end
  return ", by Slurm" .. (options.partition and " in " .. options.partition or "")
    .. (options.time and " for " .. options.time:gsub("^0%-", "") or "")
end

-- The job script of an attempt of this launch, or of its pool, with words for what is
-- known later.
function launcher.script(options, name, store_path)
  local given = for_slurm(options.pool and launcher.pool_options(options) or options)
  given.name, given.key = name .. "-N", "pioche:RUN:ATTEMPT:RANDOM"
  given.dir = store_path .. "/runs/RUN/ATTEMPT"
  given.executable = store_path .. "/cache/pioche-VERSION/pioche"
  given.grace_s = options.grace_s
  if options.pool then
    given.is_pool, given.name = true, name .. "-pool"
    given.key, given.dir = "pioche:POOL:pool:RANDOM", store_path .. "/pools/POOL"
  end
  return errors.check(launch.slurm_script(given))
end

return launcher
