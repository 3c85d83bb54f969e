#!/usr/bin/env python3
"""A sweep is changed while it is under way: larger, a parameter frozen, a run set aside. Its
search goes by it from then on, and everything is derived again across it."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project, wait_for  # noqa: E402

RECIPE = """local pioche = require "pioche"
return pioche.sweep {
  name = "f", goal = pioche.minimize "loss", search = pioche.%s, %s
  space = {
    x = pioche.uniform(0, 1), y = pioche.uniform(0, 1),
    opt = pioche.one_of { adam = { beta = pioche.log_uniform(1e-3, 1) }, sgd = { nesterov = { true, false } } },
  },
  program = pioche.objective(function(p)
    %s
    return (p.x - 0.3) ^ 2 + (p.y - 0.6) ^ 2 + (p["opt.beta"] or 0.05) / 10
  end),
}
"""


def recipe(search="tpe { runs = 30, seed = 1 }", fields="", body=""):
    return RECIPE % (search, fields, body)


def replayed(p, n):
    said = p.pioche("sweep", "replay", "f", "--json", expect=None).json
    assert said["same"] and said["proposals"] == n, said


def params(p):
    return [r["params"] for r in p.pioche("ls", "f", "--all", "--json").json]


def test_frozen_and_free_again():
    with Project() as p:
        p.write("r.lua", recipe())
        p.pioche("run", "r.lua")

        def wrong(words, message, status=1):
            assert message in p.pioche("sweep", *words, expect=status).err, words
        wrong(["freeze", "f", "x=2"], "x=2: expected uniform(0, 1)")
        wrong(["freeze", "f", "z=2"], "there is no parameter 'z'")
        wrong(["freeze", "f", "opt=rms"], "opt=rms: expected one of adam, sgd")
        wrong(["freeze", "f", "x"], "sweep freeze: 'x': expected NAME=VALUE", 2)
        wrong(["thaw", "f", "x"], "x: not frozen, and nothing else is")
        assert p.sql("SELECT * FROM sweep_change") == []
        out = p.pioche("sweep", "freeze", "f", "x=0.25", "opt=sgd", "--reason", "adam is slow").out
        assert "from now on have opt=sgd x=0.25, of which there are none: all 30" in out, out
        p.pioche("sweep", "extend", "f", "runs=40")
        p.pioche("run", "r.lua")
        new = params(p)[:10]
        assert all(q["x"] == 0.25 and q["opt"] == "sgd" and "opt.nesterov" in q for q in new), new
        assert len({q["y"] for q in new}) > 5
        assert abs(p.pioche("show", "f/best", "--json").json["params"]["y"] - 0.6) < 0.2, "what is known stays known"
        p.pioche("sweep", "thaw", "f", "x")
        p.pioche("sweep", "extend", "f", "runs=45")
        p.pioche("run", "r.lua")
        new = params(p)[:5]
        assert len({q["x"] for q in new}) == 5 and {q["opt"] for q in new} == {"sgd"}
        replayed(p, 45)
        changes = p.pioche("sweep", "show", "f", "--json").json["changes"]
        assert [(c["kind"], c["proposed"], c["seen"]) for c in changes] == [
            ("freeze", 30, 30), ("runs", 30, 30), ("thaw", 40, 40), ("runs", 40, 40)]
        assert changes[0]["detail"] == {"values": {"x": 0.25, "opt": "sgd"}} and changes[0]["reason"] == "adam is slow"
        out = p.pioche("sweep", "show", "f").out
        assert "opt=sgd x=0.25: adam is slow" in out and "45 points instead" in out, out
        # What is on record of a change decides.
        p.sh("""sqlite3 .pioche/pioche.db "UPDATE sweep_change SET detail = '{\\"values\\":{\\"x\\":0.26}}'"""
             """ WHERE number = 1" """)
        assert not p.pioche("sweep", "replay", "f", "--json", expect=1).json["same"]


def test_a_search_that_reads_no_results_is_frozen_too():
    with Project() as p:
        p.write("r.lua", recipe("random { runs = 8, seed = 1 }"))
        p.pioche("run", "r.lua")
        p.pioche("sweep", "freeze", "f", "y=0.5")
        p.pioche("sweep", "extend", "f", "runs=12")
        p.pioche("run", "r.lua")
        values = [q["y"] for q in params(p)]
        assert values[:4] == [0.5] * 4 and 0.5 not in values[4:]
        replayed(p, 12)
        p.write("g.lua", 'local pioche = require "pioche"\nreturn pioche.sweep { name = "g", space = { x = { 1, 2 } },\n'
                         '  program = pioche.program { command = { "true" } } }\n')
        p.pioche("run", "g.lua")
        assert "its search, grid, has proposed every point" in p.pioche("sweep", "freeze", "g", "x=1", expect=1).err


