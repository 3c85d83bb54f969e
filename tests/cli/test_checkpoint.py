#!/usr/bin/env python3
"""`pioche checkpoint`: listing, looking into and comparing what a real program saved."""
import glob
import json
import os
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
import torch_venv  # noqa: E402
import venvs  # noqa: E402
from harness import PIOCHE, Project, python_library  # noqa: E402

# Two ranks; rank 1 saves a file of its own, `frozen` is the same in every step, and
# the goal is best in the middle.
TRAIN = """
import array, pioche
run = pioche.init()
for step in (10, 20, 30):
    if run.rank == 0:
        run.log({"val/loss": abs(step - 20) / 10}, step=step)
    model = {"w": array.array("f", [1.0, -0.0, float("nan"), step]), "n": array.array("q", [-(1 << 62), step]),
             "none": array.array("f")}
    roles = {"model": model if run.rank == 0 else {"w": array.array("f", [step])},
             "frozen": {"e": array.array("d", [0.1, 1e300])}, "optim.m": {"w": array.array("f", [step, 2.5])}}
    if step == 30:
        roles["model"]["late"] = array.array("b", [1, -1])
    run.checkpoint(step, roles, writers=run.world)
"""
RECIPE = """
local pioche = require "pioche"
return pioche.sweep {
  name = "toy", program = pioche.program { command = { "%s", "train.py" } }, space = {},
  goal = pioche.minimize "val/loss", launch = { ranks_per_node = 2 }, %s,
}
"""


def project(keep="keep = { last = 9 }", rest="", **env):
    python_library()
    p = Project(git=False)
    p.write("train.py", TRAIN + rest)
    p.write("recipe.lua", RECIPE % (sys.executable, keep))
    p.pioche("run", "recipe.lua", env=env)
    return p


def cat(p, *args):
    return subprocess.run([PIOCHE, "checkpoint", "cat", *args], cwd=p.dir, env=p.env, check=True,
                          stdin=subprocess.DEVNULL, capture_output=True).stdout


def says(p, *args):
    return p.pioche("checkpoint", *args, expect=1).err


def names_and_lists(p):
    rows = p.pioche("checkpoint", "ls", "toy", "--json").json
    assert [(r["name"], r["marks"], r["value"]) for r in rows] == [
        ("toy-1@10", [], 1.0), ("toy-1@20", ["best"], 0.0), ("toy-1@30", ["last"], 1.0)], rows
    first = rows[0]
    stored = p.sql("SELECT manifest_sha256 AS id, bytes FROM checkpoint WHERE step = 10")[0]
    assert (first["id"], first["bytes"], first["state"], first["files"], first["writers"]) == (
        stored["id"], stored["bytes"], "written", 6, 2), first
    lines = p.pioche("checkpoint", "ls", "toy-1", "--csv").out.splitlines()
    assert len(lines) == 4 and lines[1].startswith("toy-1@10,"), lines
    assert "toy-1@20" in p.pioche("checkpoint", "ls").out
    assert p.pioche("checkpoint", "ls", "val/loss > 5", "--json").json == []
    for word, step in (("toy-1@20", 20), ("toy/last@best", 20), ("toy-1@last", 30), (first["id"][:9], 10),
                       (first["id"].upper(), 10)):
        assert p.pioche("checkpoint", "show", word, "--json").json["step"] == step, word


def looks_inside(p):
    shown = p.pioche("checkpoint", "show", "toy-1@30", "--json").json
    inside = {(t["rank"], t["role"], t["name"]): (t["dtype"], t["shape"], t["bytes"]) for t in shown["tensors"]}
    assert inside[0, "model", "w"] == ("F32", [4], 16) and inside[1, "model", "w"] == ("F32", [1], 4), inside
    assert inside[0, "model", "none"] == ("F32", [0], 0) and inside[1, "model", "late"] == ("I8", [2], 2)
    assert len(shown["file_list"]) == 6 and shown["marks"] == ["last"]
    text = p.pioche("checkpoint", "show", "toy-1@30").out
    assert "model/late" in text and "optim.m" in text, text
    rows = p.pioche("checkpoint", "show", "toy-1@30", "--csv").out.splitlines()
    assert len(rows) == 1 + len(shown["tensors"])


