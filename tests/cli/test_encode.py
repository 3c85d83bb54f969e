#!/usr/bin/env python3
"""Checkpoints that are kept smaller: the same bytes to whoever reads them, by whatever
command, here and elsewhere; and only where it pays."""
import glob
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import GPT, PIOCHE, Project  # noqa: E402

# Small steps: weights hardly change between two checkpoints.
RECIPE = """
local pioche = require "pioche"
return pioche.sweep {
  name = "tiny", program = pioche.program { command = { "%s" }, inputs = { text = "text.txt" } },
  space = { lr = 1e-5, warmup = 100, width = 64, heads = 2, depth = 2, context = 16, batch = 4, steps = 45,
    ["save-every"] = 10, ["eval-every"] = 45, ["sample-bytes"] = 0 },
  goal = pioche.minimize "val/loss", launch = { ranks_per_node = %d }, keep = { last = 1, every = 10%s },
}
"""


def project(keep="", ranks=1):
    p = Project(git=False)
    p.write("text.txt", harness.lines(2000))
    p.write("recipe.lua", RECIPE % (GPT, ranks, keep))
    p.pioche("run", "recipe.lua")
    return p


def listed(p, **where):
    return {r["step"]: r for r in p.pioche("checkpoint", "ls", "tiny", "--json", **where).json}


def path_of(p, sha256, ending=""):
    return f"{p.store}/objects/{sha256[:2]}/{sha256}{ending}"


def file_of(p, step, role="model"):
    return next(f for f in p.pioche("checkpoint", "show", f"tiny-1@{step}", "--json").json["file_list"]
                if f["role"] == role)


def raw(p, *args):
    return subprocess.run([PIOCHE, *args], cwd=p.dir, env=p.env, check=True, stdin=subprocess.DEVNULL,
                          capture_output=True).stdout


def read_all_ways(p):
    """What commands make of the checkpoints: the same, however their files lie on the disk."""
    shutil.rmtree(p.path("hf"), ignore_errors=True)
    shutil.rmtree(p.path("away"), ignore_errors=True)
    seen = [raw(p, "checkpoint", "cat", f"tiny-1@{step}", name) for step in (10, 20, 30)
            for name in ("model/head.weight", "optim.v/head.weight")]
    seen.append(p.pioche("checkpoint", "diff", "tiny-1@10", "tiny-1@30", "--json").json)
    p.pioche("checkpoint", "export", "tiny-1@20", "--hf", "hf")
    seen += [open(n, "rb").read() for n in sorted(glob.glob(p.path("hf/*")))]
    p.pioche("export", "tiny-1", "-o", "all.tar", "--checkpoints", "all")
    seen.append(open(p.path("all.tar"), "rb").read())
    os.remove(p.path("all.tar"))
    return seen


def check_elsewhere(p):
    """By bundle, by directory, by rclone: the bytes arrive as they are."""
    p.pioche("export", "tiny-1", "-o", "all.tar", "--checkpoints", "all")
    ways = {"bundle": lambda there: p.pioche("import", p.path("all.tar"), **there)}
    p.pioche("push", p.path("lab"))
    ways["directory"] = lambda there: p.pioche("pull", p.path("lab"), **there)
    if shutil.which("rclone"):
        env = {"RCLONE_CONFIG_BOX_TYPE": "local"}
        p.pioche("push", f"rclone:box:{p.path('far')}", env=env)
        assert os.listdir(os.path.join(p.store, "staging")) == []
        ways["rclone"] = lambda there: p.pioche("pull", f"rclone:box:{p.path('far')}",
                                                cwd=there["cwd"], env=dict(there["env"], **env))
    here = {step: r["id"] for step, r in listed(p).items()}
    for name, take in ways.items():
        os.makedirs(p.path(name))
        there = {"cwd": p.path(name), "env": {"PIOCHE_STORE": p.path(name + "/.pioche")}}
        take(there)
        assert {step: r["id"] for step, r in listed(p, **there).items()} == here, name
        assert p.pioche("verify", **there).out.count("good:") == 1
    os.remove(p.path("all.tar"))
    for folder in ("lab", "far"):
        names = [n for _, _, files in os.walk(p.path(folder + "/objects")) for n in files]
        assert all(len(n) == 64 for n in names), names


