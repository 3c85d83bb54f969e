#!/usr/bin/env python3
"""One store and several users: a group writes it together, whatever the umasks;
who may not write it reads all of it, in every state it can be in; and a store is
found and read wherever it stands, under whatever name."""
import contextlib
import os
import sqlite3
import stat
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
import places  # noqa: E402
from harness import PIOCHE, ROOT, Project, Skip  # noqa: E402

RECIPE = """local pioche = require "pioche"
return pioche.sweep { name = "w", space = { x = { 1, 2 } },
  program = pioche.program { command = { "/usr/bin/python3", "t.py" }, sources = { "t.py" } } }
"""
TRAIN = """import pioche
with pioche.init("alone") as run:
    for i in range(50):
        run.log({"loss": i / 7}, step=i)
"""
READS = [("ls",), ("ls", "--json"), ("compare", "w"), ("show", "w-1"), ("logs", "w-1"),
         ("chart", "w-1", "--metric", "loss"), ("sql", "SELECT count(*) FROM point"), ("verify",)]


@contextlib.contextmanager
def project():
    """With runs w-1 and w-2; everybody may look at it."""
    with Project(git=False) as p:
        os.chmod(p.dir, 0o755)
        p.write("r.lua", RECIPE)
        p.write("t.py", TRAIN)
        p.env["PYTHONPATH"] = harness.python_library()
        yield p


@contextlib.contextmanager
def stranger(p):
    """Options of a process that is another user, with a home of its own."""
    with places.other_user() as (uid, gid):
        as_user = {"user": uid, "group": gid, "extra_groups": []}
        try:
            subprocess.run([PIOCHE, "--version"], check=True, capture_output=True, cwd=p.dir, **as_user)
        except (PermissionError, subprocess.CalledProcessError):
            raise Skip("a build that other users may run") from None
        yield as_user


def read_all(p, runs=2, **options):
    for words in READS:
        done = p.pioche(*words, **options)
        assert not done.err, (words, done.err)
    assert len(p.pioche("ls", "--json", **options).json) == runs


def test_who_may_not_write_reads_all():
    with project() as p, stranger(p) as user:
        for mode in ("local", "network"):
            p.env["PIOCHE_FS"] = mode
            p.pioche("run", "r.lua")
            read_all(p, **user)
            for words in (("stop", "w"), ("run", "r.lua")):
                assert "cannot be written: Permission denied" in p.pioche(*words, expect=None, **user).err
            found = p.pioche("doctor", "--json", expect=1, **user).json
            wrong = [c for c in found if c["state"] != "ok"]
            assert len(wrong) == 1 and "cannot be written by" in wrong[0]["message"], wrong


def test_who_may_not_write_sees_what_a_living_writer_commits():
    with project() as p, stranger(p) as user:
        p.pioche("run", "r.lua")
        writer = sqlite3.connect(os.path.join(p.store, "pioche.db"))
        for n in range(3):
            writer.execute("INSERT INTO experiment (name, created_ns) VALUES (?, 1)", (f"e{n}",))
            writer.commit()
            assert os.path.getsize(os.path.join(p.store, "pioche.db-wal")) > 0
            seen = p.pioche("sql", "SELECT count(*) FROM experiment", "--csv", **user).out.split()[-1]
            assert int(seen) == n + 2, seen
            read_all(p, **user)
        writer.close()


def test_the_files_of_a_wal_may_be_missing_and_a_dead_writers_change_is_named():
    with project() as p, stranger(p) as user:
        p.pioche("run", "r.lua")
        p.sql("PRAGMA wal_checkpoint(TRUNCATE)")
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(p.store, "pioche.db" + suffix))
        read_all(p, **user)
        p.env["PIOCHE_FS"] = "network"
        p.pioche("ls")
        # A writer that dies with its change half in the file.
        subprocess.run([sys.executable, "-c", """if True:
            import os, sqlite3, sys
            d = sqlite3.connect(sys.argv[1], isolation_level=None)
            d.execute("PRAGMA cache_size = 1")
            d.execute("BEGIN")
            for n in range(2000):
                d.execute("INSERT INTO experiment (name, created_ns) VALUES (?, 1)", ("half" * 50 + str(n),))
            os._exit(0)""", os.path.join(p.store, "pioche.db")], check=True)
        assert os.path.getsize(os.path.join(p.store, "pioche.db-journal")) > 0
        err = p.pioche("ls", expect=1, **user).err
        assert "a writer died in the middle of a change" in err and "`pioche ls` once" in err, err
        assert len(p.pioche("ls", "--json").json) == 2
        read_all(p, **user)


