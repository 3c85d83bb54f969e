#!/usr/bin/env python3
"""Queries, notes, tags, reductions over ranks and media, from what a program
logs to what the commands say and do."""
import json
import os
import shutil
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import BUILD, Project, Skip, wait_for  # noqa: E402

SWEEP = """
import pioche
for i, lr in enumerate([0.5, 0.01, 2.0, 3.0], 1):
    with pioche.init("gpt", params={"lr": lr, "opt": "adamw" if i < 3 else "sgd"}) as run:
        for step in range(1, 11):
            run.log({"val/loss": i + 1 / step, "odd@mean": 7}, step=step)
        run.tag("phase", "ablation" if i == 1 else "final")
"""

MEDIA = """
import pioche
with pioche.init("m") as run:
    run.histogram("grad", [0.5] * 30 + [1.5] * 10, step=3)
    run.histogram("grad", [0.25, 4.0, float("nan")], step=8)
    run.table("preds", {"x": [1, 2], "label": ["cat", "a\\x1b[31m"]}, step=8)
    run.image("img", bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000"
        "000d49444154789c6360f8cf500f00038301804b5ea4f80000000049454e44ae426082"), step=8)
    run.file("notes.txt", b"first line\\nsecond\\n")
"""


def python(p, text):
    harness.python_library()
    p.write("program.py", text)
    done = subprocess.run([sys.executable, "program.py"], cwd=p.dir, capture_output=True, text=True,
                          env=dict(p.env, PYTHONPATH=os.path.join(BUILD, "lib", "pioche")))
    assert done.returncode == 0, done.stderr
    p.pioche("ls")


def change(p, sql):
    subprocess.run(["sqlite3", os.path.join(p.store, "pioche.db"), sql], check=True)


def ids(p, *words):
    return [run["id"] for run in p.pioche("ls", "--json", *words).json]


def test_ls_finds_sorts_and_limits():
    with Project(git=False) as p:
        python(p, SWEEP)
        assert ids(p, 'lr > 1e-3 and val/loss.min < 2 or tag.phase = "ablation"') == ["gpt-1"]
        assert ids(p, "opt = adamw sort by lr") == ["gpt-2", "gpt-1"]
        assert ids(p, "gpt", "lr >= 0.5", "--sort", "val/loss desc", "--limit", "2") == ["gpt-4", "gpt-3"]
        assert ids(p, "gpt-1", "gpt-4", "lr > 1") == ["gpt-4"]
        assert ids(p, "status in (failed, lost) and created > 3d") == []
        assert "lr" in p.pioche("ls", "lr > 1", "--csv").out
        assert p.pioche("ls", "lr > 99").err == "no such run\n"
        refused = p.pioche("ls", "lr > 1 and val/los < 2", expect=1).err
        assert refused.splitlines()[1:] == ["  lr > 1 and val/los < 2", "             ^^^^^^^"], refused
        assert "did you mean 'val/loss'?" in refused
        assert "a query is one argument" in p.pioche("ls", "lr", "=", "1", expect=2).err
        for topic in ("grammar", "created > 3d", "has(lr)"):
            assert topic in p.pioche("help", "query").out


