#!/usr/bin/env python3
"""`make cuda`: all CUDA sources compile with nvcc for sm_90, warnings as errors,
and what core/ declares of NCCL, CUDA and NVML agrees with their headers. Where
there is no nvcc it says what is left out and is content."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import BUILD, ROOT, Skip  # noqa: E402

def make(*arguments, **env):
    """In a build directory apart: a sanitizer's flags are no matter of nvcc's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "SAN"}
    return subprocess.run(["make", *arguments], cwd=ROOT, env={**kept, **env}, capture_output=True,
                          text=True, check=False)


def test_everything_compiles_for_sm_90():
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    if not os.path.exists(nvcc):
        raise Skip("nvcc is missing")
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True,
                      check=False).returncode:
        raise Skip("pip is missing")
    build = os.path.relpath(os.path.dirname(BUILD) if os.environ.get("SAN") else BUILD, ROOT)
    done = make(f"BUILD={build}", "cuda")
    if "pip could not get" in done.stderr:
        raise Skip("pip cannot get NVIDIA's packages here")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("cuda/abi.o", "cuda/nccl_ranks", "cuda/kernels", "gpt_cuda"):
        assert os.path.exists(os.path.join(ROOT, build, name)), name
    with open(os.path.join(ROOT, build, "gpt_cuda"), "rb") as f:
        program = f.read()
    assert b"gpu_host" not in program and b"libcublas.so" in program, "it is not the stand-in's"
    assert b"sm_90" in program


def test_without_nvcc_it_says_what_is_left_out():
    done = make("cuda", "NVCC=")
    assert done.returncode == 0, done
    assert done.stdout == "cuda: no nvcc on this machine. Left out: gpt_cuda, and the tests of tests/gpu\n"


def test_the_stand_in_is_not_installed():
    done = make("-n", f"BUILD={os.path.relpath(BUILD, ROOT)}", "install")
    installs = [line for line in done.stdout.splitlines() if line.lstrip().startswith("install")]
    assert done.returncode == 0 and len(installs) > 5, done
    assert not any("gpu_host" in line or "gpt_cuda" in line for line in installs), installs


if __name__ == "__main__":
    harness.main()
