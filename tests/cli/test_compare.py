#!/usr/bin/env python3
"""compare and ls over a store that is written by SQL under the real schema."""
import json
import os
import re
import sqlite3
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project  # noqa: E402

NAN_BITS = 0x7ff8000000000123


def store_of(project, runs):
    """Runs gpt-1, gpt-2, ... of {"seed", "status", "params": {name: (value, kind, bits)},
    "metrics": {key: last or [last by rank]}}."""
    os.makedirs(os.path.join(project.store, "staging"))
    project.pioche("ls")
    db = sqlite3.connect(os.path.join(project.store, "pioche.db"))
    db.execute("INSERT INTO experiment VALUES (1, 'gpt', 1000, 'loss', 'minimize', 1)")
    for i, run in enumerate(runs, 1):
        db.execute("INSERT INTO run (id, ulid, experiment_id, number, status, seed, created_ns, started_ns,"
                   " ended_ns) VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?)",
                   (i, f"01ARZ3NDEKTSV4RRFFQ69G{i:04}", i, run.get("status", "finished"), run.get("seed"),
                    i, i, i + 10**9))
        for name, param in run.get("params", {}).items():
            value, kind, bits = param if isinstance(param, tuple) else (
                param, {int: "int", float: "real", str: "text"}[type(param)], None)
            db.execute("INSERT INTO param VALUES (?, ?, ?, ?, ?)", (i, name, value, kind, bits))
        for key, values in run.get("metrics", {}).items():
            for rank, value in enumerate(values if isinstance(values, list) else [values]):
                db.execute("INSERT INTO series (run_id, key, rank, count, first_step, last_step, last, min,"
                           " max, sum, finite) VALUES (?, ?, ?, 1, 1, 1, ?, ?, ?, ?, 1)",
                           (i, key, rank, value, value, value, value))
    db.commit()
    db.close()


def test_what_is_the_same_is_said_once():
    """Parameters and metrics that are the same in all runs stand in one line, not in columns."""
    with Project(git=False) as p:
        store_of(p, [{"params": {"lr": lr, "width": 64, "summary/parameters": 1200},
                      "metrics": {"loss": loss, "bigram": 2.47, "grad": loss * 2}}
                     for lr, loss in ((0.1, 3.5), (0.2, 3.25), (0.3, 3.75))])
        lines = p.pioche("compare").out.splitlines()
        assert lines[0].split() == ["run", "lr", "loss", "grad"], lines
        assert [line.split()[0] for line in lines[1:4]] == ["gpt-2", "gpt-1", "gpt-3"], lines
        assert lines[4] == "same in all: parameters=1200 width=64 bigram=2.47", lines
        everything = p.pioche("compare", "--all-params").out.splitlines()
        assert everything[0].split() == ["run", "lr", "parameters", "width", "loss", "grad"], everything
        assert everything[1].split()[:4] == ["gpt-2", "0.2", "1200", "64"], everything
        asked = p.pioche("compare", "--metric", "bigram").out.splitlines()
        assert asked[0].split() == ["run", "lr", "loss", "bigram"], asked


def test_values_are_compared_as_what_they_are():
    """1 and 1.0 are the same value; a boolean, a text, NaN and -0.0 are none of them."""
    with Project(git=False) as p:
        store_of(p, [
            {"params": {"a": 1, "b": (1, "bool", None), "c": "1", "d": (None, "real", NAN_BITS), "e": 0.0,
                        "f": 7, "g": (None, "real", NAN_BITS), "h": ("[1]", "json", None)}},
            {"params": {"a": 1.0, "b": 1, "c": 1, "d": (None, "real", NAN_BITS + 1),
                        "e": (0.0, "real", -2**63), "g": (None, "real", NAN_BITS), "h": "[1]"}}])
        rows = p.pioche("compare", "--json").json
        assert [sorted(row["params"]) for row in rows] == [["b", "c", "d", "e", "f", "h"],
                                                           ["b", "c", "d", "e", "h"]], rows
        assert p.pioche("compare").out.splitlines()[-1] == "same in all: a=1 g=NaN"


