#!/usr/bin/env python3
"""Every recipe of recipes/ runs, and does nothing when it is run again. The
demo's are cut short; they run in one clone of the checkout, so that the model
is built once."""
import math
import os
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import ROOT, Project, Skip  # noqa: E402


def clone(p):
    """The last commit of the checkout, with a small text where the recipes look for one."""
    if not os.path.exists(os.path.join(ROOT, ".git")):
        raise Skip("this is no git checkout")
    p.sh(f"git clone -q '{ROOT}' checkout")
    text = "the quick brown fox jumps over the lazy dog, and the dog sleeps on. "
    p.write("checkout/build/data/kjv.txt", "".join(f"{i}: {text}\n" for i in range(400)))
    return p.path("checkout")


def runs(p, where):
    return p.pioche("ls", "--all", "--json", cwd=where).json


def check_again(p, where, *args):
    before = [(r["id"], len(r["attempts"])) for r in runs(p, where)]
    again = p.pioche("run", *args, cwd=where)
    assert "nothing to do" in again.err, again.err
    assert [(r["id"], len(r["attempts"])) for r in runs(p, where)] == before


def test_hello():
    with Project() as p:
        with open(os.path.join(ROOT, "recipes/hello.lua"), encoding="utf-8") as f:
            p.write("hello.lua", f.read())
        p.pioche("run", "hello.lua")
        assert [r["status"] for r in runs(p, p.dir)] == ["finished"] * 3
        assert "hello, Ada, from run " in p.pioche("logs", "hello-1").out
        check_again(p, p.dir, "hello.lua")


def test_own_rule():
    with Project() as p:
        with open(os.path.join(ROOT, "recipes/own_rule.lua"), encoding="utf-8") as f:
            p.write("own_rule.lua", f.read())
        p.pioche("run", "own_rule.lua")
        why = {r["reason"].split(": ")[1] for r in p.pioche(
            "sql", "SELECT reason FROM rung", "--json").json}
        assert why == {"among the best quarter", "it still falls", "it hardly falls any more"}, why
        check_again(p, p.dir, "own_rule.lua")


def test_multi_objective():
    with Project() as p:
        with open(os.path.join(ROOT, "recipes/multi_objective.lua"), encoding="utf-8") as f:
            p.write("multi_objective.lua", f.read())
        p.pioche("run", "multi_objective.lua")
        done = {r["id"]: r for r in runs(p, p.dir)}
        assert len(done) == 120 and {r["status"] for r in done.values()} == {"finished"}
        found = p.pioche("sweep", "front", "multi-objective", "--json").json
        fits = [r for r in done.values() if r["metrics"]["memory_gb"]["last"] <= 80]
        assert found["feasible"] == len(fits) < 120 and len(found["front"]) > 5
        for point in found["front"]:
            own = point["values"]
            assert done[point["id"]] in fits and not any(
                r["metrics"]["val/loss"]["last"] < own["val/loss"]
                and r["metrics"]["latency_ms"]["last"] < own["latency_ms"] for r in fits)
        assert p.pioche("sweep", "replay", "multi-objective", "--json").json["same"]
        check_again(p, p.dir, "multi_objective.lua")


def search_recipe(p, name, count):
    """Run a recipe of a search over a function; its losses in the order in which they ran."""
    with open(os.path.join(ROOT, f"recipes/{name}.lua"), encoding="utf-8") as f:
        p.write(f"{name}.lua", f.read())
    p.pioche("run", f"{name}.lua")
    done = runs(p, p.dir)
    assert len(done) == count, len(done)
    said = p.pioche("sweep", "replay", name.replace("_", "-"), "--json").json
    assert said["same"] and said["proposals"] == count, said
    by_number = sorted(done, key=lambda r: int(r["id"].rsplit("-", 1)[1]))
    return [r["metrics"]["loss"]["last"] for r in by_number]


def test_tpe():
    with Project() as p:
        losses = search_recipe(p, "tpe", 60)
        finite = [x if isinstance(x, float) and math.isfinite(x) else math.inf for x in losses]
        assert 0 < finite.count(math.inf) < 10, losses # what diverges is the worst
        assert statistics.median(finite[40:]) < statistics.median(finite[:20]) - 0.1, losses
        check_again(p, p.dir, "tpe.lua")