def test_compare_and_chart_take_queries():
    with Project(git=False) as p:
        python(p, SWEEP)
        rows = p.pioche("compare", "opt = sgd", "--minimize", "val/loss", "--json").json
        assert [row["id"] for row in rows] == ["gpt-3", "gpt-4"] and rows[0]["best"] == ["val/loss"]
        rows = p.pioche("compare", "--sort", "lr desc", "--limit", "2", "-m", "val/loss@max", "--json").json
        assert [row["id"] for row in rows] == ["gpt-4", "gpt-3"]
        assert rows[0]["metrics"]["val/loss@max"]["mean"] == 4.1
        rows = p.pioche("compare", "sort by lr", "--minimize", "val/loss", "--json").json
        assert [row["id"] for row in rows] == ["gpt-2", "gpt-1", "gpt-3", "gpt-4"] and rows[1]["best"] == ["val/loss"]
        drawn = p.pioche("chart", "sort by lr desc limit 2", "-m", "val/loss").out
        assert drawn.index("gpt-4") < drawn.index("gpt-3"), drawn
        charts = p.pioche("chart", "lr < 1 sort by lr", "-m", "val/loss", "--json").json
        assert [c["id"] for c in charts] == ["gpt-2", "gpt-1"]
        assert [row["id"] for row in p.pioche("compare", "--limit", "2", "--json").json] == ["gpt-1", "gpt-2"]
        p.pioche("tag", "gpt-2", "name=baseline")
        for verb in ("ls", "compare"):
            head, *lines = p.pioche(verb, "gpt").out.splitlines()
            at = head.index("name")
            assert [line.split()[0] for line in lines if line[at:].startswith("baseline")] == ["gpt-2"], lines
        assert "no runs" in p.pioche("compare", "lr > 99", expect=1).err
        assert "no runs" in p.pioche("chart", "lr > 99", expect=1).err


def test_stop_takes_a_query_and_can_say_first():
    with Project(git=False) as p:
        python(p, SWEEP)
        change(p, "UPDATE run SET status = 'planned' WHERE number IN (1, 3)")
        said = p.pioche("stop", "lr > 1", "--dry-run").out
        assert "would: gpt-3 is cancelled" in said and ids(p, "status = cancelled") == []
        p.pioche("stop", "lr > 1")
        assert ids(p, "status = cancelled") == ["gpt-3"] and ids(p, "status = planned") == ["gpt-1"]
        assert "none matches" in p.pioche("stop", "lr > 99", expect=1).err
        p.check_store()


def test_stop_says_so_where_all_is_over():
    with Project(git=False) as p:
        python(p, "import pioche\nfor i in range(12):\n    with pioche.init('gpt'): pass\n")
        assert p.pioche("stop", "gpt").out == "12 runs are over already\n"
        assert p.pioche("stop", "gpt-3", "--dry-run").out == "gpt-3 is finished already\n"
        assert len(p.pioche("stop", "gpt", "--json").json) == 12
        assert len(p.pioche("stop", "gpt", "--csv").out.splitlines()) == 13


def test_export_of_many_is_a_bundle_a_run():
    with Project(git=False) as p:
        python(p, SWEEP)
        os.mkdir(p.path("out"))
        done = p.pioche("export", "gpt", "opt = sgd", "-o", "out", "--json").json
        assert [d["id"] for d in done] == ["gpt-3", "gpt-4"]
        assert sorted(os.listdir(p.path("out"))) == ["gpt-3.tar", "gpt-4.tar"]
        for name in os.listdir(p.path("out")):
            with tarfile.open(p.path("out/" + name)) as tar:
                assert name[:-4] + "/bagit.txt" in tar.getnames()
        p.pioche("export", "gpt", "opt = sgd", "-o", "new/deep/")
        assert sorted(os.listdir(p.path("new/deep"))) == ["gpt-3.tar", "gpt-4.tar"]
        assert isinstance(p.pioche("export", "gpt-1", "--json").json, dict)
        assert p.pioche("export", "gpt", "opt = sgd", "-o", "one.tar", "--json").json["runs"] == 2
        assert "none matches" in p.pioche("export", "lr > 99", expect=1).err


