#!/usr/bin/env python3
"""Checkpoints that were written while the program went on, in several files a role, and what
they cost: listed, read, compared, exported, imported, resumed from."""
import hashlib
import json
import os
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project, python_library  # noqa: E402

# Two ranks, each with a model of five tensors of 8 kB: files of 24 kB hold two of them. What
# is resumed from has to be what was saved.
TRAIN = """
import array, pioche
run = pioche.init()
def model(step):
    return {"t%d" % i: array.array("f", [step + i + 100 * run.rank + k for k in range(2000)]) for i in range(5)}
saved = run.resume()
if saved is not None:
    for name, value in model(saved.step).items():
        assert bytes(saved["model"][name]) == bytes(value), name
for step in (10, 20):
    run.log({"loss": 1 / step}, step=step)
    state = model(step)
    run.checkpoint(step, {"model": state, "extra": {"step": step}}, writers=2, asynchronous=True)
    for value in state.values():
        value[0] = -1.0
"""
RECIPE = """
local pioche = require "pioche"
return pioche.sweep {
  name = "%s", program = pioche.program { command = { "%s", "train.py" } }, space = {}, %s
  launch = { ranks_per_node = 2 }, keep = { last = 9 },
}
"""


def shown(p):
    rows = p.pioche("checkpoint", "ls", "toy-1", "--json").json
    # model in three files and extra in one, of each of two ranks
    assert [(r["step"], r["files"], r["asynchronous"]) for r in rows] == [(10, 8, True), (20, 8, True)], rows
    for row in rows:
        assert 0 < row["stall_ms"] <= row["total_ms"] and row["hash_cpu_ms"] > 0 and row["fsyncs"] > 2, row
        assert row["sync"] in ("syncfs", "fsync"), row  # as its file system is
    one = p.pioche("checkpoint", "show", "toy-1@20", "--json").json
    assert [(f["rank"], f["role"], f["part"]) for f in one["file_list"]] == [
        (rank, role, part) for rank in (0, 1) for role, part in (("extra", 0), ("model", 0), ("model", 1), ("model", 2))]
    assert all(f["bytes"] <= 24576 for f in one["file_list"]), one["file_list"]
    text = p.pioche("checkpoint", "show", "toy-1@20").out
    assert ", asynchronous; SHA-256 " in text and "model-2" in text, text
    csv = p.pioche("checkpoint", "ls", "toy-1", "--csv").out.splitlines()
    assert csv[0].endswith("total_ms,hash_cpu_ms,fsyncs,sync,asynchronous") and csv[1].endswith(f"{rows[0]['sync']},1"), csv
    assert " took" in p.pioche("checkpoint", "ls", "toy-1", env={"COLUMNS": "200"}).out


def read(p):
    p.pioche("verify", "--full")
    values = p.pioche("checkpoint", "cat", "toy-1@20", "t4", "--rank", "1", "--json").json["values"]
    assert values[:2] == [124.0, 125.0] and len(values) == 2000, values[:2]
    diff = p.pioche("checkpoint", "diff", "toy-1@10", "toy-1@20", "--json").json
    assert diff["changed"] >= 10 and not diff["added"] and not diff["removed"], diff


def taken_along(p):
    """A bundle, and what another store makes of it."""
    before = p.pioche("checkpoint", "show", "toy-1@20", "--json").json
    p.pioche("export", "toy-1", "-o", "x.tar", "--checkpoints", "all")
    p.pioche("verify", "x.tar")
    p.sh("mkdir other && cd other && git init -q")
    p.pioche("--store", "other/.pioche", "import", "x.tar")
    after = p.pioche("--store", "other/.pioche", "checkpoint", "show", "toy-1@20", "--json").json
    for key in ("id", "file_list", "total_ms", "hash_cpu_ms", "sync", "asynchronous", "fsyncs", "stall_ms"):
        known = [dict(f, verified=None) for f in before[key]] if key == "file_list" else before[key]
        found = [dict(f, verified=None) for f in after[key]] if key == "file_list" else after[key]
        assert known == found, (key, known, found)
    p.pioche("--store", "other/.pioche", "verify", "--full")


