#!/usr/bin/env python3
"""A PyTorch program as any tutorial writes it, experiments/torch_ddp/train.py,
run as it is: its ranks find each other, its metrics arrive, and the same metrics
come out wherever its ranks are."""
import hashlib
import json
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
    """Without the lines that know of pioche: the import, and each that logs, saves or
    resumes. A recipe's goal would be a metric that nobody logs."""
    if "pioche.sweep" in text:
        return re.sub(r"^  goal = .*\n", "", text, flags=re.M)
    text, gone = re.subn(r"^\s*(import pioche|run = pioche\..*|run\.log\(.*)\n"
                         r"|^    saved = run(.|\n)*?epoch.*\n|^ *run\.checkpoint\((.|\n)*?\}\)\n", "", text, flags=re.M)
    assert gone == 6 and "pioche" not in text and "run." not in text, text
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


STATE = """
import pioche
import torch

def model_state():
    torch.manual_seed(7)
    square = torch.randn(6, 5)
    return {"a.weight": square.to(torch.bfloat16), "a.turned": square.t(), "a.every": square[::2, 1:4],
            "f8": square.to(torch.float8_e4m3fn), "f5": square.t().to(torch.float8_e5m2),
            "one": torch.tensor(2.5, dtype=torch.float16), "empty": torch.empty(0, 3), "bytes": square.to(torch.int8),
            "mask": square > 0, "parameter": torch.nn.Parameter(square), "double": square.double().expand(2, 6, 5)}

def optim_state():
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, betas=(0.8, 0.9))
    layer(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    return optimizer, optimizer.state_dict()

def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(
            a.detach().contiguous().view(torch.uint8), b.contiguous().view(torch.uint8)) if a.dim() else \
            a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b
"""

SAVE_STATE = STATE + """
with pioche.init() as run:
    model, (_, optim) = model_state(), optim_state()
    run.checkpoint(1, {"model": model, "optim": optim, "extra": {"rng": torch.get_rng_state()}})
"""

READ_STATE = STATE + """
import sys, safetensors.torch
with pioche.init() as run:
    saved, model, (optimizer, optim) = run.resume(), model_state(), optim_state()
    sort = lambda state: dict(sorted(state.items()))
    assert same(sort(model), sort(saved["model"].value(torch=True)))
    back = saved["optim"].value(torch=True)
    assert same(optim, back), (optim, back)
    optimizer.load_state_dict(back)
    torch.set_rng_state(saved["extra"].read("rng", torch=True))
    assert saved["model"]["double"].shape == (2, 6, 5) and saved["model"]["double"].dtype == "float64"
    assert saved["model"]["a.weight"].dtype == "uint16"  # NumPy has no bfloat16
    assert saved["model"]["f8"].dtype == "uint8" and saved["model"].dtype("f8") == "float8_e4m3fn"
    part = saved["model"].read("double", (2, 2, 5), (0, 3, 0), torch=True)
    assert torch.equal(part, model["double"][:, 3:5])
    alone = safetensors.torch.load_file(sys.argv[1].partition("=")[2])
    assert same(sort(model), sort(alone))
    for bad in (torch.empty(2, device="meta"), torch.eye(3).to_sparse(), torch.zeros(2, dtype=torch.complex64)):
        try:
            run.checkpoint(9, {"model": {"w": bad}})
        except TypeError as error:
            assert "'w'" in str(error), error
        else:
            raise SystemExit("%r was saved" % bad)
    run.log({"right": 1.0}, step=2)
"""

READ_RECIPE = """
local pioche = require "pioche"
local save = pioche.program { command = { "python3", "save.py" } }
local read = pioche.program { command = { "python3", "read.py" } }
return function(lab)
  local a = lab:run { name = "save", program = save }
  local b = lab:run { name = "read", program = read, from = a:checkpoint "last", params = { file = "model" } }
  assert(b:metric "right" == 1)
end
"""


def model_file(p, run):
    sha256 = p.sql("SELECT f.sha256 FROM checkpoint_file f JOIN checkpoint c ON c.id = f.checkpoint_id JOIN run r"
                   f" ON r.id = c.run_id JOIN experiment e ON e.id = r.experiment_id WHERE e.name = '{run}' AND"
                   " f.role = 'model' ORDER BY c.step DESC")[0]["sha256"]
    return os.path.join(p.dir, ".pioche", "objects", sha256[:2], sha256)


def test_a_state_comes_back_bit_for_bit():
    """And safetensors alone reads the model: bfloat16, strided and expanded ones too."""
    harness.python_library()
    with project() as p:
        p.write("save.py", SAVE_STATE)
        p.write("r.lua", 'local pioche = require "pioche"\nreturn pioche.sweep { name = "save", program = '
                'pioche.program { command = { "python3", "save.py" } }, space = { x = 1 } }\n')
        p.pioche("run", "r.lua", timeout=200)
        p.write("read.py", READ_STATE)
        p.write("read.lua", READ_RECIPE.replace('"model"', f'"{model_file(p, "save")}"'))
        p.pioche("run", "read.lua", timeout=200)


ALONE = """
import hashlib, json, sys, safetensors.torch, torch
loaded = safetensors.torch.load_file(sys.argv[1])
assert "pioche" not in sys.modules
print(json.dumps({k: hashlib.sha256(v.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
                  for k, v in loaded.items()}))
"""


def test_a_run_goes_on_from_a_checkpoint_as_if_it_had_not_ended():
    harness.python_library()
    with project() as p:
        p.write("r.lua", """
local pioche = require "pioche"
local train = pioche.program { command = { "python3", "experiments/torch_ddp/train.py" } }
return function(lab)
  local launch = { ranks_per_node = 2 }
  local half = lab:run { name = "half", program = train, params = { epochs = 1 }, launch = launch }
  lab:run { name = "rest", program = train, params = { epochs = 3 }, launch = launch,
    from = half:checkpoint "last" }
  lab:run { name = "whole", program = train, params = { epochs = 3 }, launch = launch }
end
""")
        p.pioche("run", "r.lua", timeout=400)
        rest, whole = points(p, "rest-1"), points(p, "whole-1")
        assert len(rest["train/loss", 0]) == 2 * STEPS[2], rest["train/loss", 0][:3]
        for key, told in rest.items():
            assert told == whole[key][-len(told):], key
        with open(model_file(p, "rest"), "rb") as a, open(model_file(p, "whole"), "rb") as b:
            header = [int.from_bytes(f.read(8), "little") for f in (a, b)]
            a.seek(8 + header[0])
            b.seek(8 + header[1])
            assert a.read() == b.read(), "the weights differ"
        # And safetensors alone loads them, as they were saved.
        alone = subprocess.run(["python3", "-c", ALONE, model_file(p, "whole")], env=p.env, check=True,
                               capture_output=True, text=True).stdout
        saved = {name: hashlib.sha256(subprocess.run(
            [harness.PIOCHE, "checkpoint", "cat", "whole-1@last", name], cwd=p.dir, env=p.env, check=True,
            capture_output=True).stdout).hexdigest() for name in json.loads(alone)}
        assert json.loads(alone) == saved and len(saved) >= 4, (alone, saved)


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
