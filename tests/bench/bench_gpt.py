"""Tokens per second of the demo's trainer, one rank on one thread, beside the same
model in eager PyTorch where torch can be imported (pip install torch). Logged
by the program itself; the best of its log lines counts."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

BUILD = os.environ["PIOCHE_BUILD"]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHAPES = [(64, 2, 160), (128, 4, 60)][:1 if os.environ.get("SHORT") else 2]  # width, depth, steps


def ours(text, width, depth, steps):
    scratch = tempfile.mkdtemp(prefix="pioche-bench-")
    try:
        env = {k: v for k, v in os.environ.items() if not k.startswith("PIOCHE_")}
        env.update(PIOCHE_STORE=os.path.join(scratch, ".pioche"), OPENBLAS_NUM_THREADS="1")
        subprocess.run([os.path.join(BUILD, "gpt"), f"--text={text}", f"--width={width}",
                        "--heads=4", f"--depth={depth}", "--context=128", "--batch=8",
                        f"--steps={steps}", "--log-every=20", "--eval-every=0",
                        "--sample-bytes=0"], cwd=scratch, env=env, check=True,
                       capture_output=True)
        rows = subprocess.run([os.path.join(BUILD, "pioche"), "ls", "--json"], cwd=scratch, env=env,
                              check=True, capture_output=True, text=True).stdout
        return json.loads(rows)[0]["metrics"]["tokens_per_s"]["max"]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def torchs(text, width, depth):
    done = subprocess.run([sys.executable, os.path.join(ROOT, "experiments/gpt/bench_torch.py"),
                           f"--text={text}", f"--width={width}", f"--depth={depth}", "--heads=4"],
                          capture_output=True, text=True)
    if done.returncode == 4:
        return None
    done.check_returncode()
    return json.loads(done.stdout.splitlines()[-1])["tokens_per_s"]


def main():
    with tempfile.NamedTemporaryFile() as f:
        subprocess.run(["bible", "-f", "Gen1:1-Rev22:21"], stdout=f, check=True)
        for width, depth, steps in SHAPES:
            peer = torchs(f.name, width, depth)
            value = ours(f.name, width, depth, steps)
            print(json.dumps({
                "name": f"gpt width {width} depth {depth}", "value": value, "unit": "tokens/s",
                "goal": 1.2 * peer if peer else None, "limit": None, "peer": peer}), flush=True)
            if peer is None:
                print("skipped the comparison with PyTorch: torch cannot be imported",
                      file=sys.stderr)


main()
