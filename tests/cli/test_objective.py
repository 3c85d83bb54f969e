#!/usr/bin/env python3
"""pioche.objective: a function of the recipe in place of a program."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import ROOT, Project, wait_for  # noqa: E402

RECIPE = """local pioche = require "pioche"
%s
return pioche.sweep {
  name = "f", goal = pioche.minimize "loss", search = pioche.random { runs = %d, seed = 1 }, %s
  space = { x = pioche.uniform(-1, 1) },
  program = pioche.objective(function(p, number)
    %s
  end),
}
"""


def recipe(body, runs=5, before="", fields=""):
    return RECIPE % (before, runs, fields, body)


def test_its_runs_are_runs_as_any_other():
    with Project() as p:
        with open(os.path.join(ROOT, "recipes/objective.lua"), encoding="utf-8") as f:
            p.write("r.lua", f.read())
        assert "a function of the recipe" in p.pioche("plan", "r.lua").out
        p.pioche("run", "r.lua")
        done = p.pioche("ls", "--all", "--json").json
        assert len(done) == 60 and all(r["status"] == "finished" and r["started"] for r in done)
        assert all(r["attempts"] == [] for r in done), "nothing was launched"
        best = p.pioche("show", "branin/best", "--json").json
        assert best["metrics"]["loss"]["last"] == min(r["metrics"]["loss"]["last"] for r in done)
        assert set(best["params"]) == {"x", "y"} and "distance" in best["metrics"]
        assert best["id"] in p.pioche("compare", "branin").out
        p.pioche("export", "branin/best", "-o", "best.tar")
        p.pioche("verify")
        assert "nothing to do: 60 of 60" in p.pioche("run", "r.lua").err
        assert p.sh("git for-each-ref") == "", "no snapshot of the code is taken"


def test_numbers_seeds_and_curves():
    with Project() as p:
        p.write("r.lua", recipe("""
    if p.x < 2 then return { loss = { p.x + p.seed, 2, 3.5 }, number = number, whole = 7 } end""",
                                fields="seeds = { 4, 9 },"))
        p.pioche("run", "r.lua")
        runs = p.pioche("ls", "--all", "--json").json
        assert len(runs) == 10
        for run in runs:
            loss = run["metrics"]["loss"]
            assert (loss["count"], loss["last"], loss["last_step"]) == (3, 3.5, 3)
            assert f"f-{run['metrics']['number']['last']}" == run["id"]
        rows = p.pioche("sql", "--json", "SELECT r.seed, p.value AS x, t.value FROM run r JOIN param p"
                        " ON p.run_id = r.id JOIN experiment e ON e.id = r.experiment_id JOIN point t"
                        " ON t.run = e.name || '-' || r.number AND t.key = 'loss'"
                        " AND t.step = 1").json
        assert len(rows) == 10 and all(r["value"] == r["x"] + r["seed"] for r in rows)


def test_what_is_over_is_taken_up_and_what_is_not_runs():
    """Of a sweep that is opened again each run is judged by its row as it is by then."""
    with Project() as p:
        p.write("r.lua", recipe("return p.x + p.seed", fields="seeds = { 9, 4 },"))
        p.pioche("run", "r.lua")
        again = p.pioche("run", "r.lua", "--json")
        assert "nothing to do: 10 of 10" in again.err and len(again.json) == 10
        assert again.json == p.pioche("run", "r.lua", "--json").json
        p.sql("UPDATE run SET status = iif(number = 3, 'planned', 'stopped')"  # by no rule of this sweep
              " WHERE number IN (3, 4)")
        err = p.pioche("run", "r.lua").err
        assert "f-3 started" in err and "f-4 started" in err and "f-5 started" not in err, err
        # a newer generation of a run counts in its place, and is not over
        p.sql("INSERT INTO run (ulid, experiment_id, number, identity, generation, sweep_id, status, program,"
              " launch, seed, created_ns) SELECT 'x' || substr(ulid, 2), experiment_id, 11, identity,"
              " generation + 1, sweep_id, 'planned', program, launch, seed, created_ns FROM run WHERE number = 5")
        err = p.pioche("run", "r.lua").err
        assert "f-11 started" in err and "f-5 started" not in err and "10 of 10" in err, err


def measured(project, *args):
    """The peak of memory of `pioche ARGS`, KiB, and what it said."""
    with project.start(*args) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out, err = process.stdout.read(), process.stderr.read()
    assert process.returncode == 0, err
    return usage.ru_maxrss, out, err


def test_a_long_sweep_that_is_over_is_opened_without_a_table_for_each_run():
    """Its memory hardly grows with the runs, 20,000 copies of the rows of the first."""
    with Project() as p:
        p.write("r.lua", recipe("return p.x", runs=2).replace("pioche.random", "pioche.tpe"))
        p.pioche("run", "r.lua")

        def opened(count):
            """Peaks of a session that finds so many runs, and of a look at the sweep."""
            p.pioche("sweep", "extend", "f", f"runs={count}")
            n = (f"(WITH RECURSIVE t(n) AS (SELECT max(number) + 1 FROM run UNION ALL SELECT n + 1 FROM t"
                 f" WHERE n < {count}) SELECT n FROM t)")
            p.sql(f"""BEGIN;
              CREATE TEMP TABLE added AS SELECT n FROM {n};
              INSERT INTO run (id, ulid, experiment_id, number, status, identity, sweep_id, program, launch, created_ns)
                SELECT n, format('%026d', n), experiment_id, n, status, format('%064d', n), sweep_id, program, launch,
                  created_ns FROM added, run WHERE run.number = 1;
              INSERT INTO series (run_id, key, rank, count, first_step, last_step, last, min, max, sum, finite)
                SELECT n, key, rank, count, first_step, last_step, last, min, max, sum, finite FROM added, series
                 WHERE run_id = 1;
              INSERT INTO proposal (sweep_id, number, params, seen, observed, observation)
                SELECT sweep_id, n, params, n - 1, n, observation FROM added, proposal WHERE proposal.number = 1;
              INSERT INTO proposal_run (sweep_id, number, seed, run_id) SELECT 1, n, 0, n FROM added;
              UPDATE experiment SET next_number = {count + 1};
              COMMIT""")
            peak, _, err = measured(p, "run", "r.lua")
            assert f"nothing to do: {count} of {count}" in err, err
            shown, out, _ = measured(p, "sweep", "show", "f")
            assert f"runs     {count} finished" in out and "course   loss" in out, out
            return peak, shown

        few, many = opened(1000), opened(20000)
        most = 12000 * (4 if os.environ.get("SAN") else 1)  # a sanitizer fences each allocation
        for what, before, after in zip(("run", "sweep show"), few, many):
            assert after - before < most, f"{what}: {before} KiB with 1,000 runs, {after} KiB with 20,000"
        # what is not over is run all the same, and the search learns of it
        p.sql("UPDATE run SET status = 'failed', identity = 'lost' WHERE number = 19000;"
              " UPDATE proposal SET params = '{\"x\":0.125}' WHERE number = 19000")
        err = p.pioche("run", "r.lua").err
        assert "f-20001 started" in err and "20000 of 20000" in err, err


def test_what_is_wrong_is_a_run_that_failed_with_its_reason():
    bodies = {
        'error("too far")': "r.lua:7: too far",
        "return p.y": "r.lua:7: there is no parameter 'y'",
        "return 0 / 0": "loss is NaN",
        "return { loss = { 1, 0 / 0 } }": "loss is NaN",
        "while true do end": "r.lua:7: ",
        "return 'low'": 'the function returned "low": expected a number, or a table of them',
        "return { loss = { 1, 'x' } }": 'loss: expected a number, or a list of them, one a step, got "x"',
        "return {}": "the function returned an empty table",
        "": "the function returned nothing",
    }
    with Project() as p:
        for body, reason in bodies.items():
            p.write("r.lua", recipe(body, runs=1))
            p.pioche("run", "r.lua", expect=1)
            run = p.pioche("show", "f/last", "--json").json
            assert run["status"] == "failed" and run["reason"].startswith(reason), (body, run["reason"])
        p.write("r.lua", recipe("return { other = 1 }", runs=1))
        assert "never logged the goal 'loss'" in p.pioche("run", "r.lua", expect=1).err
        p.write("r.lua", "local pioche = require 'pioche'\nlocal f = pioche.objective(3)\n")
        assert "r.lua:2: objective: expected a function(p), got 3" in p.pioche("plan", "r.lua",
                                                                              expect=1).err


def test_a_point_far_behind_that_cannot_be_made_leaves_nothing_of_the_sweep():
    with Project(git=False) as p:
        text = ('local pioche = require "pioche"\n'
                'return pioche.sweep { name = "o", space = { x = pioche.uniform(0, 1) },\n'
                '  search = pioche.random { runs = %d },\n'
                '  where = function(p) return math.abs(p.x - 0.640543) > 5e-6 or p.y > 1 end,\n' # point 1,200
                '  program = pioche.objective(function(p) return { l = p.x } end) }\n')
        p.write("o.lua", text % 1500)
        err = p.pioche("run", "o.lua", expect=1).err
        assert "o.lua:4" in err and "there is no parameter 'y'" in err, err
        for table in ("experiment", "sweep", "proposal", "run"):
            assert p.sql(f"SELECT count(*) AS n FROM {table}") == [{"n": 0}], table
        p.write("o.lua", text % 5)
        p.pioche("run", "o.lua")
        assert p.sql("SELECT count(*) AS n FROM run") == [{"n": 5}]


def test_a_run_is_known_by_all_that_its_function_uses():
    with Project() as p:
        p.write("part.lua", "return { scale = function(x) return 2 * x end }\n")
        before = "local part = require 'part'\nlocal k = 1"
        p.write("r.lua", recipe("return k + part.scale(p.x)", before=before))
        p.pioche("run", "r.lua")
        p.write("r.lua", recipe("return k + part.scale(p.x)", before=before + "\nlocal unused = 1", runs=7))
        assert "started" in p.pioche("run", "r.lua").err
        assert len(p.pioche("ls", "--all", "--json").json) == 7, "five of them are known"
        assert "7 of them finished already" in p.pioche("plan", "r.lua").out
        p.write("part.lua", "return { scale = function(x) return 3 * x end }\n")
        p.pioche("run", "r.lua")
        p.write("r.lua", recipe("return k + part.scale(p.x)", before=before.replace("1", "5"), runs=7))
        p.pioche("run", "r.lua")
        assert len(p.pioche("ls", "--all", "--json").json) == 21


def finished(p):
    """How many runs are; 0 while there is no store."""
    rows = os.path.exists(p.store + "/pioche.db") and p.poll(
        "SELECT count(*) AS n FROM run WHERE status = 'finished'")
    return rows[0]["n"] if rows else 0


def test_it_is_killed_and_goes_on():
    body = "local s = 0 for i = 1, 300000 do s = s + i % 7 end return { loss = p.x, sum = s }"
    with Project() as p:
        p.write("r.lua", recipe(body, runs=150))
        process = p.start("run", "r.lua")
        wait_for(lambda: finished(p) >= 5)
        process.kill()
        process.communicate()
        there = finished(p)
        assert 5 <= there < 150
        assert "nothing to do" in p.pioche("supervise").err, "it is for the recipe to go on"
        process = p.start("run", "r.lua")
        wait_for(lambda: finished(p) > there)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130 and "goes on from here" in err, err
        p.pioche("run", "r.lua")
        rows = p.sql("SELECT r.status, count(*) AS n, sum(s.count) AS points FROM run r"
                     " JOIN series s ON s.run_id = r.id AND s.key = 'sum' GROUP BY 1")
        assert rows == [{"status": "finished", "n": 150, "points": 150}], rows


def proposals(p):
    return p.sql("SELECT number, params, seen, observed, observation FROM proposal ORDER BY number")


def test_a_search_that_learns_is_killed_and_goes_on_with_the_same_points():
    body = "local s = 0 for i = 1, 100000 do s = s + i % 7 end return { loss = (p.x - 0.3) ^ 2, sum = s }"
    text = recipe(body, runs=60, fields="launch = { parallel = 3 },").replace("random", "tpe")
    with Project() as p:
        p.write("r.lua", text)
        p.pioche("run", "r.lua")
        whole = proposals(p)
        assert [r["seen"] for r in whole[:5]] == [0, 0, 0, 1, 2], "three are under way"
        assert [r["observed"] for r in whole] == list(range(1, 61))
        assert "nothing to do" in p.pioche("run", "r.lua").err
        assert "runs     60, 60 of them finished already" in p.pioche("plan", "r.lua").out
        assert proposals(p) == whole
    with Project() as p:
        p.write("r.lua", text)
        for enough in (4, 30):
            process = p.start("run", "r.lua")
            wait_for(lambda: finished(p) >= enough)
            process.kill()
            process.communicate()
        assert len(proposals(p)) < 60
        p.pioche("run", "r.lua")
        assert proposals(p) == whole
        assert "60 proposals" in p.pioche("sweep", "replay", "f").out


def test_a_search_left_out_is_chosen_and_explained():
    text = recipe("return (p.x - 0.3) ^ 2").replace("search = pioche.random { runs = 5, seed = 1 },", "")
    with Project() as p:
        p.write("r.lua", text)
        assert ("search   auto (runs=32, seed=1): none was asked for, and the space is continuous: trust_region"
                " around the best point, gp and tpe by turns") in p.pioche("plan", "r.lua").out
        assert "from the command line: sobol, 9 runs are too few to learn from" in p.pioche(
            "plan", "r.lua", "search.runs=9").out
        p.write("g.lua", text.replace("pioche.uniform(-1, 1)", "pioche.int(1, 6)"))
        assert ("search.runs=3: the search of this recipe (grid) has no such option: none was asked for, and the space"
                " has 6 points") in p.pioche("plan", "g.lua", "search.runs=3", expect=1).err
        p.pioche("run", "r.lua")
        assert p.pioche("show", "f/best", "--json").json["metrics"]["loss"]["last"] < 1e-4
        p.write("r.lua", text.replace('goal = pioche.minimize "loss",', "search = pioche.tpe {},"))
        assert ": goal: is missing: search = pioche.tpe learns from results" in p.pioche(
            "run", "r.lua", expect=1).err


MEMORY = """local pioche = require "pioche"
return pioche.sweep { name = "%s", goal = pioche.minimize "loss", search = pioche.%s { runs = 60, seed = 1 },
  space = { width = pioche.log_int(16, 1024), batch = pioche.log_int(1, 256), lr = pioche.log_uniform(1e-5, 0.1) },
  launch = { parallel = 4 },
  program = pioche.objective(function(p)
    if p.width * p.batch > 2048 then return %s end
    return (p.lr - 1e-3) ^ 2 - (p.width * p.batch / 2048) ^ 0.1
  end) }
