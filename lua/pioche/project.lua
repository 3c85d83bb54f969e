-- project.lua: defaults of a project: an optional pioche.lua beside .pioche/,
-- in the same sandbox as a recipe, returning { launch, keep, retry, remotes, aliases }.
local aliases = require "pioche.aliases"
local cli = require "pioche.cli"
local encode = require "pioche.checkpoint.encode"
local fields = require "pioche.fields"
local launch = require "pioche.core.launch"
local launcher = require "pioche.launcher"
local pioche = require "pioche"
local preflight = require "pioche.preflight"
local retention = require "pioche.retention"
local remote = require "pioche.remote"
local retry = require "pioche.retry"
local sandbox = require "pioche.sandbox"
local sys = require "pioche.core.sys"

local project = {}

project.launch = {
  nodes = { kind = "positive",
    help = "machines of each attempt; more than one is a job of Slurm: --nodes" },
  ranks_per_node = { kind = "positive",
    help = "processes of the program on each machine, usually one a GPU: --ntasks-per-node" },
  parallel = { kind = "positive", otherwise = "1, in a pool as many as have a place",
    help = "runs of the sweep that are under way at a time" },
  timeout_s = { kind = "positive", otherwise = "no limit",
    help = "seconds from the start of an attempt until it is stopped, with the result timeout" },
  grace_s = { kind = "count", otherwise = launch.defaults.grace_s,
    help = "seconds that ranks which are stopped have between SIGTERM and SIGKILL, to save a checkpoint;"
      .. " and, beyond two steps, to end by themselves where they ask whether to" },
  hang_s = { kind = "count", otherwise = "learned from the times between the run's own steps",
    help = "seconds without a step of any rank after which an attempt is stopped, with the stacks of"
      .. " its ranks and the result hang; 0: never" },
  share_code = { kind = "boolean",
    otherwise = "false, but true where the copies of a sweep would come to more than 10 GB",
    help = "work in the one checkout of the code in the store's cache; false: each attempt in its own copy" },
  mpi_env = { kind = "boolean", otherwise = false,
    help = "give ranks OpenMPI's variables too: OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK and so on" },
  preflight = { kind = preflight.kind, otherwise = false,
    help = "look at disks, memory, clock and GPUs of each node before ranks start, and on several measure how"
      .. " fast they add up: a node that is unfit or slow is swapped for a spare, and where none is left the"
      .. " attempt ends as node_fail; bandwidth is the bus bandwidth that is expected" },
  telemetry = { kind = "boolean", otherwise = true,
    help = "measure each node and its GPUs every 10 s, as series sys/host/... and sys/gpu/... of the run" },
  bind = { kind = fields.one_of("auto", "gpu", "cores", "none"), otherwise = "auto",
    help = "the cores of each rank: gpu, those next to its GPU; cores, the node's in even shares; auto, gpu"
      .. " where NVML knows them, else cores; none, wherever it likes" },
}
for name, rule in next, launcher.schema do project.launch[name] = rule end
project.retry = {
  attempts = { kind = "positive",
    help = "how often a run may fail before it is given up; what Slurm did (preemption, a node that"
      .. " failed, a time limit reached with work saved) does not count" },
  backoff_s = { kind = "seconds",
    help = ("seconds until the next attempt, twice as many after each failure, at most %d")
      :format(retry.wait_s_max) },
  total = { kind = "positive", help = "attempts in all, those that do not count as failures among them" },
  node_hours = { kind = "hours", otherwise = "no limit",
    help = "hours times nodes whose work was lost, since the last checkpoint each time, after which a run"
      .. " is given up" },
  exclude = { kind = "boolean",
    help = "leave the nodes on which a run failed first out of its next attempts: --exclude" },
}
project.keep = {
  last = { kind = "count", help = "newest checkpoints of each run that are kept" },
  best = { kind = "count",
    help = "checkpoints of each run that are kept beside the newest, the best by the goal; the only one of a"
      .. " run is never dropped, and none before the newest of those that stay was read again from the"
      .. " disk" },
  every = { kind = "positive", otherwise = "none",
    help = "keep the first checkpoint at or after each multiple of so many steps, too" },
  encode = { kind = encode.kind, otherwise = false,
    help = "encode the checkpoints that are kept beside the newest ones, for looking at, where a sample says"
      .. " that it makes a file so many times smaller; true: 1.2. `pioche help checkpoint` says how" },
  quota = { kind = retention.size, otherwise = "none",
    help = "bytes that the store's files may take, as \"2TB\": a checkpoint of a run with which they would be"
      .. " more is refused before anything of it is copied, and that is told; by the size of the one before" },
  code = { kind = "boolean",
    help = "keep an attempt's copy of the code after it ended well; the commit has it anyway" },
}

-- What holds where neither the recipe nor the project says otherwise.
project.defaults = {
  launch = { nodes = 1, ranks_per_node = 1 }, -- parallel: launcher.parallel
  retry = { attempts = 1, backoff_s = 1, total = 20, exclude = true },
  keep = { last = 1, best = 1, code = false },
}

local builtin, of_layer = "pioche's own", "what holds for recipes that do not say otherwise, field by field"

-- What a project file returns.
project.schema = {
  launch = { schema = project.launch, otherwise = builtin, help = of_layer },
  retry = { schema = project.retry, otherwise = builtin, help = of_layer },
  keep = { schema = project.keep, otherwise = builtin, help = of_layer },
  remotes = { kind = remote.kind, otherwise = "none",
    help = "names of places for `pioche push` and `pull`: directories, or rclone:NAME:PATH" },
  aliases = { kind = aliases.kind(function(word) return cli.command(word) ~= nil end), otherwise = "none",
    help = "verbs of the project: { best = { \"ls\", \"--sort\", \"val/loss\" } } makes `pioche best` that" },
}

-- Load the defaults of the project whose root is `root`; {} when it has none.
function project.load(root)
  local path = root .. "/pioche.lua"
  if sys.type(path) ~= "file" then return {} end
  local box = sandbox.new(path, pioche.api)
  box.display = #path <= 56 and path or "pioche.lua"
  local given = box:call(box:compile(path, box.display))
  return fields.check({ box = box, at = { display = box.display, line = 1 } }, given, project.schema)
end

-- The settings of a section: the recipe's over the project's over the built-in.
function project.merge(name, given, defaults)
  local result = {}
  for _, layer in ipairs { project.defaults[name], defaults[name] or {}, given or {} } do
    for key, value in next, layer do result[key] = value end
  end
  return result
end

return project