SMALL = """local pioche = require "pioche"
return pioche.sweep { name = "f", goal = pioche.minimize "loss", search = pioche.%s,
  space = { a = pioche.int(1, 10), b = pioche.int(1, 10) },
  program = pioche.objective(function(p) return p.a + p.b end) }
"""


def test_of_a_small_space_what_is_left_within_what_is_frozen_is_proposed():
    for search in ("random", "sobol"):
        with Project() as p:
            p.write("r.lua", SMALL % (search + " { runs = 20 }"))
            p.pioche("run", "r.lua")
            p.pioche("sweep", "freeze", "f", "a=3")
            p.pioche("sweep", "extend", "f", "runs=40")
            p.pioche("run", "r.lua")
            points = [json.loads(q["params"]) for q in p.sql("SELECT params FROM proposal ORDER BY number")]
            assert sorted(q["b"] for q in points if q["a"] == 3) == list(range(1, 11)), points
            assert all(q["a"] == 3 for q in points[20:])
            replayed(p, len(points))


def test_a_search_of_the_recipe_is_extended():
    with Project() as p:
        p.write("r.lua", SMALL % "sampler { runs = 4, propose = function(known) return { a = #known + 1, b = 1 } end }")
        p.pioche("run", "r.lua")
        p.pioche("sweep", "extend", "f", "runs=7")
        p.pioche("run", "r.lua")
        points = p.sql("SELECT params ->> 'a' AS a FROM proposal ORDER BY number")
        assert [q["a"] for q in points] == list(range(1, 8)), points
        replayed(p, 7)


def test_a_run_is_set_aside_and_counts_again():
    with Project() as p:
        p.write("r.lua", recipe(fields="seeds = 2,"))
        p.pioche("run", "r.lua")
        best = p.pioche("sweep", "show", "f", "--json").json["best"]["id"]
        assert "expected why, as --reason" in p.pioche("sweep", "drop", best, expect=2).err
        assert f"{best} is not set aside" in p.pioche("sweep", "restore", best, expect=1).err
        assert f"{best} is set aside" in p.pioche("sweep", "drop", best, "--reason", "its disk was full").out
        number = p.sql("SELECT p.number AS n FROM proposal_run p JOIN run r ON r.id = p.run_id"
                       f" WHERE r.number = {best[2:]}")[0]["n"]
        # Its seed's twin still speaks for the point.
        change = p.pioche("sweep", "show", "f", "--json").json["changes"][0]
        assert [q["number"] for q in change["detail"]["points"]] == [number]
        assert change["detail"]["points"][0]["observation"]["status"] == "finished"
        for name in ("f/best", p.pioche("sweep", "show", "f", "--json").json["best"]["id"]):
            assert p.pioche("show", name, "--json").json["id"] != best
        twin = p.sql("SELECT r.number AS n FROM proposal_run p JOIN run r ON r.id = p.run_id"
                     f" WHERE p.number = {number} AND r.number != {best[2:]}")[0]["n"]
        p.pioche("sweep", "drop", f"f-{twin}", "--reason", "as well")
        assert "observation" not in p.pioche("sweep", "show", "f", "--json").json["changes"][1]["detail"]["points"][0]
        rows = p.pioche("compare", "f", "--json").json
        assert rows[-1]["runs"] == sorted([best, f"f-{twin}"]) and not rows[-1]["best"] and rows[0]["best"]
        p.pioche("sweep", "extend", "f", "runs=40")
        p.pioche("run", "r.lua")
        assert "nothing to do" in p.pioche("run", "r.lua").err, "it is not tried again"
        replayed(p, 40)
        assert p.pioche("show", best, "--json").json["tags"] == {"aside": "its disk was full"}
        p.pioche("sweep", "restore", best)
        p.pioche("sweep", "restore", f"f-{twin}")
        observation = p.sql(f"SELECT observation FROM proposal WHERE number = {number}")[0]["observation"]
        restored = p.sql("SELECT detail ->> '$.points[0].observation' AS o FROM sweep_change WHERE number = 5")
        assert restored[0]["o"] == observation, "as it was"
        p.pioche("sweep", "extend", "f", "runs=50")
        p.pioche("run", "r.lua")
        replayed(p, 50)


