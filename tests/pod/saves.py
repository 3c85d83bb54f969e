#!/usr/bin/env python3
"""One checkpoint of as many shards as there are ranks, by the real way, under a Slurm in a
box: 8, 64, 256 ranks and the whole pod of 1,016.

    make test-pod [NODES=127] [RANKS=8]

Every rank saves its run of one tensor's elements; each checkpoint has to be whole: a row
for each shard, no element missing. Printed is what it took: for how long the slowest rank
waited and until it had reported, when the checkpoint was seen in the store after the last
report, syncs, rows, and the processor's time of the supervisor's fold for each writer. A
writer that costs more where there are more of them would be a quadratic term."""
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from harness import wait_for  # noqa: E402
from pod.project import PodProject, boxed  # noqa: E402

NODES, RANKS = int(os.environ.get("NODES") or 127), int(os.environ.get("RANKS") or 8)
ELEMENTS = 4096           # of each rank
# All of it on this machine's processors: patience is no promise.
TIMEOUT_S, JOIN_S, PAUSE_MS = 1800, 900, 3000


def sizes():
    """Numbers of nodes: 1, 8, 32 and all there are."""
    return sorted({n for n in (1, 8, 32) if n < NODES} | {NODES})


def cpu_s(pid):
    """Processor time of a process so far."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def saved(p, number, nodes):
    """The row of the only checkpoint of run `number`, with `seen_s` after its last report and
    `cpu_s` of the supervisor from that report until then."""
    p.recipe(f"nodes = {nodes}, ranks_per_node = {RANKS}, join_s = {JOIN_S}, time = '1h'",
             space=f"steps = 1, metrics = 1, pause_ms = {PAUSE_MS}, save = {ELEMENTS}")
    process = p.start("run", "recipe.lua")
    try:
        wait_for(lambda: p.poll(f"SELECT 1 FROM checkpoint_save s JOIN attempt a ON a.id = s.attempt_id JOIN run r"
                                f" ON r.id = a.run_id WHERE r.number = {number}")
                 or p.poll(f"SELECT 1 FROM checkpoint c JOIN run r ON r.id = c.run_id WHERE r.number = {number}"),
                 TIMEOUT_S, "the first report")
        before = cpu_s(process.pid)
        wait_for(lambda: p.poll(f"SELECT 1 FROM checkpoint c JOIN run r ON r.id = c.run_id WHERE r.number = {number}"),
                 TIMEOUT_S, "the checkpoint")
        seen_ns, cpu = time.time_ns(), cpu_s(process.pid) - before
        _, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == 0, err
    rows = p.sql(f"SELECT c.* FROM checkpoint c JOIN run r ON r.id = c.run_id WHERE r.number = {number}")
    assert len(rows) == 1, rows
    return dict(rows[0], seen_s=(seen_ns - rows[0]["created_ns"]) / 1e9, cpu_s=cpu)


def check_whole(p, row, ranks):
    """A shard of each rank; together they are the tensor."""
    files = p.sql(f"SELECT count(*) AS n, count(DISTINCT rank) AS ranks, count(DISTINCT sha256) AS objects FROM"
                  f" checkpoint_file WHERE checkpoint_id = {row['id']}")[0]
    assert (files["n"], files["ranks"], files["objects"]) == (ranks, ranks, ranks), files
    parts = p.sql("SELECT count(*) AS n, sum(t.bytes) AS bytes, min(t.whole_shape) AS whole, count(DISTINCT"
                  " t.part_begin) AS begins FROM checkpoint_file f JOIN tensor t ON t.sha256 = f.sha256 WHERE"
                  f" f.checkpoint_id = {row['id']}")[0]
    assert parts == {"n": ranks, "bytes": 8 * ELEMENTS * ranks, "whole": f"[{ELEMENTS * ranks}]", "begins": ranks}, parts
    assert row["writers"] == ranks, row
    return files["n"] + parts["n"] + files["objects"] + 1


def test_a_checkpoint_of_as_many_shards_as_ranks():
    with boxed(NODES) as box, PodProject(box) as p:
        print("# ranks  waited  reported  seen after  fsyncs  a writer  rows  fold, a writer", flush=True)
        for number, nodes in enumerate(sizes(), 1):
            ranks = nodes * RANKS
            row = saved(p, number, nodes)
            rows = check_whole(p, row, ranks)
            print(f"# {ranks:5d}  {row['stall_ns'] / 1e9:4.1f} s  {(row['total_ns'] or 0) / 1e9:6.1f} s"
                  f"  {row['seen_s']:8.1f} s  {row['fsyncs']:6d}  {row['fsyncs'] / ranks:8.2f}  {rows:4d}"
                  f"  {1e3 * row['cpu_s'] / ranks:11.2f} ms", flush=True)
        assert p.pioche("verify", timeout=TIMEOUT_S).out.count("good:") == 1
        p.check_nothing_left()


if __name__ == "__main__":
    harness.main()
