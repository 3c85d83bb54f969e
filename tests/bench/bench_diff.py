"""How fast two checkpoints are compared, from the disk and from memory: two of 268 MB, of which
each fourth element differs. The limit is to read the same files and do nothing with them, one
after the other; from the disk that is the goal as well."""
import array
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time

BUILD = os.environ["PIOCHE_BUILD"]
FLOATS = (1 << 22) if os.environ.get("SHORT") else (1 << 26)
TENSORS = 16
RECIPE = """
local pioche = require "pioche"
return pioche.sweep { name = "d", program = pioche.program { command = { "true" } }, space = {} }
"""


def tell(name, value, limit, goal):
    print(json.dumps({"name": name, "value": value, "unit": "MB/s", "goal": goal, "limit": limit, "peer": None}),
          flush=True)


def write_model(path, which):
    """Normally distributed numbers; of the second model each fourth is another."""
    rng, each = random.Random(1), FLOATS // TENSORS
    block = array.array("f", (rng.gauss(0, 0.02) for _ in range(1 << 16)))
    if which:
        for i in range(0, len(block), 4):
            block[i] *= 1.001
    head = {f"t{i:02}": {"dtype": "F32", "shape": [each], "data_offsets": [4 * i * each, 4 * (i + 1) * each]}
            for i in range(TENSORS)}
    text = json.dumps(head).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _ in range(FLOATS >> 16):
            block.tofile(f)


class Bench:
    def __init__(self, folder):
        self.folder = folder
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("PIOCHE_")}
        with open(os.path.join(folder, "recipe.lua"), "w", encoding="utf-8") as f:
            f.write(RECIPE)
        self.pioche("run", "recipe.lua")
        for step in (1, 2):
            path = os.path.join(folder, "model.safetensors")
            write_model(path, step == 2)
            self.pioche("checkpoint", "import", path, "--run", "d-1", "--step", str(step))
            os.remove(path)
        self.paths = [os.path.join(d, f) for d, _, files in os.walk(os.path.join(folder, ".pioche", "objects"))
                      for f in files]

    def pioche(self, *args):
        return subprocess.run([os.path.join(BUILD, "pioche"), *args], cwd=self.folder, env=self.env, check=True,
                              capture_output=True, text=True).stdout

    def forget(self):
        for path in self.paths:
            with open(path, "rb") as f:
                os.fsync(f.fileno())
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def seconds(self, work, cold):
        if cold:
            self.forget()
        begin = time.monotonic()
        work()
        return time.monotonic() - begin

    def measure(self, name, cold):
        def read():
            subprocess.run(["cat", *self.paths], stdout=subprocess.DEVNULL, check=True)

        def compare():
            found = json.loads(self.pioche("checkpoint", "diff", "d-1@1", "d-1@2", "--json"))
            assert found["changed"] == TENSORS and found["tensors"][0]["changed"] == FLOATS // TENSORS // 4, found

        megabytes = 2 * FLOATS * 4 / 1e6
        both = [min(times) for times in zip(*([self.seconds(read, cold), self.seconds(compare, cold)] for _ in range(3)))]
        limit = megabytes / both[0]
        tell(f"checkpoint diff, {name}", megabytes / both[1], limit, 0.9 * limit if cold else None)


def main():
    places = [("from memory", "/dev/shm", False), ("from the disk", None, True)]
    for name, where, cold in places:
        if where and shutil.disk_usage(where).free < 16 * FLOATS:
            print(f"skipped: no room in {where}", file=sys.stderr)
            continue
        folder = tempfile.mkdtemp(prefix="pioche-bench-", dir=where)
        try:
            Bench(folder).measure(name, cold)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


main()
