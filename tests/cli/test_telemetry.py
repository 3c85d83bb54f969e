#!/usr/bin/env python3
"""What pioche measures of the machine while ranks run: series of the run beside its own,
the energy of an attempt, a GPU that is slowed. GPUs are the stand-in's."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import GPT, Project  # noqa: E402

RECIPE = """local pioche = require "pioche"
return pioche.sweep {
  name = "t", program = pioche.program { command = { "%s" }, inputs = { text = "text.txt" } },
  space = {
    width = 16, heads = 2, depth = 1, context = 32, batch = 8, steps = %d, ["step-ms"] = 20,
    ["save-every"] = 10, ["eval-every"] = 0, ["sample-bytes"] = 0,
  },
  goal = pioche.minimize "val/loss", launch = { ranks_per_node = 2 }, retry = { attempts = 2, backoff_s = 0 },
}
"""


def project(steps=100, gpus=0, **more):
    p = Project(git=False)
    p.write("r.lua", RECIPE % (GPT, steps))
    p.write("text.txt", harness.lines(4000))
    p.env.update(PIOCHE_SAMPLE_MS="50", LD_LIBRARY_PATH=os.path.join(harness.BUILD, "gpu_host"), **more)
    if gpus:
        p.env["NVML_GPUS"] = str(gpus)
    return p


def measured(p):
    """Key -> ranks."""
    found = {}
    for row in p.sql("SELECT key, rank FROM series WHERE key GLOB 'sys/*' ORDER BY key, rank"):
        found.setdefault(row["key"], []).append(row["rank"])
    return found


def test_nodes_and_gpus_are_measured():
    with project(gpus=2, NVML_HOT="1") as p:
        p.pioche("run", "r.lua")
        series = measured(p)
        assert series["sys/gpu/power_w"] == [0, 1] and series["sys/host/cpus"] == [0], series
        assert not any(key.startswith("sys/gpu1") for key in series), series
        points = p.pioche("sql", "--json", "SELECT rank, min(value) AS low, max(value) AS high, max(step) AS step"
                          " FROM point WHERE key = 'sys/gpu/power_w' GROUP BY rank").json
        assert [(r["rank"], r["low"], r["high"]) for r in points] == [(0, 100, 100), (1, 101, 101)], points
        # By the steps that the ranks were at: rank 0 alone logs any.
        assert 50 < points[1]["step"] <= 100, points
        (attempt,) = p.pioche("show", "t-1", "--json").json["attempts"]
        (row,) = p.sql("SELECT (ended_ns - started_ns) / 1e9 AS took_s FROM attempt")
        assert 201 * 1.5 < attempt["energy_j"] < 201 * (row["took_s"] + 1), (attempt, row)
        assert "GPUs took" in p.pioche("show", "t-1", env={"COLUMNS": "200"}).out
        slowed = p.sql("SELECT rank, message FROM event WHERE kind = 'slowed'")
        assert len(slowed) == 1 and slowed[0]["rank"] == 1, slowed
        assert slowed[0]["message"].startswith("gpu 1 is slowed by its heat at 93 degrees"), slowed
        # What the program logged is what is compared; what was measured comes by the clock.
        assert "sys/" not in p.pioche("compare", "t").out
        chart = p.pioche("chart", "t-1", "-m", "sys/gpu/busy_percent@mean").out
        assert chart.rstrip().splitlines()[-2].rstrip().endswith("time"), chart
        p.check_store()


def test_gpus_of_one_rank_have_names_of_their_own():
    with project(gpus=3) as p:
        p.pioche("run", "r.lua", "launch.ranks_per_node=1", "steps=20")
        series = measured(p)
        for key in ("sys/gpu/energy_j", "sys/gpu1/energy_j", "sys/gpu2/energy_j"):
            assert series[key] == [0], series
        assert "sys/gpu3/energy_j" not in series


def test_gpus_of_others_are_not_measured():
    with project(gpus=4, CUDA_VISIBLE_DEVICES="1,3") as p:
        p.pioche("run", "r.lua", "steps=20")
        powers = p.pioche("sql", "--json", "SELECT DISTINCT rank, value FROM point WHERE key = 'sys/gpu/power_w'"
                          " ORDER BY 1").json
        assert powers == [{"rank": 0, "value": 101.0}, {"rank": 1, "value": 103.0}], powers
        assert not any(key.startswith("sys/gpu1") for key in measured(p)), measured(p)


def test_a_program_that_logs_nothing_is_measured_and_makes_no_step():
    with project(gpus=1) as p:
        p.write("r.lua", """local pioche = require "pioche"
            return pioche.sweep { name = "t", space = { x = 1 },
              program = pioche.program { command = { "sh", "-c", "sleep 0.5" } } }""")
        p.pioche("run", "r.lua")
        assert measured(p)["sys/host/cpus"] == [0]
        (attempt,) = p.pioche("show", "t-1", "--json").json["attempts"]
        assert attempt["step"] is None, attempt


def test_one_word_turns_it_off():
    with project(gpus=2) as p:
        p.pioche("run", "r.lua", "launch.telemetry=false", "steps=40")
        assert measured(p) == {}
        (attempt,) = p.pioche("show", "t-1", "--json").json["attempts"]
        assert attempt["energy_j"] is None, attempt
        # It is no part of what the run is.
        assert "nothing to do" in p.pioche("run", "r.lua", "steps=40").err


def test_an_agent_that_is_killed_leaves_every_point_once():
    with project(200, gpus=2) as whole, project(200, gpus=2) as cut:
        whole.pioche("run", "r.lua")
        run = cut.start("run", "r.lua")
        harness.wait_for(lambda: cut.poll("SELECT 1 FROM checkpoint WHERE step >= 20"), 60, "a checkpoint")
        cut.pioche("drill", "kill-agent", "--yes", timeout=120)
        run.communicate(timeout=120)
        assert run.returncode == 0
        losses = "SELECT step, value FROM point WHERE key = 'train/loss' ORDER BY step"
        assert cut.pioche("sql", "--json", losses).json == whole.pioche("sql", "--json", losses).json
        first, second = cut.pioche("show", "t-1", "--json").json["attempts"]
        assert first["energy_j"] > 0 and second["energy_j"] > 0, (first, second)
        cut.check_store()


harness.main()
