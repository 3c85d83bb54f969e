#!/usr/bin/env python3
"""Stopping rules at work: what they are told, that they stop what runs, and that a sweep
which is gone on with decides as it would have."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project, python_library, wait_for  # noqa: E402

CURVES = """local pioche = require "pioche"
return pioche.sweep {
  name = "f", goal = pioche.%s "loss", search = pioche.random { runs = %d, seed = 3 },
  stop = pioche.%s, space = { x = pioche.uniform(0, 1), y = pioche.uniform(0, 1) },
  program = pioche.objective(function(p)
    local loss = {}
    for i = 1, %d do loss[i] = %s end
    return { loss = loss, other = 1 }
  end),
}
"""


def curves(rule, runs=30, steps=27, loss="p.x + (1 - p.y) / i", goal="minimize"):
    return CURVES % (goal, runs, rule, steps, loss)


ARRIVALS = ("SELECT r.number AS run, g.step, g.at_step, g.value, g.best, g.mean, g.verdict, r.status"
            " FROM rung g JOIN run r ON r.id = g.run_id ORDER BY g.id")


def test_asha_stops_what_its_definition_says():
    with Project() as p:
        p.write("r.lua", curves("asha { min = 1, max = 27, eta = 3 }"))
        p.pioche("run", "r.lua")
        seen, stopped = {}, set()
        for row in p.sql(ARRIVALS):
            losses = seen.setdefault(row["step"], [])
            losses.append(row["value"])
            # Among the best 1/eta that came so far, itself counted.
            kept = sorted(losses)[max(1, len(losses) // 3) - 1]
            assert (row["verdict"] == "go") == (row["value"] <= kept), row
            assert row["run"] not in stopped, "nothing arrives after its stop"
            if row["verdict"] == "stop":
                stopped.add(row["run"])
                assert row["status"] == "stopped", row
        assert set(seen) == {1, 3, 9} and len(seen[1]) == 30
        for run in p.pioche("ls", "--all", "--json").json:
            number = int(run["id"][2:])
            steps = run["metrics"]["loss"]["last_step"]
            assert run["status"] == ("stopped" if number in stopped else "finished")
            assert steps == 27 or number in stopped, "a run that goes on ends by itself"
            if number in stopped:
                assert run["reason"].startswith(f"by asha at step {steps}: "), run["reason"]
        assert "nothing to do: 30 of 30" in p.pioche("run", "r.lua").err


def test_what_another_rule_stopped_goes_on():
    """The same runs in a sweep without a rule, and in one with another, are not done."""
    with Project() as p:
        p.write("r.lua", curves("asha { min = 1, max = 27, eta = 3 }", runs=9))
        p.write("plain.lua", "".join(line for line in curves("x", runs=9).splitlines(True) if "stop =" not in line)
                .replace("goal =", "space = { x = pioche.uniform(0, 1), y = pioche.uniform(0, 1) }, goal =", 1))
        p.write("median.lua", curves("median { every = 9, startup = 3 }", runs=9))
        p.pioche("run", "r.lua")
        stopped = len(p.pioche("ls", "status = stopped", "--json").json)
        assert 0 < stopped < 9 and len(p.pioche("ls", "--json").json) == 9
        assert f"runs     9, {9 - stopped} of them finished already" in p.pioche("plan", "plain.lua").out
        p.pioche("run", "median.lua")
        by_median = {r["run"] for r in p.sql(ARRIVALS) if r["verdict"] == "stop"
                     and r["status"] == "stopped" and r["step"] in (9, 18)}
        assert "nothing to do" in p.pioche("run", "median.lua").err
        assert {r["id"] for r in p.pioche("ls", "status = stopped", "--json").json} == {f"f-{n}" for n in by_median}
        p.pioche("run", "plain.lua")
        runs = p.pioche("ls", "--json").json
        assert [(r["status"], r["metrics"]["loss"]["last_step"]) for r in runs] == [("finished", 27)] * 9, runs
        for recipe in ("r.lua", "median.lua", "plain.lua"):
            assert "nothing to do: 9 of 9" in p.pioche("run", recipe).err


def test_what_is_best_is_for_the_goal_to_say():
    with Project() as p:
        p.write("r.lua", curves("asha { min = 1, max = 27 }", runs=9, goal="maximize", loss="p.x + 0 * i"))
        p.pioche("run", "r.lua")
        rows = p.sql(ARRIVALS)
        first = [r for r in rows if r["step"] == 1]
        assert first[0]["verdict"] == "go"
        assert max(first, key=lambda r: r["value"])["verdict"] == "go"
        assert min(first[1:], key=lambda r: r["value"])["verdict"] == "stop"


def test_best_and_mean_of_a_curve_and_nan():
    """At step 3: 5 2 4; the second run is NaN there, the third was before."""
    with Project() as p:
        p.write("r.lua", """local pioche = require "pioche"
