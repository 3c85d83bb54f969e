#!/usr/bin/env python3
"""What `pioche run` promises: identity, retries, blame, environment, builds,
interruption, and that nothing of it touches the work tree."""
import hashlib
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project, wait_for  # noqa: E402

SWEEP = """
local pioche = require "pioche"
return pioche.sweep {{
  name = "w",
  program = pioche.program {{ {program} }},
  space = {{ {space} }},
  {rest}
}}
"""


def recipe(p, program, space="x = { 1, 2 }", rest=""):
    p.write("recipe.lua", SWEEP.format(program=program, space=space, rest=rest))
    return "recipe.lua"


def runs(p):
    return p.pioche("ls", "--all", "--json").json


def fingerprint(p):
    """Everything under the project but the store: names, bytes, modes, mtimes."""
    digest = hashlib.sha256()
    for base, dirs, files in os.walk(p.dir):
        dirs[:] = sorted(d for d in dirs if d not in (".pioche", "objects", "refs", "logs"))
        for name in sorted(files):
            path = os.path.join(base, name)
            st = os.lstat(path)
            digest.update(repr((path, st.st_mode, st.st_mtime_ns, st.st_size)).encode())
            with open(path, "rb") as f:
                digest.update(f.read())
    return digest.hexdigest()


def test_a_finished_recipe_does_nothing_again():
    with Project() as p:
        recipe(p, 'command = { "sh", "-c", "echo $1", "sh" }')
        p.pioche("run", "recipe.lua")
        first = runs(p)
        assert [r["status"] for r in first] == ["finished"] * 2, first
        again = p.pioche("run", "recipe.lua")
        assert "nothing to do" in again.err, again.err
        assert [len(r["attempts"]) for r in runs(p)] == [1, 1]
        p.pioche("run", "recipe.lua", "--again")
        assert len(runs(p)) == 4
        p.check_store()


def test_only_what_is_missing_is_launched():
    with Project() as p:
        recipe(p, 'command = { "true" }')
        p.pioche("run", "recipe.lua")
        p.pioche("run", "recipe.lua", "x=1,2,3")
        assert sorted(r["params"]["x"] for r in runs(p)) == [1, 2, 3]


def test_identity_follows_sources_params_inputs_and_shape():
    with Project() as p:
        p.write("code/main.sh", "echo 1\n")
        p.write("notes.txt", "unrelated\n")
        p.write("data.txt", "a\n")
        r = recipe(p, 'command = { "sh", "code/main.sh" }, sources = { "code" }, '
                      'inputs = { data = "data.txt" }', "x = 1")
        p.sh("git add -A && git commit -qm one")

        def count():
            p.pioche("run", r)
            return len(runs(p))
        assert count() == 1
        p.write("notes.txt", "changed\n")
        assert count() == 1, "a file outside sources is not part of identity"
        p.write("code/main.sh", "echo 2\n")
        assert count() == 2, "the code is"
        p.write("data.txt", "b\n")
        assert count() == 3, "an input's content is"
        p.pioche("run", r, "launch.ranks_per_node=2")
        assert len(runs(p)) == 4, "the launch shape is"


def test_the_code_that_ran_is_the_code_on_record():
    with Project() as p:
        p.write("main.sh", "cat extra.txt\n")
        p.sh("git add -A && git commit -qm one")
        p.write("extra.txt", "untracked\n")
        r = recipe(p, 'command = { "sh", "main.sh" }', "x = 1")
        # `git status` itself may refresh the index: ask it first, and last.
        status = p.sh("git status --porcelain; git rev-parse HEAD; git stash list")
        before = fingerprint(p)
        p.pioche("run", r)
        assert fingerprint(p) == before, "the work tree, HEAD and the index are untouched"
        assert p.sh("git status --porcelain; git rev-parse HEAD; git stash list") == status
        run = runs(p)[0]
        assert p.sh(f"git show {run['commit']}:extra.txt") == "untracked\n"
        assert run["commit"] in p.sh("git for-each-ref refs/pioche/")
        assert "untracked" in p.pioche("logs", "w-1").out