def prints_tensors(p):
    w = struct.pack("<4f", 1.0, -0.0, float("nan"), 20)
    assert cat(p, "toy-1@20", "model/w", "--rank", "0") == w
    assert cat(p, "toy-1@20", "none") == b""
    assert cat(p, "toy-1@20", "w", "--rank", "0", "--text") == b"1\t-0\tNaN\t20\n"
    assert cat(p, "toy-1@20", "n", "--text") == b"-4611686018427387904\t20\n"
    assert cat(p, "toy-1@20", "frozen/e", "--rank", "1", "--text") == b"0.10000000000000001\t1.0000000000000001e+300\n"
    value = json.loads(cat(p, "toy-1@20", "w", "--rank", "0", "--json"))
    assert value["values"] == [1, 0, "NaN", 20] and value["shape"] == [4] and value["dtype"] == "F32", value
    assert cat(p, "toy-1@20", "n", "--csv") == b"index,value\r\n0,-4611686018427387904\r\n1,20\r\n"
    npy = cat(p, "toy-1@20", "w", "--rank", "0", "--npy")
    head = struct.unpack("<H", npy[8:10])[0]
    assert npy[:8] == b"\x93NUMPY\1\0" and (10 + head) % 64 == 0 and npy[10 + head:] == w, npy
    assert eval(npy[10:10 + head]) == {"descr": "<f4", "fortran_order": False, "shape": (4,)}


def compares(p):
    found = p.pioche("checkpoint", "diff", "toy-1@20", "toy-1@30", "--json").json
    rows = {(t["rank"], t["role"], t["name"]): t for t in found["tensors"]}
    w = rows[0, "model", "w"]
    assert (w["kind"], w["elements"], w["changed"], w["unfinite"]) == ("changed", 4, 1, 1), w
    assert (w["max_abs"], w["max_index"]) == (10, "[3]"), w
    assert abs(w["rms"] - (100 / 3) ** 0.5) < 1e-12 and abs(w["relative"] - 10 / 401 ** 0.5) < 1e-12, w
    assert abs(w["cosine"] - 601 / (401 * 901) ** 0.5) < 1e-12, w
    assert rows[1, "model", "late"]["kind"] == "added" and rows[1, "model", "late"]["a"] is None
    assert rows[0, "frozen", "e"]["kind"] == "same" and rows[0, "model", "none"]["kind"] == "same"
    assert (found["added"], found["removed"]) == (2, 0), found
    back = p.pioche("checkpoint", "diff", "toy-1@30", "toy-1@20", "--json").json
    assert (back["added"], back["removed"]) == (0, 2), back
    # What both have is not read: a checkpoint compared with itself opens no file.
    same = p.pioche("checkpoint", "diff", "toy-1@20", "toy-1@best", "--json").json
    assert same["bytes_read"] == 0 and same["changed"] == 0, same
    assert found["bytes_read"] == sum(t["a"]["bytes"] + t["b"]["bytes"] for t in found["tensors"]
                                      if t["a"] and t["b"] and t["a"]["file"] != t["b"]["file"]), found
    table = p.pioche("checkpoint", "diff", "toy-1@20", "toy-1@30", "--by", "relative").out.splitlines()
    assert "2 added" in table[-1] and not any("frozen/e" in line for line in table), table
    assert any("frozen/e" in line for line in p.pioche(
        "checkpoint", "diff", "toy-1@20", "toy-1@30", "--all").out.splitlines())
    relatives = [float(line.split()[line.split().index("F32") + 5]) for line in table if line.startswith("changed  ")
                 and " F32 " in line and "[" in line]
    assert relatives == sorted(relatives, reverse=True), table


