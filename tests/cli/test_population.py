#!/usr/bin/env python3
"""Populations: each member's stretch is a run that grew from a checkpoint; a driver that is
killed loses no member and repeats none; who fails is replaced; what is outdated is dropped."""
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project, python_library, wait_for  # noqa: E402


def library():
    return {"PYTHONPATH": python_library()}


# The state is the sum of all x so far: what a run comes to tells of all that it grew from.
PROGRAM = """
import sys, pioche
given = dict(word[2:].split("=") for word in sys.argv[1:])
x, until = float(given["x"]), int(given["until"])
total, first = 0.0, 1
with pioche.init() as run:
    saved = run.resume()
    if saved:
        total, first = saved["extra"]["total"], run.resume_step + 1
    for step in range(first, until + 1):
        total += x
        run.log({"loss": total}, step=step)
    if x > 2.5:
        sys.exit("too large")
    run.checkpoint(until, {"extra": {"total": total}})
"""

RECIPE = """local pioche = require "pioche"
return pioche.sweep {
  name = "p", goal = pioche.minimize "loss", space = { x = %(x)s },
  search = pioche.%(search)s, launch = { parallel = 2, telemetry = false }, %(more)s
  program = %(program)s,
}
"""


def recipe(search, x="pioche.uniform(0, 2)", more="", program='pioche.program { command = { "python3", "t.py" } }'):
    return RECIPE % {"search": search, "x": x, "more": more, "program": program}


