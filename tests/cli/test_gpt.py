#!/usr/bin/env python3
"""The reference trainer through the whole house: bit-identical curves, resume
that leaves no trace in them, checkpoints that open elsewhere."""
import glob
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import GPT, Project, ranks_of, wait_for  # noqa: E402

RECIPE = """
local pioche = require "pioche"
return pioche.sweep {
  name = "tiny",
  program = pioche.program { command = { "%s" }, inputs = { text = "text.txt" } },
  space = {
    lr = 3e-3, width = 32, heads = 2, depth = 2, context = 32, batch = 8,
    steps = %d, ["save-every"] = 10, ["eval-every"] = 20, ["sample-bytes"] = 0,
  },
  goal = pioche.minimize "val/loss",
  launch = { ranks_per_node = %d },
  retry = { attempts = 3 },
}
"""


def project(steps, ranks):
    p = Project(git=False)
    p.write("recipe.lua", RECIPE % (GPT, steps, ranks))
    p.write("text.txt", "".join(f"{i} and the {i * i} words of line {i * 7919 % 1000}\n"
                                for i in range(4000)))
    return p


def curves(p):
    rows = p.pioche("sql", "--json", "SELECT key, rank, step, value FROM point WHERE run = 'tiny-1' "
                    "AND key != 'tokens_per_s' AND key NOT GLOB 'sys/*' ORDER BY key, rank, step").json
    assert rows
    return [tuple(sorted(r.items())) for r in rows]


def test_same_seed_and_world_size_give_the_same_bits():
    with project(40, 2) as a, project(40, 2) as b:
        a.pioche("run", "recipe.lua")
        b.pioche("run", "recipe.lua")
        assert curves(a) == curves(b)


def test_a_step_takes_as_long_as_it_is_told_and_gives_the_same_bits():
    with project(20, 1) as a, project(20, 1) as b:
        b.write("recipe.lua", (RECIPE % (GPT, 20, 1)).replace("batch = 8,", 'batch = 8, ["step-ms"] = 50,'))
        a.pioche("run", "recipe.lua")
        b.pioche("run", "recipe.lua")
        assert curves(a) == curves(b)
        quickest = max(r["value"] for r in b.pioche(
            "sql", "--json", "SELECT value FROM point WHERE key = 'tokens_per_s'").json)
        assert quickest <= 8 * 32 / 0.05, quickest


def resumed(ranks):
    with project(1500, ranks) as whole, project(1500, ranks) as cut:
        whole.pioche("run", "recipe.lua")
        process = cut.start("run", "recipe.lua")
        # Some checkpoints are complete when the fifth is being written.
        wait_for(lambda: glob.glob(f"{cut.store}/staging/*/step-50"), 30, "a checkpoint")
        victim = ranks_of(cut, "gpt")[0]
        os.kill(victim, signal.SIGKILL)
        process.communicate(timeout=120)
        assert process.returncode == 0
        run = cut.pioche("show", "tiny-1", "--json").json
        run = run[0] if isinstance(run, list) else run
        assert len(run["attempts"]) == 2, run["attempts"]
        first = run["attempts"][0]
        assert first["result"] == "signal" and first["signal"] == 9, first
        resume = cut.sql("SELECT resume_checkpoint FROM attempt WHERE number = 2")[0]
        assert resume["resume_checkpoint"], "the second attempt starts from a checkpoint"
        assert curves(whole) == curves(cut)
        assert len(whole.sql("SELECT 1 FROM attempt")) == 1
        cut.check_store()


def test_cut_and_resumed_equals_uncut_with_one_rank():
    resumed(1)


def test_cut_and_resumed_equals_uncut_with_two_ranks():
    resumed(2)


