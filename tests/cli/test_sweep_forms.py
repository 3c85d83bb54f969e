#!/usr/bin/env python3
"""Forms of sweeps: a race of seeds, a ladder of sizes, and stops that are forecast and audited."""
import json
import math
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project, wait_for  # noqa: E402

# Points whose means are 0.4 apart, with a normal noise of their seed.
RACE = """local pioche = require "pioche"
local function noise(world, x, seed)
  local state, sum = (world * 8191 + x * 131071 + seed * 524287) %% 2147483647, -6
  for _ = 1, 12 do
    for _ = 1, 3 do state = state * 48271 %% 2147483647 end
    sum = sum + state / 2147483647
  end
  return sum
end
local function sweep(name, world, seeds)
  return pioche.sweep {
    name = name, goal = pioche.minimize "loss", seeds = seeds, launch = { parallel = %d },
    space = { x = { 0, 1, 2, 3, 4, 5 }, world = world },
    program = pioche.objective(function(p) %s
      return { loss = 0.4 * p.x + noise(p.world, p.x, p.seed) }
    end),
  }
end
"""
SLOW = "local busy = ('x'):rep(300000):reverse()"


def test_a_race_goes_on_where_it_was_and_is_derived_again():
    with Project() as p:
        text = RACE % (3, SLOW) + 'return sweep("r", 1, pioche.race { max = 12, runs = 30, sure = 0.999 })\n'
        p.write("r.lua", text)
        assert "race     up to 30 repeats, at most 12 seeds a point" in p.pioche("plan", "r.lua").out
        for kill in range(3):
            process = p.start("run", "r.lua")
            some = f"SELECT 1 FROM proposal_run WHERE asked = {6 * kill + 3}"
            wait_for(lambda: p.poll(some), 60)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        err = p.pioche("run", "r.lua").err
        rows = p.sql("SELECT * FROM proposal_run ORDER BY number, seed")
        asked = sorted(r["asked"] for r in rows if r["asked"])
        assert asked == list(range(1, len(asked) + 1)) and 3 < len(asked) <= 30, asked
        assert len({(r["number"], r["seed"]) for r in rows}) == len(rows) == 6 + len(asked)
        assert sorted(r["observed"] for r in rows) == list(range(1, len(rows) + 1))
        # What each run came to, and what the race made of it.
        shown = p.pioche("sweep", "show", "r", "--json").json["race"]
        assert shown["repeats"] == len(asked) and abs(sum(q["chance"] for q in shown["points"]) - 1) < 1e-6
        for point in shown["points"]:
            own = [r["value"] for r in rows if r["number"] == point["number"]]
            assert point["n"] == len(own) and abs(point["mean"] - sum(own) / len(own)) < 1e-9
        assert [q["mean"] for q in shown["points"]] == sorted(q["mean"] for q in shown["points"])
        most = max(shown["points"], key=lambda q: q["n"])
        assert most["mean"] <= shown["points"][1]["mean"], "seeds went where they decide"
        first = shown["points"][0]
        if shown["sure"]:
            assert f"is the best by its mean, with probability {first['chance']:.2f}" in err, err
        else:
            assert f"not distinguishable: {first['runs'][0]} ({first['n']} seeds)" in err, err
        table = p.pioche("compare", "r", "--json").json
        assert abs(table[0]["chance"] - first["chance"]) < 1e-9 and table[0]["n"] == first["n"]
        assert "the best" in p.pioche("compare", "r").out.splitlines()[-1]
        assert f"(and {len(asked)} decisions of the race)" in p.pioche("sweep", "replay", "r").out
        again = p.pioche("run", "r.lua").err
        assert "nothing to do" in again, again
        # What is on record is changed: the decision after it comes out differently, or is not made.
        best = shown["points"][0]["number"]
        p.sh(f"sqlite3 .pioche/pioche.db 'UPDATE proposal_run SET value = 9 WHERE number = {best}'")
        assert "of the race is on record as" in p.pioche("sweep", "replay", "r", expect=1).out