def test_notes_and_tags_come_later_and_keep_what_was():
    with Project(git=False) as p:
        python(p, SWEEP)
        p.pioche("note", "gpt-2", "warm-up was too short\nreally")
        p.pioche("note", "opt = sgd", "all of these diverge")
        assert ids(p, "note ~ diverge") == ["gpt-4", "gpt-3"]
        shown = p.pioche("show", "gpt-2").out
        assert "warm-up was too short" in shown and "really" in shown
        assert p.pioche("show", "gpt-3", "--json").json["notes"][0]["text"] == "all of these diverge"
        assert p.pioche("ls", "--notes", "--json", "gpt-3").json[0]["notes"] == ["all of these diverge"]
        assert "all of these diverge" in p.pioche("ls", "--notes").out
        assert p.pioche("tag", "gpt-2", "gpt-3", "phase=second", "owner=ada", "--json").json[0]["tags"] == {
            "phase": "second", "owner": "ada"}
        p.pioche("tag", "lr > 1", "phase-")
        assert ids(p, "tag.phase = second") == ["gpt-2"] and ids(p, "has(tag.phase)") == ["gpt-2", "gpt-1"]
        events = [e["message"] for e in p.pioche("show", "gpt-3", "--events", "--json").json["events"]
                  if e["kind"] == "tag"]
        assert events == ['"final" became "second"', 'set to "ada"', '"second" was removed'], events
        for words in (["note", "gpt-1", " "], ["tag", "gpt-1", "phase"], ["tag", "a=b", "c=d"],
                      ["tag", "gpt-1", "a=b", "gpt-2"], ["note", "gpt-1"]):
            p.pioche(*words, expect=2)
        p.pioche("note", "gpt-99", "x", expect=1)
        p.check_store()


def test_notes_and_tags_say_when_a_store_is_only_read():
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        raise Skip("setpriv is missing, and root may write everything")
    with Project(git=False) as p:
        python(p, SWEEP)
        subprocess.run(["chmod", "-R", "a+rX,a-w", p.store], check=True)
        os.chmod(p.dir, 0o755)
        prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []

        def as_nobody(*args):
            return subprocess.run([*prefix, harness.PIOCHE, *args], cwd=p.dir, env=p.env,
                                  capture_output=True, text=True)
        for words in (["note", "gpt-1", "x"], ["tag", "gpt-1", "a=b"], ["stop", "lr > 1"]):
            done = as_nobody(*words)
            assert done.returncode == 1 and "cannot be written" in done.stderr, done
        done = as_nobody("ls", "lr > 1", "--json")
        assert done.returncode == 0 and len(json.loads(done.stdout)) == 2, done
        done = as_nobody("stop", "lr > 1", "--dry-run")
        assert done.returncode == 0 and "gpt-3 is finished already" in done.stdout, done


def test_completion_knows_the_names_of_queries():
    with Project(git=False) as p:
        python(p, SWEEP)
        names = p.pioche("completion", "names").out.split()
        assert {"lr", "val/loss", "tag.phase", "status"} <= set(names)
        p.write("try.sh", """
source <(pioche completion bash)
try() { COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _pioche; printf '%s\n' "${COMPREPLY[*]}"; }
try pioche ls "'lr > 1 and val/l"
try pioche chart gpt -m val
try pioche ls --sort "lr,sta"
try pioche ta
""")
        path = os.path.dirname(harness.PIOCHE) + ":" + p.env["PATH"]
        said = subprocess.run(["bash", "try.sh"], cwd=p.dir, env=dict(p.env, PATH=path), capture_output=True,
                              text=True).stdout
        assert said.splitlines() == ["lr > 1 and val/loss", "val/loss", "lr,started lr,status", "tag"], said