local curves = { { 5, 2, 4, 1 }, { 1, 1, 0/0, 1 }, { 0/0, 3, 5, 1 } }
return pioche.sweep {
  name = "f", goal = pioche.minimize "loss", space = { x = { 1, 2, 3 } },
  stop = pioche.median { every = 3, startup = 5 },
  program = pioche.objective(function(p) return { loss = curves[p.x] } end),
}
""")
        p.pioche("run", "r.lua")
        rows = [tuple(r[k] for k in ("value", "best", "mean", "verdict")) for r in p.sql(ARRIVALS)]
        assert rows == [(4, 2, 11 / 3, "go"), (None, 1, None, "stop"), (5, 3, None, "go")], rows
        assert p.sql("SELECT value_bits IS NOT NULL AS x FROM rung ORDER BY id") == [{"x": 0}, {"x": 1}, {"x": 0}]


def test_a_sampler_is_told_of_the_rung_not_of_how_far_it_came():
    with Project() as p:
        # A sampler that reads results, in the place of another, and says what it was told.
        p.write("lua/pioche/samplers/random.lua", """
local fields = require "pioche.fields"
local random = { name = "random", summary = "", schema = { runs = { kind = "positive", default = 9 },
  seed = { kind = "count", default = 1 } } }
function random.check(where, given) return fields.check(where, given, random.schema) end
function random.new(space, options)
  local sampler = { size = options.runs, adaptive = true }
  function sampler.propose(_, n)
    return n <= options.runs and space:complete(space:draw(options.seed, n, 0)) or nil
  end
  function sampler.observe(_, n, value, how)
    io.stderr:write(("told %d %.17g %s %s"):format(n, value, how.status, how.step or "-"))
    for _, rung in ipairs(how.rungs) do io.stderr:write((" %d:%.17g"):format(rung.step, rung.value)) end
    io.stderr:write("\\n")
  end
  return sampler
end
return random
""")
        p.write("r.lua", curves("asha { min = 2, max = 20, eta = 3 }", runs=12, steps=20))
        err = p.pioche("run", "r.lua", env={"PIOCHE_LUA": p.path("lua")}).err
        told = {int(line.split()[1]): line.split()[2:] for line in err.splitlines() if line.startswith("told")}
        by_run = {}
        for row in p.sql(ARRIVALS):
            by_run.setdefault(row["run"], []).append(row)
        assert set(told) == set(range(1, 13)) == set(by_run)
        for number, (value, status, step, *rungs) in told.items():
            rows = by_run[number]
            assert status == rows[0]["status"]
            assert [tuple(map(float, r.split(":"))) for r in rungs] == [
                (r["step"], r["value"]) for r in rows], (number, rungs)
            if status == "stopped":
                assert (int(step), float(value)) == (rows[-1]["step"], rows[-1]["value"])
            else:
                assert step == "-" and float(value) < rows[-1]["value"]
        assert {status for _, status, *_ in told.values()} == {"finished", "stopped"}


def test_a_sweep_whose_driver_dies_decides_the_same():
    recipe = curves("hyperband { min = 1, max = 27, eta = 3 }", runs=60,
                    loss="p.x + (1 - p.y) / i + 0 * #tostring(i):rep(20000)")
    tables = []
    for kills in range(3):
        with Project() as p:
            p.write("r.lua", recipe)
            for kill in range(kills):
                process = p.start("run", "r.lua")
                wait_for(lambda: p.poll(f"SELECT 1 FROM rung LIMIT 1 OFFSET {10 * (kill + 1)}"), 60)
                process.send_signal(signal.SIGKILL)
                process.communicate()
            p.pioche("run", "r.lua")
            tables.append(p.sql(ARRIVALS))
            p.check_store()
    assert tables[0] == tables[1] == tables[2]
    assert {row["verdict"] for row in tables[0]} == {"go", "stop"}


TRAINER = """
import sys, time, pioche
lr = float(sys.argv[1].split("=")[1])
with pioche.init() as run:
    for step in range(1, 21):
        run.log({"train": 0.0}, step=step)
        if lr > 1 and step == 10:
            time.sleep(4)  # several folds, with step 10 begun and its loss not known
        run.log({"loss": lr if step >= 10 else 0.001}, step=step)
        if lr > 1 and step == 12:
            while True:
                time.sleep(0.1)