def test_the_rule_of_a_recipe_encodes_what_is_kept_for_looking_at():
    with project(", encode = true", ranks=2) as p:
        rows = listed(p)
        assert {s: r["encoding"] for s, r in rows.items()} == {10: rows[10]["encoding"], 20: "xor", 30: "xor",
                                                               40: "xor", 45: None}, rows
        assert rows[10]["encoding"] in (None, "shuffle"), "there is nothing older"
        for step in (20, 30, 40):
            r = rows[step]
            assert r["ratio"] > 1.2 and abs(r["ratio"] - r["bytes"] / r["stored_bytes"]) < 1e-9, r
            model = file_of(p, step)
            assert model["codec"] == "xor" and model["anchor"] == file_of(p, 10)["sha256"], model
            assert not os.path.exists(path_of(p, model["sha256"]))
            assert os.path.getsize(path_of(p, model["sha256"], ".enc")) == model["stored_bytes"], model
        small = file_of(p, 20, "extra")
        assert small["codec"] is None and os.path.exists(path_of(p, small["sha256"])), "it saves no block"
        table = p.pioche("checkpoint", "ls", "tiny", env={"COLUMNS": "200"}).out
        assert "encoded" in table and f"xor {rows[20]['ratio']:.2f}x" in table, table
        assert "from " + file_of(p, 10)["sha256"][:16] in p.pioche("checkpoint", "show", "tiny-1@20").out
        assert p.pioche("verify").out.count("good:") == 1
        objects = next(c for c in p.pioche("doctor", "--json").json if c["check"] == "objects")
        assert objects["state"] == "ok" and "are encoded as" in objects["message"], objects
        check_elsewhere(p)
        encoded = read_all_ways(p)
        words = [f"tiny-1@{step}" for step in (10, 20, 30, 40)]
        done = p.pioche("checkpoint", "decode", *words, "--json").json
        assert [d["done"] for d in done][1:] == ["decoded"] * 3, done
        assert not glob.glob(f"{p.store}/objects/*/*.enc") and not any(r["encoding"] for r in listed(p).values())
        assert read_all_ways(p) == encoded
        p.check_store()


def test_by_hand_what_pays_with_the_anchor_that_is_named():
    with project() as p:
        assert not any(r["encoding"] for r in listed(p).values()), "not unless it is asked for"
        before = read_all_ways(p)
        told = p.pioche("checkpoint", "encode", "tiny-1@30", "--least", "500").out
        assert told.startswith("tiny-1@30 stays as it is: ") and "it would not be much smaller" in told, told
        done = p.pioche("checkpoint", "encode", "tiny-1@30", "--anchor", "tiny-1@10", "--json").json[0]
        assert done["done"] == "encoded" and done["stored_bytes"] < done["bytes"] / 1.2, done
        assert file_of(p, 30)["anchor"] == file_of(p, 10)["sha256"]
        assert "encoded already" in p.pioche("checkpoint", "encode", "tiny-1@30").out
        # What has an anchor is none: the nearest that may be one is.
        p.pioche("checkpoint", "encode", "tiny-1@40")
        assert file_of(p, 40)["anchor"] == file_of(p, 20)["sha256"]
        p.pioche("checkpoint", "encode", "tiny-1@20", "--alone", "--least", "1")
        assert file_of(p, 20)["codec"] == "shuffle" and file_of(p, 20)["anchor"] is None
        assert read_all_ways(p) == before
        # The program goes on from one as it did; it was decoded for that.
        assert p.pioche("checkpoint", "prove", "tiny-1@30", "--json").json["result"] == "same"
        assert [r["encoding"] for r in listed(p).values()] == [None, "shuffle", None, "xor", None]
        p.pioche("checkpoint", "encode", "tiny-1@30", "--anchor", "tiny-1@10")
        # An anchor stays while something hangs on it, and goes then.
        plan = p.pioche("gc", "--dry-run", "--last", "1", "--json").json
        assert {k["step"]: k["why"] for k in plan["runs"][0]["kept"]} == {10: "anchor", 20: "anchor", 45: "last"}
        stored = {s: r["stored_bytes"] for s, r in listed(p).items()}
        assert plan["runs"][0]["bytes"] <= stored[30] + stored[40], (plan, stored)
        p.pioche("gc", "--last", "1")
        p.pioche("gc", "--last", "1")
        assert list(listed(p)) == [45]
        assert not glob.glob(f"{p.store}/objects/*/*.enc")
        p.check_store()