def test_an_older_store_and_runs_that_wait_are_named():
    with project() as p, stranger(p) as user:
        os.mkdir(p.store)
        with open(os.path.join(ROOT, "tests", "unit", "schema_1.sql"), encoding="utf-8") as f:
            schema = f.read()
        old = sqlite3.connect(os.path.join(p.store, "pioche.db"))
        old.executescript(schema + ";PRAGMA user_version = 1; PRAGMA application_id = 0x50494f43;")
        old.close()
        err = p.pioche("ls", expect=1, **user).err
        assert "is of schema 1" in err and "`pioche ls` once" in err, err
        p.pioche("run", "r.lua")
        read_all(p, **user)
        subprocess.run([sys.executable, "t.py"], cwd=p.dir, env=p.env, check=True)
        done = p.pioche("ls", "--json", **user)
        assert len(done.json) == 2
        assert done.err == ("pioche: 1 run is of standalone programs not shown: who may write the store has"
                            " to run `pioche ls` once\n"), done.err
        p.pioche("ls")
        read_all(p, runs=3, **user)


def check_shared(p, gid):
    """Everything in the store is the group's, and may be written by it."""
    for root, dirs, files in os.walk(p.store):
        # Checkouts have the modes of what was checked out.
        dirs[:] = [d for d in dirs if d not in ("code", "cache")]
        for name in dirs + files:
            path = os.path.join(root, name)
            st = os.lstat(path)
            assert st.st_gid == gid, path
            immutable = stat.S_IMODE(st.st_mode) & 0o222 == 0
            assert st.st_mode & stat.S_IWGRP or immutable, (path, oct(st.st_mode))


def test_a_group_writes_together_whatever_the_umasks():
    with project() as p, stranger(p) as user:
        os.chown(p.dir, -1, user["group"])
        os.chmod(p.dir, 0o2775)
        user = {**user, "extra_groups": []}
        for mode in ("local", "network"):
            p.env["PIOCHE_FS"] = mode
            p.pioche("run", "r.lua", "--again", umask=0o022)
            p.pioche("ls", umask=0o077, **user)
            check_shared(p, user["group"])
            log = ["/usr/bin/python3", "t.py"]
            for who in ({}, user):  # each takes in what the other logged
                subprocess.run(log, cwd=p.dir, env=p.env, check=True, umask=0o077, **who)
                p.pioche("ls", umask=0o022, **(user if who == {} else {}))
            done = p.pioche("run", "r.lua", "--again", umask=0o022, **user)
            assert "finished" in done.err
            p.pioche("run", "r.lua", "--again", umask=0o022)
            found = p.pioche("doctor", "--full", "--json", **user).json
            assert all(c["state"] == "ok" for c in found), found
            check_shared(p, user["group"])
        statuses = [r["status"] for r in p.pioche("ls", "--json", "--all").json]
        assert statuses == ["finished"] * 16, statuses


def test_a_read_only_mount_is_read():
    with project() as p:
        p.pioche("run", "r.lua")
        with places.read_only(p.dir):
            read_all(p)
            assert "cannot be written: Read-only file system" in p.pioche("run", "r.lua", "--again",
                                                                          expect=None).err


def test_a_store_has_any_name_and_may_be_a_link():
    with Project(git=False) as p:
        p.env["PYTHONPATH"] = harness.python_library()
        for name in ("with spaces", "größer 実験 %41?#&", "new\nline", "'quoted\"", "-dash"):
            folder = p.path(name)
            os.mkdir(folder)
            for file, text in (("r.lua", RECIPE), ("t.py", TRAIN)):
                p.write(os.path.join(name, file), text)
            p.pioche("run", "r.lua", cwd=folder)
            store = os.path.join(folder, ".pioche")
            link = p.path("link")
            os.symlink(store, link)
            for path in (store, link, os.path.relpath(store, p.dir)):
                where = {"cwd": p.dir, "env": {"PIOCHE_STORE": path}}
                assert len(p.pioche("ls", "--json", **where).json) == 2, path
                assert "WARN" not in p.pioche("doctor", **where).out, path
            subprocess.run([sys.executable, "t.py"], cwd=folder, check=True,
                           env={**p.env, "PIOCHE_STORE": link})
            assert len(p.pioche("ls", "--json", "--store", link).json) == 3
            os.unlink(link)


def test_left_overs_without_number_do_not_stand_in_the_way():
    with project() as p:
        p.pioche("run", "r.lua")
        for n in range(2000):
            os.mkdir(os.path.join(p.store, "staging", f"left over {n}"))
            os.mkdir(os.path.join(p.store, "runs", f"left over {n}"))
        os.mkdir(os.path.join(p.store, "staging", "new\nline"))
        read_all(p)
        assert "WARN" not in p.pioche("doctor").out


harness.main()
