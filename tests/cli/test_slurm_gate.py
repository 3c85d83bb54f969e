#!/usr/bin/env python3
"""Preflight on a real Slurm of four nodes: who is unfit, or slow, is swapped for a spare
inside the allocation, or named and left out by the next attempt."""
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from harness import BUILD, ROOT  # noqa: E402
from pod.project import PodProject, boxed  # noqa: E402

# What a node's tasks get into their environment is in a file of the node's name.
PROLOG = """#!/bin/sh
cat "$(dirname "$0")/$SLURMD_NODENAME" 2>/dev/null
exit 0
"""


@contextlib.contextmanager
def troubled(**exports):
    """A project in a box of four nodes, of which those named dgx_00N have these variables."""
    folder = tempfile.mkdtemp(prefix="pioche-gate-")
    try:
        prolog = os.path.join(folder, "prolog")
        with open(prolog, "w", encoding="utf-8") as f:
            f.write(PROLOG)
        os.chmod(folder, 0o755)
        os.chmod(prolog, 0o755)
        for node, words in exports.items():
            with open(os.path.join(folder, node.replace("_", "-")), "w", encoding="utf-8") as f:
                f.writelines(f"export {word}\n" for word in words)
        with boxed(4, config=f"TaskProlog={prolog}\n") as box, PodProject(box) as p:
            yield p
    finally:
        shutil.rmtree(folder)


def ranks_on(p, attempt):
    return [r["node"] for r in p.sql(f"SELECT DISTINCT node FROM rank WHERE attempt_id = {attempt} ORDER BY node")]


def checks(p, name, attempt=1):
    return {r["node"]: r["state"] for r in p.sql(
        f"SELECT node, state FROM node_check WHERE attempt_id = {attempt} AND name = '{name}' ORDER BY node")}


def notes(p):
    return [r["message"] for r in p.sql("SELECT message FROM event WHERE kind = 'preflight' ORDER BY id")]


def folder(p, attempt=1):
    return p.sql(f"SELECT dir FROM attempt WHERE id = {attempt}")[0]["dir"]


def gate(p, attempt=1):
    with open(os.path.join(p.store, folder(p, attempt), "gate.json"), encoding="utf-8") as f:
        return json.load(f)


def rounds_kept(p, attempt=1):
    names = os.listdir(os.path.join(p.store, folder(p, attempt)))
    return sorted(n for n in names if n.startswith("gate.") and n != "gate.json")


def test_good_nodes_pass():
    """All are measured, spares too, in one step more; nothing of it is left, in the store neither."""
    with troubled() as p:
        p.recipe("nodes = 3, spares = 1, preflight = true", space="steps = 3")
        p.pioche("run", "recipe.lua", timeout=240)
        assert [a["result"] for a in p.attempts()] == ["ok"], p.attempts()
        assert ranks_on(p, 1) == ["dgx-001", "dgx-002", "dgx-003"]
        assert checks(p, "bandwidth") == {n: "ok" for n in p.box.nodes}, checks(p, "bandwidth")
        assert checks(p, "memory") == {n: "ok" for n in p.box.nodes}
        found = gate(p)
        assert (found["result"], found["rounds"], found["by"]) == ("ok", 1, "tcp") and found["busbw"] > 0, found
        assert found["fit"] == p.box.nodes and rounds_kept(p) == []
        assert len(notes(p)) == 1 and notes(p)[0].startswith("preflight: 4 nodes fit, "), notes(p)
        print(f"# preflight of 4 nodes: {found['took_ns'] / 1e9:.1f} s, {found['busbw'] / 1e9:.2f} GB/s")
        assert [r["key"] for r in p.sql("SELECT DISTINCT key FROM series WHERE key LIKE 'preflight%'")] == []
        p.check_points(3, 50, 3)
        p.check_nothing_left()


def test_an_unfit_node_is_swapped():
    with troubled(dgx_002=["TMPDIR=/proc"]) as p:
        p.recipe("nodes = 3, spares = 1, preflight = true", space="steps = 3")
        p.pioche("run", "recipe.lua", timeout=240)
        assert [a["result"] for a in p.attempts()] == ["ok"], p.attempts()
        assert ranks_on(p, 1) == ["dgx-001", "dgx-003", "dgx-004"]
        assert checks(p, "tmp") == {"dgx-001": "ok", "dgx-002": "failed", "dgx-003": "ok", "dgx-004": "ok"}
        assert notes(p)[0] == ("preflight: dgx-002 is left out: /proc has 0 MiB, programs need 64 MiB;"
                               " dgx-004 takes its place"), notes(p)
        assert rounds_kept(p) == ["gate.0", "gate.1"]
        known = {n["name"]: n["score"] for n in p.pioche("nodes", "--json").json}
        assert known["dgx-002"] > 0.9 and known["dgx-001"] == known["dgx-004"] == 0, known
        p.check_points(3, 50, 3)
        p.check_nothing_left()


