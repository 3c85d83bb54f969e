#!/usr/bin/env python3
"""SIGKILL of `pioche run` of a sweep at random moments: no run is lost, none is there twice, none
stays under way, and every proposal is derived again. ALL=1 makes the sample whole (KILLS=500,
WORKERS="1 4 16", 1,000 proposals, 100 points that are enqueued, ten times); KILL_SEED=N repeats it."""
import json
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import PIOCHE, Project, ranks_of, wait_for  # noqa: E402

ALL = bool(os.environ.get("ALL"))
KILLS = int(os.environ.get("KILLS") or (500 if ALL else 10))
WORKERS = [int(w) for w in os.environ.get("WORKERS", "1 4 16" if ALL else "4").split()]
PROPOSALS, POINTS, TIMES, RUNS = (1000, 100, 10, 60) if ALL else (80, 64, 1, 16)
harness.seed_from("KILL_SEED")

RECIPE = """local pioche = require "pioche"
return pioche.sweep {
  name = "f", goal = pioche.minimize "loss", search = pioche.tpe { runs = %d, seed = %d }, launch = { parallel = %d },
  stop = pioche.hyperband { min = 1, max = 9, eta = 3 },
  space = { x = pioche.uniform(0, 1), n = pioche.int(1, 9), kind = { "a", "b" } },
  program = pioche.objective(function(p)
    local loss, s = {}, 0
    for i = 1, %d do s = s + i %% 7 end
    for i = 1, 9 do loss[i] = (p.x - 0.3) ^ 2 + p.n / i / 100 end
    return { loss = loss }
  end),
}
"""
PROGRAMS = """local pioche = require "pioche"
return pioche.sweep {
  name = "p", search = pioche.random { runs = 24, seed = 1 }, launch = { parallel = 4 },
  space = { x = pioche.uniform(0, 1) },
  program = pioche.program { command = { "%s" }, sources = { "r.lua" } },
}
"""
# A search that learns, of programs that end when they like.
LEARNS = """local pioche = require "pioche"
return pioche.sweep {
  name = "p", goal = pioche.minimize "loss", search = pioche.tpe { runs = %d, seed = 3, startup = 2 },
  launch = { parallel = %d, telemetry = false }, space = { x = pioche.uniform(0, 1), n = pioche.int(1, 9) },
  program = pioche.program { command = { "%s", "%s" }, sources = { "r.lua" } },
}
"""
# Runs end one after another, each when another one has begun in the place of the last that did:
# in an order by chance, which is written to `ended`, or in that of the file `recorded`.
TIMED = """
import fcntl, os, random, sys, time, pioche
here = os.path.dirname(__file__)
given = dict(word[2:].split("=") for word in sys.argv[1:])

def lines(name):
    with open(os.path.join(here, name), "a+", encoding="utf-8") as f:
        f.seek(0)
        return f.read().split()

def add(name):
    with open(os.path.join(here, name), "a", encoding="utf-8") as f:
        f.write(given["x"] + "\\n")

with pioche.init() as run:
    add("begun")
    run.log({"loss": (float(given["x"]) - 0.3) ** 2 + float(given["n"]) / 9}, step=1)
recorded = lines("recorded")
if not recorded:
    time.sleep(random.random() / 10)
while True:
    with open(os.path.join(here, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = lines("ended")
        is_next = not recorded or given["x"] not in recorded or recorded.index(given["x"]) <= len(ended)
        if is_next and len(lines("begun")) >= min(%d, len(ended) + 4):
            add("ended")
            break
    time.sleep(0.005)
"""


def killed(p, longest_s, **options):
    """Start it and kill it, if it lives so long: True where it was killed."""
    process = p.start("run", "r.lua", **options)
    try:
        process.wait(random.random() * longest_s)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()
    return process.returncode < 0


