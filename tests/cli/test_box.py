#!/usr/bin/env python3
"""The Slurm cluster in a box, tests/pod/box.py, keeps what it promises; on it
stands every test that needs Slurm."""
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from harness import wait_for  # noqa: E402
from pod.box import Box, missing  # noqa: E402


def boxed(nodes, **options):
    if missing():
        raise harness.Skip(", ".join(missing()))
    return Box(nodes, **options)


def test_steps_get_nodes_and_gpus():
    """Each task knows its node; two steps at once share a node's GPUs, not one of them."""
    with boxed(2) as box:
        if not box.gpus:
            raise harness.Skip("character devices for GPUs")
        script = "echo $SLURMD_NODENAME $SLURM_PROCID"
        out = box.run("srun", "-N2", "--ntasks-per-node=2", "bash", "-c", script).stdout.split("\n")
        assert sorted(filter(None, out)) == ["dgx-001 0", "dgx-001 1", "dgx-002 2", "dgx-002 3"], out
        batch = box.path("two.sh")
        box.write("two.sh", "#!/bin/bash\n" + "".join(
            f"srun --exact -n1 --gres=gpu:4 bash -c 'echo $CUDA_VISIBLE_DEVICES; sleep 1' > {box.path(name)} &\n"
            for name in ("a", "b")) + "wait\n")
        box.run("sbatch", "--wait", "-N1", "-n2", "--gres=gpu:8", "-o", "/dev/null", batch)
        seen = []
        for name in ("a", "b"):
            with open(box.path(name), encoding="utf-8") as f:
                seen.append(f.read().strip().split(","))
        assert len(seen[0]) == len(seen[1]) == 4 and len(set(seen[0] + seen[1])) == 8, seen


def test_a_dead_node_and_a_dead_controller():
    """With a node its tasks die, and Slurm says so; the controller's death costs no job."""
    with boxed(2) as box:
        submit = ("sbatch", "--parsable", "--no-requeue", "-N1", "-o", "/dev/null", "--wrap")
        lost = box.run(*submit, "sleep 1000", "-w", "dgx-001").stdout.strip()
        kept = box.run(*submit, "sleep 1000", "-w", "dgx-002").stdout.strip()
        wait_for(lambda: box.job(lost)["JobState"] == box.job(kept)["JobState"] == "RUNNING",
                 what="both jobs run")
        box.wait_saved()
        box.kill_controller()
        assert box.pids("dgx-001") and box.pids("dgx-002")
        box.start_controller()
        wait_for(lambda: (box.job(kept) or {}).get("JobState") == "RUNNING", 60, "the controller is back")
        box.kill_node("dgx-001")
        assert not box.pids("dgx-001") and box.pids("dgx-002")
        wait_for(lambda: box.job(lost)["JobState"] == "NODE_FAIL", 120, "the node's death is noticed")
        assert box.job(kept)["JobState"] == "RUNNING"


def test_boxes_are_apart_and_leave_nothing():
    """Two boxes do not see each other's jobs; with a box its jobs and files go."""
    with boxed(1) as one, boxed(1) as two:
        one.run("sbatch", "-o", "/dev/null", "--wrap", "setsid sleep 1000 & sleep 1000")
        wait_for(lambda: len(one.pids("dgx-001")) > 3, what="the job's processes")
        assert len(one.jobs()) == 1 and not two.jobs()
        assert not set(one.pids()) & set(two.pids())
    for box in (one, two):
        assert not box.pids() and not os.path.exists(box.dir)


def test_needs_no_privilege():
    """Whoever can run tests can have a box."""
    if os.getuid() != 0:
        raise harness.Skip("the other tests here ran without privilege already")
    if missing():
        raise harness.Skip(", ".join(missing()))
    with tempfile.TemporaryDirectory(dir="/tmp") as near:  # the checkout may be out of that user's reach
        shutil.copytree(os.path.join(harness.ROOT, "tests", "pod"), os.path.join(near, "pod"),
                        ignore=shutil.ignore_patterns("__pycache__"))
        os.chmod(near, 0o755)
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-B",
             os.path.join(near, "pod", "box.py"), "--nodes", "1", "srun", "id", "-u"],
            capture_output=True, text=True, env={k: v for k, v in os.environ.items() if k != "TMPDIR"},
            cwd="/", timeout=300, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (0, "65534\n"), done.stderr


if __name__ == "__main__":
    harness.main()
