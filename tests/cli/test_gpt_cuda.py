#!/usr/bin/env python3
"""gpt_cuda on the stand-in of tests/gpu_host, beside gpt on the CPU: each kernel,
whole curves, checkpoints that either reads, ranks that add up by NCCL, and what
it says where it cannot go on. The CUDA sources are the ones that nvcc compiles;
what a real GPU would make of them is tested by tests/gpu alone."""
import glob
import os
import signal
import subprocess
import sys

TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path[:0] = [TESTS, os.path.join(TESTS, "gpu")]
import compare  # noqa: E402
import harness  # noqa: E402
from harness import BUILD, GPT, Project, lines, ranks_of, wait_for  # noqa: E402

# tests/gpu/test_gpu.py puts a GPU's in their place.
HOST = os.path.join(BUILD, "gpu_host")
GPT_CUDA = os.path.join(HOST, "gpt_cuda")
KERNELS_CUDA = os.path.join(BUILD, "tests", "kernels_host")
NOTHING_LEFT = "gpu_host: 0 blocks of device memory, 0 of pinned memory not freed\n"
# Largest difference of an array, in parts of its largest value. The order of
# additions differs, and exp(); bf16 has 8 bits of a float's 24.
KERNELS = {"f32": 1e-5, "bf16": 3e-2}
# Of losses (4 to 6 nats) along 12 steps, each from weights that differ already.
LOSSES = {"f32": 2e-4, "bf16": 3e-2}

RECIPE = """local pioche = require "pioche"
return pioche.sweep { name = "n", program = pioche.program { command = { %s }, inputs = { text = "text.txt" },
    env = { LD_LIBRARY_PATH = "%s", GPU_HOST_GPUS = "8" } },
  space = { width = 24, heads = 2, depth = 2, context = 16, batch = 8, steps = 12, lr = 1e-2, warmup = 2,
    ["eval-every"] = 6, ["eval-batches"] = 1, ["save-every"] = %d, ["sample-bytes"] = 20, ["sample-every"] = 6,
    temperature = 0, precision = "%s", optimizer = "%s" },
  goal = pioche.minimize "val/loss", launch = { ranks_per_node = %d }, retry = { attempts = 3 } }
"""


def project(program, precision="f32", optimizer="adamw", ranks=1, save_every=0):
    p = Project(git=False)
    p.write("text.txt", lines(1500))
    command = ", ".join(f'"{word}"' for word in ([program] if isinstance(program, str) else program))
    p.write("recipe.lua", RECIPE % (command, HOST, save_every, precision, optimizer, ranks))
    return p


def curves(p):
    rows = p.pioche("sql", "--json", "SELECT key, rank, step, value FROM point WHERE run = 'n-1' "
                    "AND key != 'tokens_per_s' AND key NOT GLOB 'sys/*' ORDER BY key, rank, step").json
    assert rows
    return {(r["key"], r["rank"], r["step"]): r["value"] for r in rows}


def trained(*args, **options):
    with project(*args, **options) as p:
        p.pioche("run", "recipe.lua")
        return curves(p)


def far(a, b, keys=("train/loss", "val/loss", "val/bigram")):
    """The largest difference of the losses of two curves that have the same points."""
    assert a.keys() == b.keys(), set(a) ^ set(b)
    return max(abs(v - b[k]) for k, v in a.items() if k[0] in keys)


def kernels(precision, **env):
    """What the GPU's kernels wrote, once it is known to be near to what the CPU's did."""
    with Project(git=False) as p:
        cpu, gpu = p.path("cpu"), p.path("gpu")
        subprocess.run([os.path.join(BUILD, "tests", "kernels_cpu"), "f32", cpu], env=p.env, check=True)
        done = subprocess.run([KERNELS_CUDA, precision, gpu], capture_output=True, text=True, check=False,
                              env=dict(p.env, LD_LIBRARY_PATH=HOST, GPU_HOST_LEAKS="1", **env))
        assert (done.returncode, done.stderr) == (0, NOTHING_LEFT), done
        wrong = {k: v for k, v in compare.differences(cpu, gpu).items() if not v <= KERNELS[precision]}
        assert not wrong, wrong
        with open(gpu, "rb") as f:
            return f.read()


def test_each_kernel_does_what_the_cpu_does():
    """And whatever the order in which the threads of a block run."""
    assert kernels("f32") == kernels("f32", GPU_HOST_ORDER="reverse")


def test_each_kernel_does_it_in_bf16():
    assert kernels("bf16") == kernels("bf16", GPU_HOST_ORDER="reverse")