def test_own_sampler():
    with Project() as p:
        losses = search_recipe(p, "own_sampler", 120)
        assert min(losses) < 0.06, losses
        assert statistics.median(losses[100:]) < statistics.median(losses[:20]) / 5, losses
        check_again(p, p.dir, "own_sampler.lua")
        # what it proposes is checked, and its errors are its own
        text = p.read("own_sampler.lua")
        for wrong, message in (("do return { x = 9, y = 0 } end", "x=9: expected uniform(-2, 2)"),
                               ("error('no idea')", "own_sampler.lua:30: no idea (in search.propose)")):
            p.write("own_sampler.lua", text.replace("  local at = stand(known, draw)\n", f"  {wrong} local at\n", 1))
            assert message in p.pioche("run", "own_sampler.lua", expect=1).err


def test_pbt():
    """It ends lower than any constant rate does."""
    def constant(lr):
        square = 100.0
        for _ in range(200):
            square = (1 - lr) ** 2 * square + lr ** 2
        return square / 2
    if os.environ.get("SAN"):
        raise Skip("python3 is not built with the sanitizers")
    with Project() as p:
        where = clone(p)
        p.pioche("run", "recipes/pbt.lua", cwd=where, timeout=400)
        ended = runs(p, where)
        assert [r["status"] for r in ended] == ["finished"] * 64
        best = min(r["metrics"]["loss"]["last"] for r in ended)
        assert best < min(constant(1e-3 * 500 ** (i / 1000)) for i in range(1001)), best
        assert p.pioche("sweep", "replay", "quadratic", "--json", cwd=where).json["same"]
        check_again(p, where, "recipes/pbt.lua")


def test_gpt_and_two_stages():
    if os.environ.get("SAN"):
        raise Skip("the model's own build has no sanitizers")
    with Project(git=False) as p:
        where = clone(p)
        short = ["recipes/gpt.lua", "steps=30", "eval-every=10", "width=32"]
        p.pioche("run", *short, cwd=where, timeout=400)
        done = runs(p, where)
        assert len(done) == 4 and all(r["status"] == "finished" for r in done), done
        best = p.pioche("show", "gpt/best", "--json", cwd=where).json
        assert "val/loss" in repr(best), best
        check_again(p, where, *short)

        built = p.sh("ls checkout/.pioche/cache")
        p.pioche("run", "recipes/two_stage.lua", cwd=where, timeout=400)
        assert p.sh("ls checkout/.pioche/cache") == built, "the model is built once"
        by_name = {r["id"]: r for r in runs(p, where)}
        assert {r["status"] for r in by_name.values()} == {"finished"}
        assert {f"two-stage-small-{i}" for i in (1, 2, 3)} | {"two-stage-big-1", "two-stage-tuned-1"} < set(
            by_name), by_name.keys()
        rates = [r["params"]["lr"] for n, r in by_name.items() if n.startswith("two-stage-small")]
        assert by_name["two-stage-big-1"]["params"]["lr"] in rates
        # The tuned run went on where the big one ended, by its checkpoint.
        big, tuned = (by_name[f"two-stage-{n}-1"]["metrics"]["train/loss"] for n in ("big", "tuned"))
        assert (big["last_step"], tuned["first_step"], tuned["last_step"]) == (120, 121, 160)
        check_again(p, where, "recipes/two_stage.lua")
        # Cut short: what comes to the first rung is on record, whatever was quick enough to end.
        short = ["recipes/asha.lua", "search.runs=3", "steps=250", "eval-every=125"]
        p.pioche("run", *short, cwd=where, timeout=400)
        assert [r["status"] for r in runs(p, where) if r["id"].startswith("asha-")].count("finished") >= 1
        rungs = p.pioche("sql", "SELECT step, count(*) AS n FROM rung GROUP BY step", "--json", cwd=where).json
        assert rungs == [{"step": 125, "n": 3}], rungs
        check_again(p, where, *short)
        # Three of its sizes: the third is predicted before it runs.
        short = ["recipes/ladder.lua", "width=8,12,16", "eval-batches=4"]
        p.pioche("run", *short, cwd=where, timeout=400)
        found = p.pioche("sweep", "show", "ladder", "--json", cwd=where).json["law"]
        assert [point["predicted"] is not None for point in found["points"]] == [False] * 6 + [True] * 3
        assert all(point["error"] is not None for point in found["points"][6:]) and found["law"]["points"] == 9
        check_again(p, where, *short)
        assert p.sh("cd checkout && git status --porcelain") == ""


harness.main()
