#!/usr/bin/env python3
"""An exported run is opened and checked by GNU tar and sha256sum
(test_stranger.py goes on from there); the same export twice is the same bytes;
damage is found and named."""
import hashlib
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import GPT, Project  # noqa: E402

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
                     "data/run/points.bin", "data/run/events.jsonl", "data/run/records.json",
                     "data/run/logs/1/rank-0.out", "data/code.bundle", "data/code/recipe.lua",
                     "data/checkpoint.json", "data/model/model.safetensors", "VERIFY.txt"):
            assert name in present, name
        assert p.read("stranger/tiny-1/data/run/recipe.lua") == p.read("recipe.lua")
        assert "not yet committed" in p.read("stranger/tiny-1/data/run/git.diff")
        commit = p.pioche("show", "tiny-1", "--json").json
        commit = (commit[0] if isinstance(commit, list) else commit)["commit"]
        assert commit in p.read("stranger/tiny-1/data/run/git.txt")


def test_twice_the_same_bytes():
    """Whatever the clock, the umask, the user, the locale and the zone."""
    with project() as p:
        p.pioche("export", "tiny", "-o", "a.tar", "--checkpoints", "all")
        p.sh("sleep 1.1; umask 077; export TZ=Asia/Tokyo LANG=C.UTF-8 LC_ALL=C.UTF-8 USER=nobody HOME=/; "
             f"{harness.PIOCHE!r} export tiny -o ./b.tar --checkpoints all")
        assert digest(p.path("a.tar")) == digest(p.path("b.tar"))
        assert digest(p.path("a.tar")) in p.pioche("export", "tiny", "-o", "c.tar", "--checkpoints",
                                                   "best,all").out
        if os.geteuid() == 0:
            p.sh("chown -R nobody .")
            subprocess.run([harness.PIOCHE, "export", "tiny", "-o", "d.tar", "--checkpoints", "all"],
                           cwd=p.dir, env=p.env, user="nobody", check=True, capture_output=True)
            assert digest(p.path("a.tar")) == digest(p.path("d.tar"))


# Columns that mean nothing in another store, or are told elsewhere in the bundle.
LEFT_OUT = {"run": "id experiment_id sweep_id snapshot_id", "attempt": "id run_id agent_pid pool_id",
            "rank": "attempt_id", "param": "run_id", "tag": "run_id", "event": "id run_id attempt_id",
            "checkpoint": "id run_id attempt_id manifest", "checkpoint_file": "checkpoint_id",
            "sweep": "id experiment_id recipe_path", "proposal": "sweep_id",
            "snapshot": "id repository", "node_check": "attempt_id",
            "attempt_environment": "attempt_id"}


def same_rows(p, table, told):
    """What the store has in the columns of the table is what the bundle tells."""
    order = {"event": " ORDER BY id", "checkpoint_file": " ORDER BY rank, role"}
    rows = p.sql(f"SELECT * FROM {table}" + order.get(table, ""))
    assert len(rows) == len(told) > 0, (table, rows, told)
    left_out = LEFT_OUT[table].split()
    for row, one in zip(rows, told):
        for column, value in row.items():
            if column not in left_out and value is not None:
                assert one[column] == value, (table, column, value, one.get(column))


def test_the_records_are_whole():
    """Every column of every row that an import needs, also those that a later schema brings."""
    with project() as p:
        p.pioche("tag", "tiny-1", "phase=first")
        p.pioche("note", "tiny-1", "a line\nand another")
        p.pioche("export", "tiny-1", "-o", "x.tar")
        p.sh("tar xf x.tar")
        records = harness.json.loads(p.read("tiny-1/data/run/records.json"))
        assert records["format"] == "pioche/run/1"
        assert records["schema"] == p.sql("PRAGMA user_version")[0]["user_version"]
        same_rows(p, "run", [records["run"]])
        for table, told in (("param", records["params"]), ("tag", records["tags"]),
                            ("attempt", records["attempts"]),
                            ("rank", records["attempts"][0]["ranks"]),
                            ("attempt_environment", records["attempts"][0]["environment"]),
                            ("checkpoint", records["checkpoints"]),
                            ("checkpoint_file", records["checkpoints"][0]["files"])):
            same_rows(p, table, told)
        lines = p.read("tiny-1/data/run/events.jsonl").splitlines()
        same_rows(p, "event", [harness.json.loads(line) for line in lines])
        sweep = harness.json.loads(p.read(f"tiny-1/data/sweep/{records['sweep']}.json"))
        same_rows(p, "sweep", [sweep])
        same_rows(p, "proposal", sweep["proposals"])
        assert sweep["proposals"][0]["runs"] == [{"seed": 0, "run": records["run"]["ulid"]}]
        code = harness.json.loads(p.read("tiny-1/data/code.json"))
        same_rows(p, "snapshot", code)
        assert p.sh("cd tiny-1/data && python3 -c \"import json; print(end=''.join(json.load(open("
                    "'code.json'))[0]['object']))\" | git hash-object -t commit --stdin").strip() \
            == code[0]["commit_id"] == records["commit"]