def test_while_a_supervisor_is_going():
    with Project() as p:
        p.write("r.lua", """
local pioche = require "pioche"
return pioche.sweep { name = "w", space = { x = { 1, 2 } }, launch = { parallel = 2 },
  program = pioche.program { command = { "sh", "-c", "while :; do sleep 0.1; done" } } }
""")
        p.sh("git add -A && git commit -qm 'mend the loop'")
        process = p.start("run", "r.lua")
        wait_for(lambda: len(p.poll("SELECT 1 FROM attempt WHERE state = 'running'")) == 2, 20, "two attempts")
        p.pioche("note", "w", "seen while running")
        p.pioche("tag", "x = 2", "kept=yes")
        assert ids(p, 'commit ~ "MEND" and status = running and tag.kept = yes') == ["w-2"]
        p.pioche("stop", "x > 1")
        wait_for(lambda: p.poll("SELECT 1 FROM run WHERE number = 2 AND status = 'cancelled'"), 20, "a stop")
        assert ids(p, "status = running") == ["w-1"]
        p.pioche("stop", "status = running")
        process.communicate(timeout=30)
        assert len(ids(p, "note ~ 'while running' and status = cancelled")) == 2
        p.check_store()


RANKS = """
for rank in 1 2; do
  sqlite3 .pioche/pioche.db "INSERT INTO series (run_id, key, rank, count, first_step, last_step, last, min, max,
    sum, sum_low, finite) SELECT run_id, key, $rank, count, first_step, last_step, last + $rank, min + $rank,
    max + $rank, sum + $rank * finite, sum_low, finite FROM series WHERE rank = 0 AND key = 'val/loss'"
done
"""


def test_reductions_over_ranks_wherever_a_metric_is_named():
    with Project(git=False) as p:
        python(p, SWEEP)
        p.sh(RANKS)
        assert ids(p, "val/loss@mean < 2.2") == ["gpt-1"]
        assert ids(p, "val/loss@max.min > 5.5") == ["gpt-4"]
        assert ids(p, "val/loss@rank=2 < 3.2") == ["gpt-1"]
        run = p.pioche("ls", "gpt-1", "--json", "-m", "val/loss@mean", "-m", "val/loss@argmax").json[0]
        assert abs(run["metrics"]["val/loss@mean"]["last"] - 2.1) < 1e-9, run["metrics"]
        assert run["metrics"]["val/loss"]["last"] == 1.1 and run["metrics"]["val/loss@argmax"]["last"] == 2
        assert "val/loss@mean" in p.pioche("ls", "-m", "val/loss@mean").out
        shown = p.pioche("show", "gpt-1", "-m", "val/loss@rank=2", "--json").json["metrics"]
        assert list(shown) == ["val/loss@rank=2"] and shown["val/loss@rank=2"]["last"] == 3.1
        rows = p.pioche("compare", "gpt", "-m", "val/loss@min", "--json").json
        assert rows[0]["metrics"]["val/loss@min"]["mean"] == 1.1
        for words in (["ls", "-m", "val/loss@median"], ["chart", "gpt-1", "-m", "val/loss@median"],
                      ["compare", "gpt", "-m", "val/loss@median"], ["show", "gpt-1", "-m", "val/loss@median"]):
            err = p.pioche(*words, expect=2).err
            assert "unknown reduction '@median'" in err and "@argmax" in err, err
        assert ids(p, "odd@mean = 7 limit 1") == ids(p, '"odd@mean" = 7 limit 1') == ["gpt-4"]
        run = p.pioche("ls", "gpt-1", "-m", '"odd@mean"@mean', "--json").json[0]
        assert run["metrics"]['"odd@mean"@mean']["last"] == 7
        curve = p.pioche("chart", "gpt-1", "-m", "odd@mean", "--json").json[0]
        assert curve["metric"] == "odd@mean" and curve["buckets"][-1]["mean"] == 7
        curve = p.pioche("chart", "gpt-1", "-m", '"odd@mean"@max', "--json").json[0]
        assert (curve["rank"], curve["count"], curve["buckets"][0]["max"]) == ("max", 10, 7), curve