def test_a_run_that_is_set_aside_counts_in_no_decision_after_that():
    """One that lies makes its point the leader; without it another one is."""
    with Project() as p:
        p.write("r.lua", (RACE % (2, SLOW + " if p.x == 4 and p.seed == 2 then return { loss = -9 } end"))
                + 'return sweep("r", 1, pioche.race { min = 2, max = 7, runs = 24, sure = 0.999 })\n')
        process = p.start("run", "r.lua")
        wait_for(lambda: p.poll("SELECT 1 FROM proposal_run WHERE asked = 6"), 60)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        asked = p.sql("SELECT count(asked) AS n FROM proposal_run")[0]["n"]
        shown = p.pioche("sweep", "show", "r", "--json").json["race"]
        leader = next(q for q in shown["points"] if q["params"]["x"] == 4)
        liar = p.sql("SELECT r.number AS n FROM proposal_run q JOIN run r ON r.id = q.run_id WHERE q.value = -9")[0]["n"]
        p.pioche("sweep", "drop", f"r-{liar}", "--reason", "it lies")
        after = next(q for q in p.pioche("sweep", "show", "r", "--json").json["race"]["points"] if q["params"]["x"] == 4)
        assert after["n"] == leader["n"] - 1 and after["mean"] > leader["mean"] + 0.5, (leader, after)
        assert len(after["runs"]) == len(leader["runs"]) - 1 and f"r-{liar}" not in after["runs"]
        p.pioche("run", "r.lua")
        more = p.sql("SELECT count(asked) AS n FROM proposal_run")[0]["n"]
        assert more > asked, "the race goes on without it"
        assert f"(and {more} decisions of the race)" in p.pioche("sweep", "replay", "r").out
        p.pioche("sweep", "restore", f"r-{liar}")
        back = next(q for q in p.pioche("sweep", "show", "r", "--json").json["race"]["points"] if q["params"]["x"] == 4)
        assert f"r-{liar}" in back["runs"] and f"(and {more} decisions" in p.pioche("sweep", "replay", "r").out
        p.sh("sqlite3 .pioche/pioche.db 'UPDATE proposal_run SET changed = 0'")
        assert "of the race is on record as" in p.pioche("sweep", "replay", "r", expect=1).out


def test_a_run_is_set_aside_while_a_repeat_of_its_point_is_open():
    """What a point comes to without it is that of its planned seeds: a repeat is no part of that."""
    with Project(git=False) as p:
        p.write("r.lua", (RACE % (2, "")) + 'return sweep("r", 1, pioche.race { min = 2, max = 5, runs = 8 })\n')
        p.pioche("run", "r.lua")
        point = p.sql("SELECT number AS n, run_id AS id FROM proposal_run WHERE asked IS NOT NULL LIMIT 1")[0]
        first, second = p.sql("SELECT r.number AS n, q.value AS value FROM proposal_run q JOIN run r ON r.id = q.run_id"
                              f" WHERE q.number = {point['n']} AND q.asked IS NULL ORDER BY q.seed")
        p.sh(f"sqlite3 .pioche/pioche.db \"UPDATE run SET status = 'planned' WHERE id = {point['id']}\"")
        p.pioche("sweep", "drop", f"r-{first['n']}", "--reason", "its node was slow")
        detail = json.loads(p.sql("SELECT detail FROM sweep_change WHERE kind = 'drop'")[0]["detail"])
        assert [q["observation"]["value"] for q in detail["points"]] == [second["value"]], detail