"""


def test_a_program_is_stopped_and_its_rung_is_read_when_it_is_complete():
    library = python_library()
    with Project() as p:
        p.write("t.py", TRAINER)
        p.write("r.lua", """local pioche = require "pioche"
return pioche.sweep { name = "t", space = { lr = { 0.5, 2 } }, goal = pioche.minimize "loss",
  stop = pioche.asha { min = 10, max = 20, eta = 2 },
  program = pioche.program { command = { "python3", "t.py" } } }
""")
        err = p.pioche("run", "r.lua", env={"PYTHONPATH": library}).err
        assert "t-2 stopped: by asha at step 10: 2nd of 2, of which 1 goes on" in err, err
        rows = [(r["run"], r["step"], r["at_step"], r["value"], r["verdict"]) for r in p.sql(ARRIVALS)]
        assert rows == [(1, 10, 10, 0.5, "go"), (2, 10, 10, 2, "stop")], rows
        runs = {r["id"]: r for r in p.pioche("ls", "--all", "--json").json}
        assert [runs[f"t-{i}"]["status"] for i in (1, 2)] == ["finished", "stopped"]
        assert "nothing to do: 2 of 2" in p.pioche("run", "r.lua").err
        # Who stopped it did not live to see it end: it is not started once more.
        p.sh("sqlite3 .pioche/pioche.db \"UPDATE run SET status = 'planned', reason = NULL WHERE number = 2\"")
        p.pioche("run", "r.lua")
        again = p.pioche("show", "t-2", "--json").json
        assert again["status"] == "stopped" and len(again["attempts"]) == 1, again


def test_a_rule_of_ones_own():
    with Project() as p:
        def own(decide):
            rule = "rule { rungs = { 3, 6 }, decide = function(run, rung, at, earlier) %s end }" % decide
            p.write("r.lua", curves(rule, runs=6, steps=9, loss=f"p.x + {len(decide)} / i"))
        own('at.loss, earlier[1] = 0, at; if run.params.x > 0.5 and rung == 6 then return "stop", "big" end'
            ' return "go"')
        p.pioche("run", "r.lua")
        for row in p.sql("SELECT g.step, g.verdict, g.reason, r.status, p.value AS x FROM rung g JOIN run r"
                         " ON r.id = g.run_id JOIN param p ON p.run_id = r.id AND p.name = 'x'"):
            stops = row["x"] > 0.5 and row["step"] == 6
            assert row["verdict"] == ("stop" if stops else "go"), row
            assert row["reason"] == (f"by rule at step {row['step']}" + (": big" if stops else "")), row
        own('return "stay"')
        err = p.pioche("run", "r.lua", expect=1).err
        assert 'r.lua:4: stop.decide: the function returned "stay": expected "go" or "stop"' in err, err
        own("return at.lost.x")
        assert "r.lua:4: " in (err := p.pioche("run", "r.lua", expect=1).err) and "stop.decide" in err, err
        own("while true do end")
        assert "instructions" in p.pioche("run", "r.lua", expect=1).err
        p.check_store()


def test_promotion_is_that_of_the_paper():
    """Every run is paused at a rung or goes on, and what is promoted is among the best third then."""
    with Project() as p:
        p.write("r.lua", curves("asha { min = 1, max = 27, eta = 3, promote = true }", runs=40))
        process = p.start("run", "r.lua")  # it dies on the way, or not
        wait_for(lambda: p.poll("SELECT 1 FROM rung LIMIT 1 OFFSET 20"), 60)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        p.pioche("run", "r.lua")
        rows = p.sql("SELECT g.*, r.status FROM rung g JOIN run r ON r.id = g.run_id ORDER BY g.id")
        for row in rows:
            before = [r["value"] for r in rows if r["step"] == row["step"] and r["id"] <= row["id"]]
            kept = len(before) // 3
            is_best = kept and row["value"] <= sorted(before)[kept - 1]
            assert row["verdict"] == ("go" if is_best else "pause"), row
            if row["promoted_ns"]:
                then = sorted(r["value"] for r in rows if r["step"] == row["step"]
                              and r["time_ns"] <= row["promoted_ns"])
                assert row["value"] <= then[len(then) // 3 - 1], row
        # At the end nobody waits who is among the best third of a rung.
        for step in (1, 3, 9):
            here = sorted((r for r in rows if r["step"] == step), key=lambda r: r["value"])
            for row in here[:len(here) // 3]:
                assert row["verdict"] == "go" or row["promoted_ns"], row
        assert {r["status"] for r in rows} == {"finished", "stopped"}
        assert any(r["promoted_ns"] for r in rows)
        points = p.sql("SELECT count(*) AS n, max(count) AS most FROM series WHERE key = 'loss'")[0]
        assert points == {"n": 40, "most": 27}, "what was paused goes on, and logs nothing twice"
        assert "nothing to do: 40 of 40" in p.pioche("run", "r.lua").err
        let_on = [r for r in rows if r["promoted_ns"]]
        said = p.pioche("sweep", "replay", "f", "--json").json
        assert said["same"] and said["promotions"] == len(let_on), said
        # One that was let on before enough worse ones had come, and one that never was due.
        first = min(let_on, key=lambda r: r["promoted_after"])
        worst = max((r for r in rows if r["verdict"] == "pause" and not r["promoted_ns"]), key=lambda r: r["value"])
        for change in (f"promoted_after = id WHERE id = {first['id']}",
                       f"promoted_ns = 1, promoted_after = {rows[-1]['id']} WHERE id = {worst['id']}"):
            p.sh("cp .pioche/pioche.db kept.db")
            p.sh(f"sqlite3 .pioche/pioche.db 'UPDATE rung SET {change}'")
            out = p.pioche("sweep", "replay", "f", expect=1).out
            assert "f: the promotion of f-" in out and "is on record as\n  promoted" in out, out
            p.sh("cp kept.db .pioche/pioche.db")


def test_of_few_runs_the_best_is_not_left_behind():
    with Project() as p:
        p.write("r.lua", curves("asha { min = 1, max = 27, eta = 3, promote = true }", runs=4, loss="p.x + 0 * i"))
        err = p.pioche("run", "r.lua").err
        assert "goes on: none has finished" in err, err
        runs = p.pioche("ls", "--all", "--json").json
        best = min(runs, key=lambda r: r["params"]["x"])
        assert [r["id"] for r in runs if r["status"] == "finished"] == [best["id"]], runs
        assert best["metrics"]["loss"]["last_step"] == 27
        assert "nothing to do: 4 of 4" in p.pioche("run", "r.lua").err


def test_a_program_that_is_paused_goes_on_from_its_checkpoint():
    with Project() as p:
        p.write("text", harness.lines(4000))
        def recipe(name, stop):
            return f"""local pioche = require "pioche"