"""


def test_where_runs_are_out_of_memory_a_search_goes_no_more():
    with Project() as p:
        for search in ("tpe", "gp"):
            bad = {}
            for name, value in (("oom", '"oom"'), ("failed", 'error("no memory")')):
                p.write("r.lua", MEMORY % (search + name, search, value))
                err = p.pioche("run", "r.lua", expect=1).err
                assert ("failed: out of memory" in err) == (name == "oom"), err
                rows = p.sql("SELECT number, observation ->> 'status' AS status, params ->> 'width' AS width,"
                             " params ->> 'batch' AS batch FROM proposal"
                             " WHERE sweep_id = (SELECT max(id) FROM sweep) ORDER BY 1")
                assert {r["status"] for r in rows} == {"finished", name}
                bad[name] = [r["number"] for r in rows if r["status"] == name]
                said = p.pioche("sweep", "replay", search + name, "--json").json
                assert said["same"] and said["proposals"] == 60
                if name == "oom":
                    near = [r for r in rows if 512 < r["width"] * r["batch"] <= 2048 and r["number"] > 30]
                    assert len(near) > 5, "what is just possible is not left out"
            late = {name: sum(n > 20 for n in numbers) for name, numbers in bad.items()}
            assert late["oom"] <= 5 and len(bad["oom"]) <= len(bad["failed"]), (search, bad)
            assert search != "tpe" or 2 * late["oom"] < late["failed"], bad


harness.main()
