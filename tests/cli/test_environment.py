#!/usr/bin/env python3
"""What attempts ran on and with is on record: once for all that are alike,
without secrets, shown and compared."""
import contextlib
import hashlib
import json
import os
import platform
import resource
import sqlite3
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project  # noqa: E402

RECIPE = """local pioche = require "pioche"
return pioche.sweep { name = "e", space = { x = { 1, 2 } },
  program = pioche.program { command = { %s }, env = { NCCL_DEBUG = "%s" } },
  launch = { ranks_per_node = 2 } }
"""
SECRETS = {"AWS_SECRET_ACCESS_KEY": "hush-1", "WANDB_API_KEY": "hush-2", "NCCL_AUTH_TOKEN": "hush-3",
           "CUDA_SECRET": "hush-4", "MY_PASSWORD": "hush-5"}
PROGRAM = '"true"'


def environment(p, name):
    return p.pioche("show", name, "--environment", "--json").json["environment"]


def test_the_machine_is_recorded():
    """By the agent, whatever the program is."""
    with Project() as p:
        p.write("r.lua", RECIPE % (PROGRAM, "WARN"))
        p.pioche("run", "r.lua", env={"NCCL_IB_HCA": "mlx5_0", "CUDA_VISIBLE_DEVICES": "0,1", "LANG": "C"})
        found = environment(p, "e-1")
        machine = found["documents"]["machine"]
        assert machine["kernel"] == f"Linux {platform.release()} {platform.machine()}", machine
        assert machine["cpu"]["count"] == os.sysconf("SC_NPROCESSORS_ONLN")
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            assert machine["cpu"]["model"] in f.read()
        assert machine["libc"] == " ".join(platform.libc_ver())
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        assert machine["memory_bytes"] == pages, (machine["memory_bytes"], pages)
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert machine["limits"]["open_files"] == str(soft)
        assert {"core", "locked_memory"} < set(machine["limits"])
        variables = machine["variables"]
        assert variables["NCCL_DEBUG"] == "WARN" and variables["NCCL_IB_HCA"] == "mlx5_0"
        assert variables["CUDA_VISIBLE_DEVICES"] == "0,1" and variables["OMP_NUM_THREADS"] == "1"
        node, = found["nodes"]
        assert node["host"] == platform.node() and node["cwd"].startswith(p.store), node
        assert not node["differs"]
        text = p.pioche("show", "e-1", "--environment").out
        assert platform.release() in text and "variables.NCCL_IB_HCA" in text, text


def test_alike_is_kept_once_and_secrets_never():
    with Project() as p:
        p.write("r.lua", RECIPE % (PROGRAM, "WARN"))
        p.pioche("run", "r.lua", env=SECRETS)
        assert p.sql("SELECT count(*) AS n FROM attempt_environment") == [{"n": 2}]
        assert p.sql("SELECT count(*) AS n FROM environment") == [{"n": 1}]
        with open(p.path(".pioche/pioche.db"), "rb") as f:
            store = f.read()
        for name, value in SECRETS.items():
            assert name.encode() not in store and value.encode() not in store, name
        assert p.sh("grep -rl hush- .pioche || true") == ""


def test_differences_are_shown():
    with Project() as p:
        p.write("r.lua", RECIPE % (PROGRAM, "WARN"))
        p.pioche("run", "r.lua", "x=1")
        p.write("r.lua", RECIPE % (PROGRAM, "INFO"))
        p.pioche("run", "r.lua", "x=2", env={"NCCL_NVLS_ENABLE": "2"})
        told = p.pioche("compare", "e-1", "e-2", "--environment", "--json").json
        assert told["runs"] == ["e-1", "e-2"], told
        assert told["different"] == {"variables.NCCL_DEBUG": ["WARN", "INFO"],
                                     "variables.NCCL_NVLS_ENABLE": [None, "2"]}, told
        assert told["same"] > 10
        text = p.pioche("compare", "e-1", "e-2", "--environment")
        assert "variables.NCCL_DEBUG" in text.out and "same in all" in text.err, text.out
        assert "at least two runs" in p.pioche("compare", "e-1", "--environment", expect=2).err
        same = p.pioche("compare", "e-1", "e-1", "--environment", expect=None)
        assert same.status == 2 or same.out == "", same.out


