#!/usr/bin/env python3
"""Where ranks run, and what they are told: bound to cores, on record."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project  # noqa: E402

RECIPE = """local pioche = require "pioche"
return pioche.sweep { name = "p", space = { x = 1 },
  program = pioche.program { command = { "sh", "-c",
    "sed -n 's/^Cpus_allowed_list:.//p' /proc/self/status; echo ${OMPI_COMM_WORLD_RANK-none}", "sh" } },
  launch = { ranks_per_node = %d%s } }
"""


def members(text):
    """The CPUs of a list such as 0-3,8."""
    spans = [part.split("-") for part in text.split(",")]
    return {cpu for span in spans for cpu in range(int(span[0]), int(span[-1]) + 1)}


def cores():
    """What this process may use, by cores."""
    found = set()
    for cpu in os.sched_getaffinity(0):
        try:
            with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list",
                      encoding="ascii") as f:
                siblings = members(f.read().strip())
        except OSError:
            siblings = {cpu}
        found.add(frozenset(siblings & os.sched_getaffinity(0)))
    return found


def run(p, count, launch="", *args):
    """The ranks of a new run: [(bound, what it saw, what it said of MPI)]."""
    p.write("r.lua", RECIPE % (count, launch))
    p.pioche("run", "r.lua", "--again", *args)
    newest = p.sql("SELECT max(number) AS n FROM run")[0]["n"]
    shown = p.pioche("show", f"p-{newest}", "--ranks", "--json").json["ranks"]
    ulid = p.pioche("show", f"p-{newest}", "--json").json["ulid"]
    with open(p.path(f".pioche/runs/{ulid}/1/exit.0.json"), encoding="utf-8") as f:
        record = json.load(f)["ranks"]
    assert [r.get("bind") for r in shown] == [r["bind"] for r in record]
    assert [r["rank"] for r in shown] == list(range(count))
    said = [p.read(f".pioche/runs/{ulid}/1/rank-{i}.out").split() for i in range(count)]
    return [(r.get("bind"), members(out[0]), out[1]) for r, out in zip(shown, said)], f"p-{newest}"


def test_ranks_have_cores_of_their_own():
    """All that is allowed is shared out, whole cores each; the record is what a rank sees."""
    with Project() as p:
        count = len(cores())
        ranks, name = run(p, count)
        for bind, seen, _ in ranks:
            assert members(bind["cpus"]) == seen, (bind, seen)
            assert frozenset(seen) in cores()
        assert set().union(*(seen for _, seen, _ in ranks)) == os.sched_getaffinity(0)
        text = p.pioche("show", name, "--ranks").out
        assert "CPUs" in text and ranks[0][0]["cpus"] in text, text


def test_ranks_are_next_to_their_gpus():
    """NVML's word, here the stand-in's; driver and GPUs are on record with the attempt."""
    library = os.path.join(harness.BUILD, "gpu_host")
    if not os.path.exists(os.path.join(library, "libnvidia-ml.so.1")):
        raise harness.Skip("build/gpu_host: the stand-in for NVML is not built")
    first = min(cores(), key=min)
    mask = sum(1 << cpu for cpu in first)
    with Project() as p:
        env = {"LD_LIBRARY_PATH": library, "NVML_GPUS": "4", "NVML_CPUS": hex(mask),
               "CUDA_VISIBLE_DEVICES": "2"}
        p.write("r.lua", RECIPE % (1, ""))
        p.pioche("run", "r.lua", env=env)
        told = p.pioche("show", "p-1", "--ranks", "--environment", "--json").json
        bind = told["ranks"][0]["bind"]
        assert bind["gpu"] == "GPU-2" and members(bind["cpus"]) == set(first), bind
        machine = told["environment"]["documents"]["machine"]
        assert machine["driver"] == "580.65.06" and machine["cuda"] == "13.0", machine
        assert machine["gpus"] == {"Stand-in GPU": 4}, machine
        assert "GPU-2" in p.pioche("show", "p-1", "--ranks").out
        p.pioche("run", "r.lua", "--again", "launch.ranks_per_node=2", env=env)
        told = p.sql("SELECT message FROM event WHERE kind = 'launch.bind'")
        if len(first) == len(os.sched_getaffinity(0)):
            assert told, told  # two ranks, and one core in all
        else:
            assert not told, told  # they do not fit next to that GPU, and share out the machine


def test_taskset_is_respected():
    one = min(os.sched_getaffinity(0))
    with Project() as p:
        p.write("r.lua", RECIPE % (1, ""))
        p.sh(f"taskset -c {one} '{harness.PIOCHE}' run r.lua")
        bind = p.pioche("show", "p-1", "--ranks", "--json").json["ranks"][0]["bind"]
        assert bind["cpus"] == str(one), bind


def test_more_ranks_than_cores_are_free():
    """Nobody is bound, and that is said once."""
    with Project() as p:
        count = len(cores()) + 1
        ranks, name = run(p, count)
        assert all(bind is None and seen == os.sched_getaffinity(0) for bind, seen, _ in ranks), ranks
        told = p.sql("SELECT message FROM event WHERE kind = 'launch.bind'")
        assert [t["message"] for t in told] == [
            f"ranks are not bound: there are {count} of them and {count - 1} core"
            f"{'' if count == 2 else 's'}"], told
        assert " any" in p.pioche("show", name, "--ranks").out


def test_none_binds_nobody_and_wrong_words_are_refused():
    with Project() as p:
        for ranks, _ in (run(p, 2, ', bind = "none"'), run(p, 2, "", "launch.bind=none")):
            assert all(bind is None and seen == os.sched_getaffinity(0) for bind, seen, _ in ranks), ranks
        assert p.sql("SELECT * FROM event WHERE kind = 'launch.bind'") == []
        runs = len(p.sql("SELECT id FROM run"))
        wrong = p.pioche("run", "r.lua", "launch.bind=sideways", expect=1)
        assert "expected auto, gpu, cores or none" in wrong.err, wrong.err
        p.write("r.lua", RECIPE % (2, ', bind = "sideways"'))
        wrong = p.pioche("run", "r.lua", expect=1)
        assert "launch.bind" in wrong.err and "auto, gpu, cores or none" in wrong.err, wrong.err
        assert len(p.sql("SELECT id FROM run")) == runs


def test_mpi_is_told_on_request():
    with Project() as p:
        assert [mpi for _, _, mpi in run(p, 2)[0]] == ["none", "none"]
        assert [mpi for _, _, mpi in run(p, 2, ", mpi_env = true")[0]] == ["0", "1"]


if __name__ == "__main__":
    harness.main()
