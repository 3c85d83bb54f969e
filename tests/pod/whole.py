#!/usr/bin/env python3
"""The whole pod: 127 nodes of 8 ranks under a real Slurm, in a box.

    make test-pod [NODES=127] [RANKS=8] [STEPS=20] [TRIES=3]

Every rank logs 50 metrics a step and passes two barriers, by the real way: sbatch,
the head, agents, rings, journals, fold. All points must be there, and none twice.
Then how long it takes until every rank runs, against a bare `srun` of as many
tasks of /bin/true on the same box: medians of TRIES, and their ratio."""
import json
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from pod.project import PodProject, boxed  # noqa: E402

NODES, RANKS = int(os.environ.get("NODES") or 127), int(os.environ.get("RANKS") or 8)
STEPS, TRIES = int(os.environ.get("STEPS") or 20), int(os.environ.get("TRIES") or 3)
METRICS = 50
# All of it on this machine's processors: patience is no promise.
TIMEOUT_S = 1800
JOIN_S = 900


def bare(box):
    """Seconds of a bare srun of all tasks."""
    begin = time.monotonic()
    box.run("srun", f"--nodes={NODES}", f"--ntasks={NODES * RANKS}", f"--ntasks-per-node={RANKS}",
            "--mpi=none", "/bin/true", timeout=TIMEOUT_S)
    return time.monotonic() - begin


def started(project, number):
    """Seconds from the job's begin until the last rank of run `number` was started,
    by the job's clock and the records of its agents."""
    row = project.sql(f"SELECT r.ulid, a.job FROM run r JOIN attempt a ON a.run_id = r.id"
                      f" WHERE r.number = {number} ORDER BY a.id DESC LIMIT 1")[0]
    folder = os.path.join(project.store, "runs", row["ulid"], "1")
    begin = os.stat(os.path.join(folder, "claim")).st_mtime_ns
    last = 0
    for node in range(NODES):
        with open(os.path.join(folder, f"exit.{node}.json"), encoding="utf-8") as f:
            last = max(last, *(rank["started_ns"] for rank in json.load(f)["ranks"]))
    return (last - begin) / 1e9


def test_all_points_of_the_pod():
    """1,016 ranks x 50 metrics x 20 steps through the real path; and how fast they start."""
    with boxed(NODES) as box, PodProject(box) as p:
        tries = ", ".join(str(i + 1) for i in range(TRIES))
        p.recipe(f"nodes = {NODES}, ranks_per_node = {RANKS}, join_s = {JOIN_S}, time = '1h'",
                 space=f"try = {{ {tries} }}, steps = {STEPS}, metrics = {METRICS}")
        alone = []
        for _ in range(TRIES):
            alone.append(bare(box))
            print(f"# bare srun of {NODES * RANKS} tasks: {alone[-1]:.1f} s", flush=True)
        begin = time.monotonic()
        p.pioche("run", "recipe.lua", timeout=TIMEOUT_S)
        whole = (time.monotonic() - begin) / TRIES
        ranks = NODES * RANKS
        points = p.pioche(
            "sql", "SELECT run, count(*) AS n, count(DISTINCT rank) AS ranks FROM point"
            " WHERE key NOT GLOB 'sys/*' GROUP BY run", "--json", timeout=TIMEOUT_S).json
        assert [(r["n"], r["ranks"]) for r in points] == [(ranks * METRICS * STEPS, ranks)] * TRIES, points
        twice = p.pioche("sql", "SELECT run, rank, key, count(*) AS n, count(DISTINCT step) AS steps FROM point"
                         " WHERE key NOT GLOB 'sys/*' GROUP BY run, rank, key HAVING n != steps LIMIT 5", "--json", timeout=TIMEOUT_S).json
        assert not twice, twice
        assert [a["result"] for a in p.attempts()] == ["ok"] * TRIES, p.attempts()
        ours = [started(p, i + 1) for i in range(TRIES)]
        for i, seconds in enumerate(ours):
            print(f"# run {i + 1}: all {ranks} ranks started {seconds:.1f} s after their job began", flush=True)
        ratio = statistics.median(ours) / statistics.median(alone)
        print(f"# median start {statistics.median(ours):.1f} s, bare srun {statistics.median(alone):.1f} s:"
              f" ratio {ratio:.2f} (goal: at most 1.2)")
        print(f"# {ranks * METRICS * STEPS} points a run, all there, none twice; {whole:.0f} s a run from"
              " plan to fold")
        p.check_nothing_left()


if __name__ == "__main__":
    harness.main()