def test_the_best_is_no_lucky_seed():
    """Of points with several seeds the best mean decides, and the run in the middle of it is named."""
    with Project() as p:
        recipe = """local pioche = require "pioche"
local sweep = pioche.sweep { name = "s", seeds = %s, goal = pioche.%s "loss", space = { x = { 0, 2, 4 } },
  program = pioche.objective(function(p)
    if p.x == 4 and p.seed == 2 then return -1 * %d end
    return (p.x + (p.seed == 1 and 0.3 or p.seed == 2 and 0 or 0.1)) * %d
  end) }
%s
"""
        for seeds, goal, sign in (("3", "minimize", 1), ("pioche.race { min = 3 }", "maximize", -1)):
            p.sh("rm -rf .pioche")
            p.write("r.lua", recipe % (seeds, goal, sign, sign, "return sweep"))
            p.pioche("run", "r.lua")
            winner = p.pioche("compare", "s", "--json").json[0]
            best = p.pioche("show", "s/best", "--json").json
            assert winner["params"]["x"] == 0 and best["id"] in winner["runs"], (winner, best["id"])
            assert best["metrics"]["loss"]["last"] == 0.1 * sign and best["seed"] >= 3, best
            shown = p.pioche("sweep", "show", "s", "--json").json["best"]
            assert shown["id"] == best["id"] and shown["seeds"] == winner["n"], shown
            assert abs(shown["mean"] - winner["metrics"]["loss"]["mean"]) < 1e-12
            assert f"best     {best['id']}: loss" in p.pioche("sweep", "show", "s").out
            p.write("r.lua", recipe % (seeds, goal, sign, sign,
                                       "return function(lab) lab:note(lab:sweep(sweep):best().name) end"))
            assert f"{best['id']}\n" in p.pioche("run", "r.lua").err
        # One seed a point: the best run.
        p.sh("rm -rf .pioche")
        p.write("r.lua", recipe % ("1", "minimize", 1, 1, "return sweep"))
        p.pioche("run", "r.lua")
        assert p.pioche("show", "s/best", "--json").json["params"]["x"] == 0
        assert set(p.pioche("sweep", "show", "s", "--json").json["best"]) == {"id", "value"}


def test_a_race_finds_the_best_point_more_often_than_as_many_seeds_for_all():
    with Project() as p:
        p.write("r.lua", RACE % (1, "") + """return function(lab)
  for world = 1, 40 do
    lab:sweep(sweep("race-" .. world, world, pioche.race { max = 30, runs = 18, sure = 0.999 }))
    lab:sweep(sweep("even-" .. world, world, 4))
  end
end
""")
        p.pioche("run", "r.lua", timeout=300)
        rows = p.sql("SELECT e.name AS name, json_extract(o.params, '$.x') AS x, avg(s.last) AS mean, count(*) AS n"
                     " FROM proposal o JOIN proposal_run q USING (sweep_id, number) JOIN run r ON r.id = q.run_id"
                     " JOIN sweep w ON w.id = o.sweep_id JOIN experiment e ON e.id = w.experiment_id"
                     " JOIN series s ON s.run_id = r.id WHERE s.key = 'loss' GROUP BY 1, 2")
        found = {"race": 0, "even": 0}
        for name in {r["name"] for r in rows}:
            own = [r for r in rows if r["name"] == name]
            assert sum(r["n"] for r in own) <= 24, own
            found[name[:4]] += min(own, key=lambda r: r["mean"])["x"] == 0
        assert found["race"] > found["even"] + 2, found


def test_repeats_are_not_stopped_and_wrong_races_are_refused():
    with Project() as p:
        text = RACE % (1, "")
        text = text.replace("return { loss = 0.4 * p.x + noise(p.world, p.x, p.seed) }", """
      local loss = {}
      for step = 1, 9 do loss[step] = 0.4 * p.x + noise(p.world, p.x, p.seed) + 1 / step end
      return { loss = loss }""").replace("seeds = seeds,", "seeds = seeds, stop = pioche.median { every = 4, startup = 2 },")
        p.write("r.lua", text + 'return sweep("r", 2, pioche.race { runs = 8 })\n')
        p.pioche("run", "r.lua")
        rows = p.sql("SELECT q.asked AS asked, q.value AS value, r.status AS status FROM proposal_run q"
                     " JOIN run r ON r.id = q.run_id")
        assert {r["status"] for r in rows if r["asked"]} == {"finished"}, rows
        stopped = [r for r in rows if r["status"] == "stopped"]
        assert stopped and all(r["value"] is None for r in stopped)
        p.write("r.lua", text + 'return sweep("r", 2, pioche.race { max = 1 })\n')
        assert "seeds.max: expected more than min, which is 1" in p.pioche("plan", "r.lua", expect=1).err
        p.write("r.lua", text.replace('goal = pioche.minimize "loss",', "").replace(
                "stop = pioche.median { every = 4, startup = 2 },", "") + 'return sweep("r", 2, pioche.race {})\n')
        assert "seeds: a race needs a goal" in p.pioche("plan", "r.lua", expect=1).err


