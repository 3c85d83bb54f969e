#!/usr/bin/env python3
"""What is told of a sweep afterwards: which parameters matter, how each does, how far it came;
and the arithmetic of it, and of several goals, held against Optuna's."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
import optuna_venv  # noqa: E402
from harness import BUILD, Project, Skip  # noqa: E402

RECIPE = """local pioche = require "pioche"
return pioche.sweep {
  name = "f", %s search = pioche.random { runs = %d, seed = 1 },
  space = { lr = pioche.log_uniform(1e-5, 1), wide = pioche.uniform(-3, 5), ["n-odd"] = pioche.int(1, 6),
    width = pioche.log_int(8, 4096), kind = { "a", "b'", "c" }, fixed = 3,
    opt = pioche.one_of { adam = { beta = pioche.uniform(0, 1) }, sgd = {} } },
  program = pioche.objective(function(p)
    if p.wide > 4.3 then return { loss = 0 / 0, cost = 1 } end
    local far = math.log(p.lr, 10) + 2
    return { loss = far * far + (p.kind == "a" and 0 or 2) + 3 * (p["opt.beta"] or 0.5), cost = p.width + far }
  end),
}
"""
ONE = 'goal = pioche.minimize "loss",'
TWO = 'goal = { pioche.minimize "loss", pioche.minimize "cost" },'

# The same points for Optuna: of each way the importances by name.
PEER = """
import json, math, sys, warnings
import optuna
from optuna.distributions import CategoricalDistribution as C, FloatDistribution as F, IntDistribution as I
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances
warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)
told = json.load(sys.stdin)
space = {"lr": F(1e-5, 1, log=True), "wide": F(-3, 5), "n-odd": I(1, 6), "width": I(8, 4096, log=True),
         "kind": C(["a", "b'", "c"]), "opt": C(["adam", "sgd"]), "opt.beta": F(0, 1)}
study = optuna.create_study(directions=["minimize"] * len(told["points"][0]["values"]))
for point in told["points"]:
    params = {k: v for k, v in point["params"].items() if k in space}
    study.add_trial(optuna.trial.create_trial(params=params, values=point["values"],
                                              distributions={k: space[k] for k in params}))
ped = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
# Its forest sees logarithmic parameters on a linear scale, unless they are told as logarithms.
forest = {}
if told["fanova"]:
    space |= {"lr": F(math.log(1e-5), 0), "width": F(math.log(8), math.log(4096))}
    del space["opt.beta"]
    study = optuna.create_study()
    for point in told["points"]:
        params = {k: math.log(v) if k in ("lr", "width") else v for k, v in point["params"].items() if k in space}
        study.add_trial(optuna.trial.create_trial(params=params, values=point["values"], distributions=space))
    forest = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=1), normalize=False)
print(json.dumps({"ped": ped, "fanova": forest}))
"""

FRONTS = """
local json, sweep = require "pioche.core.json", require "pioche.core.sweep"
local cases = json.array {}
for goals = 2, 4 do
  for levels = 5, 50, 45 do
    local rows, reference = json.array {}, json.array {}
    for g = 1, goals do reference[g] = levels + 0.5 end
    for i = 1, 40 do
      rows[i] = json.array {}
      for g = 1, goals do rows[i][g] = sweep.integer(goals, i, "g" .. g, 0, levels) + 0.25 end
    end
    cases[#cases + 1] = { rows = rows, reference = reference, ranks = json.array(sweep.ranks(rows)),
      volume = sweep.hypervolume(rows, reference) }
  end
end
require("pioche.core.sys").write(1, json.encode(cases))
"""

COMPARE_FRONTS = """
import json, sys
import numpy as np
from optuna._hypervolume import compute_hypervolume
from optuna.study._multi_objective import _fast_non_domination_rank
for case in json.load(sys.stdin):
    rows, reference = np.array(case["rows"]), np.array(case["reference"])
    assert (np.array(case["ranks"]) - 1 == _fast_non_domination_rank(rows)).all(), case
    volume = compute_hypervolume(rows, reference)
    assert abs(case["volume"] / volume - 1) < 1e-12, (case["volume"], volume)
