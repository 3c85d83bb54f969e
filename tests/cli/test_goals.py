#!/usr/bin/env python3
"""Sweeps with several goals and with constraints: what is proposed, on record and shown."""
import json
import os
import shutil
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project, wait_for  # noqa: E402

RECIPE = """local pioche = require "pioche"
return pioche.sweep {
  name = "m", %s
  space = { x = pioche.uniform(0, 1), y = pioche.log_uniform(1e-3, 1), opt = pioche.one_of {
    adam = { beta = pioche.int(1, 5) }, sgd = {} } },
  program = pioche.objective(function(p, number)
    if p.x > 0.95 then return { loss = 0 / 0, speed = 1, memory_gb = 1 } end
    return { loss = (p.x - 0.3) ^ 2 + p.y, speed = 10 - (p.x - 0.9) ^ 2 - p.y, memory_gb = 100 * p.x,
      ["odd key/%%'"] = p.x }
  end),
  launch = { parallel = 3 },
}
"""
TWO = 'goal = { pioche.minimize "loss", pioche.maximize "speed" },'
ONE = 'goal = pioche.minimize "loss",'
LIMIT = "constraints = pioche.constraint(function(m) return m.memory_gb - 60 end),"


def recipe(p, fields, name="r.lua"):
    p.write(name, RECIPE % fields)
    return name


def finished(p):
    return [r for r in p.pioche("ls", "--all", "--json").json if r["status"] == "finished"]


def last(run, key):
    return run["metrics"][key]["last"]


def front_of(runs):
    """By the definition, of the runs within the limit."""
    fine = [r for r in runs if last(r, "memory_gb") <= 60]

    def beats(a, b):
        loss, speed = (last(a, k) for k in ("loss", "speed"))
        return loss <= last(b, "loss") and speed >= last(b, "speed") and (loss, speed) != (
            last(b, "loss"), last(b, "speed"))
    return [r["id"] for r in fine if not any(beats(other, r) for other in fine)]


def test_front_is_that_of_the_definition():
    with Project() as p:
        for search in ("tpe { runs = 30 }", "nsga2 { runs = 30, population = 8 }", "random { runs = 30 }"):
            name = search.split(" ")[0]
            recipe(p, f"{TWO} {LIMIT} search = pioche.{search},")
            p.pioche("run", "r.lua", expect=None)      # NaN fails a run
            runs = finished(p)
            shown = p.pioche("sweep", "front", "m", "--json").json
            ids = p.sql("SELECT r.number AS n FROM proposal_run p JOIN run r ON r.id = p.run_id WHERE p.sweep_id ="
                        " (SELECT max(id) FROM sweep)")
            own = [r for r in runs if r["id"] in {f"m-{i['n']}" for i in ids}]
            assert sorted(x["id"] for x in shown["front"]) == sorted(front_of(own)), (name, shown)
            assert shown["points"] == len(own) and shown["feasible"] < len(own)
            losses = [x["values"]["loss"] for x in shown["front"]]
            assert losses == sorted(losses) and "y" in shown["front"][0]["params"]
            newest = p.pioche("sweep", "ls", "--json").json[0]
            assert newest["search"]["name"] == name and newest["constraints"] == 1
            assert newest["goals"] == [{"goal": "minimize", "key": "loss"}, {"goal": "maximize", "key": "speed"}]
            assert newest["front"] == [x["id"] for x in shown["front"]]
            text = p.pioche("sweep", "show", "m").out
            assert "goals    minimize loss, maximize speed" in text and f"front    {newest['front'][0]}: " in text
            assert f"meet     {shown['feasible']} of {len(own)} points" in text, text
            assert f"{len(losses)} on the front" in p.pioche("sweep", "ls").out
            replay = p.pioche("sweep", "replay", "m", "--json").json
            assert replay["same"] and replay["proposals"] == 30, replay
        rows = p.pioche("sweep", "front", "m", "--csv").out.splitlines()
        assert rows[0] == "run,runs,metric.loss,metric.speed,param.opt,param.opt.beta,param.x,param.y"
        # name/best: the best of the first goal that is within the limit
        best = min((r for r in finished(p) if last(r, "memory_gb") <= 60), key=lambda r: last(r, "loss"))
        assert p.pioche("show", "m/best", "--json").json["id"] == best["id"]


