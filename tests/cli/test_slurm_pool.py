#!/usr/bin/env python3
"""Runs that are packed into one allocation of a real Slurm, four nodes of it in a box."""
import json
import os
import re
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from harness import wait_for  # noqa: E402
from pod.project import RECIPE, PodProject, boxed  # noqa: E402

COUNT = ('case "$*" in *--test-only*) $REAL "$@"; exit;; esac\n'
         'echo "$*" >> "$DIR/submitted"\nexec $REAL "$@"')


def recipe(p, name, launch, space, attempts=1, of_program=""):
    text = RECIPE % {"space": space, "attempts": attempts, "launch": launch, "of_program": of_program,
                     "program": p.program}
    return p.write(name + ".lua", text.replace('name = "pod"', f'name = "{name}"'))


def attempts(p):
    rows = p.poll("SELECT a.id, e.name || '-' || r.number AS run, a.number, a.state, a.result, a.message, a.job,"
                  " a.pool_id, a.place, a.started_ns, a.ended_ns, a.nodes, r.status FROM attempt a"
                  " JOIN run r ON r.id = a.run_id JOIN experiment e ON e.id = r.experiment_id ORDER BY a.id")
    for row in rows:
        place = json.loads(row["place"] or "{}")
        row["hosts"], row["slots"] = place.get("hosts", []), place.get("slots")
    return rows


def running(p):
    return [a for a in attempts(p) if a["state"] == "running"]


def submitted(p):
    return p.read("submitted").count("\n") if os.path.exists(p.path("submitted")) else 0


def most_at_once(rows):
    """And that no two of them shared a node meanwhile."""
    for a in rows:
        for b in rows:
            if a["id"] < b["id"] and a["started_ns"] < b["ended_ns"] and b["started_ns"] < a["ended_ns"]:
                assert not set(a["hosts"]) & set(b["hosts"]), (a, b)
    return max(sum(b["started_ns"] <= a["started_ns"] < b["ended_ns"] for b in rows) for a in rows)


def places_of(attempt):
    """What it had, as (host, slot)."""
    return [(host, slot) for host, slots in zip(attempt["hosts"], attempt["slots"]) for slot in slots]


def stop_all(run):
    run.kill()
    run.communicate()


ONE = "nodes = 1, ranks_per_node = 2, pool = { nodes = 4, time = '20m' }"
TWO = "nodes = 2, ranks_per_node = 2, pool = { nodes = 4, time = '20m' }"
OF_ONE = "x = { 1, 2, 3, 4, 5, 6, 7, 8 }, steps = 60, pause_ms = 50, metrics = 2"
OF_TWO = "x = { 1, 2, 3, 4 }, steps = 60, pause_ms = 50, metrics = 2"


def test_twelve_runs_of_one_and_two_nodes():
    """One allocation for two sweeps and three supervisors, of which the first dies between
    sbatch and its commit, and the second in the midst: no run twice, all as by themselves."""
    with boxed(4) as box:
        with PodProject(box) as p:
            recipe(p, "one", ONE, OF_ONE)
            recipe(p, "two", TWO, OF_TWO)
            # The answer is never read: this one's parent is gone before it is given.
            env = p.wrap("sbatch", COUNT.replace('exec $REAL "$@"', 'out=$($REAL "$@")\n'
                         'if mkdir "$DIR/once" 2>/dev/null; then kill -9 $PPID; fi\necho "$out"'))
            first = p.start("run", "one.lua", env=env)
            first.communicate(timeout=120)
            assert first.returncode == -signal.SIGKILL and not attempts(p)
            second = p.start("run", "two.lua", env=env)
            try:
                wait_for(lambda: len(running(p)) == 2, 120, "two runs of two nodes")
            finally:
                stop_all(second)
            third = p.pioche("supervise", timeout=300, env=env)
            rows = attempts(p)
            assert sorted((a["run"], a["number"], a["result"]) for a in rows) == sorted(
                [(f"one-{i}", 1, "ok") for i in range(1, 9)] + [(f"two-{i}", 1, "ok") for i in range(1, 5)]), third.err
            assert submitted(p) == 1 and box.jobs() == [rows[0]["job"]], (submitted(p), box.jobs())
            assert {a["job"] for a in rows} == set(box.jobs()) and {len(a["hosts"]) for a in rows} == {1, 2}
            assert most_at_once(rows) >= 3, rows
            packed = p.table("one") + p.table("two")
            assert p.sql("SELECT state, message FROM pool") == [{"state": "ended", "message": None}]
            p.check_store()
            p.check_nothing_left()
        with PodProject(box) as p:
            recipe(p, "one", re.sub("pool = .*", "parallel = 4", ONE), OF_ONE)
            recipe(p, "two", re.sub("pool = .*", "parallel = 2", TWO), OF_TWO)
            p.pioche("run", "one.lua", timeout=300)
            p.pioche("run", "two.lua", timeout=300)
            assert p.table("one") + p.table("two") == packed


