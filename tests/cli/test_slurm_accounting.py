#!/usr/bin/env python3
"""Jobs that ended while nobody looked, and that the controller has forgotten since:
what came of them is in the accounting, here the real slurmdbd."""
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from harness import wait_for  # noqa: E402
from pod.box import processes  # noqa: E402
from pod.project import PodProject, boxed  # noqa: E402


def abandoned(p, condition):
    """A run of which the attempt is so, and whose supervisor is then killed."""
    run = p.start("run", "recipe.lua")
    try:
        return p.wait_attempt(condition)
    finally:
        run.kill()
        run.communicate(timeout=60)


def forgotten(box, job):
    wait_for(lambda: not box.job(job), 120, f"the controller to forget job {job}")


def head_of(box):
    """Of the one attempt that runs."""
    found = []
    for pid in set(box.pids()) & set(processes()):
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            if b"\0agent\0--head\0" in f.read():
                found.append(pid)
    assert len(found) == 1, found
    return found[0]


def test_what_the_controller_has_forgotten_is_in_the_accounting():
    with boxed(1, with_accounting=True, config="MinJobAge=2\n") as box:
        with PodProject(box) as p:
            p.recipe("nodes = 1", space="steps = 200, pause_ms = 50, metrics = 1", attempts=2)
            first = abandoned(p, lambda a: a["state"] == "running")
            os.kill(head_of(box), signal.SIGKILL)
            forgotten(box, first["job"])
            p.pioche("run", "recipe.lua", timeout=300)
            assert [a["result"] for a in p.attempts()] == ["failed", "ok"], p.attempts()
            assert p.attempts()[0]["message"].startswith(f"job {first['job']}: FAILED (SIGKILL)"), p.attempts()
            p.check_points(1, 1, 200)
            p.check_nothing_left()
        with PodProject(box) as p:
            waits = box.run("sbatch", "--parsable", "-N1", "--exclusive", "-o", "/dev/null", "--wrap",
                            "sleep 600").stdout.strip()
            p.recipe("nodes = 1", space="steps = 1, metrics = 1", attempts=2)
            queued = abandoned(p, lambda a: a["job"])
            box.run("scancel", queued["job"])
            forgotten(box, queued["job"])
            said = p.pioche("run", "recipe.lua", timeout=300, expect=1)
            (attempt,) = p.attempts()
            assert attempt["result"] == "cancelled", attempt
            assert attempt["message"].startswith(f"job {queued['job']} was cancelled, not by pioche but by "), attempt
            assert attempt["message"] in said.err, said.err
            box.run("scancel", waits)


if __name__ == "__main__":
    harness.main()