return pioche.sweep {{ name = "{name}", {stop} goal = pioche.minimize "val/loss",
  space = {{ lr = {{ 3e-3, 1e-5 }}, width = 32, depth = 2, heads = 4, context = 32, batch = 8, steps = 3000,
    ["eval-every"] = 50 }},
  program = pioche.program {{ command = {{ "{harness.GPT}" }}, sources = {{ "r.lua" }},
    inputs = {{ text = "text" }}, env = {{ OPENBLAS_NUM_THREADS = 1 }} }} }}
"""
        p.write("r.lua", recipe("g", "stop = pioche.asha { min = 100, max = 200, eta = 2, promote = true },"))
        err = p.pioche("run", "r.lua", timeout=300).err
        assert "g-1 paused: by asha at step 100: 1st of 1, of which 0 go on" in err, err
        assert err.index("g-2 paused") < err.index("g-1 is promoted"), err
        first, second = (p.pioche("show", f"g-{i}", "--json").json for i in (1, 2))
        assert first["status"] == "finished" and second["status"] == "stopped", (first, second)
        assert first["attempts"][0]["result"] == "cancelled" and first["attempts"][-1]["result"] == "ok"
        begins = p.sql("SELECT min(c.first_step) AS step FROM chunk c JOIN series s ON s.id = c.series_id"
                       " WHERE s.run_id = 1 AND s.key = 'train/loss' AND c.attempt = 2")[0]["step"]
        assert begins > 100, "it did not begin anew"
        # The same as if it had never been paused, bit for bit.
        p.write("s.lua", recipe("whole", "").replace("{ 3e-3, 1e-5 }", "3e-3").replace("r.lua", "s.lua"))
        p.pioche("run", "s.lua", timeout=300)
        paused, whole = ([row for row in p.table(name) if "0.003" in row[0]] for name in ("g", "whole"))
        assert paused == whole and len(whole) == 1


def test_who_is_promoted_goes_on_in_the_shape_that_is_asked_for():
    """One rank until the rung, two from its checkpoint on, also by a driver that knows it from the record alone."""
    with Project() as p:
        p.write("text", harness.lines(4000))
        p.write("r.lua", f"""local pioche = require "pioche"