def exported(p):
    """Of one rank, since two have a model each: the layout of Hugging Face, and back."""
    p.write("one.lua", RECIPE % ("one", sys.executable, ""))
    p.write("train.py", TRAIN.replace("writers=2", "writers=1"))
    p.write("one.lua", (RECIPE % ("one", sys.executable, "")).replace("ranks_per_node = 2", "ranks_per_node = 1"))
    p.pioche("run", "one.lua", env={"PIOCHE_FILE_BYTES": "24576"})
    p.pioche("checkpoint", "export", "one-1@20", "--hf", "hf")
    names = [n for n in sorted(os.listdir(p.path("hf"))) if n.endswith(".safetensors")]
    found = {}
    for name in names:
        with open(p.path("hf/" + name), "rb") as file:
            data = file.read()
        size = struct.unpack("<Q", data[:8])[0]
        for tensor, what in json.loads(data[8:8 + size]).items():
            if tensor != "__metadata__":
                begin, end = what["data_offsets"]
                found[tensor] = struct.unpack("<2000f", data[8 + size + begin:8 + size + end])
    assert {name: value[:2] for name, value in found.items()} == {f"t{i}": (20.0 + i, 21.0 + i) for i in range(5)}
    p.pioche("checkpoint", "import", "hf", "--run", "one-1", "--step", "30")
    assert p.pioche("checkpoint", "cat", "one-1@30", "t3", "--json").json["values"][0] == 23.0


def resumed(p):
    p.write("train.py", TRAIN)
    p.write("next.lua", RECIPE % ("next", sys.executable, 'from = pioche.checkpoint("toy-1", "last"),'))
    p.pioche("run", "next.lua")
    assert p.sql("SELECT from_checkpoint AS f FROM run ORDER BY id DESC LIMIT 1")[0]["f"] == \
        p.pioche("checkpoint", "show", "toy-1@20", "--json").json["id"]


def test_a_checkpoint_in_many_files_is_one_like_any_other():
    python_library()
    with Project(git=False) as p:
        p.write("train.py", TRAIN)
        p.write("recipe.lua", RECIPE % ("toy", sys.executable, ""))
        p.pioche("run", "recipe.lua", env={"PIOCHE_FILE_BYTES": "24576"})
        shown(p)
        read(p)
        taken_along(p)
        resumed(p)
        exported(p)


# A matrix whose rows alone are larger than a file may be, saved whole by one rank; then by two
# that each have half of the columns, and of a vector a run of its elements; then whole again.
LARGE = """
import array, pioche
run = pioche.init()
half = 4500 * run.rank
def matrix(step):
    return array.array("f", [step + k for k in range(27000)])
def shaped(values, *shape):
    return memoryview(values).cast("B").cast("f", shape)
def columns(step):
    return array.array("f", [v for r in range(3) for v in matrix(step)[9000 * r + half:9000 * r + half + 4500]])
saved, step = run.resume(), 0
if saved is not None:
    step = saved.step
    model = saved["model"]
    assert model.shape("w") == (3, 9000) and bytes(model["w"]) == matrix(step).tobytes()
    assert bytes(model.read("w", (3, 4500), (0, half))) == columns(step).tobytes()
    assert bytes(model.read("v", (9,), 8999)) == matrix(step)[8999:9008].tobytes()
for step in (step + 1, step + 2):
    w, v = shaped(matrix(step), 3, 9000), matrix(step)
    if run.world == 2:
        w = pioche.Part(shaped(columns(step), 3, 4500), (3, 9000), (0, half))
        v = pioche.Part(v[3 * half:3 * half + 13500], (27000,), 3 * half)
    run.checkpoint(step, {"model": {"w": w, "v": v}}, writers=run.world, asynchronous=step % 2 == 1)
"""


def large(p, name, ranks, more=""):
    recipe = (RECIPE % (name, sys.executable, more)).replace("ranks_per_node = 2", f"ranks_per_node = {ranks}")
    p.write(name + ".lua", recipe)
    p.pioche("run", name + ".lua", env={"PIOCHE_FILE_BYTES": "24576"})


