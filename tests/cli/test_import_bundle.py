#!/usr/bin/env python3
"""A bundle becomes runs of another store, all of them or none, whatever kills the
import; what is here already stays, and a name that is another's is not taken."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
import hostile  # noqa: E402
from harness import Project  # noqa: E402

POINTS = b"PIOPTS01"


def write(p, name, data):
    with open(p.path(name), "wb") as f:
        f.write(data)
    return name


def small(run_ulid=hostile.ULID, **changes):
    """A bundle of one run with a checkpoint, an event, media of both kinds and logs."""
    text = hostile.manifest(run=run_ulid)
    big = b"pixel" * 20000
    row = {"attempt": 1, "step": 5, "manifest_sha256": hostile.sha256(text), "writers": 1, "bytes": 1, "fsyncs": 1,
           "stall_ns": 1, "created_ns": 1, "state": "sealed"}
    media = [{"attempt": 1, "rank": 0, "kind": "file", "key": key, "time_ns": 1, "mime": "text/plain",
              "bytes": len(data), "sha256": hostile.sha256(data), "inline": inline}
             for key, data, inline in (("note", b"small", True), ("map", big, False))]
    document = hostile.records(run_ulid=run_ulid, checkpoints=[row], media=media,
                               tags=[{"name": "phase", "value": "first"}], **changes)
    return hostile.run_bag(document, events=b'{"attempt":1,"time_ns":7,"kind":"note","message":"hello"}\n',
                           points=POINTS, **{"checkpoint.json": text, "model/model.safetensors": hostile.weights(),
                                             "run/media/note": b"small", "run/media/map": big,
                                             "run/logs/1/rank-0.out": b"printed\n", "run/logs/1/rank-0.err": b""})


def rows(p, table):
    return p.sql(f"SELECT count(*) AS n FROM {table}")[0]["n"]


def check_whole(p):
    """All of it is here, and good."""
    assert p.pioche("ls", "--json").json[0]["ulid"] == hostile.ULID
    assert [rows(p, t) for t in ("run", "attempt", "param", "tag", "event", "media", "checkpoint", "origin")] == [
        1, 1, 1, 1, 1, 2, 1, 1]
    assert p.pioche("logs", "gpt-1").out.endswith("printed\n")
    p.pioche("verify")
    p.check_store()


def check_none(p):
    for table in ("run", "experiment", "attempt", "checkpoint", "object", "origin"):
        assert rows(p, table) == 0, table


def left(p):
    return os.listdir(os.path.join(p.store, "staging"))


def test_all_of_a_run_is_taken():
    with Project(git=False) as p:
        write(p, "x.tar", small())
        out = p.pioche("import", "x.tar").out
        assert "gpt-1  finished  1 text, 2 images and files, 1 checkpoint" in out, out
        check_whole(p)
        assert left(p) == []
        run = p.pioche("show", "gpt-1", "--json").json
        run = run[0] if isinstance(run, list) else run
        with open(p.path("x.tar"), "rb") as f:
            digest = hostile.sha256(f.read())
        origin = run["origin"]
        assert (origin["bundle"], origin["sha256"], origin["id"]) == ("x.tar", digest, "gpt-1"), origin
        assert p.pioche("ls", "--json").json[0]["origin"] == origin
        assert "origin      x.tar" in p.pioche("show", "gpt-1").out
        assert run["tags"] == {"phase": "first"} and run["notes"][0]["text"] == "hello"
        assert p.sql("SELECT data IS NULL AS object, bytes FROM media ORDER BY bytes") == [
            {"object": 0, "bytes": 5}, {"object": 1, "bytes": 100000}]


def test_twice_is_once():
    with Project(git=False) as p:
        write(p, "x.tar", small())
        p.pioche("import", "x.tar")
        out = p.pioche("import", "x.tar").out
        assert out.startswith("1 run as before: nothing"), out
        found = p.pioche("import", "x.tar", "--json").json["runs"][0]
        assert (found["new"], found["checkpoints"]) == (False, 0), found
        check_whole(p)


def test_a_pipe_is_taken():
    with Project(git=False) as p:
        write(p, "x.tar", small())
        out = p.sh(f"zstd -qc x.tar | '{harness.PIOCHE}' import -")
        assert out.startswith("gpt-1  finished"), out
        check_whole(p)
        assert p.pioche("ls", "--json").json[0]["origin"]["bundle"] == "gpt-1.tar"


def test_a_name_that_is_taken_is_not_taken_twice():
    with Project(git=False) as p:
        other = "01ARZ3NDEKTSV4RRFFQ69G5FB0"
        write(p, "x.tar", small())
        write(p, "y.tar", small(other))
        p.pioche("import", "x.tar")
        out = p.pioche("import", "y.tar").out
        assert "gpt-2  finished" in out and "where it is gpt-1: that name is another's here" in out, out
        assert p.sql("SELECT number, ulid FROM run ORDER BY number") == [
            {"number": 1, "ulid": hostile.ULID}, {"number": 2, "ulid": other}]


def test_another_run_of_the_same_ulid_is_refused():
    with Project(git=False) as p:
        write(p, "x.tar", small())
        write(p, "y.tar", small(params=[{"name": "lr", "kind": "real", "value": 0.25}]))
        p.pioche("import", "x.tar")
        err = p.pioche("import", "y.tar", expect=1).err
        assert "y.tar: gpt-1 of the bundle is gpt-1 here" in err and "with other parameters" in err, err
        check_whole(p)


def test_what_went_on_there_is_over_here():
    with Project(git=False) as p:
        document = hostile.attempt(state="running", result=None)
        document["run"]["status"] = "running"
        write(p, "x.tar", hostile.run_bag(document))
        p.pioche("import", "x.tar")
        run = p.pioche("ls", "--json").json[0]
        assert (run["status"], run["attempts"][0]["result"]) == ("failed", "lost"), run
        assert run["reason"] == "it went on when it was exported"


def test_a_checkpoint_that_was_left_out_comes_later():
    with Project(git=False) as p:
        whole = small()
        text = hostile.manifest()
        row = {"attempt": 1, "step": 5, "manifest_sha256": hostile.sha256(text), "writers": 1, "bytes": 1,
               "fsyncs": 1, "stall_ns": 1, "created_ns": 1}
        write(p, "bare.tar", hostile.run_bag(hostile.records(checkpoints=[row]), **{"checkpoint.json": text}))
        write(p, "x.tar", hostile.checkpoint(text))
        out = p.pioche("import", "bare.tar").out
        assert "passed over: checkpoints whose files are not in the bundle (1)" in out, out
        assert rows(p, "checkpoint") == 0 and whole
        out = p.pioche("import", "x.tar").out
        assert "1 run that grew: 1 checkpoint" in out and rows(p, "checkpoint") == 1, out
        p.pioche("verify")


def sweep(p, fault):
    """Import with the n-th operation on files failing, n = 1, 2, ...; yields after each
    failure."""
    n = 1
    while True:
        result = p.pioche("import", "x.tar", expect=None, env={"PIOCHE_FS_FAULT": fault % n})
        if result.status == 0:
            break
        yield n, result
        n += 1
    assert n > 6, n


def test_killed_anywhere_it_is_whole_or_not_there():
    with Project(git=False) as p:
        write(p, "x.tar", small())
        p.pioche("import", write(p, "other.tar", small("01ARZ3NDEKTSV4RRFFQ69G5FB0")))
        shutil.copytree(p.store, p.path("before"), symlinks=True)
        for n, result in sweep(p, "wsru:%d:0"):
            assert result.status == 137, (n, result.status, result.err)
            here = rows(p, "run")
            assert {rows(p, t) for t in ("run", "checkpoint", "origin", "tag")} == {here}, n
            # The next one clears what is left, takes it, or says that it is here.
            p.pioche("import", "x.tar")
            assert left(p) == [], (n, left(p))
            assert rows(p, "run") == 2 and rows(p, "checkpoint") == 2 and rows(p, "origin") == 2, n
            p.pioche("verify")
            shutil.rmtree(p.store)
            shutil.copytree(p.path("before"), p.store, symlinks=True)


def test_a_full_disk_changes_nothing():
    with Project(git=False) as p:
        write(p, "x.tar", small())
        for n, result in sweep(p, "wsr:%d:28"):
            assert result.status == 3 and "No space left" in result.err, (n, result.status, result.err)
            if os.path.exists(os.path.join(p.store, "pioche.db")):
                check_none(p)
                assert left(p) == [], (n, left(p))
        check_whole(p)
        # Told before the first byte is taken, from what the bundle says of itself.
        write(p, "huge.tar", hostile.changed(oxum=f"{1 << 60}.3"))
        said = p.pioche("import", "huge.tar", expect=3).err
        assert f"{1 << 60}" in said and "needed" in said and left(p) == [], said
        check_whole(p)


def test_its_files_are_durable_before_they_become_objects():
    with Project(git=False) as p:
        write(p, "x.tar", small())
        said = [result.err for _, result in sweep(p, "s:%d:5")]
        synced = [text.rpartition(".pioche/")[2].partition("/")[0].partition(":")[0] for text in said if "x.tar" in text]
        assert synced[0] == "staging" and set(synced[1:]) == {"objects"}, synced
        check_whole(p)


def test_a_bundle_keeps_its_experiment():
    with Project(git=False) as p:
        write(p, "x.tar", small())
        err = p.pioche("import", "x.tar", "--experiment", "mine", expect=2).err
        assert "its runs keep their experiment" in err, err
        err = p.pioche("import", "x.tar", "--dry-run", expect=2).err
        assert "`pioche verify` looks into it" in err, err


RECIPE = """local pioche = require "pioche"
return pioche.sweep {
  name = "%s", program = pioche.program { command = { "%s" }, inputs = { text = "text.txt" } },%s
  space = { width = 16, heads = 2, depth = 1, context = 32, batch = 8, steps = %d, ["sample-bytes"] = 0 },
  goal = pioche.minimize "val/loss",
}
"""


def payload(p, tar):
    """{ path: digest } of what is below data/."""
    text = p.sh(f"tar xOf '{tar}' --wildcards '*/manifest-sha256.txt'")
    return dict(reversed(line.split("  ", 1)) for line in text.splitlines() if "  data/" in line)


def round_trip(p, there):
    """Export, import elsewhere, export again: the payloads, and the values there."""
    p.write("text.txt", "".join(f"{i} and the {i * i} words\n" for i in range(2000)))
    p.write("recipe.lua", RECIPE % ("tiny", harness.GPT, "", 12))
    p.pioche("run", "recipe.lua")
    p.pioche("note", "tiny-1", "the first")
    p.pioche("export", "tiny-1", "-o", "x.tar")
    out = there.pioche("import", p.path("x.tar")).out
    assert out.startswith("tiny-1  finished") and "1 checkpoint" in out, out
    compared = [q.pioche("compare", "tiny", "--csv").out for q in (p, there)]
    assert "val/loss" in compared[0] and compared[0] == compared[1], compared
    assert p.table("tiny") == there.table("tiny")
    assert p.pioche("logs", "tiny-1").out == there.pioche("logs", "tiny-1").out
    # Where it was made it is known, and nothing changes.
    assert p.pioche("import", "x.tar").out.startswith("1 run as before: nothing")
    there.pioche("export", "tiny-1", "-o", "y.tar")
    return payload(p, p.path("x.tar")), payload(there, there.path("y.tar"))


def test_exported_again_it_is_the_same():
    with Project(git=False) as p, Project(git=False) as there:
        before, after = round_trip(p, there)
        assert len(before) > 15 and before == after, set(before.items()) ^ set(after.items())
        # And a run grows from what was imported.
        shutil.copy(p.path("text.txt"), there.path("text.txt"))
        there.write("grow.lua", RECIPE % ("grown", harness.GPT, ' from = pioche.checkpoint("tiny/best"),', 24))
        there.pioche("run", "grow.lua")
        run = there.sql("SELECT from_checkpoint FROM run r JOIN experiment e ON e.id = r.experiment_id"
                        " WHERE e.name = 'grown'")
        assert run == there.sql("SELECT manifest_sha256 AS from_checkpoint FROM checkpoint c JOIN origin o"
                                " ON o.run_id = c.run_id")
        there.pioche("verify")
        there.check_store()


def test_of_git_all_but_the_patch_to_a_commit_that_stays_behind():
    with Project() as p, Project(git=False) as there:
        p.write("more.txt", "x")
        p.sh("git add -A && git commit -qm start")
        p.write("notes.txt", "not yet committed\n")
        before, after = round_trip(p, there)
        differ = {path for path, _ in before.items() ^ after.items()}
        assert differ == {"data/run/git.diff", "data/attestation.intoto.json", "data/ro-crate-metadata.json"}, differ
        commit = there.pioche("ls", "--json").json[0]["commit"]
        code = there.sh(f"git --git-dir=.pioche/imported.git show {commit}:notes.txt")
        assert code == "not yet committed\n"


harness.main()