def test_a_build_happens_once_for_many_runs():
    with Project() as p:
        log = p.path("builds.log")
        p.write("Makefile", "prog:\n\tsleep 0.2; echo built >> '$(LOG)'; echo 'echo done' > prog\n")
        r = recipe(p, f'command = {{ "sh", "prog" }}, build = {{ "make", "prog", "LOG={log}" }}',
                   "x = { 1, 2, 3, 4 }", "launch = { parallel = 2 },")
        p.write(".gitignore", "builds.log\n")
        # As if a `make -n` had started it: its flags are not the build's.
        p.pioche("run", r, env={"MAKEFLAGS": "n"})
        assert open(log).read() == "built\n"
        assert len(runs(p)) == 4


def test_a_failing_build_shows_its_last_lines():
    with Project() as p:
        r = recipe(p, 'command = { "true" }, build = { "sh", "-c", "echo no such compiler >&2; exit 7" }')
        result = p.pioche("run", r, expect=1)
        assert "no such compiler" in result.err and "7" in result.err, result.err


def test_retries_are_attempts_of_the_same_run():
    with Project() as p:
        flag = p.path("flag")
        r = recipe(p, f'command = {{ "sh", "-c", "test -e {flag!r} || {{ touch {flag!r}; exit 9; }}" }}'
                   .replace("'", "\\\""), "x = 1", "retry = { attempts = 3 },")
        p.write(".gitignore", "flag\n")
        p.pioche("run", r)
        run = runs(p)[0]
        assert [(a["number"], a["result"], a["exit_code"]) for a in run["attempts"]][:1] == [(1, "failed", 9)]
        assert run["attempts"][1]["result"] == "ok" and run["status"] == "finished"


def test_the_first_failure_is_named():
    with Project() as p:
        r = recipe(p, 'command = { "sh", "-c", "if [ $RANK = 1 ]; then sleep 0.2; kill -SEGV $$; '
                      'else sleep 30; fi" }', "x = 1", "launch = { ranks_per_node = 3 },")
        started = time.monotonic()
        result = p.pioche("run", r, expect=1)
        assert time.monotonic() - started < 20
        attempt = runs(p)[0]["attempts"][0]
        assert (attempt["rank"], attempt["signal"], attempt["result"]) == (1, 11, "signal"), attempt
        assert "rank 1" in result.err and "SIGSEGV" in result.err, result.err


def test_a_long_reason_keeps_its_end():
    with Project() as p:
        r = recipe(p, 'command = { "sh", "-c", "echo begin $(printf %0900d 0) no space left >&2; exit 3" }',
                   "x = 1")
        p.pioche("run", r, expect=1)
        message = runs(p)[0]["attempts"][0]["message"]
        assert "begin" in message and "no space left" in message and len(message) < 500, message


def test_every_rank_knows_its_place():
    with Project() as p:
        names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
                 "GROUP_RANK", "NODE_RANK", "TORCHELASTIC_RUN_ID", "PIOCHE_RUN", "GREETING"]
        echo = " ".join(f"{n}=${n}" for n in names)
        r = recipe(p, f'command = {{ "sh", "-c", "echo {echo}" }}, env = {{ GREETING = "a b" }}, '
                      'setup = "GREETING=\\"$GREETING!\\"; export GREETING", wrap = { "env", "WRAPPED=1" }',
                   "x = 1", "launch = { ranks_per_node = 2 },")
        p.pioche("run", r)
        for rank in (0, 1):
            out = p.pioche("logs", "w-1", "--rank", str(rank)).out
            assert f"RANK={rank} LOCAL_RANK={rank} WORLD_SIZE=2 LOCAL_WORLD_SIZE=2" in out, out
            assert "GREETING=a b!" in out and "MASTER_ADDR=127.0.0.1" in out, out
            assert "MASTER_PORT= " not in out


def test_parameters_reach_the_program_as_flags():
    with Project() as p:
        r = recipe(p, 'command = { "sh", "-c", "for a; do echo \\"[$a]\\"; done", "sh" }',
                   'lr = 3e-4, depth = 2, name = "a b", deep = true, big = 1e300, third = 1/3')
        p.pioche("run", r)
        out = p.pioche("logs", "w-1").out
        for flag in ("[--lr=0.0003]", "[--depth=2]", "[--name=a b]", "[--deep=true]",
                     "[--big=1e+300]", "[--third=0.3333333333333333]"):
            assert flag in out, out


