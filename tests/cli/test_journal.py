#!/usr/bin/env python3
"""`pioche journal cat`: what a node said, from files that are whole, torn,
compressed or none, and from several files of one journal."""
import glob
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import BUILD, Project  # noqa: E402


def logged(p, **env):
    """Log 2,000 points and a text as a notebook does; the journal's files."""
    harness.python_library()
    p.write("notebook.py", """
import pioche, time
with pioche.init("nb", params={"lr": 0.5}) as run:
    for step in range(2000):
        run.log({"loss": 1 / (step + 1)}, step=step)
        if step % 200 == 0: time.sleep(0.03)
    run.text("sample", "In the\\nbeginning", step=7)
""")
    subprocess.run([sys.executable, "notebook.py"], cwd=p.dir, check=True, capture_output=True,
                   env=dict(p.env, PYTHONPATH=os.path.join(BUILD, "lib", "pioche"), **env))
    return sorted(glob.glob(p.path(".pioche/runs/*/1/journal.*")))


def lines(p, *files):
    done = p.pioche("journal", "cat", *files, "--json")
    return [json.loads(line) for line in done.out.splitlines()], done.err


def check_all(records):
    points = [r for r in records if r["record"] == "point"]
    assert [r["step"] for r in points] == list(range(2000)), len(points)
    assert all(r["key"] == "loss" and r["value"] == 1 / (r["step"] + 1) for r in points)
    assert [r["text"] for r in records if r["record"] == "text"] == ["In the\nbeginning"]
    assert records[-1]["record"] == "exit" and records[-1]["json"] == {"result": "ok"}, records[-1]


def test_everything_is_printed_plain_and_compressed():
    with Project() as p:
        file, = logged(p)
        records, err = lines(p, file)
        check_all(records)
        assert not err and records[0]["record"] == "journal" and records[0]["attempt"] == 1, records[0]
        text = p.pioche("journal", "cat", file).out
        assert "loss  0.5\n" in text and text.count("\n") == len(records), text[:500]
        p.pioche("ls")  # folds, and compresses what is folded
        assert not os.path.exists(file) and os.path.exists(file + ".zst")
        for name in (file, file + ".zst"):
            packed, err = lines(p, name)
            assert packed[1:] == records[1:] and not err


def test_segments_are_read_as_one():
    with Project() as p:
        files = logged(p, PIOCHE_SEGMENT_BYTES="10000")
        assert len(files) > 3, files
        files.sort(key=lambda name: int((os.path.basename(name) + ".0").split(".")[2]))
        check_all([r for r in lines(p, *files)[0]])
        alone = lines(p, files[1])[0]
        assert all("key" not in r for r in alone if r["record"] == "point")
        assert p.pioche("ls", "--json").json[0]["metrics"]["loss"]["count"] == 2000


def test_a_torn_end_is_told_and_the_rest_printed():
    with Project() as p:
        file, = logged(p)
        with open(file, "rb") as f:
            data = f.read()
        with open(p.path("torn"), "wb") as f:
            f.write(data[:len(data) - 5])
        records, err = lines(p, "torn")
        assert records[-1]["record"] in ("text", "point", "heartbeat"), records[-1]
        assert "no whole record" in err, err


def test_what_is_no_journal_is_refused():
    with Project() as p:
        p.write("notes.txt", "to be or not to be: that is the question, says the prince of Denmark\n")
        p.write("short.txt", "to be\n")
        for name, reason in (("notes.txt", "is not a journal"), ("short.txt", "shorter than"),
                             ("none", "no such file")):
            done = p.pioche("journal", "cat", name, expect=1)
            assert reason in done.err and name in done.err and not done.out, done.err
        assert "usage: pioche journal cat FILE" in p.pioche("journal", expect=2).err


if __name__ == "__main__":
    harness.main()