LADDER = """local pioche = require "pioche"
return pioche.ladder {
  name = "l", goal = pioche.minimize "loss", launch = { parallel = %d },
  program = pioche.objective(function(p, number) %s
    local n, d = 12 * p.depth * p.width ^ 2, p.steps * 512
    local noise = (number * 7919 %% 1000) / 1000 - 0.5
    return { loss = (1.7 + 40 * n ^ -0.34 + 41 * d ^ -0.28) * (1 + 0.01 * noise), n = n }
  end),
  sizes = { { width = 32, depth = 1 }, { width = 64, depth = 2 }, { width = 128, depth = 2 },
    { width = 256, depth = 3 }, { width = 512, depth = 4 } },
  params = %s,
  %s,
  space = { steps = function(p) return p.tokens // 512 end, warmup = function(p) return p.steps // 20 end },
}
"""
PARAMS = "function(p) return 12 * p.depth * p.width ^ 2 end"
TOKENS = "tokens = { 1e6, 4e6, 1.6e7 }"


def test_a_ladder_predicts_each_size_before_it_runs():
    with Project() as p:
        p.write("l.lua", LADDER % (4, SLOW, PARAMS, TOKENS))
        process = p.start("run", "l.lua")
        wait_for(lambda: p.poll("SELECT 1 FROM proposal WHERE number = 8"), 60)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        p.pioche("run", "l.lua")
        rows = p.sql("SELECT p.*, r.created_ns, json_extract(forecast, '$.points') AS known FROM proposal p"
                     " JOIN proposal_run q USING (sweep_id, number) JOIN run r ON r.id = q.run_id ORDER BY number")
        # The first two sizes are too few for a law; then all below a size had ended when it began.
        assert [r["known"] for r in rows] == [None] * 6 + [6] * 3 + [9] * 3 + [12] * 3, rows
        assert [r["seen"] for r in rows[6:13:3]] == [6, 9, 12]
        found = p.pioche("sweep", "show", "l", "--json").json["law"]
        law, ranges = found["law"], found["law"]["intervals"]
        for name, true in (("beta", 0.28), ("E", 1.7)):
            assert ranges[name]["low"] <= true <= ranges[name]["high"], (name, ranges[name])
        assert abs(law["alpha"] - 0.34) < 0.05 and law["points"] == 15 and law["terms"] == "both"
        # The frontier is the law's: a = beta / (alpha + beta), and it is where its loss is least.
        front = found["frontier"]
        assert abs(front["exponent"]["value"] - law["beta"] / (law["alpha"] + law["beta"])) < 1e-12

        def loss(n, c):
            return law["E"] + law["A"] * n ** -law["alpha"] + law["B"] * (c / 6 / n) ** -law["beta"]
        for row in front["rows"]:
            n = row["size"]["value"]
            assert abs(6 * n * row["tokens"]["value"] / row["budget"] - 1) < 1e-9
            assert loss(n, row["budget"]) <= min(loss(n * 1.02, row["budget"]), loss(n / 1.02, row["budget"]))
            assert abs(loss(n, row["budget"]) - row["loss"]["value"]) < 1e-9
        # How wrong each prediction was is on record and shown.
        for point in found["points"][6:]:
            said = point["predicted"]
            assert math.isclose(point["error"], point["loss"] / said["value"] - 1, abs_tol=1e-12)
            assert point["within"] == (said["low"] <= point["loss"] <= said["high"])
        assert sum(point["within"] for point in found["points"][6:]) >= 6
        assert max(abs(point["error"]) for point in found["points"][12:]) < 0.02
        text = p.pioche("sweep", "show", "l").out
        assert f"{100 * found['points'][-1]['error']:+.2f} %" in text and "frontier N goes with C^" in text, text
        assert "15 proposals and 0 verdicts come to the same" in p.pioche("sweep", "replay", "l").out
        p.sh("sqlite3 .pioche/pioche.db \"UPDATE proposal SET forecast = json_set(forecast, '$.value', 2)"
             " WHERE number = 11\"")
        assert "l: proposal 11 is on record as" in p.pioche("sweep", "replay", "l", expect=1).out
        assert "nothing to do: 15 of 15" in p.pioche("run", "l.lua").err
        p.pioche("run", "l.lua", "width=32,64")
        assert p.pioche("sweep", "show", "l", "--json").json["points"] == 6


