#!/usr/bin/env python3
"""A run with 100,000 metrics: what a person is shown stays short, what a script asks for is whole, and
neither needs memory for all of them."""
import json
import os
import sqlite3
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project  # noqa: E402

KEYS, SHOWN = 100000, 1000
MIB_MAX = 120      # of addresses: the libraries' and a few pages of metrics
NAMES = sorted(f"group{i % 97}/metric{i}" for i in range(KEYS))


def store_of(project):
    """Run wide-1 logged KEYS metrics, each hundredth by ranks 3 and 5, but not by rank 0."""
    os.makedirs(os.path.join(project.store, "staging"))
    project.pioche("ls")
    db = sqlite3.connect(os.path.join(project.store, "pioche.db"))
    db.execute("INSERT INTO experiment VALUES (1, 'wide', 1000, NULL, NULL, 1)")
    db.execute("INSERT INTO run (id, ulid, experiment_id, number, status, created_ns, started_ns, ended_ns)"
               " VALUES (1, '01ARZ3NDEKTSV4RRFFQ69G5FAV', 1, 1, 'finished', 1, 1, 2)")
    rows = []
    for i, name in enumerate(NAMES):
        for rank in (5, 3) if i % 100 == 0 else (0,):
            value = i + rank / 8
            rows.append((name, rank, value, value, value, value))
    db.executemany("INSERT INTO series (run_id, key, rank, count, first_step, last_step, last, min, max, sum,"
                   " finite) VALUES (1, ?, ?, 1, 7, 7, ?, ?, ?, ?, 1)", rows)
    db.commit()
    db.close()


def show(project, *options):
    """Its output, from a process that is not given the memory to hold all metrics at once."""
    limit = "" if os.environ.get("SAN") else f"ulimit -v {MIB_MAX << 10}; "
    return project.sh(f"{limit}exec '{harness.PIOCHE}' show wide-1 {' '.join(options)}")


def value_of(i):
    return i + (0.375 if i % 100 == 0 else 0)


def test_a_person_sees_the_first_and_how_many_more():
    with Project(git=False) as p:
        store_of(p)
        lines = show(p).splitlines()
        keys = [line.split()[0] for line in lines if line.startswith("  group")]
        assert keys == [name + ("@3" if i % 100 == 0 else "") for i, name in enumerate(NAMES[:SHOWN])]
        assert "  +99,000 metrics: --all, --metric KEY or --json" in lines, lines[-3:]
        one = show(p, "--metric", NAMES[-1])
        assert NAMES[-1] in one and NAMES[0] not in one and "more" not in one and "+" not in one, one
        rest = [line.split()[0] for line in show(p, "--all").splitlines() if line.startswith("  group")]
        assert [name.split("@")[0] for name in rest] == NAMES


def test_a_script_gets_all_of_them():
    with Project(git=False) as p:
        store_of(p)
        whole = json.loads(show(p, "--json"))
        assert list(whole["metrics"]) == NAMES
        listed = p.pioche("ls", "--json").json[0]
        assert whole["metrics"] == listed["metrics"]
        assert {name: whole[name] for name in listed} == listed
        for i in (0, 1, SHOWN - 1, SHOWN, SHOWN + 1, KEYS - 1):
            assert whole["metrics"][NAMES[i]]["last"] == value_of(i), i
        lines = show(p, "--csv").splitlines()
        assert lines[0] == "key,rank,last,min,max,mean,count,first_step,last_step"
        assert [line.split(",")[0] for line in lines[1:]] == NAMES
        assert float(lines[1 + SHOWN].split(",")[2]) == value_of(SHOWN) and lines[1].split(",")[1] == "3"


def test_a_whole_page_and_none():
    """The number of metrics is that of a page, one more, or 0."""
    with Project(git=False) as p:
        store_of(p)
        db = sqlite3.connect(os.path.join(p.store, "pioche.db"))
        for left in (SHOWN + 1, SHOWN, 0):
            db.execute("DELETE FROM series WHERE key NOT IN (SELECT DISTINCT key FROM series ORDER BY key LIMIT ?)",
                       (left,))
            db.commit()
            shown = show(p)
            assert ("+1 metric: --all" in shown) == (left == SHOWN + 1), shown[-300:]
            assert shown.count("  group") == min(left, SHOWN) and ("metrics" in shown) == (left > 0)
            assert list(json.loads(show(p, "--json"))["metrics"]) == NAMES[:left]
            assert len(show(p, "--csv").splitlines()) == 1 + left
        db.close()


if __name__ == "__main__":
    harness.main()