def test_runs_share_the_nodes_of_a_pool():
    """Each run has one of two slots of a node, and of that the GPU and the cores; one of two
    nodes has a slot of each."""
    with boxed(2) as box, PodProject(box) as p:
        gpus = ", gres = 'gpu:2'" if box.gpus else ""
        pool = f"pool = {{ nodes = 2, time = '20m', slots = 2 }}{gpus}"
        see = "setup = 'echo \"sees $CUDA_VISIBLE_DEVICES, $(taskset -cp $$)\"'"
        recipe(p, "one", "nodes = 1, " + pool, "x = { 1, 2, 3, 4, 5, 6 }, steps = 60, pause_ms = 50, metrics = 2",
               of_program=see)
        recipe(p, "two", "nodes = 2, " + pool, "steps = 60, pause_ms = 50, metrics = 2", of_program=see)
        plan = p.pioche("plan", "one.lua").out
        assert "4 at a time" in plan and "4 runs at a time on 1 of 2 slots of a node" in plan, plan
        p.pioche("run", "one.lua", timeout=300)
        p.pioche("run", "two.lua", timeout=300)
        rows = attempts(p)
        assert {a["result"] for a in rows} == {"ok"} and len(rows) == 7, rows
        side_by_side = 0
        for a in rows:
            for b in rows:
                if a["id"] < b["id"] and a["started_ns"] < b["ended_ns"] and b["started_ns"] < a["ended_ns"]:
                    shared = set(places_of(a)) & set(places_of(b))
                    assert not shared, (a, b)
                    side_by_side += bool(set(a["hosts"]) & set(b["hosts"]))
        assert side_by_side >= 2 and len(places_of(rows[-1])) == 2, rows
        cores = {0: set(), 1: set()}
        for a in rows:
            for rank, (_, slot) in enumerate(places_of(a)):
                gpus, cpus = re.search(r"sees (\S*), .* affinity list: (\S+)",
                                       p.pioche("logs", a["run"], "--rank", str(rank)).out).groups()
                assert gpus == (str(slot) if box.gpus else ""), (a, gpus)
                cores[slot].add(cpus)
        told = p.sql("SELECT DISTINCT message FROM event WHERE kind = 'launch.bind'")
        if told:  # a machine of one core
            assert told[0]["message"] == "ranks are not bound: there are 2 of them and 1 core", told
        else:
            assert len(cores[0]) == len(cores[1]) == 1 and cores[0] != cores[1], cores
        p.check_nothing_left()


