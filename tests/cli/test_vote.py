#!/usr/bin/env python3
"""A run that is told to end ends at one step on all ranks: by a rule, by a person, on
this machine and on several nodes of Slurm, with a rank that hangs."""
import glob
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project, python_library, wait_for  # noqa: E402
from pod.project import PodProject, boxed  # noqa: E402

PROGRAM = """
import signal, sys, time, pioche
signal.signal(signal.SIGTERM, lambda *_: sys.exit("a signal"))
with pioche.init() as run:
    first = 1 + (run.resume_step or 0)
    for step in range(first, %s):
        time.sleep(0.002 * (1 + (step + run.rank) %% 3))
        run.log({"loss": float(run.attempt)}, step=step)
        if run.should_stop(step):
            if run.rank == 0:
                run.checkpoint(step, {"extra": {"step": step}})
            print("end", step, flush=True)
            break
"""

RECIPE = """local pioche = require "pioche"
return pioche.sweep {
  name = "v", space = { x = 1 }, goal = pioche.minimize "loss", %(rule)s
  program = pioche.program { command = { %(command)s }, %(more)s },
  launch = { ranks_per_node = 2, grace_s = %(grace)d },
}
"""


def ends(p, attempt):
    """The step at which each rank of the run's attempt ended, by its own word."""
    texts = []
    for path in sorted(glob.glob(p.path(f".pioche/runs/*/{attempt}/rank-*.out"))):
        with open(path, encoding="utf-8") as f:
            texts.append(f.read())
    return [int(m.group(1)) if (m := re.search(r"^end (\d+)$", text, re.M)) else None for text in texts]


def stopping_at(rung):
    return "stop = pioche.rule { rungs = { %d }, decide = function() return 'stop' end }," % rung


def test_a_rule_and_a_person_stop_all_ranks_at_one_step():
    library = {"PYTHONPATH": python_library()}
    with Project() as p:
        p.write("t.py", PROGRAM % "100000")
        recipe = {"command": '"python3", "t.py"', "more": 'sources = { "t.py" }', "grace": 60}
        p.write("r.lua", RECIPE % {**recipe, "rule": stopping_at(50)})
        err = p.pioche("run", "r.lua", env=library).err
        assert "v-1 stopped: by rule at step 50" in err, err
        first, second = ends(p, 1)
        assert first == second > 50, (first, second)
        shown = p.pioche("show", "v-1", "--json").json
        assert [(a["result"], a["step"]) for a in shown["attempts"]] == [("cancelled", first)], shown
        assert p.sql("SELECT exit_code FROM rank") == [{"exit_code": 0}] * 2, "no signal was needed"
        saved = p.sql("SELECT step FROM checkpoint")
        assert saved == [{"step": first}], saved
        assert {"message": f"all ranks end at step {first}"} in p.sql("SELECT message FROM event WHERE kind = 'vote'")
        # Without the rule it goes on from there, until a person ends it.
        p.write("r.lua", RECIPE % {**recipe, "rule": ""})
        run = p.start("run", "r.lua", env=library)
        wait_for(lambda: p.poll("SELECT 1 FROM series s JOIN attempt a USING (run_id) WHERE a.number = 2"
                                f" AND a.state = 'running' AND s.last_step > {first + 20}"), 60)
        p.pioche("stop", "v-1")
        _, err = run.communicate(timeout=60)
        assert run.returncode == 1 and "v-1 cancelled: stopped by a person" in err, err
        again, other = ends(p, 2)
        assert again == other > first + 20, (again, other)


def test_the_trainer_saves_at_the_step_at_which_all_end():
    with Project() as p:
        p.write("text", harness.lines(4000))
        p.write("r.lua", RECIPE.replace("x = 1", """width = 16, heads = 2, depth = 1, context = 32, batch = 8,
  steps = 1000000, ["sample-bytes"] = 0""").replace('"loss"', '"train/loss"') % {
            "command": f'"{harness.GPT}"', "more": 'sources = { "r.lua" }, inputs = { text = "text" },'
            " env = { OPENBLAS_NUM_THREADS = 1 }", "grace": 60, "rule": stopping_at(40)})
        p.pioche("run", "r.lua", timeout=120)
        shown = p.pioche("show", "v-1", "--json").json
        assert shown["status"] == "stopped" and "by rule at step 40" in shown["reason"], shown
        step = p.sql("SELECT step FROM checkpoint ORDER BY step DESC LIMIT 1")[0]["step"]
        assert shown["attempts"][0]["step"] == step >= 40
        assert p.sql("SELECT exit_code FROM rank") == [{"exit_code": 0}] * 2


def test_two_nodes_of_two_ranks():
    """They add up at each step, so that one that ended alone would leave the others waiting."""
    with boxed(2) as box:
        with PodProject(box) as p:
            launch = "nodes = 2, ranks_per_node = 2"
            space = "steps = 1000000, asks = 1, pause_ms = 5, metrics = 1"
            recipe = p.recipe(launch, space=space)
            with open(recipe, encoding="utf-8") as f:
                text = f.read()
            p.write("recipe.lua", text.replace("name =", 'goal = pioche.minimize "metric/00", '
                                               + stopping_at(100) + " name =", 1))
            err = p.pioche("run", "recipe.lua", timeout=200).err
            assert "pod-1 stopped: by rule at step 100" in err, err
            steps = ends(p, 1)
            assert len(steps) == 4 and len(set(steps)) == 1 and steps[0] > 100, steps
            assert p.sql("SELECT DISTINCT exit_code FROM rank") == [{"exit_code": 0}]
            assert p.sql("SELECT step FROM checkpoint") == [{"step": steps[0]}]
            p.check_nothing_left()
        # One rank hangs: nobody can come to that step, and the signal ends them.
        with PodProject(box) as p:
            p.recipe(launch, space=space)
            run = p.start("run", "recipe.lua")
            p.wait_running()
            drill = p.start("drill", "hang-rank", "pod-1", "--rank", "3", "--yes")
            wait_for(lambda: p.poll("SELECT 1 FROM event WHERE kind = 'drill'"), 30, "the drill")
            p.pioche("stop", "pod-1")
            _, err = run.communicate(timeout=300)  # a minute for the last step, and the grace
            drill.communicate(timeout=30)
            assert run.returncode == 1 and "pod-1 cancelled: stopped by a person" in err, err
            assert ends(p, 1)[0] is None
            p.check_nothing_left()


harness.main()
