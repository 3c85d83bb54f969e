#!/usr/bin/env python3
"""How long a person waits for start-up, ls and compare.

A store of RUNS runs (75,000) with 150 parameters and 20 series each is made by
SQL under the real schema, once, and kept under build/bench/ (700 MB) for the next
round; every command is the whole process. `limit` is one read of the rows it shows, by SQLite alone."""
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time

BUILD = os.environ.get("PIOCHE_BUILD", "build")
PIOCHE = os.path.join(BUILD, "pioche")
RUNS = int(os.environ.get("RUNS", "75000"))
PARAMS, KEYS, COMPARED = 150, 20, 1500
READ = "SELECT sum(length(name) + length(kind)), count(value) FROM param WHERE run_id >"
ROOT = os.path.join(BUILD, "bench", "query")


def fill(db):
    """One experiment `big` of RUNS runs and one `mid` of COMPARED."""
    db.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY; PRAGMA cache_size = -400000")
    db.execute("BEGIN")
    for experiment, name, first, count in ((1, "big", 1, RUNS), (2, "mid", RUNS + 1, COMPARED)):
        db.execute("INSERT INTO experiment VALUES (?, ?, ?, 'val/loss', 'minimize', 1)",
                   (experiment, name, count + 1))
        numbers = f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {count - 1})"
        db.execute(numbers + f""" INSERT INTO run (id, ulid, experiment_id, number, status, seed,
            program, launch, created_ns, started_ns, ended_ns)
            SELECT {first} + i, printf('01ARZ3NDEKTSV4RRFFQ%07d', {first} + i), {experiment}, i + 1,
            CASE WHEN i % 50 = 7 THEN 'failed' ELSE 'finished' END, i % 3 + 1, '{{"command":["train"]}}', '{{}}',
            1790000000000000000 + i, 1790000000000000000 + i, 1790000060000000000 + i FROM n""")
        db.execute(numbers + f""" INSERT INTO attempt (run_id, number, state, result, launcher, dir,
            world_size, created_ns, started_ns, ended_ns) SELECT {first} + i, 1, 'ended', 'ok', 'local',
            'runs/x/1', 2, 1, 2, 3 FROM n""")
        db.execute(numbers + f""", p(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM p WHERE k < {PARAMS - 1})
            INSERT INTO param (run_id, name, value, kind) SELECT {first} + i, printf('group%d.param%d', k % 7, k),
            CASE WHEN k < 6 THEN (i / 3 * (k + 3)) % 9973 / 9973.0 WHEN k % 3 = 0 THEN 'text ' || k ELSE k * 0.5 END,
            CASE WHEN k >= 6 AND k % 3 = 0 THEN 'text' ELSE 'real' END FROM n, p ORDER BY 1, 2""")
        db.execute(numbers + f""", p(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM p WHERE k < {KEYS - 1})
            INSERT INTO series (run_id, key, rank, count, first_step, last_step, last, min, min_step,
            max, max_step, sum, sum_low, finite) SELECT {first} + i,
            CASE k WHEN 0 THEN 'val/loss' ELSE 'metric/' || k END, 0, 100, 1, 100,
            1 + (i * 7919 % 10007) / 10007.0 + k, 1, 50, 9, 1, 200.5, 0, 100 FROM n, p ORDER BY 1, 2""")
    db.commit()


def make_store():
    store = os.path.join(ROOT, ".pioche")
    sources = hashlib.sha256()
    for path in (__file__, os.path.join(os.path.dirname(__file__), "../../core/store/schema.sql")):
        with open(path, "rb") as f:
            sources.update(f.read())
    mark = os.path.join(ROOT, f"made-{RUNS}-{sources.hexdigest()[:16]}")
    if not os.path.exists(mark):
        shutil.rmtree(ROOT, ignore_errors=True)
        os.makedirs(os.path.join(store, "staging"))
        # The first command makes the database.
        subprocess.run([PIOCHE, "--store", store, "ls"], capture_output=True, check=False)
        db = sqlite3.connect(os.path.join(store, "pioche.db"), isolation_level=None)
        fill(db)
        db.execute("PRAGMA journal_mode = WAL")
        db.close()
        open(mark, "w", encoding="utf-8").close()
    return store


def took_ms(command, rounds=5):
    best = float("inf")
    for _ in range(rounds):
        begin = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        best = min(best, (time.perf_counter() - begin) * 1000)
    return best


def sql_ms(db, query):
    best = float("inf")
    for _ in range(3):
        begin = time.perf_counter()
        db.execute(query).fetchall()
        best = min(best, (time.perf_counter() - begin) * 1000)
    return best


def say(name, value, goal, limit):
    print(json.dumps({"name": name, "value": round(value, 2), "unit": "ms", "goal": goal,
                      "limit": limit and round(limit, 2), "peer": None}), flush=True)


def main():
    store = make_store()
    db = sqlite3.connect(f"file:{store}/pioche.db?mode=ro", uri=True)
    say("start-up, pioche --version", took_ms([PIOCHE, "--version"]), 10, took_ms(["/bin/true"]))
    last = sql_ms(db, f"{READ} {RUNS + COMPARED - 20}")
    say(f"ls, {RUNS + COMPARED:,} runs x {PARAMS} params", took_ms([PIOCHE, "--store", store, "ls"]), 50, last)
    say("ls --status failed, the same",
        took_ms([PIOCHE, "--store", store, "ls", "big", "--status", "failed"]), 50, last)
    some = sql_ms(db, f"{READ} {RUNS}")
    say(f"compare, {COMPARED:,} runs x {PARAMS} params",
        took_ms([PIOCHE, "--store", store, "compare", "mid"]), 200, some)


if __name__ == "__main__":
    sys.exit(main())