def refuses(p):
    assert "it has 10, 20, 30" in says(p, "show", "toy-1@11")
    assert "toy-1@last, toy-1@best or toy-1@STEP" in says(p, "show", "toy-1")
    assert "no run 'toy-9'" in says(p, "show", "toy-9@10")
    assert "expected RUN@STEP" in says(p, "show", "nothing")
    assert "no tensor 'W'; did you mean 'w'?" in says(p, "cat", "toy-1@10", "W")
    assert "write frozen/x" not in says(p, "cat", "toy-1@10", "frozen/x")
    assert "of ranks 0, 1" in says(p, "cat", "toy-1@10", "w")
    assert "not of 7" in says(p, "cat", "toy-1@10", "w", "--rank", "7")
    for words, text in ((["ls", "--npy"], "no --npy here"), (["lst"], "did you mean 'ls'?"),
                        (["show"], "usage: pioche checkpoint show"), (["show", "a", "b"], "unexpected argument 'b'"),
                        (["show", "toy-1@x"], "expected a step, last or best"),
                        (["cat", "toy-1@10", "n", "--text", "--npy"], "exclude each other"),
                        (["diff", "a", "b", "--by", "size"], "--by: expected max")):
        err = p.pioche("checkpoint", *words, expect=2).err
        assert text in err and "traceback" not in err, (words, err)
    assert "checkpoint" in p.pioche("completion", "bash").out


def steps(p):
    return [r["step"] for r in p.sql("SELECT step FROM checkpoint WHERE state = 'sealed' ORDER BY step")]


def read_safetensors(path):
    """{name: (dtype, shape, bytes)}, and the metadata."""
    with open(path, "rb") as f:
        data = f.read()
    n = struct.unpack("<Q", data[:8])[0]
    assert n % 8 == 0
    head = json.loads(data[8:8 + n])
    metadata = head.pop("__metadata__")
    return {k: (v["dtype"], v["shape"], data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]])
            for k, v in head.items()}, metadata