def test_a_ladder_of_budgets_and_one_whose_size_is_a_metric():
    with Project() as p:
        budgets = "budgets = { 3e11, 1e12, 3e12, 1e13 }"
        p.write("l.lua", LADDER % (2, "", PARAMS, budgets))
        p.pioche("run", "l.lua")
        found = p.pioche("sweep", "show", "l", "--json").json["law"]
        for point in found["points"]:
            assert abs(6 * point["params"] * point["tokens"] / point["budget"] - 1) < 1e-9
        isoflop = found["isoflop"]
        true = 0.28 / (0.34 + 0.28)
        assert len(isoflop["rows"]) == 4 and abs(isoflop["exponent"]["value"] - true) < 0.12, isoflop
        assert isoflop["exponent"]["low"] < isoflop["exponent"]["value"] < isoflop["exponent"]["high"]
        assert "isoFLOP  N goes with C^" in p.pioche("sweep", "show", "l").out
        p.write("l.lua", LADDER % (2, "", '"n"', TOKENS))
        p.pioche("run", "l.lua")
        found = p.pioche("sweep", "show", "l", "--json").json["law"]
        assert found["law"]["points"] == 15 and abs(found["law"]["alpha"] - 0.34) < 0.05
        assert all(point["params"] for point in found["points"])


def test_a_ladder_that_is_none_is_refused():
    with Project() as p:
        def wrong(message, **parts):
            text = LADDER % (1, "", parts.get("params", PARAMS), parts.get("tokens", TOKENS))
            for old, new in parts.get("replace", {}).items():
                assert old in text
                text = text.replace(old, new)
            p.write("l.lua", text)
            err = p.pioche("plan", "l.lua", expect=1).err
            assert message in err, err
        wrong("tokens: expected a list of tokens, or budgets", tokens="seed = 2")
        wrong("budgets need a function(p)", params='"n"', tokens="budgets = { 1e12 }")
        wrong("expected a list of FLOP above 0 that grow, as { 1e12, 4e12 }; item 2", tokens="budgets = { 1e12, 1e11 }")
        wrong("item 2 has width, and the first has depth, width", replace={"{ width = 64, depth = 2 }": "{ width = 64 }"})
        wrong("space.width: it is a parameter of the sizes, too", replace={"space = {": "space = { width = 2,"})
        wrong("a ladder has fixed and derived values alone", replace={"space = {": "space = { lr = { 1, 2 },"})
        wrong("two of its points are the same", replace={"p.tokens // 512": "100"})
        wrong("search: a ladder has none", replace={"space = {": "search = pioche.random {}, space = {"})
        wrong("a race seeks the best point", replace={"space = {": "seeds = pioche.race {}, space = {"})
        wrong("there is no such key", replace={"space = {": "size = {}, space = {"})
        wrong("params: the function returned nothing", params="function() end")


CURVE = """local pioche = require "pioche"
return pioche.sweep {
  name = "c", goal = pioche.minimize "loss", launch = { parallel = %d },
  program = pioche.objective(function(p)
    local loss = {}
    for step = 1, 64 do
      loss[step] = p.floor + (1 - p.floor) * (1 + step * p.speed) ^ -0.8 + 0.002 * (step * 7919 %% 100 / 100 - 0.5)
    end
    return { loss = loss }
  end),
  space = { floor = pioche.uniform(0.1, 0.5), speed = pioche.uniform(0.03, 3) },
  search = pioche.random { runs = 50, seed = 2 },
  stop = pioche.curve { every = 4, max = 64, audit = 0.2 },
}
"""