def test_a_run_that_lacks_one_of_many_goals_is_compared_and_not_on_the_front():
    with Project() as p:
        p.write("r.lua", """local pioche = require "pioche"
return pioche.sweep { name = "m", space = { x = { 1, 2, 3 } }, goal = { pioche.minimize "a", pioche.minimize "b",
  pioche.minimize "c", pioche.minimize "d" }, program = pioche.objective(function(p)
  return { a = p.x, b = p.x, c = p.x, d = p.x } end) }""")
        p.pioche("run", "r.lua")
        assert "m-1  front  1" in p.pioche("compare", "m").out
        p.sh("sqlite3 .pioche/pioche.db \"DELETE FROM series WHERE key = 'b' AND run_id = (SELECT id FROM run"
             " WHERE number = 1)\"")
        assert [row["id"] for row in p.pioche("compare", "m", "--json").json if row["front"]] == ["m-2"]


def test_a_sweep_of_several_goals_is_extended_and_the_same_again():
    with Project() as p, Project() as q:
        for project, first in ((p, 20), (q, 32)):
            recipe(project, f"{TWO} {LIMIT} search = pioche.nsga2 {{ runs = {first}, population = 8 }},")
            project.pioche("run", "r.lua", expect=None)
        p.pioche("sweep", "extend", "m", "runs=32")
        p.pioche("run", "r.lua", expect=None)
        points = [x.sql("SELECT params FROM proposal ORDER BY number") for x in (p, q)]
        assert len(points[0]) == 32 and points[0] == points[1]
        assert p.pioche("sweep", "replay", "m", "--json").json["same"]


def test_one_goal_within_a_constraint():
    with Project() as p:
        for search in ("tpe { runs = 24 }", "gp { runs = 24 }", "sobol { runs = 24 }", "auto { runs = 24 }"):
            recipe(p, f"{ONE} {LIMIT.replace('60', '20')} search = pioche.{search},")
            p.pioche("run", "r.lua", expect=None)
            rows = p.sql("SELECT params, observation FROM proposal WHERE sweep_id = (SELECT max(id) FROM sweep)")
            json.loads(rows[0]["observation"])
            for row in rows:
                x, seen = (json.loads(row[k]) for k in ("params", "observation"))
                if seen["status"] == "failed":
                    continue
                assert abs(seen["violation"] - max(0, 100 * x["x"] - 20)) < 1e-9, row
            shown = p.pioche("sweep", "show", "m", "--json").json
            params = p.pioche("show", shown["best"]["id"], "--json").json["params"]
            assert params["x"] <= 0.2, (search, params)
            if search[:2] in ("gp", "au"):  # what the constraint gave is on record, and told: the border is known
                assert params["x"] > 0.19, (search, params)
            assert p.pioche("sweep", "replay", "m", "--json").json["same"]
        # what is best is nearer to the optimum, but outside
        best = p.pioche("show", "m/best", "--json").json
        assert best["params"]["x"] <= 0.2
        assert min(last(r, "loss") for r in finished(p)) < last(best, "loss")


def test_what_another_limit_gave_says_nothing_of_this_one():
    """Of the same limit the search knows what it gave, and of another one not."""
    recipe_of = """local pioche = require "pioche"
return pioche.sweep { name = "m", goal = pioche.maximize "x", search = pioche.gp { runs = 10 },
  space = { x = pioche.uniform(0, %s) },
  constraints = pioche.constraint(function(m) return m.memory_gb - %d end),
  program = pioche.objective(function(p) return { x = p.x, memory_gb = 100 * p.x } end) }
"""
    with Project() as p:
        for high, limit, knows in (("1", 60, []), ("0.9", 60, [True]), ("0.8", 20, [True, False])):
            p.write("r.lua", recipe_of % (high, limit))
            p.pioche("run", "r.lua", *(["--extend"] if knows else []), expect=None)
            rows = p.sql("SELECT json_extract(observation, '$.constraints') IS NOT NULL AS known FROM sweep_prior"
                         " WHERE sweep_id = (SELECT max(id) FROM sweep)")
            assert {bool(row["known"]) for row in rows} <= set(knows[-1:]) and bool(rows) == bool(knows), rows
            best = p.pioche("sweep", "show", "m", "--json").json["best"]
            assert 0.8 * limit / 100 < p.pioche("show", best["id"], "--json").json["params"]["x"] <= limit / 100, best