def goes_out_and_in(p):
    """export --hf puts whole tensors together; import takes such a folder."""
    assert "ranks 0 and 1" in says(p, "export", "toy-1@20", "--hf", "hf"), "nothing says how w goes together"
    # Of FSDP's kind: rank 1 has the last element of w.
    p.sh("sqlite3 .pioche/pioche.db \"UPDATE tensor SET whole_shape = '[5]', part_begin = CASE shape WHEN '[4]' "
         "THEN 0 ELSE 4 END WHERE name = 'w' AND sha256 IN (SELECT sha256 FROM checkpoint_file WHERE "
         "role = 'model')\"")
    w = struct.pack("<5f", 1.0, -0.0, float("nan"), 20, 20)
    out = p.pioche("checkpoint", "export", "toy-1@20", "--hf", "hf").out
    assert out.startswith("hf  ") and "1 file, 3 tensors" in out, out
    whole, metadata = read_safetensors(p.path("hf/model.safetensors"))
    assert whole["w"] == ("F32", [5], w) and whole["none"] == ("F32", [0], b""), whole
    assert metadata["format"] == "pt" and metadata["step"] == "20" and os.listdir(p.path("hf")) == ["model.safetensors"]
    done = p.pioche("checkpoint", "export", "toy-1@30", "--hf", "parts", "--shard-size", "20 B", "--json").json
    index = json.loads(p.read("parts/model.safetensors.index.json"))
    assert sorted(set(index["weight_map"].values())) == done["files"] and len(done["files"]) > 1, index
    total = 0
    for name, file in index["weight_map"].items():
        found = read_safetensors(p.path("parts/" + file))[0][name]
        total += len(found[2])
        assert name != "w" or found[2] == w[:12] + struct.pack("<2f", 30, 30), found
    assert index["metadata"]["total_size"] == total == done["bytes"]
    assert "exists already" in says(p, "export", "toy-1@30", "--hf", "hf")
    assert "it has frozen, model, optim.m" in says(p, "export", "toy-1@30", "--hf", "x", "--role", "extra")
    assert "--hf DIR" in p.pioche("checkpoint", "export", "toy-1@30", expect=2).err
    # Killed at any file operation: no folder, or a whole one.
    for n in range(1, 9):
        status = p.pioche("checkpoint", "export", "toy-1@30", "--hf", "killed", "--shard-size", "20 B", expect=None,
                          env={"PIOCHE_FS_FAULT": f"wsru:{n}:0"}).status
        if status == 0:
            break
        assert not os.path.exists(p.path("killed")) or sorted(os.listdir(p.path("killed"))) == sorted(
            os.listdir(p.path("parts"))), n
        p.sh("rm -rf killed")
    assert n > 1
    p.pioche("checkpoint", "export", "toy-1@30", "--hf", "killed")
    assert [name for name in os.listdir(p.dir) if name.endswith(".part")] == [], "dead ones' are swept"
    # Its parts overlap, or leave a hole.
    for begin, text in ((3, "overlap"), (5, "does not")):
        p.sh(f"sqlite3 .pioche/pioche.db \"UPDATE tensor SET part_begin = {begin}, whole_shape = '[{begin + 1}]' "
             "WHERE name = 'w' AND shape = '[1]'; UPDATE tensor SET whole_shape = "
             f"'[{begin + 1}]' WHERE name = 'w' AND whole_shape IS NOT NULL\"")
        err = says(p, "export", "toy-1@20", "--hf", "x")
        assert "overlap" in err if begin == 3 else "have 5 of its 6 elements" in err, err
    # And back.
    imported = p.pioche("checkpoint", "import", "parts", "--run", "toy-1", "--step", "40", "--json").json
    assert (imported["name"], imported["files"]) == ("toy-1@40", len(done["files"])), imported
    assert cat(p, "toy-1@40", "n", "--text") == b"-4611686018427387904\t30\n"
    p.pioche("checkpoint", "export", "toy-1@40", "--hf", "again", "--shard-size", "20 B")
    for file in done["files"]:
        assert read_safetensors(p.path("again/" + file))[0] == read_safetensors(p.path("parts/" + file))[0], file
    assert p.pioche("checkpoint", "verify", "toy-1@40").status == 0
    imports_refuse(p)
    p.sh("sqlite3 .pioche/pioche.db \"UPDATE tensor SET whole_shape = NULL, part_begin = NULL\"")
    p.sh("sqlite3 .pioche/pioche.db \"PRAGMA foreign_keys = 0; DELETE FROM checkpoint_file WHERE checkpoint_id = "
         "(SELECT id FROM checkpoint WHERE step = 40); DELETE FROM checkpoint WHERE step = 40\"")
    p.pioche("gc")


def imports_refuse(p):
    before = sorted(os.listdir(os.path.join(p.store, "staging"))), p.sql("SELECT count(*) AS n FROM object")
    assert "of step 40 already" in says(p, "import", "parts", "--run", "toy-1", "--step", "40")
    assert "no run 'toy-7'" in says(p, "import", "parts", "--run", "toy-7", "--step", "1")
    assert "--run RUN --step N" in p.pioche("checkpoint", "import", "parts", expect=2).err
    assert "no such file" in says(p, "import", "nowhere", "--run", "toy-1", "--step", "1")
    p.write("none/README", "no model\n")
    assert "no .safetensors file in it" in says(p, "import", "none", "--run", "toy-1", "--step", "1")
    p.write("bare/python3", "#!/bin/sh\nexec python3 -S -E -I \"$@\"\n", 0o755)  # without anything installed
    p.sh("mkdir torch twice cut moved; echo > torch/pytorch_model.bin; cp hf/model.safetensors twice/a.safetensors; "
         "cp hf/model.safetensors twice/b.safetensors; head -c 200 hf/model.safetensors > cut/c.safetensors; "
         "cp parts/* moved; sed -i 's/model-00001/..\\/model-00001/' moved/*.json")
    for folder, text in (("torch", "start pioche where it has"), ("twice", "is in a.safetensors and in b.safetensors"),
                         ("cut", "c.safetensors"), ("moved", "expected the name of a file beside it")):
        err = p.pioche("checkpoint", "import", folder, "--run", "toy-1", "--step", "1", expect=1,
                       env={"PIOCHE_PYTHON": p.path("bare/python3")}).err
        assert text in err and "traceback" not in err, (folder, err)
    assert before == (sorted(os.listdir(os.path.join(p.store, "staging"))),
                      p.sql("SELECT count(*) AS n FROM object")), "nothing is left of them"


