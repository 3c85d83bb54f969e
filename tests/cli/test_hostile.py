#!/usr/bin/env python3
"""What strangers send is distrusted: of a corpus of archives and safetensors files
that are each wrong in one way, every one is refused with words of its own, and
nothing is written anywhere."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
import hostile  # noqa: E402
from harness import Project  # noqa: E402


def tree(dir):
    """Every file below, with its size."""
    return sorted((os.path.join(d, f), os.lstat(os.path.join(d, f)).st_size)
                  for d, _, files in os.walk(dir) for f in files)


def made(p):
    os.makedirs(p.path("corpus"))
    return list(hostile.cases(p.path("corpus")))


def check(found, cases, at_least=150):
    """Each file's message has its words."""
    assert len(cases) >= at_least and len(found) == len(cases), (len(cases), len(found))
    wrong = [f'{os.path.basename(path)}: "{found.get(path)}" does not say "{words}"' for path, words in cases
             if words not in found.get(path, "")]
    assert not wrong, "\n".join(wrong)


def test_verify_refuses_each_for_its_own_reason():
    with Project(git=False) as p:
        cases = made(p)
        before = tree(p.dir)
        result = p.pioche("verify", "--json", *(path for path, _ in cases), expect=1)
        found = {r["subject"]: " ".join(r["findings"]) for r in result.json if not r["ok"]}
        check(found, cases)
        assert tree(p.dir) == before


def imported(p, paths):
    """Messages of a failed import, by file, none of which became a run."""
    result = p.pioche("import", "--json", *paths, expect=1)
    found = result.json
    assert found["runs"] == [] and p.sql("SELECT count(*) AS n FROM run")[0]["n"] == 0, found["runs"]
    return {f["source"]: f["message"] for f in found["failures"]}


def check_nothing_left(p):
    """A store as new."""
    for table in ("run", "experiment", "object", "snapshot", "sweep", "origin", "event", "media"):
        assert p.sql(f"SELECT count(*) AS n FROM {table}") == [{"n": 0}], table
    for name in ("staging", "objects", "runs"):
        assert tree(os.path.join(p.store, name)) == [] and not os.listdir(os.path.join(p.store, name)), name


def test_import_refuses_each_for_its_own_reason():
    with Project(git=False) as p:
        cases = made(p)
        before = tree(p.path("corpus"))
        bundles = [(path, words) for path, words in cases if not path.endswith(".safetensors")]
        found = imported(p, [path for path, _ in bundles])
        check(found, bundles, 130)
        for path, words in cases:
            if path.endswith(".safetensors"):
                err = p.pioche("import", path, expect=1).err
                assert words in err and os.path.basename(path) in err, (path, words, err)
        check_nothing_left(p)
        assert tree(p.path("corpus")) == before
        others = [f for f in os.listdir(p.dir) if f not in ("corpus", ".pioche")]
        assert others == [], others


def test_import_refuses_runs_that_cannot_be():
    with Project(git=False) as p:
        os.makedirs(p.path("corpus"))
        cases = list(hostile.run_cases(p.path("corpus")))
        assert p.pioche("verify", *(path for path, _ in cases)).status == 0
        check(imported(p, [path for path, _ in cases]), cases, 40)
        check_nothing_left(p)


def test_what_a_save_that_was_cut_short_left_is_not_taken_along():
    """An import that fails takes back what it brought, and no file that was there before."""
    with Project(git=False) as p:
        os.makedirs(p.path("corpus"))
        cases = [path for path, _ in hostile.run_cases(p.path("corpus")) if "checkpoint-hole" in path]
        imported(p, cases)
        check_nothing_left(p)
        name = hostile.sha256(hostile.half_weights())
        left = p.path(f".pioche/objects/{name[:2]}/{name}")
        os.makedirs(os.path.dirname(left))
        with open(left, "wb") as f:
            f.write(hostile.half_weights())
        imported(p, cases)
        assert os.path.exists(left)


def test_what_is_in_order_is_taken():
    with Project(git=False) as p:
        with open(p.path("x.tar"), "wb") as f:
            f.write(hostile.checkpoint(hostile.manifest()))
        found = p.pioche("import", "--json", "x.tar").json["runs"]
        assert [(r["id"], r["new"], r["checkpoints"]) for r in found] == [("gpt-1", True, 1)], found
        again = p.pioche("import", "x.tar").out
        assert "1 run as before: nothing" in again, again
        assert p.pioche("verify").status == 0 and os.listdir(os.path.join(p.store, "staging")) == []


def test_what_is_in_order_is_good():
    with Project(git=False) as p:
        names = []
        for name, data in hostile.good(p.dir):
            with open(p.path(name), "wb") as f:
                f.write(data)
            names.append(name)
        out = p.pioche("verify", *names).out
        assert out.count(": good: ") == len(names) >= 5, out
        assert "model.safetensors: good: 1 tensor" in out, out


def test_a_pipe_is_verified():
    with Project(git=False) as p:
        with open(p.path("x.tar"), "wb") as f:
            f.write(hostile.Bag().tar())
        out = p.sh(f"cat x.tar | '{harness.PIOCHE}' verify -")
        assert "good: 3 files" in out, out
        cut = p.sh(f"head -c 3000 x.tar | '{harness.PIOCHE}' verify - || echo status $?")
        assert "cut short" in cut and "status 1" in cut, cut


harness.main()
