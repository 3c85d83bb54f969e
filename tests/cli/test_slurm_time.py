#!/usr/bin/env python3
"""The time limit of a job, on a real Slurm in a box, which looks at its clock every
half a minute: minutes."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from pod.project import PodProject, boxed  # noqa: E402


def test_time_runs_out():
    """Ranks are told ahead of the limit and save; the next attempt goes on from there."""
    with boxed(1) as box, PodProject(box) as p:
        p.recipe("nodes = 1, ranks_per_node = 2, time = 3, warn_s = 90", attempts=4,
                 space="steps = 1300, pause_ms = 100, metrics = 1")
        p.pioche("run", "recipe.lua", timeout=550)
        results = [a["result"] for a in p.attempts()]
        assert len(results) >= 2 and set(results[:-1]) == {"timeout"} and results[-1] == "ok", p.attempts()
        resumed = p.sql("SELECT resume_checkpoint FROM attempt ORDER BY id")
        assert resumed[0]["resume_checkpoint"] is None and resumed[1]["resume_checkpoint"], resumed
        p.check_points(2, 1, 1300)


if __name__ == "__main__":
    harness.main()