def is_collected(p):
    """pin, verify, gc."""
    assert p.pioche("checkpoint", "verify", "toy-1@20", "--json").json[0]["done"] == "good"
    assert p.pioche("checkpoint", "ls", "--json").json[1]["state"] == "reread"
    assert "nothing" not in p.pioche("gc", "--dry-run").out
    would = p.pioche("gc", "toy", "--dry-run", "--last", "1", "--json").json
    run = would["runs"][0]
    assert [(r["step"], r["why"]) for r in run["kept"]] == [(30, "last")], would
    assert [r["step"] for r in run["dropped"]] == [10, 20] and would["bytes"] == run["bytes"] > 0, would
    assert steps(p) == [10, 20, 30]
    p.pioche("checkpoint", "pin", "toy-1@10", "--reason", "for the paper")
    assert "for the paper" in p.pioche("checkpoint", "show", "toy-1@10").out
    left = os.path.join(p.store, "objects", "ab", "ab" * 32)
    os.makedirs(os.path.dirname(left), exist_ok=True)
    with open(left, "w", encoding="ascii") as f:
        f.write("orphan")
    os.makedirs(os.path.join(p.store, "staging", p.sql("SELECT ulid FROM run")[0]["ulid"], "step-99"))
    stored = p.sql("SELECT sum(bytes) AS n FROM object")[0]["n"]
    done = p.pioche("gc", "--last", "1", "--best", "1", "--json").json
    assert [(r["step"], r["why"]) for r in done["runs"][0]["kept"]] == [
        (10, "pinned"), (20, "best"), (30, "last")] and (done["orphans"], done["bytes"]) == (1, 6), done
    assert not os.path.exists(left) and os.listdir(os.path.join(p.store, "staging")) == []
    p.pioche("checkpoint", "unpin", "toy-1@10")
    done = p.pioche("gc", "--last", "1", "--best", "1", "--json").json
    assert steps(p) == [20, 30] and p.sql("SELECT sum(bytes) AS n FROM object")[0]["n"] == stored - done["bytes"]
    newest = p.sql("SELECT DISTINCT verified FROM object JOIN checkpoint_file USING (sha256) JOIN checkpoint c "
                   "ON c.id = checkpoint_id WHERE step = 30")
    assert newest == [{"verified": "reread"}], "the newest was read again before"
    assert "dropped 0 checkpoints" in p.pioche("gc").out, "its recipe keeps nine"
    p.pioche("verify")
    # A damaged newest one: what is older stays.
    sha = p.sql("SELECT sha256 FROM checkpoint_file JOIN checkpoint c ON c.id = checkpoint_id WHERE step = 30 "
                "AND role = 'model' AND rank = 0")[0]["sha256"]
    path = os.path.join(p.store, "objects", sha[:2], sha)
    os.chmod(path, 0o644)
    with open(path, "r+b") as f:
        f.seek(-1, os.SEEK_END)
        f.write(b"x")
    assert p.pioche("checkpoint", "verify", "toy-1@30", expect=1).out.startswith("toy-1@30 is damaged: " + sha[:16])
    kept = p.pioche("gc", "--last", "1", "--json").json["runs"][0]["kept"]
    assert [(r["step"], r["why"]) for r in kept] == [(20, "last"), (30, "damaged")], kept
    assert "damaged" in p.pioche("checkpoint", "ls").out