def test_a_pool_is_cancelled():
    """What somebody else's scancel takes is done in a second pool, and costs no attempt."""
    with boxed(2) as box, PodProject(box) as p:
        p.wrap("squeue", 'date +%s.%N >> "$DIR/calls"; exec $REAL "$@"')
        env = p.wrap("sbatch", COUNT)
        recipe(p, "pod", "nodes = 1, ranks_per_node = 2, pool = { nodes = 2, time = '20m' }",
               "x = { 1, 2, 3, 4, 5 }, steps = 80, pause_ms = 50, metrics = 2")
        run = p.start("run", "pod.lua", env=env)
        try:
            wait_for(lambda: len(running(p)) == 2 and len(attempts(p)) == 4, 120, "the second pair of runs")
            job = attempts(p)[0]["job"]
            box.run("scancel", job)
            _, err = run.communicate(timeout=300)
        finally:
            stop_all(run)
        assert run.returncode == 0, err
        rows = attempts(p)
        assert [a["result"] for a in rows] == ["ok", "ok", "preempted", "preempted", "ok", "ok", "ok"], rows
        assert {a["message"] for a in rows[2:4]} == {f"its pool's job {job} was cancelled, not by pioche"}, rows
        assert len({a["job"] for a in rows}) == 2 and submitted(p) == 2, rows
        assert [r["message"] for r in p.sql("SELECT message FROM pool ORDER BY id")] == [
            f"job {job} was cancelled, not by pioche", None]
        p.check_points(2, 2, 80, runs=5)
        calls = [float(line) for line in p.read("calls").split()]
        # The clock of the wrapper starts a process later than the supervisor's.
        assert len(calls) > 2 and min(b - a for a, b in zip(calls, calls[1:])) > 4.5, calls
        p.check_nothing_left()


