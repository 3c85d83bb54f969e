#!/usr/bin/env python3
"""What a program gave to run.checkpoint() comes back from run.resume(): values,
nested as they were, tensors whole or in parts, on any number of ranks; and what
cannot be saved is refused by its name."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project  # noqa: E402

# Row r of the matrix is [10 r, 10 r + 1, 10 r + 2]; rank k of n has rows k, k + n, ... as
# far as they are contiguous: the first rows, the last rows.
SAVE = r"""
import array, pioche
ints = lambda *values: array.array("i", values)
grid = lambda rows: memoryview(bytes(ints(*[10 * r + c for r in rows for c in range(3)]))).cast("i", (len(rows), 3))
with pioche.init() as run:
    assert run.resume() is None
    rows = [range(0, 3), range(3, 5)][run.rank]
    flat = [(0, 7), (7, 15)][run.rank]
    state = {
        "model": {"whole.w": ints(1, 2, 3)} if run.rank == 0 else {},
        "optim": {
            "m": pioche.Part(grid(rows), (5, 3), (rows[0], 0)),
            "v": pioche.Part(ints(*range(*flat)), (5, 3), flat[0]),
            "groups": [{"lr": 0.1, "betas": (0.9, 0.999), "foreach": None, 7: {"step": 3.0}}],
        },
        "extra": {
            "rng": bytes([run.rank] * 5), "rank": run.rank, "none": b"", "big": 1 << 70, "flag": True,
            "nan": float("nan"), "minus": -0.0, "inf": float("-inf"), "name": "a\0\"\u00e9", "empty": {},
            "$odd": {"$tensor": "x"}, "nothing": memoryview(b"").cast("B"),
        },
    }
    run.checkpoint(3, state, writers=2)
"""

READ = r"""
import math, struct, sys
sys.modules["numpy"] = None  # as where there is none
import pioche
with pioche.init() as run:
    saved = run.resume()
    assert saved.step == 3 and list(saved) == ["extra", "model", "optim"], list(saved)
    assert saved["model"]["whole.w"].tolist() == [1, 2, 3]
    assert list(saved["model"]) == ["whole.w"] and saved["model"].dtype("whole.w") == "int32"
    optim, whole = saved["optim"], [[10 * r + c for c in range(3)] for r in range(5)]
    assert optim.shape("m") == (5, 3) and optim["m"].tolist() == whole
    assert optim.read("m", (2, 2), (2, 1)).tolist() == [row[1:3] for row in whole[2:4]]
    assert optim.read("m", (4,), 7).tolist() == [21, 22, 30, 31]
    assert optim["v"].tolist() == [[3 * r + c for c in range(3)] for r in range(5)]
    assert optim.read("v", (5, 1), (0, 2)).tolist() == [[2], [5], [8], [11], [14]]
    assert optim.read("v", (0, 3), (2, 0)).tolist() == []
    assert optim["groups.0.betas.1"] == 0.999 and optim["groups.0.foreach"] is None
    back = optim.value()
    assert back["groups"] == [{"lr": 0.1, "betas": (0.9, 0.999), "foreach": None, 7: {"step": 3.0}}], back
    extra = saved["extra"].value()
    mine = run.rank if run.rank < 2 else 0
    assert extra["rng"] == bytes([mine] * 5) and extra["rank"] == mine, extra
    assert extra["none"] == b"" and extra["big"] == 1 << 70 and extra["flag"] is True
    assert math.isnan(extra["nan"]) and struct.pack("<d", extra["minus"]) == struct.pack("<d", -0.0)
    assert extra["inf"] == float("-inf") and extra["name"] == "a\0\"\u00e9" and extra["empty"] == {}
    assert extra["$odd"] == {"$tensor": "x"} and len(extra["nothing"]) == 0
    for bad, error, text in (
            (lambda: saved["momentum"], KeyError, "extra, model, optim"),
            (lambda: saved["model"].read("x"), KeyError, "no tensor 'x' in role 'model'"),
            (lambda: optim.read("m", (2, 2), (4, 1)), pioche.Error, "2 from 4 on"),
            (lambda: optim.read("m", (2, 2), (4,)), ValueError, "one for each dimension"),
            (lambda: optim.read("m", (-1,), 0), ValueError, "(-1,)"),
            (lambda: optim.read("m", (2, 2), 0), pioche.Error, "2 dimensions")):
        try:
            bad()
        except error as told:
            assert text in str(told), told
        else:
            raise SystemExit("%s was expected" % text)
    run.log({"right": 1.0}, step=4)
