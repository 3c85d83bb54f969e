#!/usr/bin/env python3
"""What is remembered of machines: who failed first, who is left out and why, and
that a person has the last word."""
import json
import os
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import BUILD, Project  # noqa: E402

RECIPE = """local pioche = require "pioche"
return pioche.sweep { name = "w", space = { x = { 1, 2, 3, 4 } },
  program = pioche.program { command = { "sh", "-c", "[ $1 != --x=2 ]", "sh" } } }
"""

DAY_NS = 24 * 3600 * 10**9

# What a launcher asks before it submits: prints the names, then a line of why each.
ASK = """
local nodes = require "pioche.nodes"
local json = require "pioche.core.json"
local store = assert(require "pioche.core.store".open(".pioche", "write"))
local names, lines = nodes.excluded(store, %d)
print(json.encode { names = json.array(names), lines = json.array(lines) })
store:close()
"""


def ask(p, now_ns=None):
    script = p.write("ask.lua", ASK % (now_ns or time.time_ns()))
    done = subprocess.run([os.path.join(BUILD, "tests", "lua_host"), script], cwd=p.dir, env=p.env,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def attempt(p, run, node, result, age_days=0.0, step=1, message="rank 3 died: SIGBUS", launcher="slurm"):
    """An attempt of run `run` that failed first on this node, in the store as a
    supervisor leaves it."""
    ended = time.time_ns() - int(age_days * DAY_NS)
    p.sh(f"""sqlite3 .pioche/pioche.db "
      INSERT INTO attempt (run_id, number, state, result, launcher, dir, world_size, node, step, message,
                           created_ns, ended_ns)
        SELECT {run}, 1 + max(number), 'ended', '{result}', '{launcher}', 'x', 8, '{node}', {step},
               '{message}', {ended}, {ended} FROM attempt WHERE run_id = {run};
      INSERT INTO node (name, first_seen_ns, last_seen_ns, attempts, failures)
        VALUES ('{node}', {ended}, {ended}, 1, 1)
        ON CONFLICT (name) DO UPDATE SET failures = failures + 1, attempts = attempts + 1;" """)


def finished(p):
    p.write("r.lua", RECIPE)
    p.pioche("run", "r.lua", expect=1)
    return {n["name"]: n for n in p.pioche("nodes", "--json").json}


def test_attempts_and_first_failures_are_counted():
    with Project() as p:
        found = finished(p)
        assert list(found) == [socket.gethostname()], found
        here = found[socket.gethostname()]
        assert (here["attempts"], here["failures"], here["slow"], here["excluded"]) == (4, 1, 0, False), here
        assert 0.29 < here["score"] <= 0.3, "an exit status may well be the program's"
        assert p.pioche("nodes", "--csv").out.splitlines()[1].startswith(socket.gethostname() + ",,4,1,0,")
        assert "w-" not in p.pioche("nodes").out and socket.gethostname() in p.pioche("nodes").out


def test_a_node_that_fails_three_runs_is_left_out_for_a_day():
    with Project() as p:
        finished(p)
        attempt(p, 1, "dgx-007", "node_fail", step=10)
        attempt(p, 2, "dgx-007", "signal", step=20)
        assert ask(p) == {"names": [], "lines": []}
        attempt(p, 3, "dgx-007", "failed", step=30, message="rank 9 exited with 1: CUDA error: an ECC error")
        asked = ask(p)
        assert asked["names"] == ["dgx-007"], asked
        assert len(asked["lines"]) == 1 and asked["lines"][0] == (
            "dgx-007 is left out for a day: 3 first failures, the last one of w-3, attempt 2: "
            "rank 9 exited with 1: CUDA error: an ECC error"), asked
        assert ask(p) == {"names": ["dgx-007"], "lines": []}, "told once"
        node = {n["name"]: n for n in p.pioche("nodes", "--json").json}["dgx-007"]
        assert node["excluded"] and node["reason"].startswith("3 first failures"), node
        # Tomorrow it is used again, without a new failure also the day after.
        assert ask(p, time.time_ns() + DAY_NS + 10**10)["names"] == []
        assert ask(p, time.time_ns() + DAY_NS + 2 * 10**10)["names"] == []
        p.check_store()


def test_old_failures_fade_and_those_of_the_program_do_not_count():
    with Project() as p:
        finished(p)
        for run in (1, 2, 3):  # worth half after a week
            attempt(p, run, "dgx-001", "node_fail", age_days=7, step=run)
        for node in ("dgx-002", "dgx-003"):  # the same crash wherever it runs
            for run in (1, 2, 3, 4):
                attempt(p, run, node, "signal", step=500)
        for run in (1, 2, 3, 4):
            attempt(p, run, "laptop", "node_fail", step=run + 100, launcher="local")
        assert ask(p)["names"] == []
        score = {n["name"]: n["score"] for n in p.pioche("nodes", "--json").json}
        assert 1.49 < score["dgx-001"] < 1.51 and score["dgx-002"] == 0 and score["laptop"] > 3.9, score


def test_an_xid_counts_where_it_speaks_against_the_machine():
    """What core/launch/agent_xid.c says: an error of the program's, or a sequel, does not."""
    hardware = "rank 3 died: SIGABRT; Xid 79 of gpu 3 (it has fallen off the bus); 7 ranks waited 0.2 s"
    program = hardware.replace("79", "31").replace("(it has", "(a kernel, as a rule by the program_s fault; it has")
    sequel = "rank 3 died: SIGABRT; Xid 45 of gpu 3 (work, as a rule after another fault)"
    with Project() as p:
        finished(p)
        for run, node, message in ((1, "a", hardware), (3, "b", program), (4, "c", sequel)):
            attempt(p, run, node, "signal", message=message)
        found = {n["name"]: n["score"] for n in p.pioche("nodes", "--json").json}
        assert 0.99 < found["a"] <= 1 and 0.49 < found["b"] <= 0.5 and 0.49 < found["c"] <= 0.5, found


def test_a_person_excludes_and_clears():
    with Project() as p:
        finished(p)
        for run in (1, 2, 3):
            attempt(p, run, "dgx-007", "node_fail", step=run)
        out = p.pioche("nodes", "exclude", "dgx-001", "dgx-002", "--for", "2d", "--why", "fan 3 is loud").out
        assert out.startswith("dgx-001 is left out until 20"), out
        assert p.pioche("nodes", "exclude", "dgx-003", "--json").json == [
            {"name": "dgx-003", "done": "excluded", "message": "dgx-003 is left out until it is cleared"}]
        assert ask(p)["names"] == ["dgx-001", "dgx-002", "dgx-003", "dgx-007"]
        assert ask(p, time.time_ns() + 3 * DAY_NS)["names"] == ["dgx-003"]
        text = p.pioche("nodes").out
        assert "fan 3 is loud" in text and "until cleared" in text and "for 2d" in text, text
        p.pioche("nodes", "clear", "dgx-007", "dgx-003")
        assert ask(p)["names"] == ["dgx-001", "dgx-002"], "what it did is forgotten"
        attempt(p, 4, "dgx-007", "node_fail", step=9)
        assert ask(p)["names"] == ["dgx-001", "dgx-002"], "one failure since"
        # One that is unknown changes nothing for the others.
        p.pioche("nodes", "clear", "dgx-001", "nobody", expect=1)
        assert ask(p)["names"] == ["dgx-001", "dgx-002"]


def test_help_and_completion_know_the_verb():
    with Project() as p:
        assert "score" in p.pioche("help", "nodes").out
        finished(p)
        done = p.sh(f"""export PATH={os.path.dirname(harness.PIOCHE)!r}:$PATH
            source <(pioche completion bash)
            COMP_WORDS=(pioche nodes "") COMP_CWORD=2
            _pioche; echo "${{COMPREPLY[@]}}" """).split()
        assert done == ["exclude", "clear", socket.gethostname()], done


harness.main()