def test_one_interrupt_stops_politely_and_rerun_finishes():
    with Project() as p:
        r = recipe(p, 'command = { "sh", "-c", "trap \\"echo polite; exit 0\\" TERM; '
                      'test -e go && exit 0; while :; do sleep 0.1; done" }', "x = { 1, 2 }",
                   "launch = { parallel = 2 },")
        process = p.start("run", r)
        wait_for(lambda: p.poll(
            "SELECT 1 FROM attempt WHERE state = 'running'"), 20, "running attempts")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 130, (process.returncode, err)
        assert all(r["status"] == "cancelled" for r in runs(p)), runs(p)
        assert "polite" in p.pioche("logs", "w-1").out
        p.check_store()


def test_two_interrupts_stop_now():
    with Project() as p:
        r = recipe(p, 'command = { "sh", "-c", "trap \\"\\" TERM INT; while :; do sleep 0.1; done" }', "x = 1")
        process = p.start("run", r)
        wait_for(lambda: p.poll(
            "SELECT 1 FROM attempt WHERE state = 'running'"), 20, "running attempts")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 130
        assert time.monotonic() - started < 5


def test_stop_asks_the_supervisor():
    with Project() as p:
        r = recipe(p, 'command = { "sh", "-c", "while :; do sleep 0.1; done" }', "x = 1")
        process = p.start("run", r)
        wait_for(lambda: p.poll(
            "SELECT 1 FROM attempt WHERE state = 'running'"), 20, "a running attempt")
        p.pioche("stop", "w-1")
        process.communicate(timeout=30)
        assert runs(p)[0]["status"] == "cancelled", runs(p)


def test_a_stopped_run_can_be_run_again():
    with Project() as p:
        p.write(".gitignore", "go\n")
        r = recipe(p, f'command = {{ "sh", "-c", "while ! test -e \\"{p.path("go")}\\"; do sleep 0.1; done; '
                      'sleep 1.5" }', "x = 1")
        process = p.start("run", r)
        wait_for(lambda: p.poll(
            "SELECT 1 FROM attempt WHERE state = 'running'"), 20, "a running attempt")
        p.pioche("stop", "w-1")
        process.communicate(timeout=30)
        p.write("go", "")
        p.pioche("run", r)
        assert [(x["status"], len(x["attempts"])) for x in runs(p)] == [("finished", 2)], runs(p)


def test_a_run_that_is_cancelled_before_its_turn_is_not_launched():
    with Project() as p:
        p.write(".gitignore", "go\n")
        r = recipe(p, f'command = {{ "sh", "-c", "while ! test -e \\"{p.path("go")}\\"; do sleep 0.1; done" }}',
                   "x = { 1, 2 }")
        process = p.start("run", r)
        wait_for(lambda: p.poll(
            "SELECT 1 FROM attempt WHERE state = 'running'"), 20, "a running attempt")
        p.pioche("stop", "w-2")
        p.write("go", "")
        _, err = process.communicate(timeout=30)
        assert "w-2 cancelled: stopped by a person" in err, err
        assert sorted((x["status"], len(x["attempts"])) for x in runs(p)) == [
            ("cancelled", 0), ("finished", 1)], runs(p)
        p.pioche("run", r)
        assert all(x["status"] == "finished" for x in runs(p)), runs(p)


def test_a_termination_and_a_hangup_are_interrupts():
    for number in (signal.SIGTERM, signal.SIGHUP):
        with Project() as p:
            r = recipe(p, 'command = { "sh", "-c", "trap \\"echo polite; exit 0\\" TERM; '
                          'while :; do sleep 0.1; done" }', "x = 1")
            process = p.start("run", r)
            wait_for(lambda p=p: p.poll(
                "SELECT 1 FROM attempt WHERE state = 'running'"), 20, "a running attempt")
            time.sleep(0.5)
            process.send_signal(number)
            _, err = process.communicate(timeout=30)
            assert process.returncode == 130, (number, process.returncode, err)
            assert runs(p)[0]["status"] == "cancelled", runs(p)
            assert "polite" in p.pioche("logs", "w-1").out


def test_an_end_at_any_moment_leaves_a_store_that_goes_on():
    with Project() as p:
        r = recipe(p, 'command = { "true" }, build = { "sleep", "0.1" }', "x = pioche.int(1, 12)")
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
        for i in range(16):
            process = p.start("run", r, "--again")
            time.sleep(0.03 * (i + 1))
            process.send_signal(numbers[i % 4])
            _, err = process.communicate(timeout=30)
            # Before the supervisor listens, a signal does what it always does.
            assert process.returncode in (0, 130, -numbers[i % 4]), (i, process.returncode, err)
        assert "12 of 12 runs are finished" in p.pioche("run", r).err
        p.check_store()
        assert not p.sql("SELECT 1 FROM attempt WHERE state != 'ended'")
        assert not p.sql("SELECT 1 FROM run WHERE status = 'running'")


