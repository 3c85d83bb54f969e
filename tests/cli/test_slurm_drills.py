#!/usr/bin/env python3
"""What goes wrong on a real Slurm of four nodes, with the CPU trainer: it is noticed,
Slurm gets another job where it has to, and the run ends with the metrics of an
undisturbed one, bit for bit. With --table: what was noticed after how long
(`make drills`)."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import drills  # noqa: E402
import harness  # noqa: E402
import places  # noqa: E402
from harness import GPT, wait_for  # noqa: E402
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


REFERENCE = []


def undisturbed(box):
    if not REFERENCE:
        with project(box) as p:
            p.pioche("run", "r.lua", timeout=300)
            REFERENCE.extend(p.table("d"))
            assert len(REFERENCE) == 1 and "finished" in str(REFERENCE)
    return REFERENCE


def test_drills_of_four_nodes():
    with boxed(4) as box:
        for kind, options, detected, attempts in (
                ("kill-rank", ("--rank", "2"), ("SIGKILL",), 2),
                # It is named though rank 0 alone logs.
                ("hang-rank", ("--rank", "1"), ("hang: ", "rank 1 (", "it is stopped (T)"), 2),
                ("kill-agent", ("--rank", "3"), (), 2),
                ("kill-node", ("--rank", "1"), (), 2),
                ("drop-network", ("--rank", "2"), (), 2),
                ("torn-checkpoint", ("--rank", "3"), ("SIGKILL",), 2),
                ("time-limit", (), ("timeout",), 2),
                ("kill-controller", (), (), 1)):
            with project(box) as p:
                drills.drilled(p, undisturbed(box), kind, *options, detected=detected, attempts=attempts)
                p.check_nothing_left()


def test_full_disk():
    with boxed(4) as box, project(box) as p, places.small_disk(p.dir, 64 << 20, name=".pioche"):
        drills.drilled(p, undisturbed(box), "full-disk", "--seconds", "3")
        p.check_nothing_left()


def test_a_job_is_submitted_once():
    """The supervisor dies between sbatch and its commit: the next one finds the job by its key."""
    with boxed(4) as box, project(box) as p:
        # The answer is never read: this one's parent is gone before it is given.
        env = p.wrap("sbatch", 'case "$*" in *--test-only*) exec $REAL "$@";; esac\n'
                     'if mkdir "$DIR/once" 2>/dev/null; then out=$($REAL "$@"); kill -9 $PPID; echo "$out"; exit; fi\n'
                     'exec $REAL "$@"')
        killed = p.start("run", "r.lua", env=env)
        killed.communicate(timeout=120)
        assert killed.returncode == -signal.SIGKILL
        assert [(a["state"], a["job"]) for a in p.attempts()] == [("starting", None)], p.attempts()
        p.pioche("run", "r.lua", timeout=300, env=env)
        assert [(a["number"], a["result"]) for a in p.attempts()] == [(1, "ok")], p.attempts()
        assert p.attempts()[0]["job"] in box.jobs()
        drills.check_as_undisturbed(p, undisturbed(box), "r.lua", attempts=1)
        p.check_nothing_left()


def test_the_controller_dies():
    """Without an answer nothing changes: the attempt goes on, and ends by its own record."""
    with boxed(4) as box, project(box) as p:
        reference = undisturbed(box)
        with drills.underway(p, "r.lua"):
            box.wait_saved()
            box.kill_controller()
            time.sleep(20)
            box.start_controller()
        assert [(a["number"], a["result"]) for a in p.attempts()] == [(1, "ok")], p.attempts()
        # Until the nodes have come to it again it takes no job of four.
        wait_for(lambda: box.run("sbatch", "--test-only", "-N4", "--wrap", "true", check=False).returncode == 0, 60,
                 "the controller")
        drills.check_as_undisturbed(p, reference, "r.lua", attempts=1)


def test_a_node_dies():
    """Its attempt is lost with it; the next one runs elsewhere, and finishes."""
    with boxed(4) as box, project(box) as p:
        reference, shape = undisturbed(box), ("launch.nodes=2", "launch.ranks_per_node=2")
        with drills.underway(p, "r.lua", *shape):
            box.kill_node("dgx-002")
        attempts = p.attempts()
        assert len(attempts) == 2 and attempts[0]["result"] in ("node_fail", "lost"), attempts
        assert attempts[1]["result"] == "ok", attempts
        nodes = [r["node"] for r in p.sql("SELECT DISTINCT node FROM rank WHERE attempt_id = 2 ORDER BY node")]
        assert len(nodes) == 2 and "dgx-002" not in nodes, nodes
        drills.check_as_undisturbed(p, reference, "r.lua", *shape, attempts=2)
        p.check_nothing_left()


if sys.argv[1:] == ["--table"]:
    drills.print_table([test_drills_of_four_nodes, test_full_disk])
else:
    harness.main()