def test_a_tensor_that_is_larger_than_a_file_is_in_several():
    python_library()
    with Project(git=False) as p:
        p.write("train.py", LARGE)
        large(p, "one", 1)
        large(p, "two", 2, 'from = pioche.checkpoint("one-1", "last"),')
        large(p, "three", 1, 'from = pioche.checkpoint("two-1", "last"),')
        for name, rank in (("one-1@2", "0"), ("two-1@4", "1"), ("three-1@6", "0")):
            files = p.pioche("checkpoint", "show", name, "--json").json["file_list"]
            assert len(files) == 12 and all(f["bytes"] <= 24576 for f in files), files
            step = int(name[-1])
            p.pioche("checkpoint", "export", name, "--hf", name, "--shard-size", "1MiB")
            with open(p.path(f"{name}/model.safetensors"), "rb") as file:
                data = file.read()
            size = struct.unpack("<Q", data[:8])[0]
            header = json.loads(data[8:8 + size])
            assert header["w"]["shape"] == [3, 9000] and header["v"]["shape"] == [27000], header
            assert data[8 + size:] == struct.pack("<27000f", *(step + k for k in range(27000))) * 2, name
            part = p.pioche("checkpoint", "cat", name, "w", "--rank", rank, "--json").json
            width = 4500 if rank == "1" else 9000
            assert part["shape"] == [3, width], part["shape"]
            assert part["values"] == [step + 9000.0 * r + k for r in range(3) for k in range(9000 - width, 9000)]
            assert len(p.pioche("checkpoint", "cat", name, "v", "--rank", rank, "--json").json["values"]) == 3 * width
        diff = p.pioche("checkpoint", "diff", "one-1@1", "one-1@2", "--json").json
        assert diff["changed"] == len(diff["tensors"]) and not diff["added"] and not diff["removed"], diff
        assert {t["max_abs"] for t in diff["tensors"]} == {1.0}, diff
        p.pioche("verify", "--full")
        p.pioche("export", "two-1", "-o", "x.tar", "--checkpoints", "all")
        p.pioche("verify", "x.tar")


# ---- memory ----------------------------------------------------------------------------------

# Two ranks have 48 MB each of one tensor; one reads all of it, 8 MB at a time.
HALVES = """
import array, resource, pioche
run = pioche.init()
saved = run.resume()
if saved is None:
    half = array.array("f", [run.rank]) * 12000000
    run.checkpoint(1, {"model": {"w": pioche.Part(memoryview(half).cast("B").cast("f", (3000, 4000)), (6000, 4000),
                                                  (3000 * run.rank, 0))}}, writers=2)
else:
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    bytes(saved["model"].read("w", (1, 4000), (0, 0)))
    before = peak()
    for row in range(0, 6000, 500):
        part = saved["model"].read("w", (500, 4000), (row, 0))
        assert part[0, 0] == part[499, 3999] == row // 3000
        del part
    run.log({"grown": peak() - before}, step=2)
"""


def test_no_tensor_is_held_in_memory_by_who_puts_it_together():
    python_library()
    with Project(git=False) as p:
        p.write("train.py", HALVES)
        p.write("two.lua", RECIPE % ("two", sys.executable, ""))
        p.write("one.lua", (RECIPE % ("one", sys.executable, 'from = pioche.checkpoint("two-1", "last"),')).replace(
            "ranks_per_node = 2", "ranks_per_node = 1"))
        p.pioche("run", "two.lua")
        p.pioche("run", "one.lua")
        grown = p.pioche("ls", "one", "--json").json[0]["metrics"]["grown"]["last"]
        process = subprocess.Popen([harness.PIOCHE, "checkpoint", "export", "two-1@1", "--hf", "hf"], cwd=p.dir, env=p.env,
                                   stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert status == 0 and os.path.getsize(p.path("hf/model.safetensors")) > 96000000
        if not os.environ.get("SAN"):  # a sanitizer needs memory of its own
            assert grown < 40e6, grown
            assert usage.ru_maxrss < 40 << 10, usage.ru_maxrss


# ---- files of others -------------------------------------------------------------------------

def foreign(tensors, **metadata):
    """A safetensors file as anybody writes it: { name: (dtype, shape, bytes) }."""
    head, at = {"__metadata__": metadata}, 0
    for name, (dtype, shape, data) in tensors.items():
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values())


# A row of `w` alone is larger than a file may be, and so is `v`; `x` fits in one beside others.
FOREIGN = {"v": ("I64", [5000], struct.pack("<5000q", *range(5000))), "a": ("F32", [10], struct.pack("<10f", *range(10))),
           "e": ("F32", [0, 4], b""), "w": ("F32", [1, 3, 9000], struct.pack("<27000f", *range(27000))),
           "x": ("F32", [1000], struct.pack("<1000f", *range(1000))), "b": ("BF16", [7], bytes(range(14))),
           "s": ("U8", [], b"\xff")}
