#!/usr/bin/env python3
"""How long a person waits for start-up, ls, compare, chart and sql.

Every command is the whole process, from before its start to after its end. The
small store has three runs. The large one has RUNS runs with 150 parameters and
50 metrics each, COMPARED more like them, and a run with one series of POINTS
points; make_store makes it through the store's own write path, once for all
rounds. Files are in the page cache. `limit` is starting a process that does
nothing, or SQLite alone answering the same question over the same file."""
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

SHORT = bool(os.environ.get("SHORT"))
BUILD = os.environ["PIOCHE_BUILD"]
PIOCHE = os.path.join(BUILD, "pioche")
SCRATCH = os.environ.get("BENCH_SCRATCH") or tempfile.mkdtemp(prefix="pioche-bench-")
RUNS, COMPARED, POINTS = (3000, 300, 1000000) if SHORT else (75000, 1500, 10000000)
PARAMS, METRICS, POINTS_EACH = 150, 50, 10
MADE_BYTES_MAX = 4 << 30
TIMES = 5
READ_PARAMS = """SELECT sum(length(name) + length(kind)), count(value) FROM param WHERE run_id IN
(SELECT id FROM run WHERE experiment_id = (SELECT id FROM experiment WHERE name = ?)
 ORDER BY number DESC LIMIT ?)"""
FILTERED = """SELECT run.id FROM param JOIN series ON series.run_id = param.run_id AND key = 'val/loss'
AND rank = 0 JOIN run ON run.id = param.run_id WHERE param.name = 'lr' AND param.value > ? AND min < ?
ORDER BY run.id DESC LIMIT 20"""


def make(name, *experiments):
    """The path of a store with these experiments. It is made in memory, where
    the syncs of 75,000 journals cost nothing, and lies on the disk."""
    store = os.path.join(SCRATCH, f"query-{name}", ".pioche")
    if not os.path.exists(store + ".made"):
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else SCRATCH
        if shutil.disk_usage(memory).free < MADE_BYTES_MAX:
            memory = SCRATCH
        with tempfile.TemporaryDirectory(prefix="pioche-bench-", dir=memory) as top:
            made = os.path.join(top, ".pioche")
            for experiment in experiments:
                subprocess.run([os.path.join(BUILD, "bench", "make_store"), made,
                                *map(str, experiment)], check=True)
            shutil.copytree(made, store)
        open(store + ".made", "w", encoding="utf-8").close()
    return store


def spawn(*command):
    """Median milliseconds and MiB of its runs, after one to warm up."""
    done = subprocess.run([os.path.join(BUILD, "bench", "spawn"), str(TIMES + 1), *command],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.splitlines() or ["no reason given"])[0])
    runs = [line.split() for line in done.stdout.splitlines()][1:]
    return (statistics.median(float(ms) for ms, _ in runs),
            statistics.median(int(kib) / 1024 for _, kib in runs))


def sql_ms(store, query, *binds):
    db = sqlite3.connect(f"file:{store}/pioche.db?mode=ro", uri=True)
    took = []
    for _ in range(TIMES + 1):
        begin = time.perf_counter()
        db.execute(query, binds).fetchall()
        took.append((time.perf_counter() - begin) * 1000)
    db.close()
    return statistics.median(took[1:])


def say(name, value, unit, goal, limit=None):
    print(json.dumps({"name": name, "value": value, "unit": unit, "goal": goal, "limit": limit,
                      "peer": None}), flush=True)


def command(name, goal, limit, store, *arguments):
    """One row; a command that fails says why."""
    try:
        value, _ = spawn(PIOCHE, "--store", store, *arguments)
    except RuntimeError as why:
        print(json.dumps({"name": name, "value": None, "why": str(why)}), flush=True)
        return
    say(name, value, "ms", goal, limit)


def main():
    nothing, _ = spawn("/bin/true")
    small = make("small", ("runs", "small", 3, 10, 4, POINTS_EACH))
    took, mib = spawn(PIOCHE, "--store", small, "ls")
    say("cold start, ls of 3 runs", took, "ms", 10, nothing)
    say("cold start, ls of 3 runs, memory", mib, "MiB", 50)
    say("start-up, pioche --version", spawn(PIOCHE, "--version")[0], "ms", 10, nothing)

    large = make("large", ("runs", "big", RUNS, PARAMS, METRICS, POINTS_EACH),
                 ("runs", "mid", COMPARED, PARAMS, METRICS, POINTS_EACH), ("series", "long", POINTS))
    size = f"{RUNS:,} runs x {PARAMS} x {METRICS}"
    shown = sql_ms(large, READ_PARAMS, "big", 20)
    command(f"ls, {size}", 50, shown, large, "ls", "big")
    say("ls of the same, memory", spawn(PIOCHE, "--store", large, "ls", "big")[1], "MiB", 50)
    for what, lr, loss in (("half match", 3e-3, 1.5), ("1 in 200 match", 8e-2, 1.2)):
        command(f"ls with a filter, {what}", 50, sql_ms(large, FILTERED, lr, loss), large, "ls",
                "big", f"lr > {lr:g} and val/loss.min < {loss:g}")
    command("ls --status failed, the same", 50, shown, large, "ls", "big", "--status", "failed")
    command(f"compare, {COMPARED:,} runs x {PARAMS} x {METRICS}", 200,
            sql_ms(large, READ_PARAMS, "mid", COMPARED), large, "compare", "mid")
    command(f"pioche chart, {POINTS:,} points", 50, nothing, large, "chart", "long-1",
            "--metric", "train/loss")
    count = "SELECT status, count(*) FROM run GROUP BY status ORDER BY status"
    command(f"sql, a count by status over {RUNS:,} runs", 50, sql_ms(large, count), large, "sql", count)
    if "BENCH_SCRATCH" not in os.environ:
        shutil.rmtree(SCRATCH, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
