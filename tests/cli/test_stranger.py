#!/usr/bin/env python3
"""The stranger's test: in an empty directory, with coreutils, GNU tar, git and Python's
safetensors alone, a bundle is verified, opened, its code cloned and its numbers read.
pioche is not even on the path."""
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
import venvs  # noqa: E402
from harness import GPT, Project, Skip  # noqa: E402

RECIPE = """local pioche = require "pioche"
return pioche.sweep {
  name = "tiny",
  program = pioche.program { command = { "%s" }, sources = { "model.txt" }, inputs = { text = "text.txt" } },
  space = { width = 16, heads = 2, depth = 1, context = 32, batch = 8, steps = 12,
            ["sample-bytes"] = 0 },
  goal = pioche.minimize "val/loss",
}
"""

READ = """
import csv, json, sys
from safetensors import safe_open
with safe_open("data/model/model.safetensors", framework="np") as f:
    tensors = {name: list(f.get_tensor(name).shape) for name in f.keys()}
with open("data/run/metrics.csv", newline="") as f:
    loss = [float(r["value"]) for r in csv.DictReader(f) if r["key"] == "train/loss"]
with open("data/attestation.intoto.json") as f:
    statement = json.load(f)
with open("data/run/records.json") as f:
    records = json.load(f)
json.dump([tensors, loss, statement, records], sys.stdout)
"""


def path_of_a_stranger(p):
    """A folder with the tools of the stranger and nothing else."""
    os.mkdir(p.path("tools"))
    for tool in ("sh", "tar", "sha256sum", "git", "cat", "ls", "find", "sort", "diff"):
        p.sh(f"ln -s \"$(command -v {tool})\" tools/{tool}")
    return {"PATH": p.path("tools"), "HOME": p.path("stranger"), "GIT_CONFIG_GLOBAL": "/dev/null"}


def test_a_stranger_needs_no_pioche():
    with Project() as p:
        python = venvs.safetensors()
        p.write(".gitignore", "tools\nstranger\n")
        p.write("recipe.lua", RECIPE % GPT)
        p.write("text.txt", "".join(f"{i} and the {i * i} words\n" for i in range(3000)))
        p.write("model.txt", "as committed\n")
        p.sh("git add -A && git commit -qm start")
        p.write("model.txt", "as it ran\n")
        p.pioche("run", "recipe.lua")
        os.mkdir(p.path("stranger"))
        sha256 = p.pioche("export", "tiny-1", "-o", "stranger/x.tar", "--json").json["sha256"]
        tree = p.sql("SELECT tree_id, commit_id FROM snapshot")[0]
        point = p.sql("SELECT count, last FROM series WHERE key = 'train/loss'")[0]
        manifest = p.sql("SELECT manifest_sha256 FROM checkpoint")[0]["manifest_sha256"]
        env = path_of_a_stranger(p)

        def stranger(command):
            return subprocess.run(["sh", "-ec", command], cwd=p.path("stranger"), env=env, check=True,
                                  capture_output=True, text=True).stdout

        assert sha256 in stranger("sha256sum x.tar")
        stranger("tar xf x.tar && cd tiny-1 && sha256sum -c --quiet --strict tagmanifest-sha256.txt"
                 " manifest-sha256.txt")
        assert manifest in stranger("sha256sum tiny-1/data/checkpoint.json")
        out = stranger("cd tiny-1/data && git bundle verify -q code.bundle && git clone -q code.bundle ../../clone"
                       " && cd ../../clone && git rev-parse 'HEAD^{tree}' && cat model.txt && git status --short"
                       " && diff -r -x .git . ../tiny-1/data/code")
        assert out == tree["tree_id"] + "\nas it ran\n", out
        read = subprocess.run([python, "-c", READ], cwd=p.path("stranger/tiny-1"), env=env, check=True,
                              capture_output=True, text=True).stdout
        tensors, loss, statement, records = harness.json.loads(read)
        assert len(loss) == point["count"] and loss[-1] == point["last"], (loss, point)
        names = {row["name"] for row in p.sql("SELECT t.name FROM tensor t JOIN checkpoint_file f"
                                              " USING (sha256) WHERE f.role = 'model'")}
        assert set(tensors) == names and len(names) > 5
        run, = statement["predicate"]["buildDefinition"]["externalParameters"]["runs"]
        assert statement["_type"] == "https://in-toto.io/Statement/v1"
        assert run["commit"] == tree["commit_id"] == records["commit"]
        assert run["checkpoints"][0]["digest"]["sha256"] == manifest
        digests = {s["name"]: s["digest"]["sha256"] for s in statement["subject"]}
        assert digests["checkpoint.json"] == manifest and "run/recipe.lua" in digests
        for name, digest in digests.items():
            assert digest in stranger(f"sha256sum 'tiny-1/data/{name}'"), name


# The validator asks the network for the context; there may be none. The package
# rocrate has that file.
VALIDATE = """
import io, os, sys
import rocrate, requests, requests_cache
with open(os.path.join(os.path.dirname(rocrate.__file__), "data", "ro-crate.jsonld"), "rb") as f:
    context = f.read()
import email.message, urllib.request, urllib.response
opened = urllib.request.OpenerDirector.open
def answer(self, request, *args, **options):
    url = request if isinstance(request, str) else request.full_url
    if "ro/crate" not in url:
        return opened(self, request, *args, **options)
    headers = email.message.Message()
    headers["Content-Type"] = "application/ld+json"
    return urllib.response.addinfourl(io.BytesIO(context), headers, url, 200)
urllib.request.OpenerDirector.open = answer
def ask(self, method, url, *args, **options):
    assert "ro/crate" in url, url
    response = requests.Response()
    response.status_code, response._content, response.url = 200, context, url
    response.headers["Content-Type"] = "application/ld+json"
    return response
requests.Session.request = requests_cache.CachedSession.request = ask
from rocrate.rocrate import ROCrate
from rocrate_validator import models, services
result = services.validate(services.ValidationSettings(rocrate_uri=sys.argv[1],
    profile_identifier="ro-crate-1.1", requirement_severity=models.Severity.REQUIRED))
for issue in result.get_issues():
    print("issue:", issue.check.identifier, issue.message)
print(len(ROCrate(sys.argv[1]).data_entities), "files")
"""


def test_the_crate_passes_a_validator():
    with Project() as p:
        python = venvs.python_with("roc-validator", "rocrate", name="crates",
                                   check="import rocrate.rocrate, rocrate_validator.services")
        p.write("recipe.lua", RECIPE % GPT)
        p.write("text.txt", "some words\n" * 4000)
        p.write("model.txt", "a name with spaces is beside\n")
        p.write("sub/a name, (odd) #1.txt", "\n")
        p.pioche("run", "recipe.lua")
        p.pioche("export", "tiny-1", "-o", "x.tar")
        with tempfile.TemporaryDirectory(prefix="pioche-crate-") as plain:
            if " " in plain:
                raise Skip("roc-validator reads nothing under a path with a space, as $TMPDIR is")
            p.sh(f"tar xf x.tar -C {plain} && chmod -R u+w {plain}")
            files = p.sh(f"find {plain}/tiny-1/data -type f ! -name ro-crate-metadata.json | wc -l").strip()
            done = subprocess.run([python, "-c", VALIDATE, f"{plain}/tiny-1/data"], env=p.env, cwd=p.dir,
                                  capture_output=True, text=True)
        assert done.returncode == 0 and "issue:" not in done.stdout, done.stdout + done.stderr
        assert f"{files} files" in done.stdout, (files, done.stdout)


harness.main()
