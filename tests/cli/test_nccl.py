#!/usr/bin/env python3
"""NCCL over pio_comm, on the stand-in of tests/gpu_host, through the real agent
and rendezvous: sums, groups, many unique ids, old libraries, and every way in
which a rank can be missing."""
import glob
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import BUILD, Project  # noqa: E402

RANKS = os.path.join(BUILD, "tests", "nccl_ranks")
HOST = os.path.join(BUILD, "gpu_host")
RECIPE = """local pioche = require "pioche"
return pioche.sweep { name = "n", space = { x = 1 },
  program = pioche.program { command = { "%s", %s }, args = function() return {} end,
    env = { %s } },
  launch = { ranks_per_node = %d }, retry = { attempts = 1 } }
"""


class World:
    """What each rank of one run said; status is pioche's."""

    def __init__(self, world, *arguments, library=HOST, **env):
        with Project(git=False) as p:
            env["LD_LIBRARY_PATH"] = f"{library}:{HOST}"
            p.write("r.lua", RECIPE % (RANKS, ", ".join(f'"{a}"' for a in arguments),
                                       ", ".join(f'{k} = "{v}"' for k, v in env.items()), world))
            done = p.pioche("run", "r.lua", expect=None)
            self.status, self.err = done.status, done.err
            self.out = []
            for rank in range(world):
                text = ""
                for name in sorted(glob.glob(f"{p.store}/runs/*/1/rank-{rank}.*")):
                    with open(name, encoding="utf-8") as f:
                        text += f.read()
                self.out.append(text)
            self.attempt = p.sql("SELECT * FROM attempt")[0]

    def all_well(self):
        assert self.status == 0, (self.err, self.out)
        for rank, text in enumerate(self.out):
            assert f"rank {rank} of {len(self.out)}: well" in text, text


def test_ranks_add_up_on_one_two_and_four_gpus():
    for world in (1, 2, 4):
        World(world, "sum", GPU_HOST_GPUS=world).all_well()


def test_groups_add_up_by_themselves():
    World(4, "groups").all_well()
    World(5, "groups").all_well()


def test_many_ids_are_made_by_evenly_spaced_ranks():
    """The stand-in ends a rank that comes with an id of another share, or whose id
    was made elsewhere than NCCL expects."""
    for world, each in ((4, 1), (5, 2), (6, 4)):
        World(world, "sum", each).all_well()


def test_an_old_library_makes_do_with_one_id_and_says_that_it_has_no_groups():
    old = os.path.join(HOST, "old")
    World(4, "sum", 2, library=old).all_well()
    world = World(2, "groups", library=old)
    assert world.status == 1
    assert "split failed with -7: NCCL 2.14.3 has no groups: 2.18.1 or newer expected" in "".join(world.out)


def test_a_killed_rank_is_named_to_those_who_wait_for_it():
    """Whether NCCL tells of a lost connection, or a rank's end is the rendezvous's to tell."""
    for env in ({}, {"GPU_HOST_NCCL_SILENT": "1"}):
        named_to_all(World(4, "death", **env))


def named_to_all(world):
    assert world.status == 1
    assert (world.attempt["result"], world.attempt["rank"], world.attempt["signal"]) == ("signal", 1, 9)
    said = [t for r, t in enumerate(world.out) if r != 1 and "wait failed with -13: " in t]
    assert said, world.out
    for text in said:
        assert "rank 1" in text and "SIGKILL" in text, text


def test_a_rank_that_does_not_come_to_the_start_is_waited_for_no_longer_than_told():
    world = World(3, "late")
    assert world.status == 1
    assert any("init failed with -11: " in t for t in world.out), world.out


def test_a_rank_that_does_not_come_to_a_collective_is_waited_for_no_longer_than_told():
    world = World(3, "absent")
    assert world.status == 1
    text = world.out[0] + world.out[2]
    assert "wait failed with -11: rank" in text and "was not done within 1500 ms" in text, world.out
    assert "not so" not in text, text