def test_a_supervisor_drops_older_ones_when_the_newest_was_read_again():
    with project("keep = { last = 1, best = 0 }") as p:
        assert steps(p) == [30]
        assert p.sql("SELECT DISTINCT verified AS v FROM object") == [{"v": "reread"}]
        p.check_store()
    # A large one is read by a process of its own.
    with project("keep = { last = 1, best = 0, every = 20 }", PIOCHE_REREAD_BYTES="0") as p:
        assert steps(p) == [20, 30]
        p.check_store()


# It goes on without what is refused, and logs, so that the supervisor looks at it again.
REFUSED = """
import array, time, pioche
run = pioche.init()
model = array.array("f", range(4000))
for step in range(1, 400):
    run.log({"val/loss": 1 / step}, step=step)
    try:
        if step == 1 or step > 10:
            model[0] = step
            run.checkpoint(step, {"model": {"w": model}}, asynchronous=True)
    except pioche.Error as why:
        assert "is refused" in str(why), why
        print(why, flush=True)
        break
    time.sleep(0.1)
"""


def test_that_a_checkpoint_will_not_fit_is_told_while_there_is_time():
    python_library()
    with Project(git=False) as p:
        p.write("train.py", REFUSED)
        p.write("recipe.lua", (RECIPE % (sys.executable, 'keep = { last = 99, quota = "100 kB" }')).replace(
            "ranks_per_node = 2", "ranks_per_node = 1"))
        p.pioche("run", "recipe.lua")
        told = p.sql("SELECT message FROM event WHERE kind = 'checkpoint.room'")
        assert len(told) == 1 and "more than keep.quota, 100 kB" in told[0]["message"], told
        # With the sum; nothing of it was written, and what was saved before is there.
        said = p.pioche("logs", "toy-1", "--rank", "0").out
        assert "is refused: the store's files take" in said and told[0]["message"] in said, said
        failed = p.sql("SELECT message FROM event WHERE kind = 'checkpoint.failed'")
        assert len(failed) == 1 and told[0]["message"] in failed[0]["message"], failed
        assert len(steps(p)) >= 2 and p.pioche("ls", "toy", "--json").json[0]["status"] == "finished"
        assert glob.glob(glob.escape(p.store) + "/runs/*/1/no-room") == [], "a later attempt may save"
        p.pioche("verify")
        bad = p.read("recipe.lua").replace('"100 kB"', '"a lot"')
        p.write("bad.lua", bad)
        assert 'keep.quota: expected a size, as "2TB"' in p.pioche("plan", "bad.lua", expect=1).err


def test_the_safetensors_package_loads_what_was_exported():
    with project() as p:
        python = venvs.safetensors()
        p.pioche("checkpoint", "export", "toy-1@20", "--hf", "m", "--role", "optim.m")
        p.sh("sqlite3 .pioche/pioche.db \"DELETE FROM checkpoint_file WHERE rank = 1\"")
        p.pioche("checkpoint", "export", "toy-1@20", "--hf", "m2", "--shard-size", "20 B")
        script = ("import json, glob, sys, safetensors.numpy as s\n"
                  "print(json.dumps({k: [str(v.dtype), list(v.shape), v.tobytes().hex()] for f in "
                  "glob.glob(sys.argv[1]) for k, v in s.load_file(f).items()}))")
        for folder, role in (("m", "optim.m"), ("m2", "model")):
            found = json.loads(subprocess.run([python, "-c", script, p.path(folder) + "/*.safetensors"],
                                              check=True, capture_output=True, text=True).stdout)
            rows = p.sql("SELECT name, shape, dtype FROM tensor JOIN checkpoint_file f USING (sha256) JOIN checkpoint "
                         f"c ON c.id = f.checkpoint_id WHERE step = 20 AND rank = 0 AND role = '{role}'")
            assert len(found) == len(rows) > 0
            for row in rows:
                kind = {"F32": "float32", "I64": "int64"}[row["dtype"]]
                data = cat(p, "toy-1@20", f"{role}/{row['name']}", "--rank", "0").hex()
                assert found[row["name"]] == [kind, json.loads(row["shape"]), data], (row, found)