def test_what_was_learned_of_a_run_is_forgotten():
    """A run that lies makes a search crowd around it; set aside, it does so no more."""
    with Project() as p:
        p.write("r.lua", recipe("trust_region { runs = 20, seed = 1 }", body="if number == 2 then return -100 end").replace("function(p)",
                                                               "function(p, number)"))
        p.pioche("run", "r.lua")
        liar = p.pioche("show", "f-2", "--json").json["params"]
        p.pioche("sweep", "extend", "f", "runs=32")
        p.sh("cp -r .pioche kept")
        near = []
        for is_dropped in (False, True):
            p.sh("rm -rf .pioche && cp -r kept .pioche")
            if is_dropped:
                p.pioche("sweep", "drop", "f-2", "--reason", "it lies")
            p.pioche("run", "r.lua")
            near.append(sum(abs(q["x"] - liar["x"]) < 0.05 and abs(q["y"] - liar["y"]) < 0.05 for q in params(p)[:12]))
            replayed(p, 32)
        assert near[1] < near[0] / 2, near


def test_a_run_that_failed_and_is_set_aside_is_not_tried_again():
    with Project() as p:
        p.write("r.lua", recipe("tpe { runs = 12, seed = 1 }", body="if number == 3 then error('bad luck') end")
                .replace("function(p)", "function(p, number)"))
        p.pioche("run", "r.lua", expect=1)
        assert "f-3 started" in p.pioche("run", "r.lua", expect=1).err
        p.pioche("sweep", "drop", "f-3", "--reason", "cosmic rays")
        err = p.pioche("run", "r.lua", expect=None).err
        assert "f-3 started" not in err, err
        replayed(p, 12)


def test_a_point_that_comes_twice_counts_once():
    """A person puts in what the search has proposed: one run of it, on the front and in the weights once."""
    with Project() as p:
        p.write("r.lua", 'local pioche = require "pioche"\nreturn pioche.sweep { name = "f", space = { x = pioche.int(1, 12) },\n'
                '  goal = { pioche.minimize "a", pioche.minimize "b" }, search = pioche.sobol { runs = 12 },\n'
                '  program = pioche.objective(function(p) return { a = p.x, b = 1 / p.x } end) }\n')
        p.pioche("run", "r.lua")
        p.pioche("sweep", "enqueue", "f", "x=3")
        p.pioche("run", "r.lua")
        assert p.sql("SELECT count(*) AS n, count(DISTINCT run_id) AS runs FROM proposal_run") == [{"n": 13, "runs": 12}]
        found = p.pioche("sweep", "front", "f", "--json").json
        assert found["points"] == 12 and [q["params"]["x"] for q in found["front"]] == list(range(1, 13)), found
        assert all(q["number"] > 0 for q in found["front"])
        assert p.pioche("sweep", "importance", "f", "--json").json["points"] == 12


def test_values_of_any_size_are_advised_on():
    with Project() as p:
        for scale in ("1e170", "1e305", "1e-170", "0"):
            p.sh("rm -rf .pioche")
            p.write("r.lua", 'local pioche = require "pioche"\nreturn pioche.sweep { name = "f", space = { x = pioche.uniform(0, 1) },'
                    '\n  goal = pioche.minimize "a", search = pioche.sobol { runs = 16 },\n'
                    '  program = pioche.objective(function(p) return { a = (p.x - 0.3) ^ 2 * %s } end) }\n'
                    % scale)
            p.pioche("run", "r.lua")
            text = p.pioche("sweep", "show", "f").out
            assert "nan" not in text.lower() and "inf " not in text, text
            left = p.pioche("sweep", "show", "f", "--json").json["left"]
            assert (left is None) == (scale == "0") and (left is None or 0 < left["part"] < 1), (scale, left)


def test_what_is_changed_meanwhile_holds_for_who_runs():
    with Project() as p:
        p.write("r.lua", recipe("tpe { runs = 60, seed = 1 }", "launch = { parallel = 4 },",
                                "local s = 0 for i = 1, 100000 do s = s + i % 7 end"))
        process = p.start("run", "r.lua")
        wait_for(lambda: p.poll("SELECT 1 FROM proposal WHERE observed = 3"))
        p.pioche("sweep", "freeze", "f", "x=0.5")
        p.pioche("sweep", "drop", "f-1", "--reason", "of no use")
        p.pioche("sweep", "extend", "f", "runs=70")
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert "70 of 70 runs are finished" in err, err
        values = [q["x"] for q in params(p)]
        change = p.pioche("sweep", "show", "f", "--json").json["changes"][0]
        frozen = 70 - change["proposed"]
        assert values[:frozen] == [0.5] * frozen and 0.5 not in values[frozen:]
        replayed(p, 70)


