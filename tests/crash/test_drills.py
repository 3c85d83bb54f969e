#!/usr/bin/env python3
"""Every drill that one machine can do, on the CPU trainer with two ranks: the failure
is noticed, the run goes on, and ends with the metrics of an undisturbed run, bit for
bit. With --table: what was noticed after how long, as a table (`make drills`)."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import drills  # noqa: E402
import harness  # noqa: E402
import places  # noqa: E402
from harness import GPT, Project, wait_for  # noqa: E402

RECIPE = """
local pioche = require "pioche"
return pioche.sweep {
  name = "d",
  program = pioche.program { command = { "%s" }, inputs = { text = "text.txt" } },
  space = {
    lr = 3e-3, width = 16, heads = 2, depth = 1, context = 32, batch = 8, steps = 400,
    ["step-ms"] = 20, ["save-every"] = 10, ["eval-every"] = 20, ["sample-bytes"] = 0,
  },
  goal = pioche.minimize "val/loss",
  launch = { ranks_per_node = 2, hang_s = 5 },
  retry = { attempts = 3, backoff_s = 0.5 },
  keep = { last = 2, best = 1 },
}
"""

REFERENCE = []


def project():
    p = Project()
    p.write("r.lua", RECIPE % GPT)
    p.write("text.txt", harness.lines(4000))
    p.write(".gitignore", "text.txt\n")
    p.sh("git add -A && git commit -qm start")
    return p


def undisturbed():
    if not REFERENCE:
        with project() as p:
            p.pioche("run", "r.lua", timeout=300)
            REFERENCE.extend(p.table("d"))
            assert len(REFERENCE) == 1 and "finished" in str(REFERENCE)
    return REFERENCE


def drilled(kind, *options, p=None, **wanted):
    if p is None:
        with project() as p:
            return drilled(kind, *options, p=p, **wanted)
    return drills.drilled(p, undisturbed(), kind, *options, **wanted)


def test_kill_rank():
    report = drilled("kill-rank", "--rank", "1", detected=("SIGKILL",))
    assert report["detected"].startswith("signal: rank 1"), report


def test_hang_rank():
    drilled("hang-rank", "--rank", "1", detected=("hang: ", "rank 1 (", "it is stopped (T)"))


def test_kill_agent():
    drilled("kill-agent")


def test_kill_node():
    drilled("kill-node")


def test_slow_rank():
    report = drilled("slow-rank", "--seconds", "3", attempts=1)
    assert report["next_attempt"] is None and report["status"] in ("running", "finished"), report


def test_drop_network():
    drilled("drop-network")


def test_time_limit():
    drilled("time-limit", detected=("timeout: stopped because the time limit of the job was near",))


def test_kill_controller():
    report = drilled("kill-controller")
    assert report["supervisor"], report


def test_torn_checkpoint():
    drilled("torn-checkpoint", detected=("SIGKILL",))


def test_full_disk():
    """On a file system of its own, which needs the right to mount one."""
    with project() as p, places.small_disk(p.dir, 64 << 20, name=".pioche"):
        drilled("full-disk", "--seconds", "3", p=p, attempts=2)


def test_what_cannot_be_done_here_is_said_before_anything_is_hurt():
    with project() as p:
        err = p.pioche("drill", "kill-rnak", expect=2).err
        assert "there is no kind 'kill-rnak'; did you mean 'kill-rank'? (`pioche drill` lists them)" in err, err
        assert len(p.pioche("drill").out.splitlines()) == 10
        run = p.start("run", "r.lua")
        wait_for(lambda: p.poll("SELECT 1 FROM attempt WHERE state = 'running'"))
        for words, status, text in (
                (["kill-rank"], 2, "drill hurts a run (d-1: rank 1, pid "),
                (["kill-rank", "d-1", "--rank", "7", "--yes"], 1, "d-1 has no rank 7: ranks are 0 to 1"),
                (["kill-rank", "d-9", "--yes"], 1, "d-9"),
                (["kill-rank", "--seconds", "3"], 2, "--seconds belongs to full-disk and slow-rank"),
                (["full-disk", "--yes"], 1, "GB free, which others may need")):
            err = p.pioche("drill", *words, expect=status).err
            assert text in err, (words, err)
        p.pioche("stop", "d-1")
        run.communicate(timeout=60)
        assert "drill: no run is running" in p.pioche("drill", "kill-rank", expect=1).err
        assert "d-1 is cancelled: there is no attempt" in p.pioche("drill", "kill-rank", "d-1", expect=1).err
        assert p.sql("SELECT 1 FROM event WHERE kind = 'drill'") == []


if sys.argv[1:] == ["--table"]:
    drills.print_table([function for name, function in list(globals().items())
                        if name.startswith("test_") and not name.startswith("test_what")])
else:
    harness.main()