def test_what_torch_saved_is_imported_bit_for_bit():
    home = torch_venv.home()
    with project() as p:
        env = {"PIOCHE_PYTHON": f"{home}/bin/python"}
        script = """
import json, os, torch
import torch.distributed.checkpoint as dcp
torch.manual_seed(1)
w = torch.randn(6, 4)
whole = {"a": {"w": w.t(), "b": torch.randn(3).bfloat16()}, "n": torch.tensor(7), "e": torch.zeros(0, 2),
         "h": torch.randn(5).to(torch.float8_e4m3fn), "c": torch.tensor([True, False])}
torch.save(whole, "plain.pt")
os.makedirs("bins")
torch.save({"a.w": w.t()}, "bins/one.bin")
torch.save({"state_dict": {"x": w}, "epoch": 3, "optimizer": {"m": w}}, "bins/two.bin")
dcp.save(whole, checkpoint_id="dcp", no_dist=True)
class Evil:
    def __reduce__(self): return os.system, ("touch pwned",)
torch.save({"w": Evil()}, "evil.pt")
def told(t): return [list(t.shape), t.contiguous().reshape(-1).view(torch.uint8).tolist()]
print(json.dumps({"a.w": told(whole["a"]["w"]), "a.b": told(whole["a"]["b"]), "n": told(whole["n"].reshape(1)),
                  "h": told(whole["h"]), "c": told(whole["c"]), "x": told(w)}))
"""
        made = subprocess.run([f"{home}/bin/python", "-c", script], cwd=p.dir, env=p.env, capture_output=True,
                              text=True)
        assert made.returncode == 0, made.stderr
        said = json.loads(made.stdout)
        for step, path in ((100, "plain.pt"), (101, "dcp")):
            done = p.pioche("checkpoint", "import", path, "--run", "toy-1", "--step", str(step), env=env)
            assert "6 tensors" in done.out, done.out
            for name in ("a.w", "a.b", "n", "h", "c"):
                assert list(cat(p, f"toy-1@{step}", name)) == said[name][1], (path, name)
            shown = p.pioche("checkpoint", "show", f"toy-1@{step}", "--json").json["tensors"]
            assert {t["name"]: (t["dtype"], t["shape"]) for t in shown} == {
                "a.w": ("F32", [4, 6]), "a.b": ("BF16", [3]), "n": ("I64", []), "e": ("F32", [0, 2]),
                "h": ("F8_E4M3", [5]), "c": ("BOOL", [2])}, shown
        done = p.pioche("checkpoint", "import", "bins", "--run", "toy-1", "--step", "102", env=env)
        assert "of it 'state_dict' is taken, not epoch, optimizer" in done.err, done.err
        assert list(cat(p, "toy-1@102", "x")) == said["x"][1]
        for path, text in (("evil.pt", "weights_only"), ("bins/two.bin", "of step 102 already")):
            err = p.pioche("checkpoint", "import", path, "--run", "toy-1", "--step", "102" if "two" in path else "9",
                           expect=1, env=env).err
            assert text in err and "traceback" not in err.lower(), err
        assert not os.path.exists(p.path("pwned"))
        assert [n for n in os.listdir(os.path.join(p.store, "staging")) if n.startswith("import")] == []


def test_a_checkpoint_is_found_shown_and_compared():
    with project() as p:
        for part in (names_and_lists, looks_inside, prints_tensors, compares, refuses, goes_out_and_in, is_collected):
            part(p)


harness.main()