def test_it_travels_in_the_bundle():
    """Each document once, under its digest, and where every rank was bound."""
    with Project() as p:
        p.write("r.lua", RECIPE % (PROGRAM, "WARN"))
        p.pioche("run", "r.lua", "x=1")
        p.pioche("export", "e-1", "-o", "e.tar")
        p.sh("tar xf e.tar")
        path = p.sh("find e-1 -name env.json").strip()
        env = json.loads(p.read(path))
        told, = env["attempts"][0]["environment"]
        document = json.loads(p.read(f"e-1/data/environment/{told['document']}.json"))
        assert document == environment(p, "e-1")["documents"]["machine"]
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(canonical.encode()).hexdigest() == told["document"]
        binds = p.pioche("show", "e-1", "--ranks", "--json").json["ranks"]
        assert [r["bind"] for r in env["attempts"][0]["ranks"]] == [r.get("bind") for r in binds]


TRAIN = """
import sys
sys.path.insert(0, "packages")
import pioche
run = pioche.init()
run.log({"loss": 1.0 + run.rank}, step=1)
"""


def test_python_and_its_packages_are_recorded():
    """Of a launched program and of one that was started by hand."""
    module = harness.python_library()
    with Project() as p:
        p.write("packages/Some_Thing-1.2.3.dist-info/METADATA", "")
        p.write("packages/torch-2.13.0+cu130.dist-info/METADATA", "")
        p.write("packages/odd.dist-info/METADATA", "")
        p.write("train.py", TRAIN)
        p.write("r.lua", RECIPE % (f'"{sys.executable}", "train.py"', "WARN"))
        p.sh("git add -A && git commit -qm x")
        p.pioche("run", "r.lua", "x=1")
        p.sh(f"PYTHONPATH='{module}' '{sys.executable}' train.py")
        for name in ("e-1", "train-1"):
            python = environment(p, name)["documents"]["python"]
            assert python["version"] == platform.python_version(), python
            assert python["executable"] == sys.executable
            assert python["packages"]["some-thing"] == "1.2.3", python["packages"]
            assert python["packages"]["torch"] == "2.13.0+cu130"
            assert "odd" not in python["packages"]
        assert "machine" in environment(p, "train-1")["documents"]
        assert p.sql("SELECT count(*) AS n FROM event WHERE kind = 'journal'") == [{"n": 0}]


def test_nodes_that_differ_are_named():
    """As of an attempt on three nodes, one of which has another kernel."""
    with Project() as p:
        p.write("r.lua", RECIPE % (PROGRAM, "WARN"))
        p.pioche("run", "r.lua", "x=1")
        with contextlib.closing(sqlite3.connect(p.path(".pioche/pioche.db"))) as db, db:
            other = json.loads(db.execute("SELECT document FROM environment").fetchone()[0])
            other["kernel"] = "Linux 7.0 x86_64"
            del other["os"]
            db.execute("INSERT INTO environment VALUES (?, ?)", ("0" * 64, json.dumps(other)))
            for node, digest in ((1, "sha256"), (2, f"'{'0' * 64}'")):
                db.execute(f"INSERT INTO attempt_environment SELECT attempt_id, part, {node}, 'dgx-00{node + 1}',"
                           f" cwd, {digest} FROM attempt_environment WHERE node = 0")
        nodes = environment(p, "e-1")["nodes"]
        assert [n["host"] for n in nodes][1:] == ["dgx-002", "dgx-003"]
        assert not nodes[1]["differs"]
        assert nodes[2]["differs"] == {"kernel": "Linux 7.0 x86_64", "os": "(none)"}, nodes[2]
        assert "Linux 7.0 x86_64" in p.pioche("show", "e-1", "--environment").out


if __name__ == "__main__":
    harness.main()
