#!/usr/bin/env python3
"""A disk that fails. Each n-th write, sync, rename and unlink of the whole
program (supervisor, agent and rank count for themselves) fails, or is the last
thing its process does: the error says which file, and running again without
the fault ends where an undisturbed run ends, bit for bit, with nothing left
over. The same on a disk that fills up, and with the journal mode of a network
file system. The seed is printed; FAULT_SEED=N repeats it, FAULT_ALL=1 tries
every n."""
import os
import random
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import GPT, Project, Skip  # noqa: E402

ALL = bool(os.environ.get("FAULT_ALL"))
harness.seed_from("FAULT_SEED")

EXIT, EIO, ENOSPC, EDQUOT = "0", "5", "28", "122"
FULL = "28+"  # and so does all that follows
NAMES = {EXIT: "exit", EIO: "Input/output error", ENOSPC: "No space left", FULL: "No space left",
         EDQUOT: "quota exceeded"}

# Its ranks run under the fault in the file `fault`, and no other.
TRAIN = """#!/bin/sh
unset PIOCHE_FS_FAULT
if [ -s "$FAULT_FILE" ]; then PIOCHE_FS_FAULT=$(cat "$FAULT_FILE"); export PIOCHE_FS_FAULT; fi
exec "%s" "$@"
"""

RECIPE = """
local pioche = require "pioche"
return pioche.sweep {
  name = "tiny",
  program = pioche.program { command = { "./train" }, inputs = { text = "text.txt" } },
  space = {
    lr = { %s }, width = %d, heads = 2, depth = 1, context = 16, batch = 2,
    steps = %d, ["save-every"] = %d, ["eval-every"] = %d, ["sample-bytes"] = 0,
  },
  goal = pioche.minimize "val/loss",
  launch = { ranks_per_node = %d, parallel = 2 },
  retry = { attempts = 1 },
}
"""


SHORT = {"lr": "1e-3", "width": 16, "steps": 30, "every": 10, "ranks": 1}
LONG = {**SHORT, "steps": 6000, "every": 1500, "ranks": 2}  # beats, folds and checkpoints amid it


def project(shape):
    p = Project()
    p.write("recipe.lua", RECIPE % (shape["lr"], shape["width"], shape["steps"], shape["every"],
                                    shape["every"], shape["ranks"]))
    p.write("train", TRAIN % GPT, 0o755)
    p.write("text.txt", harness.lines(400))
    p.write(".gitignore", "text.txt\nshm\nfault\n")
    os.mkdir(p.path("shm"))
    p.env.update(PIOCHE_SHM=p.path("shm"), FAULT_FILE=p.path("fault"))
    p.sh("git add -A && git commit -qm start")
    return p


def points(p):
    query = "SELECT key, rank, step, value FROM point WHERE key != 'tokens_per_s' ORDER BY 1, 2, 3, 4"
    return p.pioche("sql", query, "--json").out


REFERENCES = {}


def undisturbed(shape):
    key = str(shape)
    if key not in REFERENCES:
        with project(shape) as p:
            p.pioche("run", "recipe.lua")
            REFERENCES[key] = {"table": p.table("tiny"), "points": points(p)}
            assert "finished" in str(REFERENCES[key]["table"])
            assert "train/loss" in REFERENCES[key]["points"]
    return REFERENCES[key]


def leftovers(p):
    found = [os.path.join("shm", name) for name in os.listdir(p.path("shm"))]
    for folder, directories, files in os.walk(p.store):
        for name in directories + files:
            path = os.path.relpath(os.path.join(folder, name), p.store)
            if path.startswith("staging/") or ".part" in name or name.endswith(".build"):
                found.append(path)
    return found


def assert_sound(p):
    """The store holds together, whatever happened before."""
    p.check_store()
    p.pioche("verify")


def assert_finished(p, shape):
    """Everything is as if nothing had happened."""
    assert_sound(p)
    again = p.pioche("run", "recipe.lua")
    assert "nothing to do" in again.err + again.out, again.err
    reference = undisturbed(shape)
    runs = p.sql("SELECT number, status FROM run")
    assert len(runs) == len(reference["table"]), f"a run is there twice: {runs}"
    assert all(run["status"] == "finished" for run in runs), runs
    assert p.sql("SELECT * FROM attempt WHERE state != 'ended'") == []
    assert p.table("tiny") == reference["table"], "the table differs from an undisturbed run's"
    assert points(p) == reference["points"], "the points differ from an undisturbed run's"
    assert leftovers(p) == [], leftovers(p)