def check_members(p, population, steps, interval):
    """Each run goes on from its parent's end with its parent's sum; each member has one of each round."""
    shown = p.pioche("sweep", "show", "p", "--json").json
    runs = {r["id"]: r for r in p.pioche("ls", "--all", "--json").json}
    members = {m["run"]: m for m in shown["members"]}
    seen = set()
    for m in shown["members"]:
        run, parent = runs[m["run"]], members.get(m["parent"])
        begin = parent["step"] if parent else 0
        assert m["step"] == min(steps, m["round"] * interval) and m["round"] == (parent["round"] if parent else 0) + 1
        assert (m["member"], m["round"]) not in seen
        seen.add((m["member"], m["round"]))
        x = run["params"]["x"]
        metric = run["metrics"]["loss"]
        assert (metric["first_step"], metric["last_step"]) == (begin + 1, m["step"]), (m, metric)
        before = parent["value"] if parent else 0
        assert abs(m["value"] - before - x * (m["step"] - begin)) < 1e-9, m
        if not m["copied"]:
            assert parent is None or parent["member"] == m["member"] and not m["changed"]
        else:
            assert m["at"] == parent["step"] and m["changed"] == {"x": [runs[m["parent"]]["params"]["x"], x]}
    assert len(seen) == population * ((steps + interval - 1) // interval)
    return shown


def test_a_driver_that_is_killed_goes_on_with_all_members():
    with Project() as p:
        p.write("t.py", PROGRAM)
        p.write("r.lua", recipe("pbt { population = 4, interval = 5, steps = 18, seed = 2 }"))
        for count in (3, 9):
            process = p.start("run", "r.lua", env=library())
            wait_for(lambda: p.poll(f"SELECT 1 FROM proposal WHERE observed IS NOT NULL LIMIT 1 OFFSET {count}"), 60)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        p.pioche("run", "r.lua", env=library())
        shown = check_members(p, 4, 18, 5)
        assert len(shown["members"]) == 16 and shown["runs"] == {"finished": 16}
        assert any(m["copied"] for m in shown["members"])
        # A run grew from the checkpoint of its parent, which the store knows by its digest alone.
        rows = p.sql("SELECT count(*) AS n FROM run WHERE from_checkpoint IS NOT NULL")
        assert rows == [{"n": 12}]
        # Only what somebody may want is still there: of each member the newest, and the best of all.
        kept = p.sql("SELECT count(*) AS n, min(step) AS first FROM checkpoint")[0]
        assert kept["n"] <= 5 and p.sql("SELECT count(*) AS n FROM checkpoint WHERE step = 18") == [{"n": 4}], kept
        replay = p.pioche("sweep", "replay", "p", "--json").json
        assert (replay["proposals"], replay["same"]) == (16, True), replay
        assert "nothing to do: 16 of 16" in p.pioche("run", "r.lua", env=library()).err
        assert "--again: what members grew from is gone" in p.pioche("run", "r.lua", "--again", expect=1).err
        assert "(pbt) has no such option" in p.pioche("run", "r.lua", "search.runs=9", expect=1).err
        text = p.pioche("sweep", "show", "p").out
        assert "is a copy of" in text and " to " in text, text
        p.check_store()
        # What is on record but comes out differently is found.
        p.sh("sqlite3 .pioche/pioche.db \"UPDATE proposal SET lineage = json_set(lineage, '$.member', 9)"
             " WHERE number = 12\"")
        again = p.pioche("sweep", "replay", "p", "--json", expect=1).json
        assert again["difference"]["number"] == 12 and '"member":9' in again["difference"]["recorded"], again


def test_who_fails_is_replaced_and_stays_away():
    """A run of x = 3 fails, whoever tries it; the others go on, and two sweeps do not meet."""
    with Project() as p:
        p.write("t.py", PROGRAM)
        p.write("r.lua", recipe("pb2 { population = 4, interval = 4, steps = 12 }", x="{ 1, 1.5, 2, 3 }"))
        err = p.pioche("run", "r.lua", env=library(), expect=1).err
        assert "failed: rank 0 exited with 1" in err and "too large" in err, err
        members = p.pioche("sweep", "show", "p", "--json").json["members"]
        failed = next(m for m in members if m["status"] == "failed")
        after = [m for m in members if m["member"] == failed["member"] and m["run"] != failed["run"]]
        assert after[0]["copied"] and after[0]["parent"] != failed["run"], after
        assert {m["member"] for m in members if m["step"] == 12 and m["status"] == "finished"} == {1, 2, 3, 4}
        attempts = p.sql("SELECT count(*) AS n FROM attempt")
        p.pioche("run", "r.lua", env=library(), expect=1)
        assert p.sql("SELECT count(*) AS n FROM attempt") == attempts, "it is not tried again"
        assert p.pioche("sweep", "replay", "p", "--json").json["same"]
        # Another population begins with the same runs, whose checkpoints are gone: they are run once more.
        p.write("r.lua", recipe("pbt { population = 2, interval = 4, steps = 8 }", x="{ 1, 1.5, 2 }"))
        p.pioche("run", "r.lua", env=library())
        check_members(p, 2, 8, 4)


def test_the_trainer_goes_on_bit_for_bit():
    """A member that copies nobody comes to what an uncut run comes to."""
    with Project() as p:
        p.write("text", harness.lines(4000))
        def gpt(name, search, lr):
            return f"""local pioche = require "pioche"
return pioche.sweep {{ name = "{name}", {search} goal = pioche.minimize "val/loss",
  space = {{ lr = {lr}, width = 16, depth = 1, heads = 2, context = 32, batch = 8, steps = 60,
    ["sample-bytes"] = 0, ["eval-every"] = 0 }},
  program = pioche.program {{ command = {{ "{harness.GPT}" }}, sources = {{ "text" }},
    inputs = {{ text = "text" }}, env = {{ OPENBLAS_NUM_THREADS = 1 }} }} }}
"""
        p.write("r.lua", gpt("g", "search = pioche.pbt { population = 2, interval = 20, steps = 60, quantile = 0 },",
                         "{ 3e-3, 1e-5 }"))
        p.pioche("run", "r.lua")
        members = p.pioche("sweep", "show", "g", "--json").json["members"]
        assert len(members) == 6 and not any(m["copied"] for m in members)
        p.write("w.lua", gpt("whole", "", "3e-3"))
        p.pioche("run", "w.lua")
        lr = {r["id"]: r["params"]["lr"] for r in p.pioche("ls", "--all", "--json").json}
        last = next(m for m in members if lr[m["run"]] == 3e-3 and m["step"] == 60)
        whole = p.pioche("show", "whole-1", "--json").json["metrics"]
        cut = p.pioche("show", last["run"], "--json").json["metrics"]
        for key in ("val/loss", "train/loss", "lr", "grad/norm"):
            assert whole[key]["last"] == cut[key]["last"], key


def test_what_a_population_cannot_have():
    with Project() as p:
        p.write("t.py", PROGRAM.replace('run.checkpoint(until, {"extra": {"total": total}})', "pass"))

        def wrong(text, message):
            p.write("r.lua", text)
            for verb in ("plan", "run"):
                err = p.pioche(verb, "r.lua", env=library(), expect=1).err
                assert message in err, err
            assert not os.path.exists(p.store)
        search = "pbt { population = 2, interval = 4, steps = 8 }"
        wrong(recipe(search, program="pioche.objective(function(p) return p.x end)"), "which an objective has not")
        wrong(recipe(search, more="seeds = 2,"), "seeds: search = pioche.pbt runs each member once")
        wrong(recipe(search, more="stop = pioche.asha { min = 1, max = 8 },"), "pbt stops members itself")
        wrong(recipe("pbt { population = 2, steps = 8 }"), "interval is missing: expected steps between two looks")
        wrong(recipe("pbt { interval = 4, steps = 8, spread = 2 }"), "search.spread: expected a number between 0 and 1")
        p.write("r.lua", recipe(search))
        err = p.pioche("run", "r.lua", env=library(), expect=1).err
        assert re.search(r"search: p-[12] has saved no checkpoint: a member", err), err
        assert "its search, pbt, is a population" in p.pioche("sweep", "enqueue", "p", "x=1", expect=1).err


harness.main()
