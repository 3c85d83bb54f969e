#!/usr/bin/env python3
"""SIGKILL of the supervisor, of an agent, of its keeper and of a rank at random moments of a
sweep: running it again finishes it, no run is there twice, and its table is
bit for bit that of an undisturbed sweep. The seed is printed; KILL_SEED=N
repeats it."""
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import GPT, Project, wait_for  # noqa: E402

harness.seed_from("KILL_SEED")

RECIPE = """
local pioche = require "pioche"
return pioche.sweep {
  name = "tiny",
  program = pioche.program { command = { "%s" }, inputs = { text = "text.txt" } },
  space = {
    lr = { 1e-3, 3e-3 }, width = { 16, 24 }, heads = 2, depth = 1, context = 32, batch = 8,
    steps = 2000, ["save-every"] = 100, ["eval-every"] = 200, ["sample-bytes"] = 0,
  },
  goal = pioche.minimize "val/loss",
  launch = { ranks_per_node = 2, parallel = 2 },
  retry = { attempts = 1 },
}
"""


def project():
    p = Project()
    p.write("recipe.lua", RECIPE % GPT)
    p.write("text.txt", harness.lines(4000))
    p.write(".gitignore", "text.txt\n")
    p.sh("git add -A && git commit -qm start")
    return p


def children(pid):
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as f:
                    if int(f.read().rsplit(")", 1)[1].split()[1]) == pid:
                        found.append(int(name))
            except OSError:
                pass
    return found


def victim(kind, supervisor):
    if kind == "supervisor":
        return supervisor
    found = [supervisor]
    for level in ("keeper", "agent", "rank"):
        found = [child for pid in found for child in children(pid)]
        if kind == level:
            return random.choice(found) if found else None


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False


def disturbed(kind):
    with project() as p:
        killed = 0
        while killed < 5:
            run = p.start("run", "recipe.lua")
            # A killed supervisor ends the round; it survives the death of its children.
            while killed < 5 and run.poll() is None:
                time.sleep(0.2 + random.random() * 1.5)
                ranks = [r for k in children(run.pid) for a in children(k) for r in children(a)]
                pid = victim(kind, run.pid)
                if pid:
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            run.communicate(timeout=500)
            if kind == "supervisor":
                wait_for(lambda: not any(alive(r) for r in ranks), 10, "ranks are gone")
            if run.returncode == 0 and killed < 5:
                break  # too fast for this machine: what was killed must do
        last = p.pioche("run", "recipe.lua", timeout=200)
        again = p.pioche("run", "recipe.lua")
        assert "nothing to do" in again.err + again.out, again.err + last.err
        p.check_store()
        disturbances = p.sql("SELECT 1 FROM attempt WHERE result != 'ok'")
        assert killed >= 3 and disturbances, f"only {killed} killed, {disturbances}"
        runs = p.sql("SELECT number, status FROM run")
        assert len(runs) == 4 and all(r["status"] == "finished" for r in runs), runs
        assert p.sql("SELECT * FROM attempt WHERE state != 'ended'") == []
        p.pioche("verify")
        assert isinstance(p.pioche("compare", "tiny", "--json").json, list)
        assert p.table("tiny") == undisturbed(), "the table differs from an undisturbed sweep"


REFERENCE = []


def undisturbed():
    if not REFERENCE:
        with project() as p:
            p.pioche("run", "recipe.lua", timeout=200)
            REFERENCE.extend(p.table("tiny"))
            assert len(REFERENCE) == 4
    return REFERENCE


def test_killed_supervisor():
    disturbed("supervisor")


def test_killed_agent():
    disturbed("agent")


def test_killed_keeper():
    disturbed("keeper")


def test_killed_rank():
    disturbed("rank")


harness.main()
