#!/usr/bin/env python3
"""When a run is tried again and when not, with real attempts."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project, wait_for  # noqa: E402


def recipe(p, script, retry, launch=""):
    p.write("r.lua", f"""local pioche = require "pioche"
return pioche.sweep {{ name = "w", space = {{ x = 1 }}, retry = {{ {retry} }}, launch = {{ {launch} }},
  program = pioche.program {{ command = {{ "sh", "-c", [[{script}]] }} }} }}
""")


def attempts(p):
    return [row["result"] for row in p.sql("SELECT result FROM attempt ORDER BY number")]


def test_a_crash_loop_is_seen_and_a_person_may_ask_again():
    with Project() as p:
        recipe(p, "echo no such file >&2; exit 3", "attempts = 10, backoff_s = 0")
        err = p.pioche("run", "r.lua", expect=1).err
        assert "w-1 failed: rank 0 exited with 3: no such file; not tried again: " \
            "the last 3 attempts failed in the same way\n" in err, err
        assert attempts(p) == ["failed"] * 3
        assert p.sql("SELECT reason FROM run")[0]["reason"].endswith("in the same way")
        p.pioche("run", "r.lua", expect=1)
        assert attempts(p) == ["failed"] * 6, "asked anew, it counts anew"
        assert len(p.sql("SELECT * FROM event WHERE kind = 'again' AND attempt_id = 3")) == 1
        p.check_store()


def test_failures_that_differ_are_no_loop():
    with Project() as p:
        recipe(p, "echo line $PIOCHE_ATTEMPT >&2; exit $((PIOCHE_ATTEMPT % 2 + 1))",
               "attempts = 5, backoff_s = 0")
        err = p.pioche("run", "r.lua", expect=1).err
        assert attempts(p) == ["failed"] * 5 and "not tried again" not in err, err
        assert "; attempt 5 of 5 in 0 s" in err, err


def test_attempts_before_an_interrupt_count_after_it():
    """A supervisor that dies does not give the run its attempts back."""
    with Project() as p:
        recipe(p, "exit $PIOCHE_ATTEMPT", "attempts = 3, backoff_s = 2")
        process = p.start("run", "r.lua")
        wait_for(lambda: len(p.poll("SELECT 1 FROM attempt WHERE state = 'ended'")) == 1)
        process.kill()
        process.communicate()
        p.pioche("run", "r.lua", "retry.backoff_s=0", expect=1)
        assert attempts(p).count("failed") == 3, attempts(p)


def test_the_budget_of_node_hours_ends_it():
    with Project() as p:
        recipe(p, "sleep 0.5; exit $PIOCHE_ATTEMPT", "attempts = 9, backoff_s = 0, node_hours = 2e-4")
        err = p.pioche("run", "r.lua", expect=1).err
        assert " node-hours are lost, of 0.0002 that may be\n" in err, err
        assert 2 <= len(attempts(p)) < 9, attempts(p)


def test_who_was_stopped_is_not_tried_again():
    with Project() as p:
        recipe(p, "sleep 60", "attempts = 3, backoff_s = 0")
        process = p.start("run", "r.lua")
        wait_for(lambda: p.poll("SELECT 1 FROM attempt WHERE state = 'running'"))
        p.pioche("stop", "w-1")
        process.communicate(timeout=30)
        assert attempts(p) == ["cancelled"]


harness.main()
