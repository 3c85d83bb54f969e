#!/usr/bin/env python3
"""Runs go on without their recipe: after a kill of their session, in the background,
one supervisor a store; who attaches only looks."""
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project, wait_for  # noqa: E402

RECIPE = """
local pioche = require "pioche"
return pioche.sweep {
  name = "w",
  program = pioche.program {
    command = { "sh", "program.sh" }, sources = { "program.sh" }, inputs = { data = "data.txt" },
    build = { "sh", "-c", "date +%N > built" }, env = { GREETING = "hello" },
    args = function(p) return { "--x", p.x, p.data } end,
  },
  space = { x = { 1, 2, 3 } }, seeds = { 7 },
  retry = { attempts = 2, backoff_s = 0.1 }, launch = { parallel = 2 },
}
"""

# Says what it was started with, waits for `go`, and of x = 2 fails once.
PROGRAM = """
echo "$GREETING $* $(cat built)"
while test ! -e "$PIOCHE_STORE/../go"; do sleep 0.05; done
test "$2" != 2 || test -e "$PIOCHE_STORE/../failed" || { touch "$PIOCHE_STORE/../failed"; exit 1; }
"""


def project(program=PROGRAM):
    p = Project()
    p.write(".gitignore", "data.txt\ngo\nfailed\n")
    p.write("program.sh", program)
    p.write("data.txt", "some data\n")
    p.write("r.lua", RECIPE)
    p.sh("git add -A && git commit -qm start")
    return p


def begun(p):
    """A session that was killed with two runs under way."""
    run = p.start("run", "r.lua")
    wait_for(lambda: len(p.poll("SELECT 1 FROM attempt WHERE state = 'running'")) == 2)
    run.send_signal(signal.SIGKILL)
    run.communicate()


def statuses(p):
    return [r["status"] for r in p.sql("SELECT status FROM run ORDER BY id")]


def test_what_a_killed_session_left_goes_on_without_the_recipe():
    with project() as p:
        begun(p)
        os.unlink(p.path("r.lua"))
        p.write("program.sh", "exit 9\n")
        p.write("go", "")
        err = p.pioche("supervise").err
        assert err.startswith("going on with 3 runs\n") and err.endswith("3 of 3 runs finished\n"), err
        assert "w-2: rank 0 exited with 1" in err and "; attempt 2 of 2 in 0.1 s" in err, err
        assert statuses(p) == ["finished"] * 3
        out = p.pioche("logs", "w-2").out
        assert re.fullmatch(rf"hello --x 2 {re.escape(p.path('data.txt'))} \d+\n", out), out
        built = {p.pioche("logs", f"w-{i}").out.split()[-1] for i in (1, 2, 3)}
        assert len(built) == 1, "built once"
        retried = p.sql("SELECT message FROM event WHERE kind = 'retry'")
        assert len(retried) == 1 and "attempt 2 of 2" in retried[0]["message"], retried
        assert p.pioche("supervise").err == "nothing to do: no run is open\n"
        assert p.pioche("supervise", "--json").json == []
        p.check_store()


def test_inputs_that_changed_meanwhile_are_no_longer_what_was_planned():
    with project() as p:
        begun(p)
        p.write("data.txt", "other data\n")
        p.write("go", "")
        err = p.pioche("supervise", expect=1).err
        what = f"inputs.data: {p.path('data.txt')} is not what it was when the run was planned"
        assert err.count(what) == 3 and err.endswith("0 of 3 runs finished, 3 failed\n"), err
        assert {r["reason"] for r in p.sql("SELECT reason FROM run")} == {what}


def test_only_the_runs_that_are_asked_for():
    with project() as p:
        begun(p)
        p.write("go", "")
        done = p.pioche("supervise", "w-3", "--json")
        assert [r["id"] for r in done.json] == ["w-3"]
        assert statuses(p) == ["planned", "planned", "finished"]
        p.pioche("stop", "w-1")
        assert "going on with 1 run\n" in p.pioche("supervise").err
        assert statuses(p) == ["cancelled", "finished", "finished"]


def test_in_the_background_one_a_store_and_whoever_attaches_only_looks():
    with project() as p:
        begun(p)
        said = p.pioche("supervise", "--detach", "--json").json
        pid = said["pid"]
        assert os.getsid(pid) == pid, "it is in a session of its own"
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
        assert os.path.samefile(said["log"], os.path.join(p.store, "supervise.log"))
        for verb in (["run", "r.lua"], ["supervise"], ["supervise", "--detach"]):
            err = p.pioche(*verb, expect=3).err
            assert f"pid {pid}, " in err and "pioche supervise --store" in err, err
            assert "`pioche supervise --stop` ends it" in err, err
        wait_for(lambda: len(p.poll("SELECT 1 FROM attempt WHERE state = 'running'")) == 2)
        leaver = p.start("attach", "w-1")
        first = leaver.stderr.readline()
        assert f"w-1 is running, supervised by" in first and f"pid {pid}" in first, first
        leaver.send_signal(signal.SIGINT)
        leaver.communicate(timeout=20)
        watcher = p.start("attach", "w-2")
        watcher.stderr.readline()
        p.write("go", "")
        _, err = watcher.communicate(timeout=60)
        assert watcher.returncode == 0, err
        lines = err.splitlines()
        assert lines[0].startswith("w-2 attempt 2 ended: failed: rank 0 exited with 1"), err
        assert lines[-1] == "w-2 finished" and "w-2 attempt 3 started" in lines, err
        assert any(line.startswith("w-2 retry: ") for line in lines), err
        wait_for(lambda: statuses(p) == ["finished"] * 3)
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"), what="the supervisor ends with its work")
        log = p.read(".pioche/supervise.log").splitlines()
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  w-1 started", log[1]), log
        assert log[-1] == "3 of 3 runs finished", log
        assert p.pioche("attach", "w-2").err == "w-2 finished\n"


def test_its_end_is_polite_and_it_goes_on_from_there():
    with project() as p:
        begun(p)
        assert p.pioche("supervise", "--stop").out == "nobody supervises this store\n"
        err = p.pioche("attach", "w-1", expect=1).err
        assert "and nobody supervises the store: `pioche supervise --detach` goes on with it" in err, err
        said = p.pioche("supervise", "--detach").out
        assert re.fullmatch(r"supervising: pid \d+ on \S+, log .*/supervise\.log\n", said), said
        # The first attempts are those of the command that was killed.
        wait_for(lambda: len(p.poll("SELECT 1 FROM attempt WHERE state = 'running' AND number = 2")) == 2)
        out = p.pioche("supervise", "--stop").out
        assert out.startswith("stopped: ") and "pioche supervise --store" in out, out
        rows = p.sql("SELECT status, reason FROM run ORDER BY id")
        assert [(r["status"], r["reason"]) for r in rows] == [
            ("cancelled", "interrupted"), ("cancelled", "interrupted"), ("planned", None)], rows
        assert p.sql("SELECT * FROM attempt WHERE state != 'ended'") == []
        p.write("go", "")
        p.pioche("supervise")
        assert statuses(p) == ["finished"] * 3


def test_a_supervisor_that_has_nothing_to_do_says_so_and_ends():
    with project() as p:
        p.write("go", "")
        p.pioche("run", "r.lua")
        assert p.pioche("supervise", "--detach").err.endswith("nothing to do: no run is open\n")
        assert "supervise: --stop stands alone" in p.pioche("supervise", "--stop", "--detach", expect=2).err
        assert "supervise: --now belongs to --stop" in p.pioche("supervise", "--now", expect=2).err


harness.main()
