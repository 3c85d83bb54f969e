"""How much smaller encoded checkpoints of the reference trainer are, at a learning rate of
a beginning and of an end, and how fast they are encoded and read. Beside stand what
`zstd -1` makes of the same files and, as limit, how fast it does."""
import json
import os
import shutil
import subprocess
import tempfile
import time

BUILD = os.environ["PIOCHE_BUILD"]
WIDTH, DEPTH, STEPS, EVERY = (128, 2, 40, 10) if os.environ.get("SHORT") else (256, 4, 120, 20)
RECIPE = """
local pioche = require "pioche"
return pioche.sweep {
  name = "g", program = pioche.program { command = { "%s" }, inputs = { text = "text.txt" } },
  space = { lr = { 6e-4, 1e-5 }, warmup = 5, width = %d, heads = 4, depth = %d, context = 64, batch = 4,
    steps = %d, ["save-every"] = %d, ["eval-every"] = 0, ["eval-batches"] = 1, ["sample-bytes"] = 0 },
  keep = { last = 99 },
}
"""


def tell(name, value, unit, **more):
    print(json.dumps({"name": name, "value": value, "unit": unit, "goal": None, "limit": None, "peer": None, **more}),
          flush=True)


class Bench:
    def __init__(self, folder):
        self.folder = folder
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("PIOCHE_")}
        with open(os.path.join(folder, "text.txt"), "w", encoding="utf-8") as f:
            subprocess.run(["bible", "-f", "Gen1:1-Rev22:21"], stdout=f, check=True)
        with open(os.path.join(folder, "recipe.lua"), "w", encoding="utf-8") as f:
            f.write(RECIPE % (os.path.join(BUILD, "gpt"), WIDTH, DEPTH, STEPS, EVERY))
        self.pioche("run", "recipe.lua")

    def pioche(self, *args):
        return subprocess.run([os.path.join(BUILD, "pioche"), *args], cwd=self.folder, env=self.env, check=True,
                              capture_output=True, text=True).stdout

    def json(self, *args):
        return json.loads(self.pioche(*args, "--json"))

    def files(self, word):
        return {f["role"]: f for f in self.json("checkpoint", "show", word)["file_list"] if f["bytes"] > 65536}

    def path(self, sha256):
        return os.path.join(self.folder, ".pioche", "objects", sha256[:2], sha256)

    def zstd(self, paths):
        """Bytes and seconds of zstd -1, one file after the other."""
        begin = time.monotonic()
        stored = [len(subprocess.run(["zstd", "-1", "-c", "-q", "--single-thread", p], check=True,
                                     capture_output=True).stdout) for p in paths]
        return stored, time.monotonic() - begin

    def encode(self, run, lr):
        first, near, far = (f"{run}@{step}" for step in (EVERY, 2 * EVERY, STEPS))
        for word, after in ((near, EVERY), (far, STEPS - EVERY)):
            files = self.files(word)
            stored, zstd_s = self.zstd([self.path(f["sha256"]) for f in files.values()])
            bytes_ = sum(f["bytes"] for f in files.values())
            begin = time.monotonic()
            self.pioche("checkpoint", "encode", word, "--anchor", first, "--alone", "--least", "1")
            encode_s = time.monotonic() - begin
            for (role, f), plain in zip(self.files(word).items(), stored):
                tell(f"{role}, {f['codec'] or 'as it is'}, lr {lr}, {after} steps on",
                     f["bytes"] / (f["stored_bytes"] or f["bytes"]), "x smaller", peer=f["bytes"] / plain)
        tell(f"encoded and read again, lr {lr}", bytes_ / encode_s / 1e6, "MB/s", limit=bytes_ / zstd_s / 1e6)
        begin = time.monotonic()
        self.pioche("checkpoint", "verify", far)
        tell(f"decoded and hashed, lr {lr}", bytes_ / (time.monotonic() - begin) / 1e6, "MB/s")


def main():
    folder = tempfile.mkdtemp(prefix="pioche-bench-")
    try:
        bench = Bench(folder)
        for run in bench.json("ls", "g"):
            bench.encode(run["id"], run["params"]["lr"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