def test_few_runs_that_become_many_change_the_search_from_then_on():
    with Project() as p:
        p.write("r.lua", recipe("auto { runs = 10, seed = 1 }", "launch = { parallel = 3 },"))
        p.pioche("run", "r.lua")
        before = p.sql("SELECT number, params FROM proposal ORDER BY 1")
        p.pioche("sweep", "extend", "f", "runs=26")
        process = p.start("run", "r.lua")
        wait_for(lambda: p.poll("SELECT 1 FROM proposal WHERE observed = 14"))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        p.pioche("run", "r.lua")
        rows = p.sql("SELECT number, params, seen FROM proposal ORDER BY 1")
        assert [{k: r[k] for k in ("number", "params")} for r in rows[:10]] == before
        assert rows[9]["seen"] == 0 and rows[10]["seen"] == 10, "even points, then a search that learns"
        replayed(p, 26)


def test_how_many_are_under_way_is_on_record_and_not_read_from_who_derives_it_again():
    with Project() as p:
        search = "auto { runs = 60, seed = 1 }"
        p.write("r.lua", recipe(search))
        assert ", 16 at a time\n" in p.pioche("plan", "r.lua", "launch.parallel=16").out
        assert "at a time" not in p.pioche("plan", "r.lua").out.split("search ")[1].split("\n")[0]
        planned = p.pioche("plan", "r.lua", "launch.parallel=16", "--json").json["points"]
        process = p.start("run", "r.lua", "launch.parallel=16")
        wait_for(lambda: p.poll("SELECT 1 FROM proposal WHERE observed = 20"))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        first = p.sql("SELECT number, params FROM proposal ORDER BY 1")
        assert [json.loads(r["params"]) for r in first[:len(planned)]] == planned
        p.pioche("run", "r.lua", "launch.parallel=3")
        assert p.sql("SELECT number, params FROM proposal ORDER BY 1")[:len(first)] == first
        p.pioche("run", "r.lua", "launch.parallel=5")
        changes = p.sql("SELECT kind, detail, proposed FROM sweep_change ORDER BY number")
        assert changes == [{"kind": "workers", "detail": '{"workers":16}', "proposed": 0},
                           {"kind": "workers", "detail": '{"workers":3}', "proposed": len(first)}], changes
        for parallel in (1, 60):
            said = p.pioche("sweep", "replay", "f", f"launch.parallel={parallel}", "--json", expect=None).json
            assert said["same"] and said["proposals"] == 60, said
        assert "16 at a time" in p.pioche("sweep", "show", "f").out
        p.sh("sqlite3 .pioche/pioche.db \"UPDATE sweep_change SET detail = '{\\\"workers\\\":1}'\"")
        assert not p.pioche("sweep", "replay", "f", "--json", expect=None).json["same"]
        # Where none can wait for another, points are even; of a sweep that has begun they are not from then on.
        p.write("r.lua", recipe("auto { runs = 20, seed = 1 }"))
        p.pioche("run", "r.lua", "launch.parallel=20")
        assert p.sql("SELECT max(seen) AS seen FROM proposal WHERE sweep_id = 2") == [{"seen": 0}]


WARM = """local pioche = require "pioche"
return pioche.sweep {
  name = "%s", goal = pioche.minimize "%s", search = pioche.%s, warm = %s,
  space = { %s },
  program = pioche.objective(function(p) return (p.x - 0.3) ^ 2 + (p.y - 0.6) ^ 2 end),
}
"""
SPACE = "x = pioche.uniform(0, 1), y = pioche.uniform(0, 1)"


def warm(sweep='"f"', space=SPACE, search="gp { runs = 6, seed = 1 }", name="g", goal="loss"):
    return WARM % (name, goal, search, sweep, space)