def test_a_run_that_is_asked_to_stop_saves_and_goes_on_from_there():
    with project(1500, 2) as whole, project(1500, 2) as cut:
        for p in (whole, cut):
            p.write("recipe.lua", p.read("recipe.lua").replace('["save-every"] = 10', '["save-every"] = 0'))
        whole.pioche("run", "recipe.lua")
        process = cut.start("run", "recipe.lua")
        wait_for(lambda: cut.poll("SELECT 1 FROM series WHERE key = 'train/loss' AND last_step > 50"))
        assert cut.pioche("stop", "tiny").out == "tiny-1 is asked to stop\n"
        process.communicate(timeout=60)
        first = cut.sql("SELECT result, step FROM attempt")[0]
        assert first["result"] == "cancelled", first
        saved = cut.sql("SELECT step, state FROM checkpoint")
        assert saved == [{"step": first["step"], "state": "sealed"}], (saved, first)
        assert f"step {first['step']} is saved" in cut.pioche("logs", "tiny-1", "--rank", "0", "--stderr").out
        cut.pioche("run", "recipe.lua")
        second = cut.sql("SELECT result, resume_checkpoint AS resume FROM attempt WHERE number = 2")[0]
        assert second["result"] == "ok" and second["resume"], second
        assert curves(whole) == curves(cut), "no step is missing, none is there twice"


RESHARDED = """
local pioche = require "pioche"
local gpt = pioche.program { command = { "%s" }, inputs = { text = "text.txt" } }
return function(lab)
  -- Within the warm-up a rate does not depend on how many steps there are to be.
  local function train(name, ranks, steps, from)
    return lab:run { name = name, program = gpt, from = from and from:checkpoint "last",
      params = { width = 32, heads = 2, depth = 2, context = 32, batch = 8, steps = steps, warmup = 100,
        optimizer = "%s", ["eval-every"] = 8, ["sample-bytes"] = 0 },
      launch = { ranks_per_node = ranks } }
  end
  for _, ranks in ipairs { 1, 2, 4 } do
    local whole, half = train("whole" .. ranks, ranks, 16), train("half" .. ranks, ranks, 8)
    train("rest" .. ranks, ranks, 16, half)
  end
  local four = train("half4", 4, 8)
  local two = train("two", 2, 8, four)
  local back = train("back", 4, 8, train("one", 1, 8, two))
  train("rest", 4, 16, back)
  local on = train("on2", 2, 12, four)
  train("on4", 4, 16, on)
  train("same4", 4, 16, train("same2", 2, 12, two))
end
"""


def saved(p, experiment):
    """What its newest checkpoint holds: a line for each file, without what names run or attempt."""
    rows = p.sql(f"SELECT f.rank, f.role, f.sha256 FROM checkpoint_file f WHERE f.checkpoint_id = (SELECT c.id"
                 f" FROM checkpoint c JOIN run r ON r.id = c.run_id JOIN experiment e ON e.id = r.experiment_id"
                 f" WHERE e.name = '{experiment}' ORDER BY c.step DESC LIMIT 1) ORDER BY 1, 2")
    assert rows, experiment
    return [(r["rank"], r["role"], r["sha256"]) for r in rows]


def logged(p, experiment, first):
    rows = p.pioche("sql", "--json", f"SELECT key, step, value FROM point WHERE run = '{experiment}-1' AND step >="
                    f" {first} AND key IN ('train/loss', 'val/loss', 'grad/norm', 'lr') ORDER BY 1, 2").json
    assert rows, experiment
    return [(r["key"], r["step"], r["value"]) for r in rows]