return pioche.sweep {{ name = "g", goal = pioche.minimize "val/loss",
  stop = pioche.asha {{ min = 100, max = 200, eta = 2, promote = true, launch = {{ ranks_per_node = 2 }} }},
  space = {{ lr = {{ 3e-3, 1e-5 }}, width = 16, depth = 1, heads = 2, context = 32, batch = 8, steps = 1500,
    ["eval-every"] = 50, ["sample-bytes"] = 0, ["step-ms"] = 4 }},
  program = pioche.program {{ command = {{ "{harness.GPT}" }}, sources = {{ "r.lua" }},
    inputs = {{ text = "text" }}, env = {{ OPENBLAS_NUM_THREADS = 1 }} }} }}
""")
        assert p.pioche("plan", "r.lua", "--json").json["stop"]["options"]["launch"] == {"ranks_per_node": 2}
        assert 'launch={"ranks_per_node":2}' in p.pioche("plan", "r.lua").out
        process = p.start("run", "r.lua")
        wait_for(lambda: p.poll("SELECT 1 FROM attempt a JOIN run r ON r.id = a.run_id JOIN series s ON s.run_id = r.id"
                                " WHERE r.number = 1 AND a.number = 2 AND a.state = 'running' AND s.last_step > 300"), 60)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        p.pioche("supervise")
        attempts = p.sql("SELECT r.number AS run, world_size AS ranks, result, resume_checkpoint IS NOT NULL AS resumes"
                         " FROM attempt a JOIN run r ON r.id = a.run_id ORDER BY 1, a.number")
        first, *more = [a for a in attempts if a["run"] == 1]
        assert (first["ranks"], first["result"], first["resumes"]) == (1, "cancelled", 0), attempts
        assert len(more) == 2 and all(a["ranks"] == 2 and a["resumes"] for a in more), attempts
        assert [a["ranks"] for a in attempts if a["run"] == 2] == [1], attempts
        p.pioche("run", "r.lua")
        assert p.sql("SELECT status FROM run ORDER BY number") == [{"status": "finished"}, {"status": "stopped"}]
        assert p.sql("SELECT count(*) AS n FROM attempt")[0]["n"] == 4, "it is the same run, whatever its shape"
        assert p.pioche("sweep", "replay", "g", "--json").json["same"]
        assert '"ranks_per_node":2' in p.pioche("sweep", "show", "g").out


def test_wrong_rules():
    with Project() as p:
        def wrong(text, message):
            p.write("r.lua", text)
            err = p.pioche("run", "r.lua", expect=1).err
            assert message in err, err
            assert not os.path.exists(p.store)
        good = curves("asha { min = 1, max = 9 }")
        wrong(good.replace("max = 9", "max = 1"), "r.lua:4: stop.max: expected more than min, which is 1, got 1")
        wrong(good.replace("max = 9", "max = 9, launch = { nodes = 2 }"),
              "r.lua:4: stop.launch: it is of runs that are promoted: expected promote = true, or none")
        wrong(good.replace("max = 9", "max = 9, promote = true, launch = { node = 2 }"),
              "stop.launch.node: there is no such key, did you mean 'nodes'?")
        wrong("""local pioche = require "pioche"
return pioche.sweep { name = "g", goal = pioche.minimize "loss", launch = { on = "local" }, space = { a = { 1, 2 } },
  stop = pioche.asha { min = 1, max = 2, promote = true, launch = { nodes = 4 } },
  program = pioche.program { command = { "true" } } }
""", "r.lua:3: stop.launch.nodes: expected 1, because this machine is one node, got 4")
        wrong(good.replace("max = 9", "max = 9, ete = 2"), "stop.ete: there is no such key, did you mean 'eta'?")
        wrong(good.replace('goal = pioche.minimize "loss", ', ""),
              'stop: asha needs a goal, as goal = pioche.minimize "val/loss"')


harness.main()