GROWS = """
import pioche, struct
model = pioche.init().resume()["model"]
assert model.shape("w") == (1, 3, 9000) and bytes(model["w"]) == struct.pack("<27000f", *range(27000))
assert bytes(model.read("v", (2,), 4998)) == struct.pack("<2q", 4998, 4999) and model.shape("e") == (0, 4)
"""


def cut_files(p, name):
    """The files of a checkpoint: as a cut one has to be. Their metadata, and what was not cut."""
    metadata, whole = [], []
    for file in p.pioche("checkpoint", "show", name, "--json").json["file_list"]:
        path = os.path.join(p.store, "objects", file["sha256"][:2], file["sha256"])
        with open(path, "rb") as f:
            data = f.read()
        size = struct.unpack("<Q", data[:8])[0]
        assert file["rank"] == 0 and len(data) <= 24576, file
        metadata.append(json.loads(data[8:8 + size])["__metadata__"])
        if (8 + size) % 4096:
            whole.append(file["sha256"])
    return metadata, whole


def test_a_large_file_of_others_becomes_several():
    python_library()
    with Project(git=False) as p:
        p.write("train.py", TRAIN)
        p.write("recipe.lua", RECIPE % ("toy", sys.executable, ""))
        p.pioche("run", "recipe.lua")
        small = foreign({"c": ("U8", [3], b"abc")}, parts="no JSON", format="pt")
        os.mkdir(p.path("hf"))
        for name, data in (("a.safetensors", foreign(FOREIGN, format="pt", note="\u00fc\"")), ("b.safetensors", small)):
            with open(p.path("hf/" + name), "wb") as f:
                f.write(data)
        limit = {"PIOCHE_FILE_BYTES": "24576"}
        done = p.pioche("checkpoint", "import", "hf", "--run", "toy-1", "--step", "30", env=limit)
        assert "8 tensors" in done.out, done.out
        metadata, whole = cut_files(p, "toy-1@30")
        # v in three, with a and e behind it, w in six, x and the rest; and the small file as it is.
        assert len(metadata) == 11 and whole == [hashlib.sha256(small).hexdigest()], (len(metadata), whole)
        notes = [m["note"] for m in metadata if "note" in m]
        assert notes == ["\u00fc\""] * 10 and sum(m["format"] == "pioche" for m in metadata) == 9, metadata
        for name, (_, shape, data) in FOREIGN.items():
            found = subprocess.run([harness.PIOCHE, "checkpoint", "cat", "toy-1@30", name], cwd=p.dir, env=p.env,
                                   check=True, capture_output=True).stdout
            assert found == data, name
        p.pioche("verify", "--full")
        p.pioche("checkpoint", "export", "toy-1@30", "--hf", "out")
        with open(p.path("out/model.safetensors"), "rb") as f:
            data = f.read()
        size = struct.unpack("<Q", data[:8])[0]
        head = json.loads(data[8:8 + size])
        for name, (dtype, shape, bytes_) in FOREIGN.items():
            begin, end = head[name]["data_offsets"]
            assert (head[name]["dtype"], head[name]["shape"]) == (dtype, shape), head[name]
            assert data[8 + size + begin:8 + size + end] == bytes_, name
        p.write("train.py", GROWS)
        p.write("next.lua", RECIPE % ("next", sys.executable, 'from = pioche.checkpoint("toy-1", "last"),'))
        p.pioche("run", "next.lua")
        # Where it fits it stays the file that it was, which may be named alone.
        p.pioche("checkpoint", "import", "hf/a.safetensors", "--run", "toy-1", "--step", "31")
        files = p.pioche("checkpoint", "show", "toy-1@31", "--json").json["file_list"]
        with open(p.path("hf/a.safetensors"), "rb") as f:
            assert [f["sha256"] for f in files] == [hashlib.sha256(f.read()).hexdigest()]
        huge(p)


def huge(p):
    """Of 8 TiB, and all of them a hole: told before the first byte is copied."""
    with open(p.path("huge.safetensors"), "wb") as f:
        text = json.dumps({"w": {"dtype": "U8", "shape": [2, 1 << 42], "data_offsets": [0, 1 << 43]}}).encode()
        f.write(struct.pack("<Q", len(text)) + text)
        try:
            f.truncate(8 + len(text) + (1 << 43))
        except OSError:
            return  # here no file may be so large
    err = p.pioche("checkpoint", "import", "huge.safetensors", "--run", "toy-1", "--step", "32", expect=3).err
    assert "it takes 8.8 TB, and the store's disk has" in err, err
    assert [n for n in os.listdir(os.path.join(p.store, "staging")) if n.startswith("import")] == []