def test_a_sweep_begins_with_what_another_has_found():
    with Project() as p:
        p.write("f.lua", warm("nil", name="f", search="gp { runs = 20, seed = 1 }"))
        p.write("g.lua", warm())
        assert 'warm: "f": there is no store' in p.pioche("plan", "g.lua", expect=1).err
        p.pioche("run", "f.lua")
        assert "20 of 20 points of f 01" in p.pioche("plan", "g.lua").out
        plan = p.pioche("plan", "g.lua", "--json").json
        assert [(w["experiment"], w["told"], w["of"]) for w in plan["warm"]] == [("f", 20, 20)]
        assert "g: the search knows 20 of 20 points of f" in p.pioche("run", "g.lua").err
        done = p.pioche("ls", "g", "--all", "--json").json
        assert min(r["metrics"]["loss"]["last"] for r in done) < 1e-3, "it begins where the other one ended"
        assert done[-1]["params"] == plan["points"][0]
        # The other one goes on: what was told stays.
        p.pioche("sweep", "extend", "f", "runs=30")
        p.pioche("run", "f.lua")
        p.pioche("sweep", "extend", "g", "runs=9")
        assert "the search knows" not in p.pioche("run", "g.lua").err
        assert "20 of 20 points of f" in p.pioche("plan", "g.lua").out
        said = p.pioche("sweep", "replay", "g", "--json").json
        assert said["same"] and said["proposals"] == 9
        assert p.sql("SELECT count(*) AS n FROM sweep_prior") == [{"n": 20}]
        assert "20 of 20 points of f" in p.pioche("sweep", "show", "g").out
        # And the next one knows of both.
        p.write("h.lua", warm('"g"', name="h", search="auto { runs = 5 }"))
        assert "29 of 29 points of g" in p.pioche("run", "h.lua").err
        assert min(r["metrics"]["loss"]["last"] for r in p.pioche("ls", "h", "--all", "--json").json) < 1e-3
        p.sh("sqlite3 .pioche/pioche.db \"UPDATE sweep_prior SET params = json_set(params, '$.x', 0.9)\"")
        assert not p.pioche("sweep", "replay", "g", "--json", expect=1).json["same"]


def test_what_does_not_fit_is_left_out_and_told():
    with Project() as p:
        p.write("f.lua", warm("nil", name="f", search="tpe { runs = 20, seed = 1 }"))
        p.pioche("run", "f.lua")
        low = sum(q["x"] <= 0.5 for q in params(p))

        def told(space, what, sweep='"f"', **other):
            p.write("g.lua", warm(sweep, space, **other))
            assert what in p.pioche("plan", "g.lua").out, (what, p.pioche("plan", "g.lua").out)

        def wrong(space, what, sweep='"f"', **other):
            p.write("g.lua", warm(sweep, space, **other))
            for verb in ("plan", "run"):
                assert what in p.pioche(verb, "g.lua", expect=1).err, p.pioche(verb, "g.lua", expect=1).err
        told("x = pioche.uniform(0, 0.5), y = pioche.uniform(0, 1)", f"{low} of 20 points of f")
        told(SPACE + ", z = 0.5, w = function(p) return p.x end", "20 of 20 points of f")
        wrong(SPACE + ", z = pioche.uniform(0, 1)", "20 results, and none is of this space: z is missing (20)")
        told(SPACE + ", z = pioche.uniform(0, 1)", "20 of 20 points of f", '{ "f", params = { z = 0 } }')
        wrong(SPACE, "params: there is no parameter 'zz'", '{ "f", params = { zz = 0 } }')
        wrong("x = pioche.uniform(2, 3), y = 0.5", "x is not in uniform(2, 3) (20)")
        wrong("x = pioche.uniform(0, 1), y = 0.5", "y is not in 0.5 (20)")
        wrong(SPACE, "the goal of f (", goal="other")
        wrong(SPACE, "there is no sweep 'ff'", '"ff"')
        wrong(SPACE, "expected a sweep, as \"gpt\"", "3")
        wrong(SPACE, "search = pioche.random learns nothing", search="random { runs = 3 }")
        assert p.sql("SELECT count(*) AS n FROM sweep") == [{"n": 1}], "nothing was changed"


def test_a_recipe_with_another_space_goes_on_from_its_last_sweep():
    with Project() as p:
        narrow = "x = pioche.uniform(0.5, 1), y = pioche.uniform(0, 1)"
        p.write("f.lua", warm("nil", narrow, name="f", search="gp { runs = 20, seed = 1 }"))
        assert "there is no earlier sweep of 'f'" in p.pioche("run", "f.lua", "--extend", expect=1).err
        p.pioche("run", "f.lua")
        assert "the recipe is what it was" in p.pioche("run", "f.lua", "--extend", expect=1).err
        p.write("f.lua", warm("nil", name="f", search="gp { runs = 12, seed = 1 }"))
        assert "f: the search knows 20 of 20 points of f" in p.pioche("run", "f.lua", "--extend").err
        assert p.sql("SELECT count(*) AS n FROM run") == [{"n": 32}]
        assert p.pioche("show", "f/best", "--json").json["params"]["x"] < 0.5
        for words in ([], ["--extend"]):
            assert "nothing to do: 12 of 12" in p.pioche("run", "f.lua", *words).err
        replayed(p, 12)
        p.write("f.lua", warm("nil", name="f", search="random { runs = 12, seed = 1 }"))
        assert "search = pioche.random learns nothing" in p.pioche("run", "f.lua", "--extend", expect=1).err


harness.main()