def test_curves_are_those_of_the_cpu():
    for optimizer in ("adamw", "sgd"):
        cpu, gpu = trained(GPT, optimizer=optimizer), trained(GPT_CUDA, optimizer=optimizer)
        assert far(cpu, gpu) <= LOSSES["f32"], far(cpu, gpu)
        assert far(cpu, gpu, ("grad/norm",)) <= 1e-2, far(cpu, gpu, ("grad/norm",))
        assert all(gpu[k] == v for k, v in cpu.items() if k[0] == "lr")


def test_curves_in_bf16_are_near():
    distance = far(trained(GPT), trained(GPT_CUDA, "bf16"))
    assert 0 < distance <= LOSSES["bf16"], distance


def test_samples_are_those_of_the_cpu():
    said = []
    for program in (GPT, GPT_CUDA):
        with Project(git=False) as p:
            p.write("text.txt", lines(1500))
            done = subprocess.run([program, "--text=text.txt", "--width=16", "--heads=2", "--depth=1",
                                   "--context=12", "--steps=3", "--temperature=0", "--sample-bytes=30",
                                   "--batch=2", "--eval-batches=1"], cwd=p.dir,
                                  env=dict(p.env, LD_LIBRARY_PATH=HOST), capture_output=True, text=True, check=True)
            said.append(done.stdout.split("--- sample\n")[1])
    assert said[0] == said[1] and len(said[0]) > 30, said


SWITCH = """#!/bin/sh
# The first attempt is one program's, and fails after six of the steps; the next is the other's.
first=$1 second=$2
shift 2
if [ "$PIOCHE_ATTEMPT" = 1 ]; then "$first" "$@" --steps=6 && exit 1; fi
exec "$second" "$@"
"""


def switched(first, second, precision="f32"):
    with project(["./switch.sh", first, second], precision) as p:
        p.write("switch.sh", SWITCH, 0o755)
        p.pioche("run", "recipe.lua")
        attempts = p.sql("SELECT number, resume_checkpoint AS resumed FROM attempt ORDER BY number")
        assert len(attempts) == 2 and attempts[1]["resumed"], attempts
        p.check_store()
        return curves(p)


def test_checkpoints_are_read_by_both():
    alone = switched(GPT, GPT)
    for first, second in ((GPT, GPT_CUDA), (GPT_CUDA, GPT)):
        mixed = switched(first, second)
        assert far(alone, mixed) <= LOSSES["f32"], far(alone, mixed)
    # In bf16 too what is kept are the weights of f32.
    with project(["./switch.sh", GPT_CUDA, GPT_CUDA], "bf16") as p:
        p.write("switch.sh", SWITCH, 0o755)
        p.pioche("run", "recipe.lua")
        assert far(alone, curves(p)) <= LOSSES["bf16"]
        types = p.sql("SELECT DISTINCT dtype FROM tensor ORDER BY 1")
        assert [t["dtype"] for t in types] == ["F32", "I64"], types


RESHARDED = """local pioche = require "pioche"
local function program(path)
  return pioche.program { command = { path }, inputs = { text = "text.txt" },
    env = { LD_LIBRARY_PATH = "%s", GPU_HOST_GPUS = "8" } }
end
return function(lab)
  local function train(name, path, ranks, steps, from)
    return lab:run { name = name, program = program(path), from = from and from:checkpoint "last",
      params = { width = 24, heads = 2, depth = 2, context = 16, batch = 8, steps = steps,
        ["eval-batches"] = 1, ["sample-bytes"] = 0 }, launch = { ranks_per_node = ranks } }
  end
  local four = train("four", "%s", 4, 6)
  train("back", "%s", 4, 6, train("two", "%s", 2, 6, four))
end
"""


def test_either_takes_the_state_that_many_ranks_of_the_other_saved():
    for first, second in ((GPT, GPT_CUDA), (GPT_CUDA, GPT)):
        with project(GPT) as p:
            p.write("recipe.lua", RESHARDED % (HOST, first, first, second))
            p.pioche("run", "recipe.lua")
            files = {name: p.sql("SELECT f.rank, f.role, f.sha256 FROM checkpoint_file f JOIN checkpoint c ON c.id ="
                                 " f.checkpoint_id JOIN run r ON r.id = c.run_id JOIN experiment e ON e.id ="
                                 f" r.experiment_id WHERE e.name = '{name}' ORDER BY 1, 2")
                     for name in ("four", "two", "back")}
            assert [len(files[n]) for n in ("four", "two", "back")] == [10, 6, 10], files
            assert files["back"] == files["four"], (first, second)


def test_two_and_four_ranks_add_up():
    for ranks in (2, 4):
        cpu, gpu = trained(GPT, ranks=ranks), trained(GPT_CUDA, ranks=ranks)
        assert far(cpu, gpu) <= LOSSES["f32"], far(cpu, gpu)
    assert gpu == trained(GPT_CUDA, ranks=4), "the same bits again"


