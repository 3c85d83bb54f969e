#!/usr/bin/env python3
"""`pioche checkpoint prove`: a program goes on from a checkpoint bit for bit as it did, or
it is told that it does not."""
import glob
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import GPT, Project, python_library, wait_for  # noqa: E402

RECIPE = """
local pioche = require "pioche"
return pioche.sweep {
  name = "tiny", program = pioche.program { command = %s, inputs = { text = "text.txt" } },
  space = { %s }, goal = pioche.minimize "val/loss", launch = { ranks_per_node = %d }, keep = { last = 99 },
}
"""
SPACE = """lr = 3e-3, width = 32, heads = 2, depth = 1, context = 32, batch = 8, steps = %d,
  ["save-every"] = 10, ["eval-every"] = 15, ["sample-bytes"] = 0"""
# It resumes where `how` says so, and is as random as `how` says.
TRAIN = """
import array, os, random, sys, time
import pioche
how = next(a.split("=")[1] for a in sys.argv if a.startswith("--how="))
run = pioche.init()
begin = int(open(os.environ["PIOCHE_RESUME"]).readline().split()[2]) if os.environ.get("PIOCHE_RESUME") else 0
if begin and how == "fails":
    sys.exit("no such tensor")
if begin and how == "hangs":
    time.sleep(600)
for step in range(0 if how == "anew" else begin, 6):
    run.log({"val/loss": random.random() if how == "random" else 1 / (step + 1)}, step=step + 1)
    if step + 1 == 3:
        run.checkpoint(3, {"model": {"w": array.array("f", [1])}})
"""


def project(command, space, ranks=1):
    p = Project(git=False)
    p.write("text.txt", harness.lines(2000))
    p.write("train.py", TRAIN)
    p.write("recipe.lua", RECIPE % (command, space, ranks))
    p.pioche("run", "recipe.lua")
    return p


def state(p):
    return [p.sql(f"SELECT count(*) AS n FROM {t}") for t in ("run", "attempt", "checkpoint", "series", "journal")]


def nothing_left(p):
    assert [n for n in os.listdir(os.path.join(p.store, "staging")) if n.startswith("prove")] == []


def test_the_trainer_goes_on_bit_for_bit_with_two_ranks():
    with project('{ "%s" }' % GPT, SPACE % 60, ranks=2) as p:
        before = state(p)
        proof = p.pioche("checkpoint", "prove", "tiny-1@20", "--json").json
        assert proof["result"] == "same" and (proof["first_step"], proof["last_step"]) == (21, 21), proof
        assert "train/loss of step 21, bit for bit; so are grad/norm, lr" in proof["message"], proof
        # Of a run: the newest behind which something was logged; at the end what is said again.
        assert p.pioche("checkpoint", "prove", "tiny-1", "--steps", "10", "--json").json["name"] == "tiny-1@50"
        last = p.pioche("checkpoint", "prove", "tiny-1@60", "--json").json
        assert last["result"] == "same" and "val/loss of step 60" in last["message"], last
        assert state(p) == before, "the run is as it was"
        nothing_left(p)
        proofs = {r["step"]: r["proof"] for r in p.pioche("checkpoint", "ls", "--json").json}
        assert proofs == {10: None, 20: "same", 30: None, 40: None, 50: "same", 60: "same"}, proofs
        assert p.pioche("compare", "tiny", "--json").json[0]["proof"] == "same"
        assert "resumes" in p.pioche("compare", "tiny").out
        assert "resumes     same: train/loss" in p.pioche("checkpoint", "show", "tiny-1@20").out
        p.check_store()


def test_a_program_that_does_not_go_on_as_it_did_is_told():
    python_library()
    command = '{ "%s", "train.py" }' % sys.executable
    with project(command, 'how = { "resumes", "random", "anew", "fails" }') as p:
        runs = {r["params"]["how"]: r["id"] for r in p.pioche("ls", "tiny", "--json").json}
        for how, status, result, text in (
                ("resumes", 0, "same", "val/loss of step 4, bit for bit"), ("random", 1, "differs", "val/loss of rank 0 at step 4"),
                ("anew", 1, "failed", "logged step 1 anew"), ("fails", 1, "failed", "no such tensor")):
            proof = p.pioche("checkpoint", "prove", runs[how], "--json", expect=status).json
            assert proof["result"] == result and text in proof["message"], proof
            kept = p.sql(f"SELECT result, step, message FROM proof ORDER BY id DESC LIMIT 1")[0]
            assert kept == {"result": result, "step": 3, "message": proof["message"]}, kept
        err = p.pioche("checkpoint", "prove", runs["resumes"], "-m", "nothing", expect=1).err
        assert "logged none of nothing" in err, err
        # Code that is in the store no more is made apart, and goes with the proof.
        p.sh("chmod -R u+w .pioche/cache && rm -rf .pioche/cache")
        assert p.pioche("checkpoint", "prove", runs["resumes"], "--json").json["result"] == "same"
        assert not os.path.exists(os.path.join(p.store, "cache"))
        p.write("text.txt", "other")
        assert "text.txt is not what it was" in p.pioche("checkpoint", "prove", runs["resumes"], expect=1).err
        nothing_left(p)


def test_a_proof_that_takes_too_long_or_is_killed_leaves_nothing():
    python_library()
    with project('{ "%s", "train.py" }' % sys.executable, 'how = "hangs"') as p:
        proof = p.pioche("checkpoint", "prove", "tiny-1", "--timeout", "1", "--json", expect=1).json
        assert proof["result"] == "failed" and "within 1 s" in proof["message"], proof
        nothing_left(p)
        process = p.start("checkpoint", "prove", "tiny-1")
        wait_for(lambda: glob.glob(f"{glob.escape(p.store)}/staging/prove-*/store/runs/*/1/rank-0.out"),
                 what="its rank")
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
        assert process.returncode == 130 and "nothing is proved" in err, err
        nothing_left(p)
        left = os.path.join(p.store, "staging", "prove-%s-999999999" % os.uname().nodename.replace("-", "_"))
        os.makedirs(left)
        p.pioche("checkpoint", "prove", "tiny-1", "--timeout", "1", expect=1)
        nothing_left(p)
        assert len(p.sql("SELECT 1 FROM proof")) == 2


harness.main()