print("same")
"""


def peer(code, told):
    python, why = optuna_venv.python()
    if not python:
        raise Skip(f"Optuna: {why}")
    done = subprocess.run([python, "-c", code], input=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def points_of(p, goals):
    runs = [r for r in p.pioche("ls", "--all", "--json").json if r["status"] == "finished"]
    return [{"params": r["params"], "values": [r["metrics"][g]["last"] for g in goals]} for r in runs]


def importance(p, *words):
    found = p.pioche("sweep", "importance", "f", "--json", *words).json
    return found, {x["name"]: x["importance"] for x in found["importance"]}


def test_fronts_and_volumes_are_those_of_optuna():
    with Project(git=False) as p:
        p.write("fronts.lua", FRONTS)
        told = subprocess.run([os.path.join(BUILD, "tests", "lua_host"), p.path("fronts.lua")],
                              capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stderr
        assert peer(COMPARE_FRONTS, told.stdout) == "same\n"


def test_importance_is_that_of_optuna():
    with Project() as p:
        for fields, goals in ((ONE, ["loss"]), (TWO, ["loss", "cost"])):
            p.write("r.lua", RECIPE % (fields, 150))
            p.pioche("run", "r.lua", expect=None)  # NaN fails a run
            points = points_of(p, goals)
            found, own = importance(p)
            told = json.loads(peer(PEER, json.dumps({"points": points, "fanova": len(goals) == 1})))
            assert found["points"] == len(points) and set(own) == set(told["ped"])
            for name, value in told["ped"].items():
                assert abs(own[name] - value) < 1e-6, (name, own, told["ped"])
            if len(goals) == 1:
                assert max(own, key=own.get) == "lr", own
                # two forests of other draws
                _, forest = importance(p, "--fanova")
                for name, value in told["fanova"].items():
                    assert abs(forest[name] - value) < 0.05, (name, forest, told["fanova"])


def test_importance_says_what_it_is_of():
    with Project() as p:
        p.write("r.lua", RECIPE % (ONE, 60))
        p.pioche("run", "r.lua", expect=None)
        found, own = importance(p)
        assert (found["method"], found["goal"], found["good"]) == ("ped-anova", "minimize loss", 6), found
        assert abs(sum(own.values()) - 1) < 1e-9 and "fixed" not in own
        by_name = {x["name"]: x for x in found["importance"]}
        assert by_name["opt.beta"]["when"] == "opt = adam" and by_name["opt.beta"]["points"] < found["points"]
        losses = sorted((x["values"][0], x["params"]) for x in points_of(p, ["loss"]))[:6]
        assert by_name["lr"]["good"] == {"low": min(x["lr"] for _, x in losses),
                                         "high": max(x["lr"] for _, x in losses)}
        text = p.pioche("sweep", "importance", "f").out
        assert "PED-ANOVA" in text and "opt = adam" in text and "the best 6 of" in text, text
        forest, _ = importance(p, "--fanova")
        assert forest == importance(p, "--fanova")[0], "the same forest each time"
        assert "fANOVA" in p.pioche("sweep", "importance", "f", "--fanova").out
        assert p.pioche("sweep", "importance", "f", "--csv").out.splitlines()[0] == "parameter,when,importance,points"
        assert "'lss' is no goal of f; did you mean 'loss'?" in p.pioche(
            "sweep", "importance", "f", "--goal", "lss", expect=1).err
        assert "--fanova is an option of sweep importance" in p.pioche("sweep", "ls", "--fanova", expect=2).err


def test_few_points_equal_values_and_failures():
    with Project() as p:
        p.write("r.lua", RECIPE.replace("p.wide > 4.3", "true") % (ONE, 12))
        p.pioche("run", "r.lua", expect=None)
        assert "0 finished points have logged minimize loss: expected at least 4" in p.pioche(
            "sweep", "importance", "f", expect=1).err
        assert p.pioche("sweep", "show", "f", "--json").json["left"] is None
        p.pioche("sweep", "show", "f")
        p.write("r.lua", RECIPE.replace("loss = far", "loss = 0 * far").replace("+ (p.kind", "+ 0 * (#p.kind").replace(
            '== "a" and 0 or 2)', ")").replace("3 * (p", "0 * (p") % (ONE, 20))
        p.pioche("run", "r.lua", expect=None)
        found, own = importance(p)
        assert set(own.values()) == {0} and found["points"] > 10
        assert "all points came to the same" in p.pioche("sweep", "importance", "f").out
        assert set(importance(p, "--fanova")[1].values()) == {0}
        assert p.pioche("sweep", "show", "f", "--json").json["left"] is None
        p.write("r.lua", RECIPE.replace(ONE, "") % ("", 5))
        p.pioche("run", "r.lua", expect=None)
        assert "the sweep has no goal" in p.pioche("sweep", "importance", "f", expect=1).err


def test_slice():
    with Project() as p:
        p.write("r.lua", RECIPE % (TWO, 80))
        p.pioche("run", "r.lua", expect=None)
        points = points_of(p, ["loss", "cost"])

        def bins(name):
            found = p.pioche("sweep", "slice", "f", name, "--json").json
            assert len(found["slices"]) == 1
            return found["slices"][0]["bins"]
        for name in ("lr", "wide", "width", "n-odd"):
            found = bins(name)
            assert sum(b["points"] for b in found) == len(points)
            for b in found:
                inside = [x for x in points if b["low"] <= x["params"][name] <= b["high"]]
                if name in ("lr", "wide"):
                    assert b["points"] == len(inside), (name, b)
                    if inside:
                        assert b["goals"]["loss"]["best"] == min(x["values"][0] for x in inside)
                        assert b["goals"]["cost"]["worst"] == max(x["values"][1] for x in inside)
        assert abs(bins("lr")[3]["high"] / 1e-5 ** 0.5 - 1) < 1e-9     # the middle of its logarithm
        assert [b["value"] for b in bins("kind")] == ["a", "b'", "c"]
        beta = p.pioche("sweep", "slice", "f", "opt.beta", "--json").json["slices"][0]
        assert beta["when"] == "opt = adam" and sum(b["points"] for b in beta["bins"]) < len(points)
        assert "when opt = adam" in p.pioche("sweep", "slice", "f", "opt.beta").out
        assert "no parameter 'beta' varies; did you mean 'opt.beta'?" in p.pioche(
            "sweep", "slice", "f", "beta", expect=1).err
        assert "no parameter 'fixed' varies" in p.pioche("sweep", "slice", "f", "fixed", expect=1).err


def test_course_and_what_is_left():
    smooth = """local pioche = require "pioche"
