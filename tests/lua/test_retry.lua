-- What a failure means: tried again or not, when, and without which nodes.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local retry = require "pioche.retry"
local test, equal = tap.test, tap.equal

local hour_ns <const> = 3600 * 1000000000

local function policy(fields)
  local p = { attempts = 3, backoff_s = 1, total = 20, exclude = true }
  for name, value in pairs(fields or {}) do p[name] = value end
  return p
end

local function attempt(fields)
  local a = { result = "signal", signal = 11, launcher = "slurm", nodes = 4,
    message = "rank 3 died: SIGSEGV at step 812", step = 812 }
  for name, value in pairs(fields or {}) do a[name] = value end
  return a
end

local function several(n, fields)
  local list = {}
  for i = 1, n do
    list[i] = attempt(fields)
    list[i].number = i
    if not (fields and fields.step) then list[i].step = 100 * i end
  end
  return list
end

test("a failure is tried again until the attempts are used up", function()
  equal(retry.decide(policy(), several(1)),
    { again = true, exclude = {}, wait_s = 1.0, number = 2, of = 3 })
  equal(retry.decide(policy(), several(2)).wait_s, 2.0)
  equal(retry.decide(policy(), several(3)), { again = false })
  equal(retry.decide(policy { attempts = 1 }, several(1)), { again = false })
end)

test("waits double, up to five minutes", function()
  local p = policy { attempts = 100, total = 100, backoff_s = 10 }
  equal(retry.decide(p, several(4)).wait_s, 80.0)
  equal(retry.decide(p, several(20)).wait_s, 300)
  equal(retry.decide(policy { backoff_s = 0 }, several(2)).wait_s, 0.0)
end)

test("who fails a preflight is left out, whatever became of the attempt", function()
  local list = several(2, { result = "node_fail", node = "dgx-002" })
  list[1].unfit, list[2].unfit = { "dgx-002" }, { "dgx-003", "dgx-001" }
  list[2].node, list[2].step, list[1].step = "dgx-003", nil, nil
  equal(retry.decide(policy(), list).exclude, { "dgx-001", "dgx-002", "dgx-003" })
  equal(retry.decide(policy { exclude = false }, list).exclude, {})
  equal(retry.suspects(several(1, { result = "timeout", unfit = { "dgx-004" } })), { "dgx-004" })
end)

test("who was cancelled is never tried again", function()
  local list = several(2)
  list[2].result = "cancelled"
  equal(retry.decide(policy(), list), { again = false })
end)

test("preemption and dead nodes cost no attempt, but there is an end to them", function()
  for _, result in ipairs { "preempted", "node_fail" } do
    local list = several(19, { result = result })
    equal(retry.decide(policy { attempts = 1 }, list).again, true)
    list[20] = attempt { result = result }
    equal(retry.decide(policy { attempts = 1 }, list), { again = false, why = "20 attempts in all" })
  end
end)

test("a time limit is innocent where work was saved, and another allocation will be had", function()
  local one = policy { attempts = 1 }
  equal(retry.decide(one, several(1, { result = "timeout", saved_ns = 5 })).again, true)
  equal(retry.decide(one, several(1, { result = "timeout" })).again, false)
  equal(retry.decide(one, several(1, { result = "timeout", saved_ns = 5, launcher = "local" })).again, false)
  equal(retry.decide(one, several(1, { result = "node_fail", launcher = "local" })).again, false)
end)

test("three times the same crash is a loop", function()
  local p = policy { attempts = 10 }
  equal(retry.decide(p, several(2, { step = 812 })).again, true)
  equal(retry.decide(p, several(3, { step = 812 })),
    { again = false, why = "the last 3 attempts failed in the same way at step 812" })
  local list = several(3, { step = 812 })
  list[2].step = 811
  equal(retry.decide(p, list).again, true, "at another step")
  list = several(3, { step = 812 })
  list[2].signal = 9
  equal(retry.decide(p, list).again, true, "by another signal")
  list = several(4, { step = 812 })
  list[1].signal = 9
  equal(retry.decide(p, list).again, false, "the last three count")
end)

test("exit statuses are the same crash when they say the same", function()
  local function failed(text) return attempt { result = "failed", signal = false, exit_code = 1, message = text } end
  local p = policy { attempts = 10 }
  equal(retry.decide(p, { failed "rank 1 exited with 1: KeyError: 'x'; 3 ranks waited 0.8 s",
    failed "rank 7 exited with 1: KeyError: 'x'", failed "rank 1 exited with 1: KeyError: 'x'; 1 rank waited 2.0 s" }),
    { again = false, why = "the last 3 attempts failed in the same way at step 812" })
  equal(retry.decide(p, { failed "rank 1 exited with 1: KeyError: 'x'", failed "rank 1 exited with 1: OSError",
    failed "rank 1 exited with 1: KeyError: 'x'" }).again, true)
end)

test("what cannot even start is a loop too", function()
  local list = several(3, { result = "failed", exit_code = 127, signal = false, message = "start \"./x\"" })
  for _, a in ipairs(list) do a.step = nil end
  equal(retry.decide(policy { attempts = 10 }, list),
    { again = false, why = "the last 3 attempts failed in the same way" })
end)

test("the node that failed first is left out", function()
  local list = several(2)
  list[1].node, list[2].node = "dgx-047", "dgx-003"
  equal(retry.decide(policy(), list).exclude, { "dgx-003", "dgx-047" })
  equal(retry.decide(policy { exclude = false }, list).exclude, {})
  list[2].node = "dgx-047"
  equal(retry.decide(policy(), list).exclude, { "dgx-047" })
  for _, result in ipairs { "preempted", "timeout" } do
    equal(retry.suspects(several(1, { result = result, node = "dgx-001" })), {})
  end
end)

test("the same failure on two nodes is the program's", function()
  local list = several(2, { step = 812 })
  list[1].node, list[2].node = "dgx-047", "dgx-003"
  equal(retry.suspects(list), {})
  list[2].step = 813
  equal(retry.suspects(list), { "dgx-003", "dgx-047" })
end)

test("lost node-hours are counted from the newest checkpoint", function()
  equal(retry.lost_hours(attempt { started_ns = 0, ended_ns = 2 * hour_ns }), 8.0)
  equal(retry.lost_hours(attempt { started_ns = 0, ended_ns = 2 * hour_ns, saved_ns = hour_ns }), 4.0)
  equal(retry.lost_hours(attempt { started_ns = 0, ended_ns = hour_ns, saved_ns = 2 * hour_ns }), 0.0)
  equal(retry.lost_hours(attempt { ended_ns = hour_ns }), 0.0, "it never started")
  equal(retry.lost_hours(attempt { result = "ok", started_ns = 0, ended_ns = hour_ns }), 0.0)
end)

test("the budget of lost node-hours ends it", function()
  local list = several(2, { started_ns = 0, ended_ns = 5 * hour_ns })
  equal(retry.decide(policy { node_hours = 50 }, list).again, true)
  equal(retry.decide(policy { node_hours = 40 }, list),
    { again = false, why = "40 node-hours are lost, of 40 that may be" })
  list[2].result = "preempted"
  equal(retry.decide(policy { node_hours = 40 }, list).again, false, "whosever fault it was")
end)

tap.done()
