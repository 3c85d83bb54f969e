#!/usr/bin/env python3
"""What needs a real GPU: the promises of test_gpt_cuda.py and test_nccl.py, kept by
the programs that nvcc built. `make test-gpu` runs it; each test names what it
lacks."""
import ctypes
import glob
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "..", "cli")]
import harness  # noqa: E402
import test_gpt_cuda as gpt  # noqa: E402
import test_nccl as nccl  # noqa: E402
import test_save_gpu as saves  # noqa: E402
from harness import BUILD, Project, Skip  # noqa: E402

CUDA = os.path.join(BUILD, "cuda")
gpt.GPT_CUDA = os.path.join(BUILD, "gpt_cuda")
gpt.KERNELS_CUDA = os.path.join(CUDA, "kernels")
gpt.NOTHING_LEFT = saves.NOTHING_LEFT = ""
nccl.RANKS = os.path.join(CUDA, "nccl_ranks")
gpt.HOST = nccl.HOST = saves.HOST = os.path.join(CUDA, "lib")


def gpus(wanted):
    """Skip where CUDA sees fewer than so many."""
    if not os.path.exists(gpt.GPT_CUDA):
        raise Skip("gpt_cuda, which make cuda builds where there is nvcc")
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise Skip("a GPU: there is no libcuda.so.1") from None
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or count.value < wanted:
        raise Skip(f"{wanted} GPUs: CUDA sees {count.value}")


def test_the_machine():
    """Says what the others ran on."""
    gpus(1)
    for query in ("driver_version", "name", "memory.total"):
        out = subprocess.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"],
                             capture_output=True, text=True, check=True).stdout
        print(f"# {query}: {', '.join(out.split(chr(10)))}")
    print("# libraries:", ", ".join(os.path.basename(n) for n in glob.glob(f"{CUDA}/lib/*.so.*")))


def test_each_kernel_does_what_the_cpu_does():
    gpus(1)
    gpt.test_each_kernel_does_what_the_cpu_does()


def test_each_kernel_does_it_in_bf16():
    gpus(1)
    gpt.test_each_kernel_does_it_in_bf16()


def test_curves_are_those_of_the_cpu():
    gpus(1)
    gpt.test_curves_are_those_of_the_cpu()
    gpt.test_curves_in_bf16_are_near()
    assert gpt.trained(gpt.GPT_CUDA) == gpt.trained(gpt.GPT_CUDA), "the same bits again"


def test_checkpoints_are_read_by_both():
    gpus(1)
    gpt.test_checkpoints_are_read_by_both()


def test_tensors_are_saved_from_where_they_are():
    gpus(1)
    saves.test_tensors_on_a_gpu_are_saved_from_there()


def test_two_and_four_ranks_add_up():
    gpus(4)
    gpt.test_two_and_four_ranks_add_up()


def test_ranks_that_are_killed_or_stand_still():
    gpus(3)
    gpt.test_a_killed_rank_leaves_no_trace_in_the_curve()
    gpt.test_a_rank_that_stands_still_is_waited_for_no_longer_than_told()


def test_communicators():
    gpus(4)
    for world in (1, 2, 4):
        nccl.World(world, "sum").all_well()
    nccl.World(4, "sum", 2).all_well()
    nccl.test_a_killed_rank_is_named_to_those_who_wait_for_it()


def test_groups():
    gpus(5)
    nccl.test_groups_add_up_by_themselves()


def test_missing_ranks():
    gpus(3)
    nccl.test_a_rank_that_does_not_come_to_the_start_is_waited_for_no_longer_than_told()
    nccl.test_a_rank_that_does_not_come_to_a_collective_is_waited_for_no_longer_than_told()
    nccl.test_who_gave_up_a_group_does_not_wait_for_all_ranks_to_leave()


def test_without_a_gpu_it_says_so():
    if not os.path.exists(gpt.GPT_CUDA):
        raise Skip("gpt_cuda, which make cuda builds where there is nvcc")
    with Project(git=False) as p:
        p.write("t.txt", harness.lines(200))
        done = subprocess.run([gpt.GPT_CUDA, "--text=t.txt"], cwd=p.dir, capture_output=True, text=True,
                              env=dict(p.env, CUDA_VISIBLE_DEVICES=""), check=False)
        assert done.returncode == 3 and "no GPU: CUDA sees none on this node" in done.stderr, done


if __name__ == "__main__":
    harness.main()
