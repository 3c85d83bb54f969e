#!/usr/bin/env python3
"""What pioche finds out about nodes and ranks while it runs them: an unfit node, a
rank that hangs; and that the run goes on afterwards."""
import os
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project  # noqa: E402

RECIPE = """local pioche = require "pioche"
return pioche.sweep {{ name = "w", space = {{ x = 1 }}, {rest}
  program = pioche.program {{ command = {{ {command} }} }} }}
"""

TRAIN = """
import os, signal, time, pioche
with pioche.init() as run:
    for step in range(8):
        run.log({"loss": 1.0 / (step + 1)}, step=step)
        time.sleep(0.5)
        if step == 3 and os.environ["RANK"] == "1" and os.environ["PIOCHE_ATTEMPT"] == "1":
            os.kill(os.getpid(), signal.SIGSTOP)
"""

HOST = socket.gethostname()


def checks(p):
    return {c["name"]: c for n in p.pioche("nodes", "--json").json for c in n["checks"]}


def test_a_fit_node_runs_and_what_was_found_is_kept():
    with Project() as p:
        p.write("r.lua", RECIPE.format(rest="launch = { preflight = true },", command='"true"'))
        p.pioche("run", "r.lua")
        found = checks(p)
        assert sorted(found) == ["clock", "files", "gpus", "host", "memory", "shm", "store", "tmp"], found
        assert found["store"]["state"] == "ok" and " has " in found["store"]["message"], found
        p.check_store()


def test_an_unfit_node_starts_nothing():
    with Project() as p:
        p.write("r.lua", RECIPE.format(rest="launch = { preflight = true },",
                                       command='"sh", "-c", "touch ../started"'))
        err = p.pioche("run", "r.lua", expect=1, env={"TMPDIR": "/no/such/place"}).err
        assert f"w-1 failed: preflight: {HOST}: /no/such/place cannot be looked at\n" in err, err
        assert p.sql("SELECT result, node FROM attempt") == [{"result": "node_fail", "node": HOST}]
        assert checks(p)["tmp"]["state"] == "failed"
        assert "/no/such/place" in p.pioche("nodes").out
        # Nobody asked: nobody looks.
        p.pioche("run", "r.lua", "launch.preflight=false", env={"TMPDIR": "/no/such/place"})


def test_a_gpu_with_errors_starts_nothing():
    """NVML's word, here the stand-in's."""
    library = os.path.join(harness.BUILD, "gpu_host")
    with Project() as p:
        p.write("r.lua", RECIPE.format(rest="launch = { preflight = true },", command='"true"'))
        env = {"LD_LIBRARY_PATH": library, "NVML_GPUS": "4", "NVML_ECC": "3:2"}
        err = p.pioche("run", "r.lua", expect=1, env=env).err
        assert f"w-1 failed: preflight: {HOST}: 4 GPUs, driver 580.65.06; " \
               "gpu 3: 2 uncorrected errors of its memory" in err, err
        assert checks(p)["gpus"]["state"] == "failed"
        p.pioche("run", "r.lua", env={**env, "CUDA_VISIBLE_DEVICES": "0,1,2"})


def killed_after(xids, wanted):
    """Rank 1 of two, once the events of these Xids are there: those, and the attempt."""
    with Project() as p:
        p.write("r.lua", RECIPE.format(rest="launch = { ranks_per_node = 2 },",
                                       command='"sh", "-c", [[echo $$ > "$NVML_XIDS.$RANK"; exec sleep 600]]'))
        p.write("xids", "")
        run = p.start("run", "r.lua", env={"LD_LIBRARY_PATH": os.path.join(harness.BUILD, "gpu_host"), "NVML_GPUS": "4",
                                           "CUDA_VISIBLE_DEVICES": "2,3", "NVML_XIDS": p.path("xids")})
        harness.wait_for(lambda: os.path.exists(p.path("xids.1")) and p.read("xids.1").strip(), 60, "the rank")
        p.write("xids", xids)

        def told():
            return p.sql("SELECT rank, message FROM event WHERE kind = 'xid' ORDER BY id")

        harness.wait_for(lambda: len(told()) >= wanted, 60, "events")
        os.kill(int(p.read("xids.1")), signal.SIGABRT)
        run.communicate(timeout=120)
        p.check_store()
        attempt = p.sql("SELECT result, rank, signal, message FROM attempt")[0]
        assert (attempt["result"], attempt["rank"], attempt["signal"]) == ("signal", 1, 6), attempt
        assert not p.sql("SELECT message FROM event WHERE kind = 'leftover' AND message LIKE 'killed%'")
        return told(), attempt["message"]