"""

REFUSED = r"""
import array, pioche
w = array.array("f", [1, 2])
endless = {}
endless["again"] = endless
with pioche.init() as run:
    for state, error, text in (
            ({"model": {"w": {1, 2}}}, TypeError, "'w' of role 'model' is a set"),
            ({"model": {"a": {"b": 1j}}}, TypeError, "'a.b' of role 'model' is a complex"),
            ({"model": {"a": {"b": w}, "a.b": w}}, ValueError, "'a.b' of role 'model' is there twice"),
            ({"model": {(1, 2): w}}, TypeError, "is a tuple: str or int expected"),
            ({"model": endless}, ValueError, "nested more than 100 deep"),
            ({"model": w}, TypeError, "role 'model' of a checkpoint"),
            ({"model": 7}, TypeError, "a dict expected"),
            ({"a/b": {"w": w}}, pioche.Error, "a/b"),
            ({"model": {"w": pioche.Part(w, (3,), (2,))}}, pioche.Error, "2 from 2 on"),
            ({"model": {"w": pioche.Part(w, (1 << 40, 1 << 40), 0)}}, pioche.Error, "2^63 elements"),
            ({"extra": {"pioche.tree.model": w}, "model": {"n": 1}}, ValueError, "a name that pioche needs"),
            ({"model": {"w": memoryview(bytes(8)).cast("f"), "\ud800": w}}, ValueError, "surrogate"),
            ({}, pioche.Error, "no tensors")):
        try:
            run.checkpoint(1, state)
        except error as told:
            assert text in str(told), told
        else:
            raise SystemExit("%s was expected" % text)
    run.checkpoint(2, {"model": {"w": w}})
    run.log({"right": 1.0}, step=1)
"""

RECIPE = """
local pioche = require "pioche"
local save = pioche.program { command = { "python3", "save.py" } }
local read = pioche.program { command = { "python3", "read.py" } }
return function(lab)
  local a = lab:run { name = "save", program = save, launch = { ranks_per_node = 2 } }
  for _, ranks in ipairs { 1, 2, 3 } do
    local b = lab:run { name = "read" .. ranks, program = read, from = a:checkpoint "last",
      launch = { ranks_per_node = ranks } }
    assert(b:metric "right" == 1)
  end
end
"""


def test_what_was_saved_comes_back():
    harness.python_library()
    with Project() as p:
        p.write("save.py", SAVE)
        p.write("read.py", READ)
        p.write("r.lua", RECIPE)
        p.pioche("run", "r.lua")
        parts = p.sql("SELECT t.name, t.shape, t.whole_shape AS whole, t.part_begin AS part FROM tensor t JOIN"
                      " checkpoint_file f ON f.sha256 = t.sha256 WHERE f.role = 'optim' ORDER BY t.name, f.rank")
        assert parts == [
            {"name": "m", "shape": "[3,3]", "whole": "[5,3]", "part": "[0,0]"},
            {"name": "m", "shape": "[2,3]", "whole": "[5,3]", "part": "[3,0]"},
            {"name": "v", "shape": "[7]", "whole": "[5,3]", "part": "0"},
            {"name": "v", "shape": "[8]", "whole": "[5,3]", "part": "7"}], parts


def test_what_cannot_be_saved_is_refused():
    harness.python_library()
    with Project() as p:
        p.write("save.py", REFUSED)
        p.write("r.lua", """
local pioche = require "pioche"
return pioche.sweep { name = "w", program = pioche.program { command = { "python3", "save.py" } },
  space = { x = 1 } }
""")
        p.pioche("run", "r.lua")
        steps = p.sql("SELECT step FROM checkpoint")
        assert steps == [{"step": 2}], steps


def test_what_does_not_change_is_kept_once():
    """Frozen weights are the same file at each step, on each rank and in each run."""
    harness.python_library()
    with Project() as p:
        p.write("save.py", """
import array, pioche
with pioche.init() as run:
    for step in (1, 2, 3):
        run.checkpoint(step, {"frozen": {"w": array.array("f", range(1000))},
                              "model": {"v": array.array("i", [step, run.rank])}}, writers=2)
""")
        p.write("r.lua", """
local pioche = require "pioche"
return pioche.sweep { name = "f", program = pioche.program { command = { "python3", "save.py" } },
  space = { x = { 1, 2 } }, launch = { ranks_per_node = 2 }, keep = { last = 3 } }
""")
        p.pioche("run", "r.lua")
        kept = p.sql("SELECT role, count(*) AS files, count(DISTINCT sha256) AS objects FROM checkpoint_file"
                     " GROUP BY role ORDER BY role")
        assert kept == [{"role": "frozen", "files": 12, "objects": 1},
                        {"role": "model", "files": 12, "objects": 6}], kept
        p.pioche("verify")


harness.main()
