#!/usr/bin/env python3
"""run.checkpoint() of tensors that are on a GPU: on the stand-in of tests/gpu_host; on a
real one where tests/gpu says so. No torch: what a tensor of it is asked for is here."""
import glob
import json
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import BUILD, Project, python_library  # noqa: E402

# tests/gpu/test_gpu.py puts a GPU's in their place.
HOST = os.path.join(BUILD, "gpu_host")
NOTHING_LEFT = "gpu_host: 0 blocks of device memory, 0 of pinned memory not freed\n"
COUNT = 300_001  # floats: more than a piece (client/fetch.h)

TRAIN = """
import array, ctypes, sys, types
import pioche
COUNT = %d
driver = ctypes.CDLL("libcuda.so.1")
sys.modules["torch"] = types.SimpleNamespace(version=types.SimpleNamespace(cuda="13.0"))

def cuda(name, *arguments):
    result = getattr(driver, name)(*arguments)
    assert result == 0, (name, result)

class Tensor:
    device, layout, dtype, shape = types.SimpleNamespace(type="cuda"), "torch.strided", "torch.float32", (COUNT,)
    detach = lambda self: self
    is_contiguous, is_neg = lambda self: True, lambda self: False

    def __init__(self):
        self.address = ctypes.c_uint64(0)
        cuda("cuMemAlloc_v2", ctypes.byref(self.address), ctypes.c_size_t(4 * COUNT))

    def fill(self, value):  # on its way when this returns
        self.sent = array.array("f", [value + i for i in range(COUNT)])
        at, size = self.sent.buffer_info()
        cuda("cuMemcpyHtoDAsync_v2", self.address, ctypes.c_void_p(at), ctypes.c_size_t(4 * COUNT), stream)

    def data_ptr(self):
        return self.address.value

context, stream = ctypes.c_void_p(), ctypes.c_void_p()
cuda("cuInit", 0)
cuda("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
cuda("cuCtxSetCurrent", context)
cuda("cuStreamCreate", ctypes.byref(stream), 1)
run, tensors = pioche.init(), [Tensor(), Tensor()]
for step in range(4):
    for i, tensor in enumerate(tensors):
        tensor.fill(1000.0 * step + i)
    run.checkpoint(step, {"model": {"a": tensors[0], "b": tensors[1], "host": array.array("f", [step])}},
                   asynchronous=step %% 2 == 1)
run.finish()
cuda("cuStreamDestroy_v2", stream)
for tensor in tensors:
    cuda("cuMemFree_v2", tensor.address)
""" % COUNT
RECIPE = """local pioche = require "pioche"
return pioche.sweep { name = "gpu", space = {}, keep = { last = 9 }, program = pioche.program {
  command = { "%s", "train.py" }, env = { LD_LIBRARY_PATH = "%s", GPU_HOST_LEAKS = "1" } } }
"""


def tensors_of(p, step):
    sha = p.sql("SELECT f.sha256 FROM checkpoint_file f JOIN checkpoint c ON c.id = f.checkpoint_id "
                f"WHERE c.step = {step} AND f.role = 'model'")[0]["sha256"]
    with open(os.path.join(p.store, "objects", sha[:2], sha), "rb") as file:
        data = file.read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    return {name: data[8 + size:][slice(*what["data_offsets"])] for name, what in header.items()
            if name != "__metadata__"}


def test_tensors_on_a_gpu_are_saved_from_there():
    python_library()
    with Project(git=False) as p:
        p.write("train.py", TRAIN)
        p.write("recipe.lua", RECIPE % (sys.executable, HOST))
        p.pioche("run", "recipe.lua")
        for step in range(4):
            expected = {name: struct.pack(f"<{COUNT}f", *(1000.0 * step + i + k for k in range(COUNT)))
                        for i, name in enumerate("ab")}
            assert tensors_of(p, step) == dict(expected, host=struct.pack("<f", step)), step
        said = [p.read(name) for name in glob.glob(f"{p.store}/runs/*/1/rank-0.err")]
        assert said == [NOTHING_LEFT], said
        p.check_store()


if __name__ == "__main__":
    harness.main()