def test_a_killed_rank_leaves_no_trace_in_the_curve():
    with project(GPT_CUDA, ranks=3, save_every=2) as whole, project(GPT_CUDA, ranks=3, save_every=2) as cut:
        for p in (whole, cut):
            p.write("recipe.lua", p.read("recipe.lua").replace("batch = 8", "batch = 6").replace("steps = 12", "steps = 24"))
        whole.pioche("run", "recipe.lua")
        process = cut.start("run", "recipe.lua")
        wait_for(lambda: glob.glob(f"{cut.store}/staging/*/step-4"), 60, "a checkpoint")
        os.kill(ranks_of(cut, "gpt_cuda")[1], signal.SIGKILL)
        process.communicate(timeout=120)
        assert process.returncode == 0
        attempts = cut.sql("SELECT result, signal FROM attempt ORDER BY number")
        assert attempts == [{"result": "signal", "signal": 9}, {"result": "ok", "signal": None}], attempts
        assert curves(whole) == curves(cut)


def test_a_rank_that_stands_still_is_waited_for_no_longer_than_told():
    with project(GPT_CUDA, ranks=3, save_every=2) as p:
        p.write("recipe.lua", p.read("recipe.lua").replace("batch = 8", "batch = 6, patience = 2")
                .replace("steps = 12", "steps = 1000000").replace("ranks_per_node = 3", "ranks_per_node = 3, grace_s = 1")
                .replace("attempts = 3", "attempts = 1"))
        process = p.start("run", "recipe.lua")
        wait_for(lambda: glob.glob(f"{p.store}/staging/*/step-4"), 60, "a checkpoint")
        os.kill(ranks_of(p, "gpt_cuda")[1], signal.SIGSTOP)
        process.communicate(timeout=120)
        assert process.returncode == 1
        said = "".join(open(n, encoding="utf-8").read() for n in glob.glob(f"{p.store}/runs/*/1/rank-*.err"))
        assert "a collective was not done within 2000 ms: another rank has not come to it" in said, said


FAULT = """#!/bin/sh
[ "$RANK" = 1 ] && export GPU_HOST_FAULT=900
exec '%s' "$@"
"""


def test_a_kernel_that_goes_astray_ends_its_rank_with_its_name():
    with project("./fault.sh", ranks=3, save_every=2) as p:
        p.write("fault.sh", FAULT % GPT_CUDA, 0o755)
        p.write("recipe.lua", p.read("recipe.lua").replace("batch = 8", "batch = 6").replace("steps = 12", "steps = 1000000")
                .replace("attempts = 3", "attempts = 1"))
        p.pioche("run", "recipe.lua", expect=1)
        attempt = p.sql("SELECT result, rank, exit_code FROM attempt")[0]
        assert attempt == {"result": "failed", "rank": 1, "exit_code": 3}, attempt
        said = "".join(open(n, encoding="utf-8").read() for n in glob.glob(f"{p.store}/runs/*/1/rank-1.err"))
        assert "an illegal memory access was encountered (700)" in said, said
        p.check_store()


def says(status, words, *flags, program=GPT_CUDA, **env):
    with Project(git=False) as p:
        p.write("t.txt", lines(200))
        done = subprocess.run([program, "--text=t.txt", "--steps=1", *flags], cwd=p.dir, check=False,
                              env=dict(p.env, LD_LIBRARY_PATH=HOST, **env), capture_output=True, text=True)
        assert done.returncode == status and words in done.stderr, (status, words, done)


def test_what_cannot_be_is_said():
    says(3, "no GPU: CUDA sees none on this node (`gpt` trains on the CPU)", GPU_HOST_GPUS="0")
    says(3, "no memory for a model of width 512", "--width=512", GPU_HOST_MEMORY="10000000")
    says(1, "--heads=1: on a GPU, expected heads of at most 128 channels; --width=256 makes them 256",
         "--width=256", "--heads=1")
    says(2, "--precision=fp8: expected f32 or bf16", "--precision=fp8")
    says(1, "--precision=bf16: expected f32 on a CPU (gpt_cuda has bf16)", "--precision=bf16", program=GPT)
    with project(GPT_CUDA, ranks=3) as p:
        p.write("recipe.lua", p.read("recipe.lua").replace('GPUS = "8"', 'GPUS = "2"')
                .replace("batch = 8", "batch = 6").replace("attempts = 3", "attempts = 1"))
        p.pioche("run", "recipe.lua", expect=1)
        out = "".join(open(n, encoding="utf-8").read() for n in glob.glob(f"{p.store}/runs/*/1/rank-2.err"))
        assert "no GPU for rank 2 of this node: CUDA sees 2 of them" in out, out


if __name__ == "__main__":
    harness.main()
