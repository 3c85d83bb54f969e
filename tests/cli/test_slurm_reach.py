#!/usr/bin/env python3
"""Drills of what runs on other nodes than the one where they are asked for, on a real
Slurm in a box: those drills see none of this machine's processes."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from harness import PIOCHE  # noqa: E402
from pod.project import PodProject, boxed  # noqa: E402


def drill(p, *words, expect=0, **options):
    """From a machine with a /proc of its own."""
    if os.geteuid() != 0:
        raise harness.Skip("root, for a process namespace")
    return p.pioche("--fork", "--pid", "--mount-proc", PIOCHE, "drill", *words, "--yes", "--json",
                    executable="unshare", expect=expect, timeout=300, **options)


def test_a_rank_on_another_node():
    with boxed(2) as box, PodProject(box) as p:
        p.recipe("nodes = 2, ranks_per_node = 2", attempts="9, backoff_s = 0.5",
                 space="steps = 400, pause_ms = 50, metrics = 1")
        with p.running():
            srun = p.wrap("srun", "echo 'srun: error: Unable to create step for job: Access denied' >&2; exit 1")
            err = drill(p, "kill-rank", "pod-1", expect=1, env=srun).err
            job = p.attempts()[-1]["job"]
            assert f"not as this user, nor could one be found in job {job}: srun: Unable to create step" in err, err
            assert p.sql("SELECT 1 FROM event WHERE kind = 'drill'") == [] and len(p.attempts()) == 1
            for kind, options, target, detected in (
                    ("slow-rank", ("--rank", "1", "--seconds", "2"), "rank 1 on dgx-00", None),
                    ("kill-rank", ("--rank", "2"), "rank 2 on dgx-00", "SIGKILL"),
                    ("drop-network", ("--rank", "1"), " connection", ""),
                    ("kill-agent", (), "the agent of node 1 on dgx-00", ""),
                    ("time-limit", (), "the head on dgx-00", "timeout")):
                report = drill(p, kind, *options).json
                print(f"# {report}", flush=True)
                assert target in report["target"] and report["recovered"], report
                assert detected is None or detected in report["detected"], report
        assert [a["result"] for a in p.attempts()][-1] == "ok" and len(p.attempts()) == 5, p.attempts()
        p.check_nothing_left()


if __name__ == "__main__":
    harness.main()