def test_a_constraint_that_errors_is_told_and_loses_nothing():
    with Project() as p:
        for fn, message in (("m.memroy_gb - 60", "m-1 logged no 'memroy_gb'; did you mean 'memory_gb'?"),
                            ("0 / 0", "the constraint gave NaN for m-1"), ('"much"', 'the constraint gave "much"'),
                            ("m.loss.x", "attempt to index"), ("m[1]", "expected the name of a metric"),
                            ("({ m.loss })[2]", "the constraint gave nothing")):
            shutil.rmtree(p.path(".pioche"), ignore_errors=True)
            recipe(p, f"{ONE} search = pioche.tpe {{ runs = 12 }}, constraints = {{"
                   f" pioche.constraint(function(m) return {fn} end),"
                   ' pioche.constraint(function(m) return m["odd key/%\'"] - 2 end) },')
            err = p.pioche("run", "r.lua", expect=None).err
            assert f"r.lua:3: {message}" in err and "it counts as violated" in err, err
            done = finished(p)
            assert len(done) >= 10, done
            seen = [json.loads(r["observation"]) for r in p.sql("SELECT observation FROM proposal")]
            assert {s["violation"] for s in seen if s["status"] == "finished"} == {"unknown"}, seen
            assert all(s["constraints"][0] is False and s["constraints"][1] < 0 for s in seen if s.get("violation"))
            shown = p.pioche("sweep", "show", "m", "--json").json
            assert shown["best"] is None and shown["runs"]["finished"] == len(done)
            assert "meets its constraints has logged 'loss'" in p.pioche("show", "m/best", expect=1).err
            assert "no finished run meets the constraints" in p.pioche("sweep", "front", "m").err
            assert p.pioche("sweep", "replay", "m", "--json").json["same"]


def test_bad_recipes_are_told():
    with Project() as p:
        def wrong(fields, *messages):
            recipe(p, fields)
            err = p.pioche("plan", "r.lua", expect=1).err
            for message in messages:
                assert message in err, err
        wrong('goal = { "loss" },', "r.lua:3: goal: ", 'item 1 is "loss"')
        wrong("goal = {},", "or a list of such")
        wrong('goal = { pioche.minimize "loss", pioche.maximize "loss" },', '"loss" is there twice')
        wrong('goal = { pioche.minimize "loss", best = 1 },', '"best" is no place in a list')
        wrong(f"{TWO} stop = pioche.asha {{ min = 1, max = 9 }},",
              "stop: asha stops runs by one goal, and there are 2 (minimize loss, maximize speed)")
        wrong(f"{TWO} search = pioche.gp {{ runs = 9 }},", "goal: pioche.gp learns from one goal, and there are 2",
              "pioche.nsga2", "pioche.tpe")
        wrong(f"{ONE} constraints = 3,", "constraints: expected a pioche.constraint")
        wrong(f"{ONE} constraints = {{ function() end }},", "item 1 is a function")
        wrong(f"{ONE} constraints = pioche.constraint(3),", "r.lua:3: constraint: expected a function(m), got 3")
        wrong(f"{TWO} search = pioche.nsga2 {{ swap = 2 }},", "search.swap: expected a number from 0 to 1")
        recipe(p, TWO)
        plan = p.pioche("plan", "r.lua").out
        assert "goals    minimize loss, maximize speed" in plan
        assert "2 goals, and no more than 250 runs" in plan, plan
        p.pioche("plan", "r.lua", "search.runs=300")
        assert "auto (runs=300, seed=1)" in p.pioche("plan", "r.lua", "search.runs=300").out
        assert "nsga2, 2 goals, and more than 250 runs" in p.pioche("plan", "r.lua", "search.runs=300").out
        p.write("n.lua", 'local pioche = require "pioche"\nreturn pioche.sweep { name = "n", space = { x = { 1 } },'
                f"{TWO} program = pioche.objective(function(p) return p.x end) }}")
        assert 'the sweep has 2 goals: expected { ["loss"] = 0.3, ... }' in p.pioche(
            "run", "n.lua", expect=1).err


