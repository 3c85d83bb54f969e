#!/usr/bin/env python3
"""A run whose points wait before they become chunks, as those of a run with
thousands of series do: while they wait every command shows what it shows of them
afterwards."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import BUILD, Project, wait_for  # noqa: E402

RANKS, STEPS = 3, 25

TRAIN = """
import math, os, time, pioche
rank = int(os.environ["RANK"])
with pioche.init() as run:
    for step in range(%d):
        run.log({"loss": 100.0 - step + rank, "seen": rank + step, "odd": math.nan if step %% 2 else -0.0},
                step=step)
    while not os.path.exists(%r):
        time.sleep(0.02)
"""

RECIPE = """local pioche = require "pioche"
return pioche.sweep { name = "r", space = { x = 1 },
  program = pioche.program { command = { "%s", "t.py" } }, goal = pioche.minimize "loss",
  launch = { ranks_per_node = %d } }
"""

COMMANDS = (
    ("ls", "--json", "loss.last < 80 and loss@max.max >= 102 and seen@argmax = 2"),
    ("ls", "loss.count < 25"),
    ("ls", "--json", "seen@mean >= 25 and seen.mean <= 12 sort by loss@min"),
    ("compare", "r", "--json", "--metric", "loss@mean", "--metric", "seen@rank=2"),
    ("chart", "r-1", "--metric", "loss", "--json"),
    ("chart", "r-1", "--metric", "seen@mean", "--json"),
    ("chart", "r-1", "--metric", "seen", "--x", "time", "--csv"),
    ("sql", "--csv", "SELECT key, rank, step, value, bits, attempt FROM point"),
    ("sql", "--csv", "SELECT key, rank, count, first_step, last_step, last, last_bits, last_int, min, min_step,"
     " max, max_step, sum, finite, nans FROM series ORDER BY key, rank"),
    ("sql", "--csv", "SELECT * FROM series_lod('r-1', 'loss', 5, 1)"),
)

READ = """
import sys, pioche
points = pioche.read("r-1", "odd", store=sys.argv[1])
print(list(points.step), [x.hex() for x in points.value])
"""


def without_state(value):
    """Runs in JSON differ in their state alone."""
    if isinstance(value, list):
        return [without_state(v) for v in value]
    if isinstance(value, dict):
        return {k: without_state(v) for k, v in value.items()
                if k not in ("status", "ended", "attempts", "started", "label", "duration_s")}
    return value


def shown(p):
    said = []
    for words in COMMANDS:
        done = p.pioche(*words)
        said.append(without_state(json.loads(done.out)) if "--json" in words else done.out)
    p.write("read.py", READ)
    said.append(subprocess.run([sys.executable, "read.py", p.store], cwd=p.dir, check=True, text=True,
                               capture_output=True, env=dict(p.env, PYTHONPATH=os.path.join(
                                   BUILD, "lib", "pioche"))).stdout)
    return said


def waiting(p):
    return p.poll("SELECT (SELECT count(*) FROM recent) AS recent, (SELECT count(*) FROM chunk) AS chunks")


def start_waiting(p):
    """A run that has logged everything, and whose points wait until there is a file `go`."""
    harness.python_library()
    p.env["PIOCHE_FOLD_DIRECT"] = "0"
    p.write("t.py", TRAIN % (STEPS, p.path("go")))
    p.write("recipe.lua", RECIPE % (sys.executable, RANKS))
    p.write(".gitignore", "go\nread.py\n")
    p.sh("git add -A && git commit -qm start")
    run = p.start("run", "recipe.lua")
    wait_for(lambda: os.path.exists(p.store) and p.poll("SELECT 1 AS there FROM recent"), 60, "a fold")
    wait_for(lambda: p.pioche("sql", "--csv", "SELECT count(*) FROM point").out.split()[-1]
             == str(RANKS * STEPS * 3), 60, "all points")
    return run


def finish(p, run):
    p.write("go", "")
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, out + err


def test_what_waits_is_shown():
    with Project() as p:
        run = start_waiting(p)
        before = waiting(p)[0]
        assert before["recent"] >= RANKS and before["chunks"] == 0, before
        during = shown(p)
        finish(p, run)
        after = waiting(p)[0]
        assert after == {"recent": 0, "chunks": RANKS * 3}, after
        for words, then, now in zip(COMMANDS + (("read",),), during, shown(p)):
            assert then == now, f"{words}:\nwaiting: {then}\nchunks:  {now}"
        p.check_store()


def test_a_damaged_row_is_mended_while_its_run_goes_on():
    with Project() as p:
        run = start_waiting(p)
        before = shown(p)
        p.sql("UPDATE recent SET data = x'00' WHERE rank = 1")
        failed = p.pioche("ls", "loss.count < 25", expect=1)
        assert "recent row" in failed.err and "pioche doctor --full --fix" in failed.err, failed.err
        findings = [c for c in p.pioche("doctor", "--full", "--fix", "--json").json if c["check"] == "points"]
        assert len(findings) == 1 and findings[0]["state"] == "fixed", findings
        assert "r-1 attempt 1, points of rank 1: recent row" in findings[0]["message"], findings
        for words, then, now in zip(COMMANDS + (("read",),), before, shown(p)):
            assert then == now, f"{words}:\nbefore: {then}\nmended: {now}"
        finish(p, run)
        assert p.sql("SELECT count(*) AS n FROM event WHERE kind = 'mended'")[0]["n"] == 1
        p.check_store()


harness.main()