def test_a_slow_node_is_found_and_swapped():
    """By halves: nothing about it is wrong but how fast it sends."""
    if os.environ.get("SAN"):
        raise harness.Skip("a library that is preloaded before a sanitizer's")
    library = os.path.join(BUILD, "tests", "slow_send.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, os.path.join(ROOT, "tests", "pod", "slow_send.c"),
                    "-ldl"], check=True)
    # By its name alone: in a path to it a space would end it.
    with troubled(dgx_003=["LD_PRELOAD=slow_send.so", f"LD_LIBRARY_PATH={os.path.dirname(library)}"]) as p:
        p.recipe("nodes = 3, spares = 1, preflight = true", space="steps = 3")
        p.pioche("run", "recipe.lua", timeout=240)
        assert [a["result"] for a in p.attempts()] == ["ok"], p.attempts()
        assert ranks_on(p, 1) == ["dgx-001", "dgx-002", "dgx-004"], (ranks_on(p, 1), notes(p))
        assert checks(p, "bandwidth") == {n: "failed" if n == "dgx-003" else "ok" for n in p.box.nodes}
        words = notes(p)[0]
        assert words.startswith("preflight: dgx-003 is left out: 0.0") and " GB/s of bus bandwidth where others have " in words \
            and words.endswith("; dgx-004 takes its place"), notes(p)
        print(f"# {words}; {gate(p)['took_ns'] / 1e9:.1f} s")
        p.check_points(3, 50, 3)
        p.check_nothing_left()


def test_gpus_are_measured_by_nccl():
    """By its stand-in, a rank a GPU; what is set up for the program counts for the probe."""
    library = os.path.join(BUILD, "gpu_host")
    with troubled() as p:
        if not p.box.gpus:
            raise harness.Skip("GPUs in the box")
        p.recipe("nodes = 3, spares = 1, preflight = true, ranks_per_node = 2, gpus_per_node = 2", space="steps = 3",
                 of_program=f"env = {{ LD_LIBRARY_PATH = '{library}', GPU_HOST_GPUS = 2 }}")
        p.pioche("run", "recipe.lua", timeout=400)
        assert [a["result"] for a in p.attempts()] == ["ok"], p.attempts()
        found = gate(p)
        assert (found["result"], found["by"], found["fit"]) == ("ok", "nccl", p.box.nodes), found
        assert checks(p, "bandwidth") == {n: "ok" for n in p.box.nodes}
        print(f"# {notes(p)}")
        p.check_nothing_left()


def test_less_than_is_asked_for_fails():
    with troubled() as p:
        p.recipe("nodes = 2, preflight = { bandwidth = '9000 TB/s' }", space="steps = 3")
        p.pioche("run", "recipe.lua", timeout=240, expect=1)
        attempt, = p.attempts()
        assert attempt["result"] == "failed" and attempt["message"].endswith(
            " GB/s of bus bandwidth (tcp) where it is best, 9e+06 GB/s expected"), attempt
        p.check_nothing_left()


def test_without_a_spare_the_next_attempt_does_without_it():
    with troubled(dgx_002=["TMPDIR=/proc"]) as p:
        p.recipe("nodes = 2, preflight = true", space="steps = 3")
        p.pioche("run", "recipe.lua", timeout=240)
        first, second = p.attempts()
        assert (first["result"], first["node"], second["result"]) == ("node_fail", "dgx-002", "ok"), (first, second)
        assert first["message"] == ("dgx-002: preflight: /proc has 0 MiB, programs need 64 MiB;"
                                    " 1 node is left of the 2 that it needs"), first
        assert ranks_on(p, 1) == [] and len(ranks_on(p, 2)) == 2 and "dgx-002" not in ranks_on(p, 2), ranks_on(p, 2)
        p.check_nothing_left()


if __name__ == "__main__":
    harness.main()