def test_seeds_are_one_row():
    """Runs that differ in their seed alone are grouped, whatever they said at their end."""
    with Project(git=False) as p:
        store_of(p, [{"seed": seed, "params": {"lr": lr, "summary/best": lr * seed},
                      "metrics": {"loss": [lr + seed / 100, 9.0]}}
                     for lr in (0.5, 0.25) for seed in (1, 2, 3)])
        rows = p.pioche("compare", "gpt", "--json").json
        assert [row["runs"] for row in rows] == [["gpt-4", "gpt-5", "gpt-6"], ["gpt-1", "gpt-2", "gpt-3"]]
        assert rows[0]["params"] == {"lr": 0.25} and rows[0]["n"] == 3, rows[0]
        assert abs(rows[0]["metrics"]["loss"]["mean"] - 0.27) < 1e-12
        assert len(p.pioche("compare", "gpt", "--no-group", "--json").json) == 6
        means = p.pioche("compare", "gpt-1", "gpt-4", "--json", "--metric", "loss@mean").json
        assert means[0]["metrics"]["loss@mean"] == {"mean": 4.63, "n": 1, "std": None}, means


def test_a_parameter_that_some_lack_tells_runs_apart():
    """Seeds are grouped by all else that differs: values, and who has any; a run's own seed is no difference."""
    with Project(git=False) as p:
        runs = [{"seed": seed, "params": {"seed": seed, "list": ("[1, 2]", "json", None)}} for seed in (1, 2)]
        runs += [{"seed": seed, "params": {"list": ("[1, 3]", "json", None), **extra}}
                 for extra in ({}, {"b": 1}, {"b": 2}) for seed in (1, 2)]
        store_of(p, [{**run, "metrics": {"loss": i}} for i, run in enumerate(runs)])
        rows = p.pioche("compare", "gpt", "--json").json
        assert [row["runs"] for row in rows] == [[f"gpt-{i}", f"gpt-{i + 1}"] for i in (1, 3, 5, 7)], rows
        assert [row["params"] for row in rows] == [
            {"list": [1, 2]}, {"list": [1, 3]}, {"list": [1, 3], "b": 1}, {"list": [1, 3], "b": 2}], rows
        other = p.pioche("compare", "gpt-1", "gpt-3", "--csv").out.splitlines()
        assert other[0].split(",")[5:8] == ["param.list", "param.seed", "metric.loss"], other


def test_ls_shows_what_differs_within_an_experiment():
    with Project(git=False) as p:
        store_of(p, [{"seed": 7, "params": {"lr": lr, "width": 64, "summary/best": lr}} for lr in (0.1, 0.2)])
        lines = p.pioche("ls").out.splitlines()
        assert lines[0].split() == ["run", "status", "age", "took", "lr", "best"], lines
        assert lines[1].split()[0] == "gpt-2" and lines[1].split()[-2:] == ["0.2", "0.2"], lines
        assert p.pioche("ls", "gpt-1").out.splitlines()[0].split() == ["run", "status", "age", "took"]


def test_ls_finds_rare_and_common_statuses():
    with Project(git=False) as p:
        store_of(p, [{"status": "failed" if i % 40 == 3 else "finished"} for i in range(200)])
        failed = p.pioche("ls", "--status", "failed", "--json").json
        assert [run["id"] for run in failed] == [f"gpt-{i}" for i in (164, 124, 84, 44, 4)]
        newest = p.pioche("ls", "gpt", "--status", "finished", "--limit", "3", "--json").json
        assert [run["id"] for run in newest] == ["gpt-200", "gpt-199", "gpt-198"]
        assert p.pioche("ls", "--limit", "0", "--json").json == []
        head = p.sh(f"set +o pipefail; '{harness.PIOCHE}' ls --all | head -1")
        assert head.split()[:2] == ["run", "status"], head
        none = p.pioche("ls", "--limit", "0")
        assert none.out == "" and none.err == "0 of 200 runs: --all, --limit N or --status shows others\n"


