#!/usr/bin/env python3
"""Drills on a real Slurm of four nodes, with the CPU trainer, a rank a node: each is
noticed, Slurm gets another job where it has to, and the run ends with the metrics of
an undisturbed one, bit for bit. With --table: what was noticed after how long
(`make drills`)."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import drills  # noqa: E402
import harness  # noqa: E402
from harness import GPT  # noqa: E402
from pod.project import PodProject, boxed  # noqa: E402

RECIPE = """
local pioche = require "pioche"
return pioche.sweep {
  name = "d",
  program = pioche.program { command = { "%s" }, inputs = { text = "text.txt" } },
  space = {
    lr = 3e-3, width = 16, heads = 2, depth = 1, context = 32, batch = 8, steps = 400,
    ["step-ms"] = 20, ["save-every"] = 10, ["eval-every"] = 40, ["sample-bytes"] = 0,
  },
  goal = pioche.minimize "val/loss",
  launch = { on = "slurm", nodes = 4, ranks_per_node = 1, time = "10m", hang_s = 5, grace_s = 5 },
  retry = { attempts = 3, backoff_s = 0.5 },
  keep = { last = 2, best = 1 },
}
"""


def project(box):
    p = PodProject(box)
    p.write("r.lua", RECIPE % GPT)
    p.write("text.txt", harness.lines(4000))
    p.write(".gitignore", "text.txt\nrank\n")
    p.sh("git add -A && git commit -qm start")
    return p


def test_drills_of_four_nodes():
    with boxed(4) as box:
        with project(box) as p:
            p.pioche("run", "r.lua", timeout=300)
            reference = p.table("d")
            assert len(reference) == 1 and "finished" in str(reference)
        for kind, options, detected, attempts in (
                ("kill-rank", ("--rank", "2"), ("SIGKILL",), 2),
                # It is named though rank 0 alone logs.
                ("hang-rank", ("--rank", "1"), ("hang: ", "rank 1 (", "it is stopped (T)"), 2),
                ("kill-agent", ("--rank", "3"), (), 2),
                ("kill-node", ("--rank", "1"), (), 2),
                ("time-limit", (), ("timeout",), 2),
                ("kill-controller", (), (), 1)):
            with project(box) as p:
                drills.drilled(p, reference, kind, *options, detected=detected, attempts=attempts)
                p.check_nothing_left()


if sys.argv[1:] == ["--table"]:
    drills.print_table([test_drills_of_four_nodes])
else:
    harness.main()
