#!/usr/bin/env python3
"""Trouble between a run and its cluster, on a real Slurm in a box: no further job is
taken, the queue cannot be read, the disk of the store is full."""
import glob
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
import places  # noqa: E402
from harness import wait_for  # noqa: E402
from pod.project import PodProject, boxed  # noqa: E402


def test_a_second_attempt_is_refused():
    """The partition takes no more jobs when the first attempt fails: the run is told why,
    is tried again by its policy, and ends well when there is a partition again."""
    with boxed(1) as box, PodProject(box) as p:
        program = p.write("program", "#!/bin/sh\n[ $PIOCHE_ATTEMPT = 1 ] || exit 0\n"
                          f"until [ -e '{p.path('go')}' ]; do sleep 0.1; done\nexit 7\n", 0o755)
        p.recipe("nodes = 1", attempts="9, backoff_s = 4", program=program)
        run = p.start("run", "recipe.lua")
        try:
            p.wait_attempt(lambda a: a["state"] == "running")
            box.run("scontrol", "update", "partitionname=batch", "state=drain")
            p.write("go", "")
            # The run is planned again once its policy has been asked.
            refused = p.wait_attempt(lambda a: a["number"] == 2 and a["state"] == "ended"
                                     and a["status"] == "planned", 120)
            box.run("scontrol", "update", "partitionname=batch", "state=up")
            _, err = run.communicate(timeout=240)
        finally:
            run.kill()
        why = "sbatch: Batch job submission failed: Required partition not available (inactive or drain)"
        assert (refused["result"], refused["message"], refused["job"]) == ("failed", why, None), refused
        assert refused["reason"] == why, refused
        assert run.returncode == 0 and f"pod-1: {why}; attempt 3 of 9 in 8 s" in err, err
        attempts = p.attempts()
        assert [a["result"] for a in attempts[:2]] == ["failed", "failed"] and attempts[-1]["result"] == "ok"
        assert sorted(box.jobs()) == sorted(a["job"] for a in attempts if a["job"]), (box.jobs(), attempts)
        assert os.listdir(os.path.join(p.store, "staging")) == []
        p.check_nothing_left()


def test_the_queue_cannot_be_read():
    """While it waits, while it runs, and when it ends: what is known stays, the user is told
    once, and the run ends by its own record."""
    with boxed(1) as box, PodProject(box) as p:
        silent = 'echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2; exit 1'
        p.wrap("squeue", silent)
        env = p.wrap("scontrol", f'case "$*" in *"show job"*) {silent};; esac; exec $REAL "$@"')
        box.run("scontrol", "update", "nodename=dgx-001", "state=DRAIN", "reason=a test")
        p.recipe("nodes = 1", space="steps = 100, pause_ms = 50, metrics = 1")
        run = p.start("run", "recipe.lua", env=env)
        try:
            known = p.wait_attempt(lambda a: a["job"])
            time.sleep(20)
            assert p.attempts() == [known] and known["status"] == "queued", p.attempts()
            box.run("scontrol", "update", "nodename=dgx-001", "state=RESUME")
            _, err = run.communicate(timeout=240)
        finally:
            run.kill()
        assert run.returncode == 0, err
        assert err.count("Slurm does not answer, and is asked again: squeue: ") == 1, err
        assert "Unable to contact slurm controller" in err and f"pod-1 started: job {known['job']}" in err, err
        assert [(a["result"], a["status"]) for a in p.attempts()] == [("ok", "finished")], p.attempts()
        assert box.jobs() == [known["job"]]
        p.check_points(1, 1, 100)


def test_the_disk_of_the_store_is_full():
    """The attempt ends with it, and its record says why, when there is room for one again;
    the next attempt runs to the end."""
    with boxed(2) as box, PodProject(box) as p, places.small_disk(p.dir, 64 << 20) as disk:
        p.recipe("nodes = 2, ranks_per_node = 2", attempts=3, space="steps = 300, pause_ms = 50, metrics = 2")
        p.env["PIOCHE_STORE"] = store = os.path.join(disk, "store")
        run = p.start("run", "recipe.lua")
        try:
            wait_for(lambda: glob.glob(os.path.join(store, "runs", "*", "1", "journal.1")), 120, "its journals")
            p.sh(f"cat /dev/zero > '{disk}/ballast' || true")
            _, err = run.communicate(timeout=120)
        finally:
            run.kill()
        assert run.returncode == 3 and f"store {store}: no space left on its disk" in err, err
        wait_for(lambda: not box.run("squeue", "-h", "-o", "%i").stdout.strip(), 120, "the end of the job")
        os.unlink(os.path.join(disk, "ballast"))
        p.pioche("run", "recipe.lua", timeout=240)
        run = p.pioche("show", "pod-1", "--json").json
        assert run["status"] == "finished", run
        first, second = run["attempts"]
        assert first["result"] == "failed" and "No space left on device" in first["message"], first
        assert second["result"] == "ok", second
        p.pioche("verify")
        p.check_points(4, 2, 300)
        ulid, = os.listdir(os.path.join(store, "runs"))
        for ring in glob.glob(f"/dev/shm/pioche-{ulid}-1-*.ring"):
            os.unlink(ring)  # what found no room stays in the memory of its node


if __name__ == "__main__":
    harness.main()
