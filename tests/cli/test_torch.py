#!/usr/bin/env python3
"""A PyTorch program as any tutorial writes it, experiments/torch_ddp/train.py,
run as it is: its ranks find each other, its metrics arrive, and the same metrics
come out wherever its ranks are."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
import torch_venv  # noqa: E402
from harness import ROOT, Project  # noqa: E402
from pod.project import boxed, enter  # noqa: E402

RECIPE = "recipes/torch_ddp.lua"
TRAIN = "experiments/torch_ddp/train.py"
EPOCHS = 6
ACCURACY = 0.9                     # after these; a guess is right in one of ten
SHORT = (f"epochs={EPOCHS}", "lr=0.01")
# A step of every rank; the images that are no test, by ranks and 32 a batch.
STEPS = {2: 23, 4: 12}


def source(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as f:
        return f.read()


def project(edit=lambda text: text):
    """The recipe and its program in a project whose python3 has torch."""
    home = torch_venv.home()
    p = Project()
    p.env["PATH"] = os.path.join(home, "bin") + ":" + p.env["PATH"]
    p.env.update(PYTHONDONTWRITEBYTECODE="1", TMPDIR=p.dir)  # what torch leaves goes with it
    for name in (RECIPE, TRAIN):
        p.write(name, edit(source(name)))
    return p


def points(p, run):
    """{(key, rank): [(step, bits)]} of a run, whenever they were logged."""
    found = {}
    for row in p.pioche("sql", "SELECT key, rank, step, value, bits FROM point WHERE"
                        f" run = '{run}' AND key NOT LIKE 'sys/%' ORDER BY key, rank, step", "--json").json:
        found.setdefault((row["key"], row["rank"]), []).append((row["step"], row["value"], row.get("bits")))
    return found


def check_metrics(p, run, ranks):
    metrics = p.pioche("show", run, "--json").json["metrics"]
    assert metrics["train/loss"]["count"] == EPOCHS * STEPS[ranks], metrics["train/loss"]
    assert metrics["train/loss"]["last"] < metrics["train/loss"]["max"] / 4
    assert metrics["test/accuracy"]["count"] == EPOCHS
    assert metrics["test/accuracy"]["last"] >= ACCURACY, metrics["test/accuracy"]
    counts = p.sql("SELECT rank, count FROM series WHERE key = 'train/loss' AND run_id ="
                   " (SELECT max(run_id) FROM series) ORDER BY rank")
    assert counts == [{"rank": r, "count": EPOCHS * STEPS[ranks]} for r in range(ranks)], counts


def test_it_learns_as_under_torchrun():
    """Two ranks here; what they run with is on record. Under torchrun the same
    program is one run, rank 0's, with the same bits."""
    module = harness.python_library()
    with project() as p:
        p.pioche("run", RECIPE, *SHORT, timeout=400)
        check_metrics(p, "torch-ddp-1", 2)
        told = p.pioche("show", "torch-ddp-1", "--environment", "--json").json["environment"]["documents"]
        assert told["python"]["packages"]["torch"].split("+")[0] == torch_venv.VERSION, told["python"]
        assert "scikit-learn" in told["python"]["packages"]
        assert told["machine"]["variables"]["OMP_NUM_THREADS"] == "1"
        assert f"epoch {EPOCHS - 1}: accuracy" in p.pioche("logs", "torch-ddp-1", "--rank", "0").out
        again = p.pioche("run", RECIPE, *SHORT)
        assert "nothing to do" in again.err, again.err

        done = subprocess.run(
            ["torchrun", "--standalone", "--nproc-per-node=2", TRAIN, f"--epochs={EPOCHS}", "--lr=0.01"],
            cwd=p.dir, env={**p.env, "PYTHONPATH": module}, capture_output=True, text=True, timeout=400,
            check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("rank 0 keeps the run") == 1, done.stderr
        runs = [r["id"] for r in p.pioche("ls", "--all", "--json").json]
        assert sorted(runs) == ["torch-ddp-1", "train-1"], runs
        launched, by_hand = points(p, "torch-ddp-1"), points(p, "train-1")
        assert sorted(by_hand) == [("test/accuracy", 0), ("train/loss", 0)], by_hand.keys()
        for key, told in by_hand.items():
            assert told == launched[key], key


def strip(text):
    """Without the lines that know of pioche: the import, and each that logs. A
    recipe's goal would be a metric that nobody logs."""
    if "pioche.sweep" in text:
        return re.sub(r"^  goal = .*\n", "", text, flags=re.M)
    text, gone = re.subn(r"^\s*(import pioche|run = pioche\..*|run\.log\(.*)\n", "", text, flags=re.M)
    assert gone == 4 and "pioche" not in text, text
    return text


def test_without_a_line_about_pioche_it_runs():
    """No metrics then; the code, the output, the ending and the machine are on record."""
    with project(strip) as p:
        p.pioche("run", RECIPE, *SHORT, timeout=400)
        run = p.pioche("show", "torch-ddp-1", "--environment", "--json").json
        assert run["status"] == "finished" and all(k.startswith("sys/") for k in run["metrics"]) and len(run["commit"]) == 40, run
        said = p.pioche("logs", "torch-ddp-1", "--rank", "0").out
        accuracy = float(re.search(rf"epoch {EPOCHS - 1}: accuracy ([0-9.]+)", said).group(1))
        assert accuracy >= ACCURACY, said
        assert "kernel" in run["environment"]["documents"]["machine"]


def test_two_nodes_of_slurm_give_the_same_bits():
    """Four ranks, on two nodes or on this machine: every point of every rank."""
    with project() as p, boxed(2) as box:
        enter(p, box)
        p.pioche("run", RECIPE, *SHORT, "launch.ranks_per_node=4", timeout=400)
        p.pioche("run", RECIPE, *SHORT, "launch.ranks_per_node=2", "launch.nodes=2", timeout=400)
        assert len(box.jobs()) == 1
        check_metrics(p, "torch-ddp-2", 4)
        here, there = points(p, "torch-ddp-1"), points(p, "torch-ddp-2")
        assert len(here) == 5, here.keys()
        assert here == there
        told = p.pioche("show", "torch-ddp-2", "--ranks", "--environment", "--json").json
        assert [r["node"] for r in told["ranks"]] == [n for n in box.nodes for _ in range(2)]
        assert [n["host"] for n in told["environment"]["nodes"]] == box.nodes
        assert not any(n["differs"] for n in told["environment"]["nodes"]), told["environment"]["nodes"]


if __name__ == "__main__":
    harness.main()
