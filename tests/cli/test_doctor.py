#!/usr/bin/env python3
"""`pioche doctor` says what is in order and what is not."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import BUILD, Project  # noqa: E402

RECIPE = """local pioche = require "pioche"
return pioche.sweep { name = "w", program = pioche.program { command = { "true" } }, space = { x = 1 } }
"""


def checks(p, expect=0, **env):
    found = p.pioche("doctor", "--json", expect=expect, env=env).json
    return {c["check"]: c for c in found}


def test_a_sound_store_is_sound():
    with Project(git=False) as p:
        p.write("r.lua", RECIPE)
        p.pioche("run", "r.lua")
        found = checks(p)
        assert all(c["state"] == "ok" for c in found.values()), found


def test_gpus_are_listed_and_a_lost_one_is_named():
    with Project(git=False) as p:
        p.write("r.lua", RECIPE)
        p.pioche("run", "r.lua")
        library = os.path.join(BUILD, "gpu_host")
        found = checks(p, LD_LIBRARY_PATH=library, NVML_GPUS="2")["GPUs"]
        assert found["state"] == "ok" and "1 Stand-in GPU" in found["message"], found
        found = checks(p, LD_LIBRARY_PATH=library, NVML_GPUS="2", NVML_LOST="1")["GPUs"]
        assert found["state"] == "warn" and "GPU is lost" in found["message"], found


def test_a_damaged_object_or_database_is_told():
    with Project(git=False) as p:
        p.write("r.lua", RECIPE)
        p.pioche("run", "r.lua")
        database = os.path.join(p.store, "pioche.db")
        p.sql("PRAGMA wal_checkpoint(TRUNCATE)")
        with open(database, "r+b") as f:
            f.seek(0)
            f.write(b"not a database at all")
        result = p.pioche("doctor", expect=None)
        assert result.status in (1, 3) and "pioche.db" in result.out + result.err, result.err


def test_before_there_is_a_store_the_machine_is_told():
    with Project(git=False) as p:
        found = checks(p)
        assert {"versions", "client library", "store"} <= set(found), found
        assert "`pioche run` makes one" in found["store"]["message"], found
        assert not os.path.exists(p.store)
        assert "not a store" in p.pioche("doctor", "--store", p.path("x"), expect=1).err


harness.main()
