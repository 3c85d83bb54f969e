#!/usr/bin/env python3
"""Runs as jobs of a real Slurm, four nodes of it in a box."""
import glob
import json
import os
import shutil
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
import places  # noqa: E402
from harness import wait_for  # noqa: E402
from pod.project import PodProject, boxed  # noqa: E402


def test_every_point_of_32_ranks():
    """Four nodes of eight ranks, fifty metrics a step: all is there, once; the script is kept."""
    with boxed(4) as box, PodProject(box) as p:
        p.recipe("nodes = 4, ranks_per_node = 8, time = '10m'", space="steps = 20, metrics = 50")
        script = p.pioche("plan", "recipe.lua", "--script").out
        assert "#SBATCH --nodes=4\n" in script and "--time=0-00:10:00\n" in script, script
        result = p.pioche("run", "recipe.lua", timeout=300)
        assert "1 of 1 runs are finished" in result.err, result.err
        p.check_points(32, 50, 20)
        assert [(a["result"], a["message"]) for a in p.attempts()] == [("ok", None)]
        nodes = p.sql("SELECT node, count(*) AS ranks FROM rank GROUP BY node ORDER BY node")
        assert nodes == [{"node": n, "ranks": 8} for n in box.nodes], nodes
        with open(p.path(f".pioche/runs/{p.sql('SELECT ulid FROM run')[0]['ulid']}/1/job.sh"),
                  encoding="utf-8") as f:
            assert f.read().count("#SBATCH ") == script.count("#SBATCH ")
        again = p.pioche("run", "recipe.lua")
        assert "nothing to do" in again.err and len(box.jobs()) == 1
        p.check_nothing_left()


def test_two_at_once_and_one_waits():
    """Runs share the cluster; what waits says for what, is not counted as running, and can be stopped."""
    with boxed(4) as box, PodProject(box) as p:
        p.recipe("nodes = 2, ranks_per_node = 8, parallel = 3",
                 space="x = { 1, 2, 3 }, steps = 1000000, pause_ms = 50, metrics = 2")
        run = p.start("run", "recipe.lua")
        try:
            wait_for(lambda: len([a for a in p.attempts() if a["state"] == "running"]) == 2, 60, "two runs")
            waits = wait_for(lambda: [a for a in p.attempts() if a["reason"]], 60, "a reason")
            assert waits[0]["status"] == "queued", waits
            assert waits[0]["reason"] == f"Resources, 2 nodes, job {waits[0]['job']}", waits
            shown = p.pioche("ls", "status = queued", "--json").json
            assert [r["id"] for r in shown] == ["pod-3"], shown
            p.pioche("stop", "pod-3")
            wait_for(lambda: p.attempts()[2]["result"] == "cancelled", 60, "the end of what waits")
            p.pioche("stop", "pod")
            _, err = run.communicate(timeout=120)
        finally:
            run.kill()
        assert "pod-3 queued: Resources, 2 nodes, job" in err, err
        assert {a["result"] for a in p.attempts()} == {"cancelled"}, p.attempts()
        assert {a["status"] for a in p.attempts()} == {"cancelled"}, p.attempts()
        p.check_nothing_left()


def test_what_slurm_refuses():
    """A wrong launch is told before anything is made, in Slurm's own words."""
    with boxed(1) as box, PodProject(box) as p:
        for launch, message in (
                ("partition = 'nope'", "Slurm refuses such a job: invalid partition specified: nope; "
                                       "allocation failure: Invalid partition name specified"),
                ("nodes = 2", "allocation failure: Requested node configuration is not available"),
                ("constraint = 'moon'", "allocation failure: Invalid feature specification"),
                ("ranks_per_node = 9, gres = 'gpu:h100:8'",
                 "launch.ranks_per_node: 9, more than the 8 GPUs asked for on each node"),
                ("time = '4 hours'", "launch.time: expected minutes (240), \"4h\""),
                ("interface = 'ib7'", "launch.interface: there is no network interface or range \"ib7\" on this"
                                      " machine; there are: lo 127.0.0.1"),
                ("interface = '10.1.0.0/99'", "launch.interface: \"10.1.0.0/99\" is no range of addresses"),
                ("flags = { 'exclusive' }", "launch.flags: expected a list of options of sbatch")):
            p.recipe(launch)
            result = p.pioche("run", "recipe.lua", expect=1)
            assert message in result.err and "recipe.lua:5: launch" in result.err, result.err
        p.recipe("nodes = 1")
        result = p.pioche("run", "recipe.lua", expect=1, env={"PATH": "/nowhere"})
        assert "launch.on: \"slurm\", but Slurm's sbatch is not in PATH" in result.err, result.err
        os.mkdir(p.path("some"))
        for name in ("sbatch", "squeue", "scontrol", "scancel"):
            os.symlink(shutil.which(name), p.path(f"some/{name}"))
        result = p.pioche("run", "recipe.lua", expect=1, env={"PATH": p.path("some")})
        assert "launch.on: \"slurm\", but Slurm's srun is not in PATH" in result.err, result.err
        p.recipe("interface = '198.51.100.0/24'")  # as a login node sees the network of the others
        assert "by Slurm" in p.pioche("plan", "recipe.lua").out
        assert not os.path.exists(p.store) and not box.jobs()


