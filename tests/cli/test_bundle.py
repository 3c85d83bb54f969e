#!/usr/bin/env python3
"""An exported run is opened and checked by strangers: GNU tar, sha256sum and
the safetensors package; the same export twice is the same bytes; damage is
found and named."""
import hashlib
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import GPT, Project, Skip  # noqa: E402

RECIPE = """local pioche = require "pioche"
return pioche.sweep {
  name = "tiny",
  program = pioche.program { command = { "%s" }, inputs = { text = "text.txt" } },
  space = { width = 16, heads = 2, depth = 1, context = 32, batch = 8, steps = 12,
            ["sample-bytes"] = 0 },
  goal = pioche.minimize "val/loss",
}
"""


def project():
    p = Project()
    p.write("recipe.lua", RECIPE % GPT)
    p.write("text.txt", "".join(f"{i} and the {i * i} words\n" for i in range(3000)))
    p.sh("git add -A && git commit -qm start")
    p.write("notes.txt", "not yet committed\n")
    p.pioche("run", "recipe.lua")
    return p


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def test_a_stranger_verifies_it():
    with project() as p:
        p.pioche("export", "tiny-1", "-o", "x.tar")
        out = p.sh("mkdir stranger && cd stranger && tar xf ../x.tar && cd tiny-1 && "
                   "sha256sum -c tagmanifest-sha256.txt manifest-sha256.txt && find . -type f | sort")
        listed = {line[:-4] for line in out.splitlines() if line.endswith(": OK")}
        present = {line[2:] for line in out.splitlines() if line.startswith("./")}
        assert present - listed == {"tagmanifest-sha256.txt"}, present - listed
        for name in ("data/run/recipe.lua", "data/run/config.json", "data/run/env.json",
                     "data/run/metrics.csv", "data/run/git.txt", "data/run/git.diff",
                     "data/checkpoint.json", "data/model/model.safetensors", "VERIFY.txt"):
            assert name in present, name
        assert p.read("stranger/tiny-1/data/run/recipe.lua") == p.read("recipe.lua")
        assert "not yet committed" in p.read("stranger/tiny-1/data/run/git.diff")
        commit = p.pioche("show", "tiny-1", "--json").json
        commit = (commit[0] if isinstance(commit, list) else commit)["commit"]
        assert commit in p.read("stranger/tiny-1/data/run/git.txt")


def test_twice_the_same_bytes():
    with project() as p:
        p.pioche("export", "tiny-1", "-o", "a.tar")
        p.pioche("export", "tiny-1", "-o", "./b.tar", env={"TZ": "Asia/Tokyo", "LANG": "C"})
        assert digest(p.path("a.tar")) == digest(p.path("b.tar"))
        assert digest(p.path("a.tar")) in p.pioche("export", "tiny-1", "-o", "c.tar").out


def test_safetensors_opens_the_model():
    with project() as p:
        p.pioche("export", "tiny-1", "-o", "x.tar")
        p.sh("tar xf x.tar")
        venv = p.path("venv")
        made = subprocess.run([sys.executable, "-m", "venv", venv], capture_output=True)
        if made.returncode or subprocess.run(
                [f"{venv}/bin/pip", "install", "-q", "safetensors", "numpy"],
                capture_output=True).returncode:
            raise Skip("pip cannot install safetensors and numpy here")
        script = """
import json, sys
from safetensors import safe_open
found = {}
for name in sys.argv[1:]:
    with safe_open(name, framework="np") as f:
        for key in f.keys():
            found[key] = [list(f.get_tensor(key).shape), str(f.get_tensor(key).dtype)]
print(json.dumps(found))
"""
        model = p.path("tiny-1/data/model/model.safetensors")
        out = subprocess.run([f"{venv}/bin/python", "-c", script, model], check=True,
                             capture_output=True, text=True).stdout
        found = harness.json.loads(out)
        rows = p.sql("SELECT t.name, t.shape, t.dtype FROM tensor t JOIN checkpoint_file f "
                     "USING (sha256) WHERE f.role = 'model'")
        assert len(found) == len(rows) > 5
        for row in rows:
            assert found[row["name"]] == [harness.json.loads(row["shape"]), "float32"], row


def test_a_flipped_byte_is_found_in_bundle_and_store():
    with project() as p:
        p.pioche("export", "tiny-1", "-o", "x.tar")
        assert p.pioche("verify", "x.tar").status == 0
        with open(p.path("x.tar"), "r+b") as f:
            whole = f.read()
            at = whole.index(b"key,rank,step")  # the head of metrics.csv
            f.seek(at)
            f.write(bytes([whole[at] ^ 1]))
        result = p.pioche("verify", "x.tar", expect=1)
        assert "data/run/metrics.csv" in result.err + result.out, result.err + result.out
        p.pioche("verify")
        sha = p.sql("SELECT sha256 FROM checkpoint_file LIMIT 1")[0]["sha256"]
        path = os.path.join(p.store, "objects", sha[:2], sha)
        os.chmod(path, 0o644)
        with open(path, "r+b") as f:
            f.seek(-1, os.SEEK_END)
            last = f.read(1)
            f.seek(-1, os.SEEK_END)
            f.write(bytes([last[0] ^ 1]))
        result = p.pioche("verify", expect=1)
        assert sha[:12] in result.out + result.err, result.out + result.err


def test_a_killed_export_leaves_none_or_a_whole_archive():
    with project() as p:
        killed, whole, n = 0, 0, 0
        while True:
            n += 1
            result = p.pioche("export", "tiny-1", "-o", "x.tar", "--force", expect=None,
                              env={"PIOCHE_FS_FAULT": f"wsru:{n}:0"})
            if result.status == 0:
                break
            assert result.status == 137, (n, result.status, result.err)
            killed += 1
            if os.path.exists(p.path("x.tar")):
                p.pioche("verify", "x.tar")
                os.unlink(p.path("x.tar"))
                whole += 1
        assert killed >= 4 and whole < killed, (killed, whole)
        p.pioche("verify", "x.tar")
        assert not [f for f in os.listdir(p.dir) if "part" in f]


def test_code_of_two_runs_is_compared():
    with project() as p:
        p.write("notes.txt", "changed since\n")
        p.pioche("run", "recipe.lua")
        out = p.pioche("compare", "tiny-1", "tiny-2", "--code").out
        assert "-not yet committed" in out and "+changed since" in out, out


harness.main()