# What several ranks have whole and is larger than a file: `w` is the same everywhere, `s` each
# rank's own, and of rank 0 small enough for one file; `u` differs at its end alone. Whoever has
# none reads that of the first.
OWN = """
import array, pioche
run = pioche.init()
def replica(step):
    return array.array("f", [step + k for k in range(27000)])
def own(step, rank):
    return array.array("d", [step + 1000 * rank + k for k in range(9000 if rank else 100)])
saved, step = run.resume(), 0
if saved is not None:
    step, of = saved.step, run.rank if run.rank < 2 else 0
    model, extra = saved["model"], saved["extra"]
    assert model.shape("w") == (3, 9000) and bytes(model["w"]) == replica(step).tobytes()
    assert bytes(model.read("w", (3, 2), (0, 5999))) == b"".join(
        replica(step)[9000 * r + 5999:9000 * r + 6001].tobytes() for r in range(3))
    assert bytes(extra["s"]) == own(step, of).tobytes(), (run.rank, extra.shape("s"))
w = memoryview(replica(step + 1)).cast("B").cast("f", (3, 9000))
u = own(0, 9)
u[-1] = run.rank
run.checkpoint(step + 1, {"model": {"w": w}, "extra": {"s": own(step + 1, run.rank)}, "state": {"u": u}},
               writers=run.world, asynchronous=run.rank == 1)
"""


def test_what_each_rank_has_whole_is_in_several_files_as_well():
    python_library()
    with Project(git=False) as p:
        p.write("train.py", OWN)
        large(p, "two", 2)
        files = p.pioche("checkpoint", "show", "two-1@1", "--json").json["file_list"]
        assert all(f["bytes"] <= 24576 for f in files), files
        assert [sum(f["rank"] == r and f["role"] == role for f in files) for r in (0, 1)
                for role in ("model", "extra")] == [6, 1, 6, 4], files
        replicas = [{f["sha256"] for f in files if f["rank"] == r and f["role"] == "model"} for r in (0, 1)]
        assert replicas[0] == replicas[1]  # one object each, whoever saved it
        large(p, "one", 1, 'from = pioche.checkpoint("two-1", "last"),')
        large(p, "three", 3, 'from = pioche.checkpoint("two-1", "last"),')
        large(p, "again", 2, 'from = pioche.checkpoint("three-1", "last"),')
        one = p.pioche("checkpoint", "cat", "two-1@1", "w", "--json").json  # whichever rank's
        assert one["shape"] == [3, 9000] and one["values"] == [1.0 + k for k in range(27000)]
        p.pioche("checkpoint", "export", "two-1@1", "--hf", "hf")
        with open(p.path("hf/model.safetensors"), "rb") as file:
            assert file.read().endswith(struct.pack("<27000f", *(1 + k for k in range(27000))))
        said = p.pioche("checkpoint", "export", "two-1@1", "--role", "extra", "--hf", "no", expect=1).err
        assert "'s' of ranks 0 and 1 has other types or shapes" in said, said
        said = p.pioche("checkpoint", "export", "again-1@3", "--role", "state", "--hf", "no", expect=1).err
        assert "ranks 0 and 1 have a 'u' each, not the same" in said, said
        for name in ("s", "u"):
            said = p.pioche("checkpoint", "cat", "three-1@2", name, "--text", expect=1).err
            assert "say which by --rank N" in said, said
        p.pioche("export", "three-1", "-o", "x.tar", "--checkpoints", "all")
        # An index says which file has a tensor: of these none has.
        assert "index.json" not in p.sh("tar tf x.tar")
        p.pioche("verify", "x.tar")
        p.sh("mkdir other && cd other && git init -q")
        p.pioche("--store", "other/.pioche", "import", "x.tar")
        there = p.pioche("--store", "other/.pioche", "checkpoint", "cat", "three-1@2", "s", "--rank", "2", "--json")
        assert there.json["values"] == [2002.0 + k for k in range(9000)]
        p.pioche("checkpoint", "diff", "three-1@2", "again-1@3", "--json")
        p.pioche("verify", "--full")


harness.main()
