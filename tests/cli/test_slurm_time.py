#!/usr/bin/env python3
"""The time limit of a job, on a real Slurm in a box, which looks at its clock every
half a minute: minutes."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from pod.project import PodProject, boxed  # noqa: E402


def check_resumed(p, ranks, steps):
    """Each attempt but the last ran out of time, and the next went on from what it saved."""
    rows = p.attempts()
    results = [a["result"] for a in rows]
    assert len(results) >= 2 and set(results[:-1]) == {"timeout"} and results[-1] == "ok", rows
    resumed = p.sql("SELECT resume_checkpoint FROM attempt ORDER BY id")
    assert resumed[0]["resume_checkpoint"] is None and resumed[1]["resume_checkpoint"], resumed
    p.check_points(ranks, 1, steps)
    return rows


def test_time_runs_out():
    """Ranks are told ahead of the limit and save; the next attempt goes on from there. That of
    a job, and beside it that of a pool, whose pilot is told."""
    with boxed(2) as box, PodProject(box) as p, PodProject(box) as pooled:
        p.recipe("nodes = 1, ranks_per_node = 2, time = 3, warn_s = 90", attempts=4,
                 space="steps = 1300, pause_ms = 100, metrics = 1")
        pooled.recipe("nodes = 1, warn_s = 90, pool = { nodes = 1, time = '3m' }",
                      space="steps = 1300, pause_ms = 100, metrics = 1")
        run = pooled.start("run", "recipe.lua")
        try:
            p.pioche("run", "recipe.lua", timeout=550)
            _, err = run.communicate(timeout=550)
        finally:
            run.kill()
            run.communicate()
        check_resumed(p, 2, 1300)
        assert run.returncode == 0, err
        jobs = [a["job"] for a in check_resumed(pooled, 1, 1300)]
        assert len(set(jobs)) == len(jobs), jobs
        pooled.check_nothing_left()


if __name__ == "__main__":
    harness.main()