def faulted(where, kinds, n, error, shape=None):
    """One fault; True where the run felt it."""
    fault = f"{kinds}:{n}:{error}"
    shape = shape or SHORT
    undisturbed(shape)
    with project(shape) as p:
        env = {}
        if where == "rank":
            p.write("fault", fault)
        else:
            env = {"PIOCHE_FS_FAULT": fault}
        result = p.pioche("run", "recipe.lua", env=env, expect=None, timeout=30)
        said = result.err + result.out
        assert result.status in (0, 1, 3, 137), f"exit status {result.status}: {said}"
        assert (result.status == 137) <= (error == EXIT), said
        if result.status and error != EXIT:
            assert NAMES[error] in said, f"no word of the cause: {said}"
            assert re.search(r"/\S", said), f"no file is named: {said}"
        if os.path.exists(os.path.join(p.store, "pioche.db")):
            p.check_store()
        if os.path.exists(p.path("fault")):
            os.unlink(p.path("fault"))
        last = p.pioche("run", "recipe.lua", timeout=30)
        try:
            assert_finished(p, shape)
        except AssertionError as why:
            raise AssertionError(f"{why}\nunder the fault: {said}\nthen: {last.err}") from why
        return result.status != 0


def walk(where, kinds, error, sample=14):
    """n = 1, 2, 3, ... until the fault is not reached any more."""
    failures, felt, unfelt, n = [], 0, 0, 0
    while unfelt < 2:
        n += 1 if ALL or n < 3 else random.randint(1, sample)
        try:
            if faulted(where, kinds, n, error):
                felt, unfelt = felt + 1, 0
            else:
                unfelt += 1
        except AssertionError as why:
            unfelt = 0
            failures.append(f"{where} {kinds}:{n}:{error}: {why}")
            if n > 60:
                break
    print(f"# {where} {kinds} {error}: {felt} felt, last n {n}")
    assert not failures, "\n".join(failures)


def test_write_fails():
    walk("all", "w", ENOSPC)
    walk("all", "w", FULL)
    walk("rank", "w", EDQUOT, 100)


def test_dies_before_a_write():
    walk("all", "w", EXIT)
    walk("rank", "w", EXIT, 100)


def test_sync_fails():
    walk("all", "s", EIO)
    walk("rank", "s", EIO)


def test_dies_before_a_sync():
    walk("all", "s", EXIT)
    walk("rank", "s", EXIT)


def test_rename_fails():
    walk("all", "r", EIO, 5)


def test_dies_before_a_rename():
    walk("all", "r", EXIT, 5)


def test_remove_fails():
    walk("all", "u", EIO, 3)


def test_dies_before_a_removal():
    walk("all", "u", EXIT, 3)


def test_amid_a_long_run():
    for error in (ENOSPC, FULL, EXIT):
        where, n = random.choice((("all", random.randint(6, 40)), ("rank", random.randint(100, 300))))
        try:
            faulted(where, "wsru", n, error, LONG)
        except AssertionError as why:
            raise AssertionError(f"{where} wsru:{n}:{error}: {why}") from why


def test_network_file_system():
    """Another journal mode of the database, and the same results."""
    with project(SHORT) as p:
        p.env["PIOCHE_FS"] = "network"
        p.pioche("run", "recipe.lua")
        assert p.sql("PRAGMA journal_mode") != [{"journal_mode": "wal"}]
        assert_finished(p, SHORT)
    with project(SHORT) as p:
        p.env["PIOCHE_FS"] = "network"
        result = p.pioche("run", "recipe.lua", env={"PIOCHE_FS_FAULT": "wsru:20:0"}, expect=None)
        assert result.status == 137, result.err
        p.pioche("run", "recipe.lua")
        assert_finished(p, SHORT)


def test_full_disk():
    """A small disk: what trains on it says so; with more room it goes on."""
    if os.geteuid() != 0:
        raise Skip("mount needs root")
    shape = {**SHORT, "lr": "1e-3, 2e-3", "width": 64, "steps": 60}
    undisturbed(shape)
    for size in ("340k", "900k", "1500k"):
        with project(shape) as p:
            os.mkdir(p.store)
            mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", p.store],
                                   capture_output=True, text=True, check=False)
            if mount.returncode:
                raise Skip(f"no tmpfs can be mounted: {mount.stderr.strip()}")
            try:
                full_disk(p, shape)
            finally:
                subprocess.run(["umount", "-l", p.store], check=True)


def full_disk(p, shape):
    first = p.pioche("run", "recipe.lua", expect=None, timeout=30)
    again = p.pioche("run", "recipe.lua", expect=None, timeout=30)
    for result in first, again:
        assert result.status in (1, 3), f"exit status {result.status}: {result.err}"
        assert "no space left" in result.err.lower(), result.err
    subprocess.run(["mount", "-o", "remount,size=64m", p.store], check=True)
    if os.path.exists(os.path.join(p.store, "pioche.db")):
        p.check_store()
    last = p.pioche("run", "recipe.lua", timeout=60)
    try:
        assert_finished(p, shape)
    except AssertionError as why:
        raise AssertionError(f"{why}\nfull: {first.err}\nagain: {again.err}\nthen: {last.err}") from why


harness.main()
