#!/usr/bin/env python3
"""A program that was started without pioche, as a notebook is: what the
commands tell of it, and what they tell who asks too early or too much."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import BUILD, Project  # noqa: E402


def python(p, text, status=0):
    harness.python_library()
    p.write("notebook.py", text)
    done = subprocess.run([sys.executable, "notebook.py"], cwd=p.dir, capture_output=True, text=True,
                          env=dict(p.env, PYTHONPATH=os.path.join(BUILD, "lib", "pioche")))
    assert done.returncode == status, done.stderr
    return done


def test_an_exception_is_the_reason():
    """ls, show and JSON say which exception it was; the end of its traceback is shown."""
    with Project() as p:
        python(p, """
import pioche
def deep(n):
    if n: deep(n - 1) ; return
    raise ValueError("loss is not finite\\n  at all")
with pioche.init("nb") as run:
    run.log({"loss": 1.0}, step=3)
    for f in [deep] * 1: f(12)
""", status=1)
        for words in (["ls"], ["ls", "--csv"], ["show", "nb-1"]):
            out = p.pioche(*words).out
            assert "ValueError: loss is not finite" in out, out
        shown = p.pioche("show", "nb-1").out
        assert "...: --texts" in shown and "at all" in shown, shown
        run = p.pioche("show", "nb-1", "--json").json
        assert run["status"] == "failed" and run["reason"] == "ValueError: loss is not finite", run
        assert "started without pioche" in p.pioche("logs", "nb-1").err


def test_whole_numbers_of_any_size_are_kept():
    with Project() as p:
        python(p, """
import pioche
pioche.init("nb", params={"big": 10**30, "low": -2**63, "high": 2**63 - 1}).finish()
""")
        params = p.pioche("show", "nb-1", "--json").json["params"]
        assert params == {"big": str(10**30), "low": -2**63, "high": 2**63 - 1}, params


def test_wrong_calls_name_what_was_given():
    with Project() as p:
        python(p, """
import pioche
def refused(error, text, call, *args):
    try:
        call(*args)
    except error as e:
        assert text in str(e), str(e)
    else:
        raise AssertionError(text)
refused(TypeError, "experiment is 3 (int): str expected", pioche.init, 3)
run = pioche.init("")
assert run.id in repr(run) and "finished" not in repr(run)
refused(TypeError, "params is [1] (list): a dict expected", run.params, [1])
refused(TypeError, "step is '5' (str): an integer expected", run.checkpoint, "5", {})
refused(TypeError, "checkpoint is 1 (int): a dict expected", run.checkpoint, 5, 1)
refused(TypeError, "role 'model' of a checkpoint is", run.checkpoint, 5, {"model": b"x"})
run.finish()
assert "finished" in repr(run)
""")
        assert p.pioche("ls", "--json").json[0]["id"] == "notebook-1"


def test_chart_without_a_goal():
    """Few metrics are drawn, many are listed, and only those of the runs that were named."""
    with Project() as p:
        python(p, """
import pioche
with pioche.init("few") as run: run.log({"a": 1.0, "b": 2.0}, step=1)
with pioche.init("many") as run: run.log({"m%02d" % i: 1.0 for i in range(15)}, step=1)
with pioche.init("none") as run: pass
""")
        out = p.pioche("chart", "few").out
        assert out.startswith("a\n") and "\nb\n" in out and "m00" not in out, out
        err = p.pioche("chart", "many-1", expect=2).err
        assert "logged are: m00, m01" in err and "m11 and 3 more" in err and " a," not in err, err
        assert "none-1 has logged nothing yet" in p.pioche("chart", "none-1", expect=1).err


def test_what_is_no_table_is_not_csv():
    with Project() as p:
        for verb in (["run", "x.lua"], ["plan", "x.lua"], ["help"], ["completion", "bash"], ["journal", "cat", "x"]):
            assert f"--csv: {verb[0]} prints no table" in p.pioche(*verb, "--csv", expect=2).err
            assert "--csv" not in p.pioche("help", verb[0]).out.split("options of every verb")[1]
        for verb in (["watch"], ["completion", "bash"]):
            assert f"--json: {verb[0]} prints no JSON" in p.pioche(*verb, "--json", expect=2).err
            assert "--json" not in p.pioche("help", verb[0]).out.split("options of every verb")[1]
        assert "--json" in p.pioche("help", "run").out and "--csv" in p.pioche("help", "ls").out


harness.main()