def test_the_code_is_there_twice():
    """As a git bundle that can be cloned, with the tree on record, and as files; what no bag
    can hold is told."""
    with Project() as p:
        p.write("recipe.lua", (RECIPE % GPT).replace("steps = 12", "steps = 1"))
        p.write("text.txt", "some words\n" * 4000)
        p.write("sub/odd\\name", "odd\n")
        p.write("sub/\u00fc.txt", "umlaut\n")
        p.write("sub/tool.sh", "#!/bin/sh\n", 0o755)
        p.write("Sub/other", "a folder that differs in case alone\n")
        p.write("readme", "one\n")
        p.write("README", "two\n")
        p.write("pointer.safetensors", "version https://git-lfs.github.com/spec/v1\n")
        p.sh("ln -s sub/tool.sh link; git add -A && git commit -qm start && git commit -q --allow-empty -m two")
        p.write("empty", "")
        p.pioche("run", "recipe.lua")
        said = p.pioche("export", "tiny-1", "-o", "x.tar").err
        assert "1 symbolic link of the code is in code.bundle alone, no bag can hold it: link" in said, said
        assert "4 names of the code are in code.bundle alone" in said and "sub/odd\\name" in said, said
        p.pioche("verify", "x.tar")
        out = p.sh("tar xf x.tar && cd tiny-1/data && git bundle verify code.bundle 2>&1 && "
                   "git clone -q code.bundle ../../clone 2>&1 && cd ../../clone && git fsck --strict 2>&1 &&"
                   " git log --format=%s && git status --short && git rev-parse HEAD^{tree} && stat -c %a sub/tool.sh")
        tree = p.sql("SELECT tree_id, commit_id FROM snapshot")[0]
        assert tree["tree_id"] in out and "755" in out and "two" not in out, out
        assert f"The code of commit {tree['commit_id']}" in out, out
        assert p.read("clone/sub/odd\\name") == "odd\n" and os.readlink(p.path("clone/link")) == "sub/tool.sh"
        only = p.sh("diff -r -x .git clone tiny-1/data/code || true").splitlines()
        assert only == ["Only in clone: link", "Only in clone: readme", "Only in clone: sub"], only
        p.pioche("export", "tiny-1", "-o", "h.tar", "--history")
        out = p.sh("rm -rf tiny-1 clone && tar xf h.tar && git clone -q tiny-1/data/code.bundle clone &&"
                   " cd clone && git rev-parse HEAD && git log --format=%s")
        assert out.splitlines()[0] == tree["commit_id"] and out.splitlines()[2:] == ["two", "start"], out


def test_several_checkpoints_share_what_is_the_same():
    with project() as p:
        p.sql("INSERT INTO checkpoint SELECT NULL, run_id, attempt_id, step + 1, state, manifest || ' ',"
              " iif(manifest_sha256 < 'f', 'f', 'e') || substr(manifest_sha256, 2), writers, bytes, fsyncs, stall_ns,"
              " created_ns, total_ns, hash_ns, sync, asynchronous FROM checkpoint; INSERT INTO checkpoint_file"
              " SELECT (SELECT max(id) FROM checkpoint), rank, role, part, sha256 FROM checkpoint_file")
        p.pioche("export", "tiny-1", "-o", "x.tar", "--checkpoints", "all")
        names = p.sh("tar tf x.tar")
        for name in ("12/checkpoint.json", "13/checkpoint.json", "12/model/model.safetensors",
                     "12/optim/optim.m.safetensors", "13/model/model.safetensors.index.json"):
            assert f"tiny-1/data/checkpoints/{name}\n" in names, names
        assert names.count("model.safetensors\n") == 1, names
        index = harness.json.loads(p.sh("tar xOf x.tar tiny-1/data/checkpoints/13/model/"
                                        "model.safetensors.index.json"))
        assert set(index["weight_map"].values()) == {"../../12/model/model.safetensors"}, index
        p.pioche("export", "tiny-1", "-o", "w.tar", "--checkpoints", "last", "--weights-only")
        names = p.sh("tar tf w.tar")
        assert "data/model/model.safetensors" in names and "optim" not in names, names
        p.pioche("export", "tiny-1", "-o", "n.tar", "--checkpoints", "none")
        assert "safetensors" not in p.sh("tar tf n.tar")
        assert "expected best, last, all or none" in p.pioche("export", "tiny-1", "-o", "b.tar",
                                                              "--checkpoints", "best,newest", expect=2).err


def test_an_experiment_is_one_bundle():
    """Each run as if it were alone, the code once for all, and a table that compares them."""
    with Project() as p:
        p.write("recipe.lua", (RECIPE % GPT).replace("width = 16", "width = { 16, 32 }"))
        p.write("text.txt", "some words\n" * 4000)
        p.sh("git add -A && git commit -qm start")
        p.pioche("run", "recipe.lua")
        said = p.pioche("export", "tiny", "-o", "x.tar", "--json").json
        assert (said["id"], said["runs"], said["checkpoints"]) == ("tiny", 2, 2), said
        assert digest(p.path("x.tar")) == said["sha256"]
        names = p.sh("tar tf x.tar")
        for run in ("tiny-1", "tiny-2"):
            for name in ("run/records.json", "run/points.bin", "model/model.safetensors", "checkpoint.json"):
                assert f"tiny/data/runs/{run}/{name}\n" in names, names
        assert names.count("/recipe.lua\n") == 1 and names.count("code.bundle") == 1, names
        rows = p.sh("tar xOf x.tar tiny/data/compare.csv").splitlines()
        assert len(rows) == 3 and "metric.val/loss" in rows[0] and "param.width" in rows[0], rows
        sweep = p.sql("SELECT ulid FROM sweep")[0]["ulid"]
        p.pioche("export", sweep, "-o", "s.tar")
        assert digest(p.path("s.tar")) == said["sha256"]
        p.pioche("verify", "x.tar")
        assert len(p.sql("SELECT * FROM bundle")) == 4


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