def test_a_state_that_is_cut_for_other_ranks_is_the_same_bits():
    for optimizer in ("adamw", "sgd"):
        with project(1, 1) as p:
            p.write("recipe.lua", RESHARDED % (GPT, optimizer))
            p.pioche("run", "recipe.lua")
            for ranks in (1, 2, 4):
                assert logged(p, f"whole{ranks}", 9) == logged(p, f"rest{ranks}", 9), ranks
                assert saved(p, f"whole{ranks}") == saved(p, f"rest{ranks}"), ranks
            # The optimizer's state lies with all ranks, the weights with the first.
            roles = ["optim.m"] + (["optim.v"] if optimizer == "adamw" else [])
            assert [f[:2] for f in saved(p, "half4")] == [
                (rank, role) for rank in range(4) for role in (["extra", "model"] if rank == 0 else []) + roles]
            runs = p.sql("SELECT count(*) AS n FROM tensor t JOIN checkpoint_file f USING (sha256) WHERE"
                         " t.part_begin IS NOT NULL AND f.role LIKE 'optim.%'")[0]["n"]
            assert runs, "some tensors are cut"
            # 4 -> 2 -> 1 -> 4 ranks without a step: the same files, and from there the same curve.
            assert saved(p, "back") == saved(p, "half4")
            assert [f[0] for f in saved(p, "two") if f[1] == "optim.m"] == [0, 1]
            assert logged(p, "rest", 9) == logged(p, "whole4", 9)
            # 4 -> 2 -> 4 with steps at each: how the state was cut makes no difference.
            assert logged(p, "on2", 9) == logged(p, "same2", 9) and saved(p, "on2") == saved(p, "same2")
            assert logged(p, "on4", 13) == logged(p, "same4", 13) and saved(p, "on4") == saved(p, "same4")
            # Two ranks add up in another order than four: near, and no more than that.
            far = max(abs(a[2] - b[2]) for a, b in zip(logged(p, "on4", 13), logged(p, "whole4", 13)))
            assert far < 1e-4, far
            p.check_store()


ALREADY_THERE = """
local pioche = require "pioche"
local function gpt(setup, wrap)
  return pioche.program { command = { "%s" }, inputs = { text = "text.txt" }, setup = setup, wrap = wrap }
end
return function(lab)
  local function train(name, program, from)
    return lab:run { name = name, program = program, from = from and from:checkpoint "last",
      params = { width = 16, heads = 2, depth = 1, context = 32, batch = 8, steps = 4, ["sample-bytes"] = 0 },
      retry = { attempts = 2, backoff_s = 0 } }
  end
  local whole = train("whole", gpt())
  train("before", gpt('test "$PIOCHE_ATTEMPT" != 1 || exit 3'), whole)
  train("behind", gpt(nil, { "sh", "-c", '"$@" && test "$PIOCHE_ATTEMPT" != 1', "sh" }), whole)
end
"""


def test_a_run_that_starts_at_its_last_step_has_a_checkpoint_of_its_own():
    """Whether its first attempt failed before it was saved, or behind that."""
    with project(4, 1) as p:
        p.write("there.lua", ALREADY_THERE % GPT)
        p.pioche("run", "there.lua")
        for name in ("before", "behind"):
            assert p.sql(f"SELECT result FROM attempt a JOIN run r ON r.id = a.run_id JOIN experiment e ON e.id ="
                         f" experiment_id WHERE e.name = '{name}' ORDER BY a.number") == [
                             {"result": "failed"}, {"result": "ok"}]
            assert saved(p, name) == saved(p, "whole"), name
        p.check_store()


def test_the_best_run_beats_the_bigram():
    with project(150, 1) as p:
        p.pioche("run", "recipe.lua")
        run = p.pioche("ls", "tiny", "--json").json[0]
        assert run["metrics"]["val/loss"]["last"] < run["metrics"]["val/bigram"]["last"], run["metrics"]


def test_bad_flags_are_named():
    with Project(git=False) as p:
        p.write("t.txt", "x" * 3000)
        for flags, status, words in (
                (["--text=missing.txt"], 1, ["--text", "missing.txt"]),
                (["--text=t.txt", "--width=abc"], 2, ["--width", "abc"]),
                (["--text=t.txt", "--wdith=3"], 2, ["--wdith"]),
                (["--text=t.txt", "--width=10", "--heads=3"], 1, ["width", "heads"]),
        ):
            done = harness.subprocess.run([GPT, *flags], cwd=p.dir, env=p.env, capture_output=True,
                                          text=True)
            assert done.returncode == status, (flags, done)
            assert all(w in done.stderr for w in words), (flags, done.stderr)


harness.main()