def check_whole(p, name, proposals):
    """All of a sweep is over, and there once."""
    done = "('finished', 'stopped')"
    p.check_store()
    assert p.sql(f"SELECT count(*) AS n FROM run WHERE status NOT IN {done}") == [{"n": 0}]
    assert p.sql("SELECT count(*) AS n FROM attempt WHERE state != 'ended'") == [{"n": 0}]
    rows = p.sql("SELECT count(*) AS n, count(DISTINCT run_id) AS runs, min(number) AS low, max(number) AS high"
                 " FROM proposal_run WHERE number > 0")
    assert rows == [{"n": proposals, "runs": proposals, "low": 1, "high": proposals}], rows
    said = p.pioche("sweep", "replay", name, "--json", expect=None).json
    assert said["same"] and said["proposals"] == proposals, said
    assert "nothing to do" in p.pioche("run", "r.lua").err


def test_killed_at_any_instant_it_is_the_same_sweep():
    kills, seed = 0, 0
    while kills < KILLS:
        seed += 1
        with Project(git=False) as p:
            p.write("r.lua", RECIPE % (PROPOSALS, seed, random.choice(WORKERS), 20000))
            here = 0
            while kills < KILLS and here < 60:
                if not killed(p, 0.6):
                    break
                kills, here = kills + 1, here + 1
            p.pioche("run", "r.lua", timeout=600)
            check_whole(p, "f", PROPOSALS)
            points = p.sql("SELECT sum(count) AS n FROM series WHERE key = 'loss'")[0]["n"]
            steps = p.sql("SELECT sum(last_step) AS n FROM series WHERE key = 'loss'")[0]["n"]
            assert points == steps, "nothing is logged twice"
    print(f"# {kills} kills in {seed} sweeps")