def test_nohup_ignores_a_hangup():
    with Project() as p:
        r = recipe(p, 'command = { "sleep", "2" }, args = function() return {} end', "x = 1")
        process = p.start("run", r, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        wait_for(lambda: p.poll(
            "SELECT 1 FROM attempt WHERE state = 'running'"), 20, "a running attempt")
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 0, err


def test_an_interrupt_ends_a_wait_for_the_next_attempt():
    with Project() as p:
        r = recipe(p, 'command = { "false" }', "x = 1", "retry = { attempts = 3, backoff_s = 60 },")
        process = p.start("run", r)
        wait_for(lambda: p.poll(
            "SELECT 1 FROM attempt WHERE state = 'ended'"), 20, "a failed attempt")
        time.sleep(0.3)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130 and time.monotonic() - began < 5, err
        assert [len(x["attempts"]) for x in runs(p)] == [1]


def test_progress_names_what_varies():
    with Project() as p:
        r = recipe(p, 'command = { "true" }', "depth = 2, x = { 1, 2 }, y = function(p) return p.x end")
        assert "\n  1  x=1\n  2  x=2\n" in p.pioche("plan", r).out
        err = p.pioche("run", r).err
        assert "w-1 started: x=1\n" in err and "w-2 started: x=2\n" in err, err


def test_no_orphan_outlives_a_killed_supervisor():
    with Project() as p:
        r = recipe(p, 'command = { "sh", "-c", "sleep 1000 & echo $$; sleep 1000" }', "x = 1")
        process = p.start("run", r)
        ids = wait_for(lambda: p.poll(
            "SELECT agent_pid FROM attempt WHERE state = 'running'"), 20, "a running attempt")
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        mark = p.dir.encode()

        def left():
            found = []
            for name in os.listdir("/proc"):
                try:
                    with open(f"/proc/{name}/environ", "rb") as f:
                        if name.isdigit() and mark in f.read():
                            found.append(int(name))
                except OSError:
                    pass
            return [pid for pid in found if pid != os.getpid()]
        wait_for(lambda: not left(), 10, f"no orphans (agent {ids})")


def test_goal_that_is_never_logged_is_an_error():
    with Project() as p:
        r = recipe(p, 'command = { "true" }', "x = 1", 'goal = pioche.minimize "val/loss",')
        result = p.pioche("run", r, expect=1)
        assert "val/loss" in result.err, result.err


def test_a_checkpoint_of_one_run_starts_another():
    harness.python_library()
    with Project() as p:
        p.write("train.py", """
import array
import pioche
with pioche.init() as run:
    first = (run.resume_step or 0) + 1
    for step in range(first, first + 3):
        run.log({"loss": 1 / step}, step=step)
    run.checkpoint(step, {"model": {"w": array.array("d", [float(step)])}})
""")
        p.write("r.lua", """
local pioche = require "pioche"
local prog = pioche.program { command = { "python3", "train.py" } }
return function(lab)
  local a = lab:run { name = "w", program = prog, params = { x = 1 } }
  assert(a:metric "loss" == 1 / 3, tostring(a:metric "loss"))
  local b = lab:run { name = "w", program = prog, params = a.params:with { y = 1 },
    from = a:checkpoint "last" }
  assert(b:metric "loss" == 1 / 6, tostring(b:metric "loss"))
end
""")
        p.pioche("run", "r.lua")
        first, second = sorted(runs(p), key=lambda r: r["id"])
        assert second["params"] == {"x": 1, "y": 1}
        assert second["metrics"]["loss"]["first_step"] == 4, "it went on behind the checkpoint's step"
        saved = p.sql("SELECT manifest_sha256 AS m FROM checkpoint WHERE run_id = 1")[0]["m"]
        assert p.sql("SELECT from_checkpoint AS m FROM run WHERE id = 2") == [{"m": saved}]
        assert first["metrics"]["loss"]["last_step"] == 3
        assert "nothing to do" in p.pioche("run", "r.lua").err


harness.main()