def test_a_run_that_goes_on_from_one_is_not_waited_for_by_the_others():
    with project() as p:
        weights = raw(p, "checkpoint", "cat", "tiny-1@45", "model/head.weight")
        p.pioche("checkpoint", "encode", "tiny-1@45")
        assert [r["encoding"] for r in listed(p).values()] == [None, None, None, None, "xor"]
        p.sh("sqlite3 .pioche/pioche.db \"UPDATE run SET status = 'planned'\"")
        told = p.pioche("run", "recipe.lua").err
        assert "tiny-1: decoding the checkpoint of step 45 (" in told, told
        attempts = p.pioche("show", "tiny-1", "--json").json["attempts"]
        assert [a["result"] for a in attempts] == ["ok", "ok"], attempts
        assert not glob.glob(f"{p.store}/objects/*/*.enc")
        assert raw(p, "checkpoint", "cat", "tiny-1@45", "model/head.weight") == weights
        p.check_store()


def test_what_a_death_left_goes_and_damage_is_located():
    with project() as p:
        p.pioche("checkpoint", "encode", "tiny-1@30")
        model = file_of(p, 30)
        encoded = path_of(p, model["sha256"], ".enc")
        # As between the commit and the removal of the larger file.
        shutil.copy(path_of(p, file_of(p, 10)["sha256"]), path_of(p, model["sha256"]))
        assert p.pioche("verify").out.count("1 orphan") == 1
        assert p.pioche("gc", "--json").json["orphans"] == 1
        assert not os.path.exists(path_of(p, model["sha256"])) and os.path.exists(encoded)
        os.chmod(encoded, 0o644)
        with open(encoded, "r+b") as f:
            f.seek(model["stored_bytes"] // 2)
            byte = f.read(1)[0]
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte ^ 4]))
        told = p.pioche("verify", "--json", expect=1).json[0]
        found = [f for f in told["damage"] if f["object"] == model["sha256"]]
        assert len(found) == 1 and found[0]["what"] == "has damaged frames", told
        assert found[0]["ranges"] == [[0, model["bytes"]]], found
        assert "MiB 0 of the file" in p.pioche("checkpoint", "cat", "tiny-1@30", "head.weight", expect=1).err
        assert listed(p)[30]["state"] == "damaged"
        assert "it is damaged" in p.pioche("checkpoint", "encode", "tiny-1@30").out
        assert "MiB 0 of the file" in p.pioche("checkpoint", "decode", "tiny-1@30", expect=1).err


def test_what_cannot_be_is_said():
    with Project(git=False) as p:
        p.write("text.txt", harness.lines(100))
        for value, words in (('"yes"', "keep.encode: expected true, false, or how many times smaller"), ("1", "keep.encode"),
                             ("-2", "keep.encode")):
            p.write("recipe.lua", RECIPE % (GPT, 1, ", encode = " + value))
            assert words in p.pioche("plan", "recipe.lua", expect=1).err
    with project() as p:
        assert "no checkpoint of step 11" in p.pioche("checkpoint", "encode", "tiny-1@11", expect=1).err
        p.pioche("checkpoint", "encode", "tiny-1@10", "--least", "half", expect=2)
        assert "there is no --reason here" in p.pioche("checkpoint", "encode", "tiny-1@10", "--reason", "x", expect=2).err
        assert p.pioche("checkpoint", "decode", "tiny-1@10").out == "tiny-1@10 was not encoded\n"


harness.main()
