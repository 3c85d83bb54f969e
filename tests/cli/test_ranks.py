#!/usr/bin/env python3
"""All ranks of a metric as one series, as commands get it from the store."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import BUILD, Project  # noqa: E402

TRAIN = """
import os, pioche
rank = int(os.environ["RANK"])
with pioche.init() as run:
    for step in range(100):
        if step != 50 + rank:
            run.log({"loss": (rank - 1) * step * 1.0, "seen": rank + 2**60}, step=step)
"""

RECIPE = """local pioche = require "pioche"
return pioche.sweep { name = "r", space = { x = 1 },
  program = pioche.program { command = { "%s", "t.py" } }, launch = { ranks_per_node = 3 } }
"""

CHECK = """
local core = require "pioche.core.store"
local store = assert(core.open(".pioche", "read"))
local loss, seen = { run = 1, key = "loss" }, { run = 1, key = "seen" }
local function value_at(points, step)
  for i = 1, #points.step do
    if points.step[i] == step then return points.value[i], points.ranks[i] end
  end
end
local mean = assert(store:points(loss, { reduce = "mean" }))
assert(#mean.step == 100 and #mean.value == 100 and #mean.ranks == 100 and #mean.time_ns == 100)
assert(value_at(mean, 10) == 0.0 and value_at(mean, 50) == 25.0 and value_at(mean, 52) == -26.0)
assert(select(2, value_at(mean, 10)) == 3 and select(2, value_at(mean, 51)) == 2)
local max = assert(store:points(loss, { reduce = "max", min = 90 }))
assert(#max.step == 10 and max.step[1] == 90 and max.value[10] == 99.0)
local argmax = assert(store:points(loss, { reduce = "argmax" }))
assert(math.type(argmax.value[80]) == "integer" and argmax.value[80] == 2 and value_at(argmax, 52) == 1)
local whole = assert(store:points(seen, { reduce = "min" }))
assert(math.type(whole.value[1]) == "integer" and whole.value[1] == 1 << 60)
assert(value_at(whole, 50) == (1 << 60) + 1)
local one = assert(store:buckets(loss, 1, { reduce = "min" }))
assert(#one == 1 and one[1].count == 100 and one[1].min == -99.0 and one[1].max == 0.0)
assert(#assert(store:buckets(loss, 10, { reduce = "mean", min = 50, max = 59 })) == 10)
local none, message, code = store:points({ run = 1, key = "lozz" }, { reduce = "mean" })
assert(none == nil and message:find("'lozz'", 1, true) and code == "not_found")
none, message, code = store:points(loss, { reduce = "median" })
assert(none == nil and message:find("mean, max, min or argmax", 1, true) and code == "invalid")
for _, wrong in ipairs { { 1, { reduce = "mean" } }, { loss, {} }, { { run = 1 }, { reduce = "mean" } },
  { loss, { reduce = "mean", attempt = 1 } } } do
  assert(not pcall(store.points, store, wrong[1], wrong[2]))
end
store:close()
"""


def test_ranks_are_reduced():
    """mean, max, min, argmax, as points and as buckets; steps that not all ranks logged."""
    harness.python_library()
    with Project(git=False) as p:
        p.write("t.py", TRAIN)
        p.write("r.lua", RECIPE % sys.executable)
        p.pioche("run", "r.lua")
        check = p.write("check.lua", CHECK)
        done = subprocess.run([os.path.join(BUILD, "tests", "lua_host"), check], cwd=p.dir, env=p.env,
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        series = p.pioche("chart", "r-1", "-m", "loss@max", "--json").json
        assert sum(b["count"] for b in series[0]["buckets"]) == 100


if __name__ == "__main__":
    harness.main()