def test_where_auto_runs():
    """More than one node is Slurm's, one is not; --on overrules the recipe."""
    with boxed(2) as box, PodProject(box) as p:
        p.recipe("on = 'auto', nodes = 1".replace("on = 'auto', ", ""), space="steps = 2")
        text = p.read("recipe.lua").replace('on = "slurm"', 'on = "auto"')
        p.write("recipe.lua", text)
        assert "by Slurm" not in p.pioche("plan", "recipe.lua").out
        assert "by Slurm" in p.pioche("plan", "recipe.lua", "launch.nodes=2").out
        assert "by Slurm" in p.pioche("plan", "recipe.lua", "--on", "slurm").out
        p.pioche("run", "recipe.lua")
        assert not box.jobs()
        p.pioche("run", "recipe.lua", "launch.nodes=2", timeout=300)
        assert len(box.jobs()) == 1 and [a["result"] for a in p.attempts()] == ["ok", "ok"]


def copies(store):
    """Of pioche itself."""
    return sorted(name for name in os.listdir(os.path.join(store, "cache")) if name.startswith("pioche-"))


def test_jobs_run_what_their_supervisor_is():
    """Whatever is installed over pioche while jobs wait: they run, and load, the version that
    submitted them; one copy serves them all, and those of later sessions."""
    with boxed(1) as box, PodProject(box) as p:
        installed = p.path("installed")
        os.mkdir(installed)
        shutil.copy(harness.PIOCHE, installed)
        shutil.copytree(os.path.join(harness.BUILD, "lib"), p.path("installed/lib"))
        p.recipe("nodes = 1", space="x = { 1, 2 }, steps = 100, pause_ms = 50")
        run = p.start("run", "recipe.lua", executable=os.path.join(installed, "pioche"))
        try:
            p.wait_running()
            p.write("new", f"#!/bin/sh\ntouch '{p.path('another version ran')}'\nexit 1\n", 0o755)
            os.replace(p.path("new"), p.path("installed/pioche"))
            shutil.rmtree(p.path("installed/lib"))
            _, err = run.communicate(timeout=240)
        finally:
            run.kill()
        assert run.returncode == 0, err
        assert [a["result"] for a in p.attempts()] == ["ok", "ok"], p.attempts()
        assert not os.path.exists(p.path("another version ran"))
        kept = copies(p.store)
        assert len(kept) == 1, kept
        for run in p.sql("SELECT ulid FROM run"):
            with open(os.path.join(p.store, "runs", run["ulid"], "1", "orders.json"), encoding="utf-8") as f:
                assert json.load(f)["lib_dir"] == os.path.join(p.store, "cache", kept[0], "lib")
        found = sorted(os.listdir(os.path.join(p.store, "cache", kept[0], "lib", "pioche")))
        assert {"pioche.py", "pioche_sqlite.so"} <= set(found), found
        p.pioche("run", "recipe.lua", "x=3", "steps=2", timeout=240)
        assert copies(p.store) == kept


def test_a_store_that_starts_no_programs():
    """There jobs run pioche from where it is."""
    with boxed(1) as box, PodProject(box) as p, places.small_disk(p.dir, 1 << 29, ",noexec") as disk:
        p.recipe("nodes = 1", space="steps = 2")
        store = os.path.join(disk, "store")
        p.pioche("run", "recipe.lua", "--store", store, timeout=240)
        script = glob.glob(os.path.join(store, "runs", "*", "1", "job.sh"))
        assert len(script) == 1 and os.path.realpath(harness.PIOCHE) in open(script[0], encoding="utf-8").read()
        assert p.pioche("ls", "--store", store, "--json").json[0]["status"] == "finished"


def test_a_hundred_in_the_queue_cost_one_call():
    """However many wait, the queue is read by one squeue, never twice in five seconds."""
    with boxed(1) as box, PodProject(box) as p:
        box.run("sbatch", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1000")
        env = p.wrap("squeue", 'date +%s.%N >> "$DIR/calls"; exec $REAL "$@"')
        p.recipe("nodes = 1, parallel = 100", space="x = pioche.int(1, 100)", of_program="")
        p.write("recipe.lua", p.read("recipe.lua").replace(
            "return pioche.sweep {", "return pioche.sweep { search = pioche.grid {},"))
        run = p.start("run", "recipe.lua", env=env)
        try:
            wait_for(lambda: len([a for a in p.attempts() if a["reason"]]) == 100, 240, "a hundred in the queue")
            already = len(p.read("calls").split())
            time.sleep(20)
            calls = [float(line) for line in p.read("calls").split()]
            assert len(box.jobs()) == 101
            apart = [b - a for a, b in zip(calls, calls[1:])]
            # The clock of the wrapper starts a process later than the supervisor's.
            assert len(calls) >= 2 and min(apart) > 4.5, apart
            assert len(calls) - already <= 4 and max(apart) > 7, calls  # without news ever more rarely
        finally:
            run.send_signal(signal.SIGKILL)
            run.communicate()


if __name__ == "__main__":
    harness.main()
