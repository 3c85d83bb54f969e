-- What the machine and the installation have, with a store or without.
local gpu = require "pioche.core.gpu"
local launch = require "pioche.core.launch"
local sys = require "pioche.core.sys"
local format = require "pioche.format"

local rings_min = 16            -- ranks of one node that a machine should have room for
local first_year_ns = 1735689600000000000 -- 2025: no clock that is right says less

local machine = {}

local function check_versions(report)
  local words = { "pioche " .. sys.version() }
  for _, library in ipairs(sys.libraries()) do
    words[#words + 1] = library.version:find(library.name, 1, true) and library.version
      or library.name .. " " .. library.version
  end
  report("ok", "versions", table.concat(words, ", "))
  local lib, message = sys.lib_dir()
  if lib then
    report("ok", "client library", lib .. "/libpioche.so")
  else
    report("warn", "client library", message,
      "programs started by pioche cannot load libpioche.so: `make lib`, or install pioche")
  end
end

local function check_gpus(report)
  local found, message = gpu.list()
  if not found then
    report("warn", "GPUs", message, "the driver or a GPU is in trouble: nvidia-smi may say more")
  elseif found.driver == "" then
    report("ok", "GPUs", "none: no NVIDIA driver")
  else
    local names, faults = {}, {}
    for _, device in ipairs(found.gpus) do
      faults[#faults + 1] = device.faults
      names[#names + 1] = string.format("%d %s %s", device.index, device.name,
        format.bytes(device.memory_bytes))
    end
    local text = string.format("driver %s: %s", found.driver,
      #names > 0 and table.concat(names, ", ") or "no GPU")
    if #faults > 0 then
      report("warn", "GPUs", text .. "; " .. table.concat(faults, "; "),
        "reset it (nvidia-smi --gpu-reset), or leave it out of CUDA_VISIBLE_DEVICES")
    else
      report("ok", "GPUs", text)
    end
  end
end

local function check_shared_memory(report)
  local shm = sys.shared_memory()
  local place = sys.place(shm.dir)
  if sys.type(shm.dir) ~= "dir" then
    report("bad", "shared memory", shm.dir .. " is no directory",
      "let PIOCHE_SHM name a directory of this machine")
  elseif place.network then
    report("bad", "shared memory", string.format("%s is on %s, where memory cannot be shared",
      shm.dir, place.name), "let PIOCHE_SHM name a directory of this machine")
  elseif place.free_bytes and place.free_bytes < rings_min * shm.ring_bytes then
    report("warn", "shared memory", string.format("%s: %s free, room for %d ranks of %s each", shm.dir,
      format.bytes(place.free_bytes), place.free_bytes // shm.ring_bytes, format.bytes(shm.ring_bytes)),
      "make it larger (docker run --shm-size, mount -o remount,size=), or let PIOCHE_SHM name another")
  else
    report("ok", "shared memory", string.format("%s (%s)%s", shm.dir, place.name, place.free_bytes
      and ", " .. format.bytes(place.free_bytes) .. " free" or ""))
  end
end

-- Where ranks of other nodes would find this one, if it were the first of a job.
local function check_network(report)
  local _, why = launch.address()
  report("ok", "network", why)
end

function machine.check(report)
  check_versions(report)
  check_gpus(report)
  check_shared_memory(report)
  check_network(report)
end

-- The newest record of the store must not be of the future.
function machine.check_clock(report, store)
  local now = sys.now_ns()
  local newest = store:one("SELECT max(t) AS t FROM (SELECT max(created_ns) AS t FROM run UNION ALL"
    .. " SELECT max(started_ns) FROM attempt UNION ALL SELECT max(ended_ns) FROM attempt)").t or 0
  if now < first_year_ns then
    report("bad", "clock", "it is " .. sys.format_time(now) .. " here", "set the clock of this machine")
  elseif newest > now + 60 * 1000000000 then
    report("warn", "clock", string.format("the newest record is %s ahead of this machine's clock",
      format.duration(newest - now)), "one of the machines' clocks is wrong: is NTP running?"
      .. " pioche orders by numbers, and only shown times mislead")
  else
    report("ok", "clock", sys.format_time(now))
  end
end

return machine
