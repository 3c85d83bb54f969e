#!/usr/bin/env python3
"""What goes wrong on a cluster, on a real Slurm in a box: the supervisor, an
agent or a node dies, an administrator cancels, somebody is more urgent."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from harness import wait_for  # noqa: E402
from pod.box import processes  # noqa: E402
from pod.project import PodProject, boxed  # noqa: E402

LONG = "steps = 1000000, pause_ms = 50, metrics = 2"


def test_stopped_while_it_is_submitted():
    """A job that sbatch is about to make is not forgotten by who stops the run meanwhile."""
    with boxed(1) as box, PodProject(box) as p:
        env = p.wrap("sbatch", 'case "$*" in *--test-only*) exec $REAL "$@";; esac\n'
                     'mkdir "$DIR/begun"; sleep 3; exec $REAL "$@"')
        p.recipe("nodes = 1", space=LONG)
        run = p.start("run", "recipe.lua", env=env)
        try:
            wait_for(lambda: os.path.exists(p.path("begun")), 60, "the submission")
            run.send_signal(signal.SIGINT)
            _, err = run.communicate(timeout=120)
        finally:
            run.kill()
        assert run.returncode == 130, err
        assert [(a["result"], a["status"]) for a in p.attempts()] == [("cancelled", "cancelled")], p.attempts()
        assert box.jobs() == [p.attempts()[0]["job"]], p.attempts()
        p.check_nothing_left()


def test_sbatch_that_says_nothing():
    """An answer that gets lost is looked for in the queue; a call that got nowhere is made again."""
    with boxed(1) as box, PodProject(box) as p:
        env = p.wrap("sbatch", 'case "$*" in *--test-only*) exec $REAL "$@";; esac\n'
                     'if mkdir "$DIR/first" 2>/dev/null; then\n'
                     '  echo "sbatch: error: Batch job submission failed: Unable to contact slurm controller'
                     ' (connect failure)" >&2; exit 1; fi\n'
                     'if mkdir "$DIR/second" 2>/dev/null; then\n'
                     '  $REAL "$@" > /dev/null; echo "sbatch: error: Batch job submission failed: Socket timed out'
                     ' on send/recv operation" >&2; exit 1; fi\n'
                     'exec $REAL "$@"')
        p.recipe("nodes = 1", space="steps = 2")
        result = p.pioche("run", "recipe.lua", timeout=300, env=env)
        assert "Unable to contact slurm controller" in result.err, result.err
        assert [a["result"] for a in p.attempts()] == ["ok"] and len(box.jobs()) == 1


def test_a_job_outlives_its_supervisor():
    """SIGKILL and SIGTERM of the supervisor leave the job; the next one goes on with it."""
    with boxed(2) as box, PodProject(box) as p:
        p.recipe("nodes = 2, ranks_per_node = 2", space="steps = 400, pause_ms = 50, metrics = 2")
        for deadly in (signal.SIGKILL, signal.SIGTERM):
            run = p.start("run", "recipe.lua")
            try:
                p.wait_running()
            finally:
                run.send_signal(deadly)
            run.communicate(timeout=60)
            assert [a["state"] for a in p.attempts()] == ["running"], p.attempts()
        p.pioche("run", "recipe.lua", timeout=300)
        assert [(a["number"], a["result"]) for a in p.attempts()] == [(1, "ok")], p.attempts()
        assert len(box.jobs()) == 1
        p.check_points(4, 2, 400)
        # What the head said was taken once, by whichever supervisor.
        notes = p.sql("SELECT kind, message, time_ns, count(*) AS n FROM event GROUP BY 1, 2, 3 HAVING n > 1")
        assert not notes, notes
        p.check_nothing_left()


def test_an_administrator_cancels():
    """A job that somebody else ended is not started again, and the run says so."""
    with boxed(2) as box, PodProject(box) as p:
        p.recipe("nodes = 2, ranks_per_node = 2", space=LONG, attempts=3)
        run = p.start("run", "recipe.lua")
        try:
            p.wait_running()
            job = p.attempts()[0]["job"]
            box.run("scancel", job)
            _, err = run.communicate(timeout=120)
        finally:
            run.kill()
        attempts = p.attempts()
        assert [(a["result"], a["status"]) for a in attempts] == [("cancelled", "cancelled")], attempts
        assert attempts[0]["message"].startswith(f"job {job} was cancelled, not by pioche"), attempts
        assert run.returncode == 1 and "0 of 1 runs are finished" in err, err
        p.check_nothing_left()


def test_stop_without_a_supervisor():
    """`pioche stop` reaches the job although nobody supervises it."""
    with boxed(1) as box, PodProject(box) as p:
        p.recipe("nodes = 1, ranks_per_node = 2", space=LONG, attempts=3)
        run = p.start("run", "recipe.lua")
        try:
            p.wait_running()
        finally:
            run.kill()
        run.communicate()
        job = p.attempts()[0]["job"]
        assert f"pod-1 is asked to stop, as job {job} of Slurm" in p.pioche("stop", "pod-1").out
        wait_for(lambda: box.job(job)["JobState"] in ("COMPLETED", "CANCELLED"), 60, "the end of the job")
        p.pioche("run", "recipe.lua", timeout=120, expect=None)
        assert [(a["result"], a["status"]) for a in p.attempts()] == [("cancelled", "cancelled")], p.attempts()
        assert p.sql("SELECT state FROM checkpoint") == [{"state": "sealed"}], "it was asked to save first"
        p.check_nothing_left()


def test_a_job_is_preempted():
    """What a more urgent job takes the nodes of is tried again, and knows why."""
    with boxed(1) as box, PodProject(box) as p:
        p.recipe("nodes = 1, ranks_per_node = 2", attempts=2,
                 space="steps = 150, pause_ms = 50, metrics = 1")
        with p.running():
            box.run("sbatch", "-p", "urgent", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 5")
        attempts = p.attempts()
        assert [a["result"] for a in attempts] == ["preempted", "ok"], attempts
        assert attempts[0]["message"].startswith(f"job {attempts[0]['job']}: PREEMPTED"), attempts
        p.check_points(2, 1, 150)


def test_the_batch_host_dies():
    """The node of the batch script, of srun, of the head and of rank 0, all at once: what is
    left on the other node ends, and the next attempt runs without the dead one."""
    with boxed(3) as box, PodProject(box) as p:
        p.recipe("nodes = 2, ranks_per_node = 2", attempts=2,
                 space="steps = 200, pause_ms = 50, metrics = 2")
        with p.running():
            job = box.job(p.attempts()[0]["job"])
            assert job["BatchHost"] == "dgx-001", job
            box.kill_node("dgx-001")
        attempts = p.attempts()
        assert len(attempts) == 2 and attempts[0]["result"] in ("node_fail", "lost"), attempts
        assert attempts[1]["result"] == "ok" and attempts[1]["job"] != attempts[0]["job"], attempts
        nodes = [r["node"] for r in p.sql("SELECT DISTINCT node FROM rank WHERE attempt_id = 2 ORDER BY node")]
        assert nodes == ["dgx-002", "dgx-003"], nodes
        p.check_points(4, 2, 200)
        p.check_nothing_left()


def agents_of(box, node):
    """The keeper of a node, and its agent."""
    def is_agent(pid):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                return f.read().split(b"\0")[1:3] == [b"agent", b"--join"]
        except OSError:
            return False
    pids = [pid for pid in box.pids(node) if is_agent(pid)]
    parents = {pid: parent for pid, (parent, _) in processes().items()}
    return sorted(pids, key=lambda pid: parents[pid] in pids)


def test_agent_and_keeper_die_at_once():
    """What the ranks of that node logged last is in memory alone: the next attempt's agent
    there drains it, and the supervisor folds it, though that attempt has ended."""
    logged = ("SELECT s.key, sum(c.count) AS n, max(c.last_step) AS last FROM chunk c JOIN series s ON"
              " s.id = c.series_id WHERE s.rank = 1 AND c.attempt = 1 GROUP BY s.key ORDER BY s.key")
    with boxed(2) as box, PodProject(box) as p:
        p.recipe("nodes = 2, ranks_per_node = 1", attempts=2,
                 space="steps = 4000, pause_ms = 5, metrics = 2")
        run = p.start("run", "recipe.lua")
        try:
            p.wait_running()
            keeper, agent = agents_of(box, "dgx-002")
            os.kill(agent, signal.SIGSTOP)
            looks = [0]

            def is_folded():  # all that the agent has drained
                time.sleep(3)
                looks.append(max(row["last"] for row in p.poll(logged)))
                return looks[-1] == looks[-2]
            wait_for(is_folded, 60, "the last fold of what was drained")
            os.kill(keeper, signal.SIGKILL)
            os.kill(agent, signal.SIGKILL)
            assert run.wait(300) == 0
        finally:
            run.kill()
        attempts = p.attempts()
        assert [a["result"] for a in attempts] == ["node_fail", "ok"], attempts
        after = p.poll(logged)
        assert len(after) == 2 and all(row["n"] == row["last"] + 1 for row in after), after
        assert min(row["last"] for row in after) > looks[-1] + 50, (looks, after)
        p.check_points(2, 2, 4000)
        p.check_nothing_left()


if __name__ == "__main__":
    harness.main()