def test_stops_by_forecast_are_on_record_audited_and_derived_again():
    with Project() as p:
        p.write("c.lua", CURVE % 2)
        p.pioche("run", "c.lua")
        stops = p.sql("SELECT reason, json_extract(forecast, '$.below') AS below, json_extract(forecast, '$.value')"
                      " AS value FROM rung WHERE verdict = 'stop'")
        assert len(stops) > 15 and all(0 <= r["below"] < 0.05 for r in stops), stops
        assert all(f"its end is forecast as {r['value']:.5g} (" in r["reason"] for r in stops)
        ends = {r["run_id"]: r for r in p.sql(
            "SELECT g.run_id, max(g.audited) AS audited, max(g.verdict = 'stop') AS stopped, s.last, s.last_step FROM"
            " rung g JOIN series s ON s.run_id = g.run_id GROUP BY 1")}
        audited = [r for r in ends.values() if r["audited"]]
        others = [r["last"] for r in ends.values() if not r["audited"] and not r["stopped"]]
        assert audited and all(r["last_step"] == 64 and not r["stopped"] for r in audited)
        shown = p.pioche("sweep", "show", "c", "--json").json
        assert shown["audit"]["runs"] == shown["audit"]["forecasts"] == len(audited)
        assert shown["audit"]["best"] == min(others)
        assert shown["audit"]["better"] == sum(r["last"] < min(others) for r in audited) == 0
        assert 0.7 * len(audited) <= shown["audit"]["within"] <= len(audited)
        assert shown["steps"] < 0.6 * shown["steps_whole"]
        text = p.pioche("sweep", "show", "c").out
        assert f"audit    {len(audited)} that would have stopped went on: none ended better" in text, text
        assert "every" in text and "chance=0.05" in text
        verdicts = p.sql("SELECT count(*) AS n FROM rung")[0]["n"]
        assert f"50 proposals and {verdicts} verdicts come to the same" in p.pioche("sweep", "replay", "c").out


def decided(p):
    """All that a sweep's search, race and rule said, without what is another store's."""
    return p.sql("""SELECT w.ulid AS sweep, o.number AS number, o.params AS params, o.seen AS told, o.observed AS heard,
        o.observation AS came, q.seed AS seed, q.asked AS asked, q.seen AS seen, q.changed AS changed, q.observed AS
        observed, q.value AS value, r.ulid AS run FROM proposal o JOIN sweep w ON w.id = o.sweep_id LEFT JOIN proposal_run q
        USING (sweep_id, number) LEFT JOIN run r ON r.id = q.run_id ORDER BY w.ulid, o.number, q.seed"""), p.sql(
        """SELECT w.ulid AS sweep, r.ulid AS run, g.step AS step, value, best, mean, verdict, g.reason AS reason, audited,
        forecast, promoted_ns, (SELECT count(*) FROM rung b WHERE b.sweep_id = g.sweep_id AND b.id <= g.promoted_after)
        AS after FROM rung g JOIN sweep w ON w.id = g.sweep_id JOIN run r ON r.id = g.run_id ORDER BY g.sweep_id, g.id"""), p.sql(
        "SELECT number, proposed, seen, kind, detail, reason FROM sweep_change ORDER BY sweep_id, number")