def test_show_tells_where_the_code_is():
    """Without git the store keeps the code, and neither show nor the bundle speaks of commits before it."""
    with Project(git=False) as p:
        p.write("recipe.lua", 'local pioche = require "pioche"\nreturn pioche.sweep { name = "w", program ='
                ' pioche.program { command = { "true" } }, space = { x = 1 } }\n')
        p.pioche("run", "recipe.lua")
        shown = p.pioche("show", "w-1").out
        assert "(no git: a snapshot in the store)" in shown, shown
        attempt = p.sql("SELECT started_ns, ended_ns FROM attempt")[0]
        assert 0 < attempt["started_ns"] < attempt["ended_ns"], attempt
        p.pioche("export", "w-1")
        text = p.sh("tar xOf w-1.tar w-1/data/run/git.txt")
        assert "repository none" in text and "parent" not in text, text
        env = json.loads(p.sh("tar xOf w-1.tar w-1/data/run/env.json"))
        assert env["attempts"][0]["ranks"][0]["exit_code"] == 0 and env["started"] <= env["ended"], env
        p.check_store()


def test_help_sql_tells_what_any_sqlite_can_read():
    """The lines that the manual gives for the stock shell run there as they are."""
    with Project(git=False) as p:
        store_of(p, [{"params": {"lr": 0.5}, "metrics": {"loss": [2.5, 7.0]}}])
        text = p.pioche("help", "sql").out
        commands = re.findall(r'sqlite3 \.pioche/pioche\.db "[^"]*"', text)
        assert len(commands) == 3, text
        assert [p.sh(command) for command in commands] == [
            "gpt-1|finished\n", "gpt-1|lr|0.5\n", "gpt-1|loss|0|1|2.5\ngpt-1|loss|1|1|7.0\n"]


def test_runs_need_not_be_neighbours():
    """Values are of the runs that were asked for, in any order, whatever lies between them, and of
    the lowest rank that logged; a run that has none is empty."""
    with Project(git=False) as p:
        store_of(p, [{"params": {"lr": 0.5 + i}, "metrics": {"loss": [float(i), 100.0]} if i % 4 else {}}
                     for i in range(1, 13)])
        db = sqlite3.connect(os.path.join(p.store, "pioche.db"))
        db.execute("DELETE FROM series WHERE run_id = 5 AND rank = 0")
        db.execute("INSERT INTO tag VALUES (9, 'name', 'nine'), (7, 'name', 'seven')")
        db.executemany("INSERT INTO proof (run_id, checkpoint, step, result, points, message, proved_ns)"
                       " VALUES (9, ?, 1, ?, 1, '', 1)", [("b", "differs"), ("a", "same")])
        db.commit()
        db.close()
        lines = p.pioche("compare", "gpt-9", "gpt-2", "gpt-12", "gpt-5").out.splitlines()
        assert [line.split() for line in lines] == [
            ["run", "name", "resumes", "lr", "loss"], ["gpt-2", "2.5", "2*"],
            ["gpt-9", "nine", "same", "9.5", "9"], ["gpt-5", "5.5", "100"], ["gpt-12", "12.5"]], lines
        one = p.pioche("compare", "gpt-2", "gpt-9", "--metric", "loss@rank=1").out.splitlines()
        assert one[1].split() == ["gpt-2", "2.5", "2*", "100*"], one


def test_what_failed_comes_last():
    """What failed or was set aside comes behind all else, best first among itself."""
    with Project(git=False) as p:
        status = {2: "failed", 3: "cancelled"}
        store_of(p, [{"params": {"lr": 0.5 + i}, "metrics": {"loss": 10.0 - i}, "status": status.get(i, "finished")}
                     for i in range(1, 6)])
        lines = p.pioche("compare").out.splitlines()
        assert [line.split()[0] for line in lines[1:]] == ["gpt-5", "gpt-4", "gpt-1", "gpt-3", "gpt-2"], lines


if __name__ == "__main__":
    harness.main()