def pilots(p):
    """Processes of the pilots of this project's pools."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        if b"--pilot" in words and any(w.startswith(os.fsencode(p.store)) for w in words):
            found.append(int(name))
    return found


def test_a_pilot_is_killed():
    """Its job ends with it, and the runs in it, which go on in another, as often as that happens."""
    with boxed(2) as box, PodProject(box) as p:
        env = p.wrap("sbatch", COUNT)
        recipe(p, "pod", "nodes = 1, ranks_per_node = 2, pool = { nodes = 2, time = '20m' }",
               "x = { 1, 2, 3 }, steps = 80, pause_ms = 50, metrics = 2", attempts=2)
        run = p.start("run", "pod.lua", env=env)
        try:
            wait_for(lambda: len(running(p)) == 2 and p.poll("SELECT 1 FROM series"), 120, "two runs")
            killed = pilots(p)
            assert len(killed) == 1, killed
            os.kill(killed[0], signal.SIGKILL)
            _, err = run.communicate(timeout=300)
        finally:
            stop_all(run)
        assert run.returncode == 0, err
        rows = attempts(p)
        assert [a["result"] for a in rows[2:]] == ["ok"] * 3 and len({a["job"] for a in rows}) == 2, rows
        assert all(a["result"] not in ("ok", None) and a["message"] for a in rows[:2]), rows
        assert submitted(p) == 2
        listed = p.pioche("nodes", "pools", "--json").json
        assert [(x["state"], x["nodes"], x["slots"], x["running"], x["ended_attempts"]) for x in listed] == [
            ("ended", 2, None, 0, 3), ("ended", 2, None, 0, 2)], listed
        assert listed[1]["message"] in p.pioche("nodes", "pools", "--wide").out
        p.check_points(2, 2, 80, runs=3)
        p.check_nothing_left()


def test_no_run_starts_that_cannot_end():
    """What may take longer than the pool lasts waits for the next one."""
    with boxed(1) as box, PodProject(box) as p:
        env = p.wrap("sbatch", COUNT)
        recipe(p, "pod", "nodes = 1, timeout_s = 35, pool = { nodes = 1, time = '2m' }",
               "x = { 1, 2 }, steps = 250, pause_ms = 100, metrics = 1")
        plan = p.pioche("plan", "pod.lua").out
        assert "one is started while 35 s of the 54 are left, as it may take" in plan, plan
        p.pioche("run", "pod.lua", timeout=300, env=env)
        rows = attempts(p)
        assert [(a["run"], a["result"]) for a in rows] == [("pod-1", "ok"), ("pod-2", "ok")], rows
        assert len({a["job"] for a in rows}) == 2 and submitted(p) == 2, rows
        assert "pioche agent --pilot" in p.pioche("plan", "pod.lua", "--script").out.replace("'", "").replace(
            p.store + "/cache/pioche-VERSION/", "")
        p.check_nothing_left()


def test_a_node_of_a_pool_dies():
    """Its run goes elsewhere in the same allocation, where the node is not used again."""
    with boxed(3) as box, PodProject(box) as p:
        env = p.wrap("sbatch", COUNT)
        recipe(p, "pod", "nodes = 1, ranks_per_node = 2, pool = { nodes = 3, time = '20m' }",
               "x = { 1, 2, 3, 4, 5, 6 }, steps = 120, pause_ms = 50, metrics = 2")
        run = p.start("run", "pod.lua", env=env)
        try:
            wait_for(lambda: len(running(p)) == 3 and p.poll("SELECT 1 FROM series"), 120, "three runs")
            box.kill_node("dgx-002")
            _, err = run.communicate(timeout=300)
        finally:
            stop_all(run)
        assert run.returncode == 0, err
        rows = attempts(p)
        lost = [a for a in rows if a["result"] != "ok"]
        assert [(a["hosts"], a["result"]) for a in lost] == [(["dgx-002"], "node_fail")], rows
        assert all(a["hosts"] != ["dgx-002"] for a in rows[3:]) and len(rows) == 7 and submitted(p) == 1, rows
        p.check_points(2, 2, 120, runs=6)


def test_a_node_died_before_it_was_used():
    """The run that finds it dead is as innocent as if it had been there, and goes elsewhere."""
    with boxed(2) as box, PodProject(box) as p:
        env = p.wrap("sbatch", COUNT)
        pool = "nodes = 1, pool = { nodes = 2, time = '20m' }"
        recipe(p, "one", pool, "steps = 300, pause_ms = 50, metrics = 1")
        recipe(p, "two", pool, "steps = 10, metrics = 1")
        run = p.start("run", "one.lua", env=env)
        try:
            wait_for(lambda: running(p), 120, "the first run")
        finally:
            stop_all(run)
        box.kill_node("dgx-002")
        p.pioche("run", "two.lua", timeout=300, env=env)
        rows = attempts(p)
        assert [(a["run"], a["hosts"], a["result"]) for a in rows] == [
            ("one-1", ["dgx-001"], "ok"), ("two-1", ["dgx-002"], "node_fail"), ("two-1", ["dgx-001"], "ok")], rows
        assert rows[1]["message"] == "dgx-002 is down: nothing could be started on it" and submitted(p) == 1, rows
        p.check_nothing_left()


def test_runs_of_a_pool_are_stopped():
    """One of them, with a supervisor and without; the others go on. Ctrl-C ends all, and the pool."""
    with boxed(3) as box, PodProject(box) as p:
        recipe(p, "pod", "nodes = 1, pool = { nodes = 3, time = '20m' }",
               "x = { 1, 2, 3, 4 }, steps = 1000000, pause_ms = 50, metrics = 2")
        run = p.start("run", "pod.lua")
        try:
            wait_for(lambda: len(running(p)) == 3, 120, "three runs")
            p.pioche("stop", "pod-1")
            wait_for(lambda: len(attempts(p)) == 4 and len(running(p)) == 3, 60, "the next run")
        finally:
            stop_all(run)
        job = attempts(p)[0]["job"]
        assert f"pod-2 is asked to stop, in its pool, job {job} of Slurm" in p.pioche("stop", "pod-2").out
        assert attempts(p)[1]["state"] == "running"
        run = p.start("run", "pod.lua")
        try:
            wait_for(lambda: attempts(p)[1]["result"], 60, "the end of what was stopped")
            assert [a["run"] for a in running(p)] == ["pod-3", "pod-4"]
            assert "Resources" not in p.pioche("ls", "pod").out
            run.send_signal(signal.SIGINT)
            _, err = run.communicate(timeout=120)
        finally:
            stop_all(run)
        assert run.returncode == 130, err
        assert {(a["result"], a["status"]) for a in attempts(p)} == {("cancelled", "cancelled")}, attempts(p)
        assert box.jobs() == [job] and p.sql("SELECT state FROM pool") == [{"state": "ended"}]
        p.check_nothing_left()


def test_a_pool_outlives_its_supervisor():
    """SIGTERM of the supervisor leaves it; with its last run it is ended by who comes next. A
    pool that waits in the queue, and that nobody needs any more, leaves that."""
    with boxed(2) as box, PodProject(box) as p:
        box.run("sbatch", "--exclusive", "-w", "dgx-002", "-o", "/dev/null", "--wrap", "sleep 1000")
        recipe(p, "pod", "nodes = 1, pool = { nodes = 1, time = '20m' }", "steps = 100, pause_ms = 100, metrics = 2")
        run = p.start("run", "pod.lua")
        try:
            wait_for(lambda: running(p), 120, "the run")
            run.terminate()
            _, err = run.communicate(timeout=60)
        finally:
            stop_all(run)
        assert "pod-1 is left in Slurm" in err and running(p), err
        p.pioche("run", "pod.lua", timeout=120)
        assert [(a["number"], a["result"]) for a in attempts(p)] == [(1, "ok")] and len(box.jobs()) == 2
        p.check_points(1, 2, 100)
        recipe(p, "wide", "nodes = 2, pool = { nodes = 2, time = '20m' }", "steps = 1")
        run = p.start("run", "wide.lua")
        try:
            wait_for(lambda: len(p.poll("SELECT 1 FROM pool WHERE job IS NOT NULL")) == 2, 60, "its job")
            run.send_signal(signal.SIGINT)
            run.communicate(timeout=60)
        finally:
            stop_all(run)
        assert p.sql("SELECT state FROM pool ORDER BY id") == [{"state": "ended"}] * 2 and len(attempts(p)) == 1
        wait_for(lambda: len(box.run("squeue", "-h", "-o", "%i").stdout.split()) == 1, 60, "what is not ours alone")


def test_what_a_pool_cannot_do():
    """Told with field, value and what was expected, before anything is submitted."""
    with boxed(2) as box, PodProject(box) as p:
        for launch, field, message in (
                ("pool = { nodes = 0, time = '1h' }", "launch.pool.nodes", "expected a whole number, at least 1, got 0"),
                ("pool = { nodes = 2 }", "launch.pool", "time is missing: expected how long it lasts, as \"4h\""),
                ("pool = { nodes = 2, time = '4 hours' }", "launch.pool.time", "expected minutes (240), \"4h\""),
                ("pool = { nodes = 2, time = '1h', size = 3 }", "launch.pool.size", "there is no such key"),
                ("pool = 16", "launch.pool", "expected a table, as { nodes = 16, time = \"4h\" }, got 16"),
                ("nodes = 2, pool = { nodes = 1, time = '1h' }", "launch.nodes",
                 "expected at most 1, the nodes of launch.pool, got 2"),
                ("time = '2h', pool = { nodes = 1, time = '1h' }", "launch.time",
                 "a run may take 7200 s, and surely ends in a pool of 01:00:00 only if it takes at most 3355"),
                ("spares = 1, pool = { nodes = 2, time = '1h' }", "launch.spares", "expected none"),
                ("nodes = 3, pool = { nodes = 3, time = '1h' }", "launch",
                 "partition batch has 2 nodes, and it needs 3")):
            recipe(p, "pod", launch, "x = 1")
            refused = p.pioche("run", "pod.lua", expect=1)
            assert f"pod.lua:5: {field}: " in refused.err and message in refused.err, (launch, refused.err)
        local = p.pioche("run", "pod.lua", "--on", "local", "launch.nodes=1", expect=1)
        assert "launch.pool: expected none, because a pool is nodes of Slurm" in local.err, local.err
        wrong = p.pioche("plan", "pod.lua", "launch.pool.nodes=none", expect=1)
        assert "launch.pool.nodes=none: expected a number" in wrong.err, wrong.err
        assert not os.path.exists(p.store) and not box.jobs()
        plan = p.pioche("plan", "pod.lua", "launch.nodes=1", "launch.pool.nodes=2").out
        assert "in a pool of 2 nodes, by Slurm for 01:00:00, 2 at a time" in plan, plan
        assert "2 runs at a time on whole nodes; one is started while" in plan, plan


if __name__ == "__main__":
    harness.main()