def test_media_are_listed_shown_and_saved():
    with Project(git=False) as p:
        python(p, MEDIA)
        shown = p.pioche("show", "m-1").out
        for word in ("grad", "preds", "img", "notes.txt", "image/png"):
            assert word in shown, shown
        media = p.pioche("show", "m-1", "--json").json["media"]
        assert [(m["kind"], m["key"], m["step"]) for m in media] == [
            ("file", "notes.txt", None), ("histogram", "grad", 3), ("histogram", "grad", 8),
            ("image", "img", 8), ("table", "preds", 8)], media
        old = p.pioche("show", "m-1", "--media", "grad", "--step", "3", "--json").json["histogram"]
        assert (old["finite"], old["min"], old["max"], sum(b["count"] for b in old["buckets"])) == (40, 0.5, 1.5, 40)
        drawn = p.pioche("show", "m-1", "--media", "grad", "--step", "3").out
        assert "40 values, mean 0.75" in drawn and "█ 30" in drawn, drawn
        assert "1 NaN" in p.pioche("show", "m-1", "--media", "grad").out
        table = p.pioche("show", "m-1", "--media", "preds").out
        assert "cat" in table and "\x1b" not in table
        rows = p.pioche("show", "m-1", "--media", "preds", "--csv").out.split("\n")
        assert rows == ["x,label", "1,cat", "2,a\x1b[31m", ""], rows
        rows = p.pioche("show", "m-1", "--media", "grad", "--step", "3", "--csv").out.splitlines()
        assert rows[0] == "low,high,count" and sum(float(r.split(",")[2]) for r in rows[1:]) == 40, rows
        assert "is no table" in p.pioche("show", "m-1", "--media", "img", "--csv", expect=2).err
        assert "second" in p.pioche("show", "m-1", "--media", "notes.txt").out
        assert "--save" in p.pioche("show", "m-1", "--media", "img").out
        p.pioche("show", "m-1", "--media", "img", "--save", "x.png")
        with open(p.path("x.png"), "rb") as f:
            assert f.read(8) == b"\x89PNG\r\n\x1a\n"
        assert "exists already" in p.pioche("show", "m-1", "--media", "img", "--save", "x.png", expect=1).err
        os.mkdir(p.path("d"))
        p.pioche("show", "m-1", "--media", "notes.txt", "--save", "d")
        assert p.read("d/notes.txt") == "first line\nsecond\n"
        assert "did you mean 'grad'?" in p.pioche("show", "m-1", "--media", "grda", expect=1).err
        assert "its steps are 3, 8" in p.pioche("show", "m-1", "--media", "grad", "--step", "4", expect=1).err


def hostile():
    """A hundred arguments that nobody should write."""
    names = ["lr", "val/loss", "tag.phase", "name", "commit", "created"]
    tails = ["'; DROP TABLE run; --'", "\"\\\"; DELETE FROM run; --\"", "1 OR 1=1", "?1", ":x", "$x", "@x = 1",
             "\\", "\"", "'", "((((", "))))", "%s%s%n", "*" * 300, "é" * 300, "1e99999", "-", "nan nan"]
    yield from (f"{n} = {t}" for n in names for t in tails[:16])
    yield from ("(" * 5000, "not " * 5000 + "lr = 1", "lr = 1 or " * 900 + "lr = 1", "lr in (" + "1," * 2000 + "1)",
                "sort by " + "lr," * 50 + "lr", "limit 99999999999999999999", "= = =", "\x01\x02 = \x03")


def test_a_hundred_hostile_queries():
    """Each is answered or refused with a message; nothing in the store changes."""
    with Project(git=False) as p:
        python(p, SWEEP)
        before = p.sql("SELECT count(*) AS n, sum(id) AS s FROM run")
        queries = list(hostile())
        assert len(queries) >= 100
        for text in queries:
            done = p.pioche("ls", "--json", text, expect=None)
            assert done.status in (0, 1, 2), (text, done.err)
            assert "traceback" not in done.err and "a bug" not in done.err, (text, done.err)
            assert done.status or isinstance(json.loads(done.out), list)
        assert p.sql("SELECT count(*) AS n, sum(id) AS s FROM run") == before
        p.check_store()


if __name__ == "__main__":
    harness.main()