def test_seeds_are_averaged_and_the_worst_of_them_meets_the_constraint_or_not():
    with Project() as p:
        p.write("r.lua", """local pioche = require "pioche"
return pioche.sweep { name = "s", seeds = 3, search = pioche.nsga2 { runs = 12, population = 8 },
  goal = { pioche.minimize "a/loss", pioche.minimize "b" }, space = { x = pioche.uniform(0, 1) },
  constraints = { pioche.constraint(function(m) return m.gb - 1 end),
    pioche.constraint(function(m) return m["gb@max"] - 2 end) },
  program = pioche.objective(function(p)
    return { ["a/loss"] = p.x + p.seed, b = 1 - p.x, gb = p.x * p.seed } end) }
""")
        p.pioche("run", "r.lua")
        for row in p.sql("SELECT params, observation FROM proposal"):
            x, seen = json.loads(row["params"])["x"], json.loads(row["observation"])
            assert abs(seen["values"][0] - (x + 2)) < 1e-12 and abs(seen["values"][1] - (1 - x)) < 1e-12
            assert [round(c, 9) for c in seen["constraints"]] == [round(3 * x - 1, 9), round(3 * x - 2, 9)]
            assert abs(seen["violation"] - max(0, 3 * x - 1) - max(0, 3 * x - 2)) < 1e-9
        found = p.pioche("sweep", "front", "s", "--json").json
        assert all(f["runs"] == 3 and f["params"]["x"] <= 1 / 3 for f in found["front"]) and found["front"]
        assert p.pioche("sweep", "replay", "s", "--json").json["same"]
        assert "3 +" not in p.pioche("compare", "s").out and "front" in p.pioche("compare", "s").out


def test_who_is_called_the_best_meets_the_constraints_and_what_is_set_aside_is_no_value():
    with Project() as p:
        p.write("r.lua", """local pioche = require "pioche"
return pioche.sweep { name = "s", seeds = 3, goal = pioche.minimize "loss", space = { x = { 1, 2, 3, 4 } },
  constraints = pioche.constraint(function(m) return m.gb - 1 end),
  program = pioche.objective(function(p) return { loss = p.x + p.seed / 10, gb = p.x == 1 and 2 or 1 } end) }
""")
        p.pioche("run", "r.lua")
        rows = p.pioche("compare", "s", "--json").json
        assert [(r["params"]["x"], r["violates"]) for r in rows] == [(2, False), (3, False), (4, False), (1, True)]
        assert abs(sum(r["chance"] for r in rows[:3]) - 1) < 1e-6 and rows[3]["chance"] is None, rows
        assert f"{rows[0]['runs'][0]}..6 is the best of 3 with probability" in p.pioche("compare", "s").out
        p.pioche("sweep", "drop", rows[0]["runs"][1], "--reason", "its node was slow")
        first = p.pioche("compare", "s", "--json").json[0]
        assert first["n"] == first["metrics"]["loss"]["n"] == 2 and len(first["runs"]) == 3, first
        assert p.pioche("compare", "s", "--csv").out.splitlines()[1].split(",")[2] == "2"
        assert p.pioche("compare", "s").out.splitlines()[1].split()[1] == "2", p.pioche("compare", "s").out


def test_names_that_would_rule_a_terminal_are_escaped():
    with Project() as p:
        for goal in ('pioche.minimize "a\\nb\\27[31m"',
                     '{ pioche.minimize "a\\nb\\27[31m", pioche.maximize "c\\td\\27]0;x\\7" }'):
            p.sh("rm -rf .pioche")
            p.write("r.lua", """local pioche = require "pioche"
return pioche.sweep { name = "m", goal = %s, search = pioche.sobol { runs = 20 }, seeds = 2,
  space = { x = pioche.uniform(0, 1) }, constraints = pioche.constraint(function(m) return m["e\\nf"] - 0.9 end),
  program = pioche.objective(function(p)
    return { ["a\\nb\\27[31m"] = (p.x - 0.3) ^ 2 + p.seed, ["c\\td\\27]0;x\\7"] = 1 - p.x, ["e\\nf"] = p.x } end) }
""" % goal)
            for words in (("plan", "r.lua"), ("run", "r.lua"), ("compare", "m"), ("ls",), ("sweep", "ls"),
                          ("sweep", "show", "m"), ("sweep", "front", "m"), ("sweep", "importance", "m"),
                          ("sweep", "slice", "m", "x")):
                done = p.pioche(*words)
                text = done.out + (done.err if words[0] != "run" else done.err.splitlines()[-1])
                assert not [c for c in text if ord(c) < 32 and c != "\n"] and "\nb\\" not in text, (words, text)
                if words[1:2] not in (("ls",), ("slice",)) or "{" in goal and words[1] == "slice":
                    assert "a\\nb\\x1b[31m" in text or words[0] == "run", (words, text)