def test_a_bundle_of_a_sweep_has_all_that_was_decided():
    """Decisions of a race, verdicts, promotions and audits of a rule, changes: derived again elsewhere."""
    with Project(git=False) as p, Project(git=False) as there:
        p.write("r.lua", (RACE % (2, "")) + 'return sweep("r", 1, pioche.race { min = 2, max = 5, runs = 8 })\n')
        p.write("c.lua", CURVE % 2)
        p.pioche("run", "r.lua")
        p.pioche("sweep", "drop", "r-2", "--reason", "its node was slow")
        p.pioche("sweep", "enqueue", "r", "x=1")
        p.pioche("run", "r.lua")
        p.pioche("run", "c.lua")
        # Another sweep of the same experiment, whose runs are for the most part those of the first.
        p.write("r.lua", p.read("r.lua").replace("runs = 8", "runs = 9"))
        p.pioche("run", "r.lua")
        assert p.sql("SELECT count(*) AS n FROM sweep WHERE id IN (SELECT q.sweep_id FROM proposal_run q JOIN run r ON"
                     " r.id = q.run_id WHERE r.sweep_id != q.sweep_id)") == [{"n": 1}]
        for name in ("r", "c"):
            there.write(f"{name}.lua", p.read(f"{name}.lua"))
            p.pioche("export", name, "-o", f"{name}.tar")
            digest = p.sh(f"sha256sum < {name}.tar")
            ulid = p.pioche("sweep", "show", name, "--json").json["id"]
            p.pioche("export", *([ulid] if name == "c" else [name]), "-o", f"{name}-again.tar")
            assert p.sh(f"sha256sum < {name}-again.tar") == digest
            there.pioche("import", p.path(f"{name}.tar"))
            there.pioche("export", name, "-o", f"{name}.tar")
            sweeps = [q.sh(f"tar xOf {name}.tar --wildcards '*/sweep/*.json'") for q in (p, there)]
            assert sweeps[0] == sweeps[1], "exported again it is the same"
        here = decided(p)
        assert any(row["asked"] for row in here[0]) and any(row["audited"] for row in here[1]) and here[2]
        assert decided(there) == here
        for name in ("r", "c"):
            said = [q.pioche("sweep", "replay", name, "--json").json for q in (p, there)]
            assert said[0] == said[1] and said[0]["same"], said
            shown = [q.pioche("sweep", "show", name, "--json").json for q in (p, there)]
            assert shown[0]["race"] == shown[1]["race"] and shown[0]["audit"] == shown[1]["audit"], shown
        assert said[0]["verdicts"] > 50
        # Imported again where it is, nothing changes; of some of its runs it is told that it is not whole.
        for q in (p, there):
            q.pioche("import", p.path("r.tar"))
            q.check_store()
            assert decided(q) == here
        with Project(git=False) as part:
            part.write("r.lua", p.read("r.lua").replace("runs = 9", "runs = 8"))
            p.pioche("export", "r-5", "r-6", "-o", "part.tar")
            part.pioche("import", p.path("part.tar"))
            for verb in (("sweep", "replay", "r"), ("run", "r.lua")):
                assert "not all of its points are in this store" in part.pioche(*verb, expect=3).err


def test_runs_of_another_sweep_of_the_same_plan_are_of_points_that_both_have():
    plan = ('local pioche = require "pioche"\n'
            'return pioche.sweep { name = "o", goal = pioche.minimize "l", space = { x = pioche.uniform(0, 1) },\n'
            '  search = pioche.tpe { runs = 6, seed = 1 },\n'
            '  program = pioche.objective(function(p) return { l = p.x } end) }\n')
    with Project(git=False) as p, Project(git=False) as there:
        for q in (p, there):
            q.write("o.lua", plan)
            q.pioche("run", "o.lua")
        p.pioche("export", "o", "-o", "o.tar")
        # As one that was killed early, and heard of its runs in another order.
        there.pioche("sweep", "show", "o")
        there.sh("""sqlite3 .pioche/pioche.db "DELETE FROM proposal_run WHERE number IN (1, 6);
            DELETE FROM proposal WHERE number IN (1, 6); UPDATE proposal SET observed = observed - 1;
            UPDATE proposal SET params = '{\\"x\\":0.5}' WHERE number = 2" """)
        before = there.sql("SELECT number, observed, params FROM proposal ORDER BY number")
        assert len(before) == 4
        there.pioche("import", p.path("o.tar"))
        assert there.sql("SELECT count(*) AS n FROM sweep") == [{"n": 1}]
        assert there.sql("SELECT count(*) AS n FROM run") == [{"n": 12}]
        assert there.sql("SELECT number, observed, params FROM proposal ORDER BY number") == before
        assert there.sql("SELECT number FROM proposal_run ORDER BY number") == [{"number": n} for n in (2, 3, 4, 5)]


harness.main()
