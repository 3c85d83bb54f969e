#!/usr/bin/env python3
"""What jax.distributed.initialize needs, tried without JAX: the address at which
process 0 serves, how many processes there are, and which of them one is."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import ROOT, Project  # noqa: E402
from pod.project import boxed, enter  # noqa: E402

RECIPE = """local pioche = require "pioche"
return pioche.sweep { name = "jax", space = { x = { 1, 2 } },
  program = pioche.program { command = { "%s", "jax_style.py" }, args = function(p) return {} end },
  launch = { ranks_per_node = 4, parallel = 2 } }
"""


def project():
    p = Project()
    with open(os.path.join(ROOT, "tests", "jax_style.py"), encoding="utf-8") as f:
        p.write("jax_style.py", f.read())
    p.write("r.lua", RECIPE % sys.executable)
    return p


def check(p, run, ranks):
    for rank in range(ranks):
        said = p.pioche("logs", run, "--rank", str(rank)).out
        assert f"{rank} of {ranks} sees {' '.join(map(str, range(ranks)))}" in said, said


def test_processes_of_one_node_meet():
    """Two runs at once, each with a coordinator of its own."""
    with project() as p:
        p.pioche("run", "r.lua", timeout=240)
        for run in ("jax-1", "jax-2"):
            check(p, run, 4)


def test_processes_of_two_nodes_meet():
    """Under Slurm, whose own variables count agents, not ranks."""
    with project() as p, boxed(2) as box:
        enter(p, box)
        p.pioche("run", "r.lua", "x=1", "launch.nodes=2", "launch.ranks_per_node=2", timeout=240)
        assert len(box.jobs()) == 1
        check(p, "jax-1", 4)
        assert p.pioche("logs", "jax-1", "--rank", "3").out.count("SLURM_PROCID 1") == 1


if __name__ == "__main__":
    harness.main()