def test_programs_run_once_however_often_their_session_dies():
    kills = 0
    for _ in range(max(1, KILLS // 50)):
        with Project() as p:
            log = p.path("log")
            program = p.write("work", f"#!/bin/sh\nsleep 0.05\necho \"$1\" >> '{log}'\n", 0o755)
            p.write("r.lua", PROGRAMS % program)
            p.write(".gitignore", "log\n")
            p.sh("git add -A && git commit -qm start")
            for _ in range(5):
                kills += killed(p, 1.5)
            p.pioche("run", "r.lua", timeout=600)
            check_whole(p, "p", 24)
            rows = p.sql("SELECT run_id, count(*) AS n FROM attempt WHERE result = 'ok' GROUP BY 1")
            assert len(rows) == 24 and all(r["n"] == 1 for r in rows), "what ended well is not run again"
            with open(log, encoding="utf-8") as f:
                assert len(set(f.read().split())) == 24
            wait_for(lambda: not ranks_of(p, "work"), 30, "no rank is left")
    print(f"# {kills} kills")


def test_a_lock_that_a_killed_session_left_in_git_is_not_for_ever():
    with Project() as p:
        p.write("r.lua", PROGRAMS.replace("runs = 24", "runs = 1") % "true")
        p.sh("git add -A && git commit -qm start")
        p.write("other", "a work tree that is not as it was committed")
        p.pioche("run", "r.lua")
        pins = p.path(".git/refs/pioche")
        pin, = os.listdir(pins)
        os.rename(os.path.join(pins, pin), os.path.join(pins, pin + ".lock"))
        p.sh("rm -rf .pioche")
        p.pioche("run", "r.lua")
        assert os.listdir(pins) == [pin]


def test_enqueued_points_run_once_each():
    for workers in [4, 16] if ALL else [4]:
        for _ in range(TIMES):
            with Project(git=False) as p:
                p.write("r.lua", RECIPE % (40, 1, workers, 100000))
                process = p.start("run", "r.lua")
                wait_for(lambda: p.poll("SELECT 1 FROM proposal WHERE number = 5"), 60)
                clients = []
                for i in range(POINTS):
                    clients.append(subprocess.Popen(
                        [PIOCHE, "sweep", "enqueue", "f", f"x=0.{i:03}1", "n=2", "kind=a"], cwd=p.dir, env=p.env,
                        stdout=subprocess.DEVNULL))
                    if i == POINTS // 2:
                        time.sleep(random.random())
                        process.kill()
                        process.communicate()
                        process = p.start("run", "r.lua")
                assert [c.wait(120) for c in clients] == [0] * POINTS
                process.communicate(timeout=300)
                p.pioche("run", "r.lua", timeout=300)
                rows = p.sql("SELECT count(*) AS n, count(DISTINCT run_id) AS runs, min(number) AS low"
                             " FROM proposal_run WHERE number < 0")
                assert rows == [{"n": POINTS, "runs": POINTS, "low": -POINTS}], rows
                check_whole(p, "f", 40)


def test_of_two_drivers_one_goes_on_and_the_other_is_told():
    with Project(git=False) as p:
        p.write("r.lua", RECIPE % (200, 1, 4, 100000))
        drivers = [p.start("run", "r.lua") for _ in range(4)]
        said = [process.communicate(timeout=300)[1] for process in drivers]
        assert 0 in [process.returncode for process in drivers], said
        for process, err in zip(drivers, said):
            is_told = "is in use by another pioche" in err and "`pioche watch` shows what it does" in err
            assert process.returncode == 0 or process.returncode == 3 and is_told, (process.returncode, err)
        check_whole(p, "f", 200)


def test_the_same_timing_makes_the_same_sweep():
    """Four places, programs of which each ends when it likes: with the recorded order of their ends
    all proposals come again, and without it they do not."""
    library = {"PYTHONPATH": harness.python_library()}

    def proposals(recorded):
        with Project() as p:
            program = p.write("t.py", TIMED % RUNS)
            p.write("recorded", recorded)
            p.write("r.lua", LEARNS % (RUNS, 4, sys.executable, program))
            p.pioche("run", "r.lua", env=library, timeout=300)
            check_whole(p, "p", RUNS)
            return p.sql("SELECT number, params, seen FROM proposal ORDER BY number"), p.read("ended")
    first, order = proposals("")
    again, same_order = proposals(order)
    assert same_order == order
    assert again == first, [(a, b) for a, b in zip(first, again) if a != b]
    assert {row["seen"] for row in first[4:]} == set(range(1, RUNS - 3)), "each proposal knew of one end more"
    # Those that began at once end the other way round.
    turned = order.split()
    numbers = [float(x) for x in turned]
    places = sorted(numbers.index(json.loads(row["params"])["x"]) for row in first[:4])
    for place, x in zip(places, [turned[place] for place in reversed(places)]):
        turned[place] = x
    other, _ = proposals("".join(x + "\n" for x in turned))
    assert other[:5] == first[:5] and other != first, "what was known when decides"


def test_programs_of_a_search_that_learns_are_killed():
    """Agents, ranks and their driver die and live as they do; nobody is left, and replay agrees."""
    library, kills = {"PYTHONPATH": harness.python_library()}, 0
    for workers in WORKERS * max(1, KILLS // 50):
        with Project() as p:
            program = p.write("t.py", TIMED.split("recorded =")[0] + "time.sleep(random.random() / 5)\n")
            p.write("r.lua", LEARNS % (RUNS, workers, sys.executable, program))
            for _ in range(50 if ALL else 4):
                kills += killed(p, 2, env=library)
            p.pioche("run", "r.lua", env=library, timeout=600)
            check_whole(p, "p", RUNS)
            rows = p.sql("SELECT run_id, count(*) AS n FROM attempt WHERE result = 'ok' GROUP BY 1")
            assert len(rows) == RUNS and all(r["n"] == 1 for r in rows), "what ended well is not run again"
            wait_for(lambda: not ranks_of(p, os.path.basename(sys.executable)), 30, "no rank is left")
    print(f"# {kills} kills")


def test_every_proposal_is_derived_again_whatever_the_workers():
    for workers in WORKERS:
        with Project(git=False) as p:
            p.write("r.lua", RECIPE % (PROPOSALS, 7, workers, 5000))
            for _ in range(3):
                killed(p, 1)
            p.pioche("run", "r.lua", timeout=600)
            check_whole(p, "f", PROPOSALS)


harness.main()