return pioche.sweep { name = "s", %s search = pioche.%s,
  space = { x = pioche.uniform(0, 1), y = pioche.uniform(0, 1) },
  program = pioche.objective(function(p)
    return { loss = (p.x - 0.3) ^ 2 + (p.y - 0.6) ^ 2, cost = p.x } end) }
"""
    with Project() as p:
        p.write("r.lua", smooth % (ONE, "random { runs = 12 }"))
        p.pioche("run", "r.lua")
        early = p.pioche("sweep", "show", "s", "--json").json
        values = [r["metrics"]["loss"]["last"] for r in p.pioche("ls", "--all", "--json", "--sort", "created").json]
        best = [x["value"] for x in early["course"]]
        assert best == sorted(best, reverse=True) and best[-1] == min(values) and early["course"][0]["points"] == 1
        assert early["left"]["gain"] > 0 and not early["left"]["is_little"], early["left"]
        assert "is expected to improve it by" in p.pioche("sweep", "show", "s").out
        p.write("r.lua", smooth % (ONE, "gp { runs = 30 }"))
        p.pioche("run", "r.lua")
        late = p.pioche("sweep", "show", "s", "--json").json
        assert late["left"]["is_little"] and late["left"]["part"] < early["left"]["part"], late["left"]
        assert "little is left" in p.pioche("sweep", "show", "s").out
        # beyond the constraint there is more to gain, but that is not left
        limit = ' constraints = pioche.constraint(function(m) return 0.5 - m.cost end),'
        p.write("r.lua", smooth % (ONE + limit, "gp { runs = 40 }"))
        p.pioche("run", "r.lua")
        within = p.pioche("sweep", "show", "s", "--json").json
        assert within["best"]["value"] >= 0.04 and within["left"]["is_little"], within
        p.write("r.lua", smooth % (TWO, "tpe { runs = 40 }"))
        p.pioche("run", "r.lua")
        two = p.pioche("sweep", "show", "s", "--json").json
        parts = [x["part"] for x in two["course"]]
        assert parts == sorted(parts) and parts[-1] == 1 and two["course"][-1]["points"] == 40
        assert 0 <= two["left"]["part"] < 1


def test_compare_shows_importance_and_the_front():
    with Project() as p:
        p.write("r.lua", RECIPE % (TWO, 40))
        p.pioche("run", "r.lua", expect=None)
        text = p.pioche("compare", "f").out
        assert "matters: " in text and "(PED-ANOVA, " in text, text
        front = [x["id"] for x in p.pioche("sweep", "front", "f", "--json").json["front"]]
        rows = p.pioche("compare", "f", "--json").json
        assert sorted(r["id"] for r in rows if r["front"]) == sorted(front)
        # ls and show say the same of the same runs, and nothing of a sweep with one goal.
        p.write("one.lua", (RECIPE % (TWO, 4)).replace(TWO, 'goal = pioche.minimize "loss",').replace('"f"', '"g"')
                .replace("seed = 1", "seed = 2"))
        p.pioche("run", "one.lua", expect=None)
        for words in (["--all", "--json"], ["--all", "--json", "--metric", "loss.min"]):
            told = {r["id"]: r["front"] for r in p.pioche("ls", *words).json}
            assert len(told) == 44 and all(told[name] == (name in front if name[0] == "f" else None) for name in told), told
        shown = p.pioche("ls", "--all").out.splitlines()[1:]
        assert sorted(line.split()[0] for line in shown if " front " in f"{line} ") == sorted(front), shown
        assert "front" not in p.pioche("ls", "g").out
        assert p.pioche("show", front[0], "--json").json["front"] is True
        p.pioche("sweep", "drop", front[0], "--reason", "of no use")
        assert p.pioche("show", front[0], "--json").json["front"] is False
        assert {"loss", "cost"} <= set(rows[0]["metrics"])
        best = {key: min(r["metrics"][key]["mean"] for r in rows if r["metrics"].get(key) and r["status"] == "finished")
                for key in ("loss", "cost")}
        for r in rows:
            for key in ("loss", "cost"):
                assert (key in r["best"]) == (r["status"] == "finished" and r["metrics"][key]["mean"] == best[key])


harness.main()