def test_what_the_driver_reports_of_a_gpu_is_an_event_and_named_as_a_cause():
    """Of a rank that fails with it; GPUs that no rank may use are not of interest."""
    told, message = killed_after("0:79\n3:45\n3:31\n3:79\n3:79\n2:13\n", 4)
    told = [(t["rank"], t["message"]) for t in told]
    assert told == [(1, f"Xid 45 of gpu 3 (a program's work was cleaned up, as a rule after another fault), node {HOST}"),
                    (1, f"Xid 31 of gpu 3 (a kernel went where no memory is, as a rule by the program's fault), node {HOST}"),
                    (1, f"Xid 79 of gpu 3 (it has fallen off the bus), node {HOST}"),
                    (0, f"Xid 13 of gpu 2 (a kernel went wrong, as a rule by the program's fault), node {HOST}")], told
    assert "died: SIGABRT; Xid 79 of gpu 3 (it has fallen off the bus)" in message, message


LOOP = """
import os, signal, time, pioche
with pioche.init() as run:
    step = 0
    while not os.path.exists(os.environ["NVML_XIDS"] + ".heard"):
        run.log({"loss": 1.0}, step=step)
        step += 1
        if step == 3:
            open(os.environ["NVML_XIDS"] + ".steps", "w").close()
        time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_a_rank_that_comes_to_a_stand_with_an_xid_is_named_with_it():
    harness.python_library()
    with Project() as p:
        p.write("t.py", LOOP)
        p.write("r.lua", RECIPE.format(rest="launch = { hang_s = 3, grace_s = 1 }, retry = { attempts = 1 },",
                                       command=f'"{sys.executable}", "t.py"'))
        p.write("xids", "")
        run = p.start("run", "r.lua", env={"LD_LIBRARY_PATH": os.path.join(harness.BUILD, "gpu_host"), "NVML_GPUS": "4",
                                           "NVML_XIDS": p.path("xids")})
        harness.wait_for(lambda: os.path.exists(p.path("xids.steps")), 60, "steps")
        p.write("xids", "0:119\n")
        harness.wait_for(lambda: p.sql("SELECT message FROM event WHERE kind = 'xid'"), 60, "the event")
        p.write("xids.heard", "")
        run.communicate(timeout=120)
        message = p.sql("SELECT message FROM attempt WHERE result = 'hang'")[0]["message"]
        assert "it is stopped (T); Xid 119 of gpu 0 (its system processor (GSP) did not answer or erred)" in message, message


def test_another_gpus_xid_is_no_cause():
    told, message = killed_after("2:79\n", 1)
    assert told[0]["rank"] == 0 and "Xid" not in message, (told, message)


def test_a_hang_is_named_and_the_run_tried_again():
    harness.python_library()
    with Project() as p:
        p.write("t.py", TRAIN)
        p.write("r.lua", RECIPE.format(
            rest="launch = { ranks_per_node = 2, hang_s = 3, grace_s = 1 }, "
                 "retry = { attempts = 2, backoff_s = 0 },", command=f'"{sys.executable}", "t.py"'))
        err = p.pioche("run", "r.lua").err
        assert f"w-1: hang: rank 1 ({HOST}) has made no step since 3, " in err, err
        assert "(limit 3 s); it is stopped (T); attempt 2 of 2 in 0 s" in err, err
        rows = p.sql("SELECT result, rank, step, signal FROM attempt ORDER BY number")
        assert rows[0] == {"result": "hang", "rank": 1, "step": 3, "signal": None}, rows
        assert rows[1]["result"] == "ok", rows
        stacks = p.sql("SELECT message FROM event WHERE kind = 'stacks'")
        with open(stacks[0]["message"], encoding="utf-8") as f:
            assert "rank 1: 1 process" in f.read()
        p.check_store()


harness.main()