def test_the_help_tells_all_of_what_replay_says():
    with Project() as p:
        p.write("r.lua", 'local pioche = require "pioche"\nreturn pioche.sweep { name = "m", search = pioche.sobol { runs = 2 }, goal = pioche.minimize "l",\n'
                '  space = { x = pioche.uniform(0, 1) }, program = pioche.objective(function(p) return p.x end) }\n')
        p.pioche("run", "r.lua")
        text = " ".join(p.pioche("help", "sweep").out.split())
        told = text[text.index("of replay {"):]
        for name in p.pioche("sweep", "replay", "m", "--json").json:
            assert name in told[:told.index("}")], name


def test_kills_and_points_that_a_person_puts_in():
    with Project() as p:
        recipe(p, f"{TWO} {LIMIT} search = pioche.nsga2 {{ runs = 60, population = 10 }},")
        p.write("r.lua", p.read("r.lua").replace("{ loss = (p.x", "{ loss = 0 * #tostring(p.x):rep(100000) + (p.x"))
        for kill in range(2):
            process = p.start("run", "r.lua")
            some = f"SELECT 1 FROM run WHERE status = 'finished' LIMIT 1 OFFSET {9 * kill + 4}"
            wait_for(lambda: p.poll(some), 60)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            p.pioche("sweep", "enqueue", "m", f"x=0.{kill + 2}", "y=0.01", "opt=sgd")
        p.pioche("run", "r.lua", expect=None)
        said = p.pioche("sweep", "replay", "m", "--json").json
        assert said["same"] and said["proposals"] == 60, said
        rows = p.sql("SELECT number, params, observed FROM proposal")
        assert len(rows) == 62 and len({r["params"] for r in rows}) == 62 and all(r["observed"] for r in rows)


def test_a_lab_reads_the_front():
    with Project() as p:
        inner = p.read(recipe(p, f"{TWO} {LIMIT} search = pioche.tpe {{ runs = 24 }},")).replace(
            "return pioche.sweep", "local sweep = pioche.sweep")
        p.write("r.lua", inner + """
return function(lab)
  local words = {}
  for i, run in ipairs(lab:sweep(sweep):front()) do words[i] = run.name end
  lab:note(table.concat(words, " "))
end""")
        err = p.pioche("run", "r.lua", expect=None).err
        front = [x["id"] for x in p.pioche("sweep", "front", "m", "--json").json["front"]]
        assert " ".join(front) in err, (front, err)


def test_a_search_of_the_recipe_reads_several_goals_and_violations():
    with Project() as p:
        recipe(p, f"""{TWO} {LIMIT} search = pioche.sampler {{ runs = 12, propose = function(known, draw)
    local last = known[#known]
    if not last then return draw.random() end
    assert(last.loss == nil and #last.losses == 2 or last.violation == nil, "what is told")
    local step = (last.violation or 0) > 0 and -0.3 or 0.1
    return {{ x = math.max(0, math.min(0.9, last.params.x + step)), y = 0.01 + draw.number / 100, opt = "sgd" }}
  end }},""")
        p.write("r.lua", p.read("r.lua").replace("parallel = 3", "parallel = 1"))
        p.pioche("run", "r.lua")
        xs = [json.loads(r["params"])["x"] for r in p.sql("SELECT params FROM proposal ORDER BY number")][1:]
        steps = {round(b - a, 6) for a, b in zip(xs, xs[1:]) if 0 < b < 0.9}
        assert len(xs) == 11 and steps == {-0.3, 0.1}, xs
        assert p.pioche("sweep", "replay", "m", "--json").json["same"]


def test_help_knows_the_words():
    with Project() as p:
        assert "what runs must meet to be good" in p.pioche("help", "constraints").out
        assert "m.memory_gb - 80" in p.pioche("help", "recipe").out
        assert "children of the best so far" in p.pioche("help", "nsga2").out
        assert "a quarter of the runs" in p.pioche("help", "nsga2.population").out


harness.main()