def test_who_gave_up_a_group_does_not_wait_for_all_ranks_to_leave():
    world = World(3, "leave")
    assert world.status == 1
    text = world.out[0] + world.out[2]
    assert "left" in text and "not so" not in text, world.out


def test_a_rank_that_does_not_come_to_a_split_is_missed_among_those_of_its_group():
    world = World(4, "split late")
    assert world.status == 1
    assert "split failed with -11: ncclCommSplit: not all of 2 ranks came within 1500 ms" in world.out[1], world.out


def test_an_asynchronous_error_tells_what_where_and_who():
    world = World(2, "error", GPU_HOST_NCCL_FAIL="1:3")
    assert world.status == 1
    said = [t for t in world.out if "failed with -8: " in t]
    assert said, world.out
    assert re.search(r"internal error \(3\); \S+, pid \d+, rank [01], comm_nccl\.c:\d+; "
                     r"NCCL: as the test wants it", said[0]), said


def test_a_call_that_nccl_refuses_breaks_the_communicator():
    """As a non-blocking one of NCCL is broken by it: nothing else is called on that."""
    world = World(2, "refused")
    assert world.status == 1
    said = [t for t in world.out if "call failed with -1: " in t]
    assert said and not any("not so" in t for t in world.out), world.out
    assert re.search(r"add: invalid argument \(4\); .*; NCCL: no such type or operation", said[0]), said


def test_a_node_without_a_network_says_so_in_nccls_words():
    world = World(2, "sum", GPU_HOST_NCCL_NO_NETWORK="1")
    assert world.status == 1
    assert re.search(r"init failed with -8: ncclGetUniqueId: unhandled system error \(2\); .*, rank 0, .*; "
                     r"NCCL: no socket interface found", world.out[0]), world.out
    assert "rank 0: ncclGetUniqueId" in world.out[1], world.out


def test_a_broken_connection_that_nobody_explains():
    """Is another rank's fault if NCCL says so, else this rank's own."""
    for result, code, words in ((6, -13, "remote process exited"), (2, -8, "unhandled system error")):
        world = World(2, "error", GPU_HOST_NCCL_FAIL=f"1:{result}")
        said = "".join(world.out)
        assert f"failed with {code}: " in said and words in said, world.out


def test_without_a_library_the_message_names_it():
    with Project(git=False) as p:
        os.symlink(os.path.join(HOST, "libcuda.so.1"), p.path("libcuda.so.1"))
        env = dict(p.env, LD_LIBRARY_PATH=p.dir)
        done = subprocess.run([RANKS], cwd=p.dir, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done
        assert "init failed with -3: libnccl.so.2: cannot open shared object file" in done.stdout, done


DRIVERLESS = """
import ctypes
lib = ctypes.CDLL("%s/libpioche.so")
lib.pio_error.restype = ctypes.c_char_p
comm, nccl = ctypes.c_void_p(), ctypes.c_void_p()
assert lib.pio_comm_init(ctypes.byref(comm), None, 1000) == 0
print(lib.pio_nccl_init(ctypes.byref(nccl), comm, 1000), lib.pio_error().decode(), nccl.value)
assert lib.pio_nccl_init(ctypes.byref(nccl), None, 1000) == -1
"""


def test_without_a_driver_the_message_names_it():
    library = os.path.dirname(harness.python_library())
    with Project(git=False) as p:
        if subprocess.run("ldconfig -p | grep -q libcuda.so.1", shell=True, check=False).returncode == 0:
            raise harness.Skip("a machine without a GPU: here is a driver")
        done = subprocess.run([sys.executable, "-c", DRIVERLESS % library], cwd=p.dir, env=p.env,
                              capture_output=True, text=True, check=False)
        assert done.stdout == ("-3 libcuda.so.1: cannot open shared object file: No such file or "
                               "directory None\n"), done


if __name__ == "__main__":
    harness.main()
