#!/usr/bin/env python3
"""`pioche doctor` says what is in order and what is not, writes nothing, and with
--fix does what is safe, so that a second look finds nothing."""
import fcntl
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
import places  # noqa: E402
from harness import BUILD, Project, wait_for  # noqa: E402

RECIPE = """local pioche = require "pioche"
return pioche.sweep { name = "w", program = pioche.program { command = { %s } }, space = { x = 1 } }
"""
LOG = """import os, sys, pioche
run = pioche.init("alone")
for step in range(100):
    run.log({"loss": 1.0 / (step + 1)}, step=step)
%s
"""


def checks(p, *args, expect=0, **env):
    """{check: its findings}; what is fine is among them only where all of it is."""
    found = {}
    for c in p.pioche("doctor", "--json", *args, expect=expect, env=env).json:
        found.setdefault(c["check"], []).append(c)
    return {k: [c for c in v if c["state"] != "ok"] or v for k, v in found.items()}


def is_well(p, *args):
    found = checks(p, *args)
    assert all(c["state"] == "ok" for v in found.values() for c in v), found


def one(found, state, text):
    """The only finding of a check."""
    assert len(found) == 1 and found[0]["state"] == state and text in found[0]["message"], found
    assert state == "fixed" or state == "ok" or found[0]["advice"], found
    return found[0]


def project(command='"true"'):
    p = Project(git=False)
    p.write("r.lua", RECIPE % command)
    return p


def log(p, end="run.finish()"):
    p.env["PYTHONPATH"] = harness.python_library()
    p.write("log.py", LOG % end)
    p.sh(f"'{sys.executable}' log.py || true")


def tree(p):
    """What a look must not change; the index of a WAL is memory, not content."""
    found = {}
    for root, dirs, files in os.walk(p.store):
        for name in dirs + files:
            st = os.stat(os.path.join(root, name))
            if name != "pioche.db-shm":
                found[os.path.join(root, name)] = (st.st_size, st.st_mtime_ns, st.st_mode)
    return found


def test_a_sound_store_is_sound_and_left_alone():
    with project() as p:
        p.pioche("run", "r.lua")
        log(p)
        p.pioche("ls")
        before = tree(p)
        is_well(p)
        is_well(p, "--full")
        assert tree(p) == before


def test_gpus_are_listed_and_a_lost_one_is_named():
    with project() as p:
        p.pioche("run", "r.lua")
        library = os.path.join(BUILD, "gpu_host")
        one(checks(p, LD_LIBRARY_PATH=library, NVML_GPUS="2")["GPUs"], "ok", "1 Stand-in GPU")
        one(checks(p, LD_LIBRARY_PATH=library, NVML_GPUS="2", NVML_LOST="1", expect=1)["GPUs"], "warn",
            "gpu 1: NVML: nvmlDeviceGetMemoryInfo: GPU is lost")
        found = one(checks(p, LD_LIBRARY_PATH=library, NVML_INIT="999", expect=1)["GPUs"], "warn", "NVML: ")
        assert "nvidia-smi may say more" in found["advice"], found
        one(checks(p, LD_LIBRARY_PATH=library, NVML_GPUS="2", NVML_RECOVERY="1:1", expect=1)["GPUs"], "warn",
            "1 Stand-in GPU 86 GB; gpu 1: an error left it in need of a reset")


def test_what_the_machine_lacks_is_told():
    """The client library, a place for rings, a clock that is set."""
    with project() as p:
        p.pioche("run", "r.lua")
        found = checks(p, PIOCHE_SHM=p.path("nowhere"), expect=1)
        one(found["shared memory"], "bad", "nowhere is no directory")
        with places.clock(-10**9) as library:
            found = checks(p, LD_PRELOAD=library, expect=1)
        one(found["clock"], "bad", "it is 199")
        one(checks(p)["shared memory"], "ok", " free")
        os.mkdir(p.path("bin"))
        shutil.copy(harness.PIOCHE, p.path("bin/pioche"))
        alone = subprocess.run([p.path("bin/pioche"), "doctor", "--json"], cwd=p.dir, env=p.env, capture_output=True,
                               text=True, check=False)
        one([c for c in harness.json.loads(alone.stdout) if c["check"] == "client library"], "warn", "libpioche.so")
        with places.small_disk(p.dir, 16 << 20, ",nr_inodes=500") as disk:
            found = checks(p, PIOCHE_SHM=disk, expect=1)
            one(found["shared memory"], "warn", "room for ")
            p.sh(f"mv .pioche '{disk}' && ln -s '{disk}/.pioche' .pioche")
            message = one(checks(p, expect=1)["free space"], "warn", " MB")["message"]
            assert re.search(r"room for \d+ files alone$", message), message
            p.sh(f"rm .pioche && mv '{disk}/.pioche' .")


def test_a_network_file_system_is_named():
    with Project(git=False) as p, places.fuse(p.dir) as mount:
        found = checks(p, PIOCHE_SHM=mount, expect=1)
        one(found["shared memory"], "bad", "where memory cannot be shared")
        p.env["PIOCHE_STORE"] = os.path.join(mount, ".pioche")
        p.write("r.lua", RECIPE % '"true"')
        p.pioche("run", "r.lua")
        message = one(checks(p)["file system"], "ok", "beating")["message"]
        assert re.match(r"fuse\S*, network \(by statfs\): TRUNCATE", message), message
        found = checks(p, PIOCHE_FS="local", expect=1)["file system"]
        assert [c["state"] for c in found] == ["warn", "warn"], found
        assert "overrides what fuse" in found[1]["message"] and "one machine alone" in found[1]["advice"], found


def test_before_there_is_a_store_the_machine_is_told():
    with project() as p:
        found = checks(p)
        assert {"versions", "client library", "shared memory", "network"} <= set(found), found
        why = r"^\S+ \(\S+\): (this node's name, |it is the one of the default route)|there is no route to any"
        assert re.search(why, found["network"][0]["message"]), found["network"]
        one(found["store"], "ok", "`pioche run` makes one")
        assert not os.path.exists(p.store)
        assert "not a store" in p.pioche("doctor", "--store", p.path("x"), expect=1).err
        log(p)
        one(checks(p, expect=1)["store"], "warn", "no database yet")
        assert not os.path.exists(os.path.join(p.store, "pioche.db"))


def test_a_damaged_database_is_told():
    with project() as p:
        p.pioche("run", "r.lua")
        p.sql("PRAGMA wal_checkpoint(TRUNCATE)")
        with open(os.path.join(p.store, "pioche.db"), "r+b") as f:
            f.write(b"not a database at all")
        one(checks(p, expect=1)["store"], "bad", "pioche.db")


def test_damaged_pages_and_rows_of_others_are_told():
    with project() as p:
        p.pioche("run", "r.lua")
        p.sql("PRAGMA foreign_keys = OFF; INSERT INTO tag (run_id, name, value) VALUES (99, 'a', 'b')")
        is_well(p)  # what only --full looks for
        found = one(checks(p, "--full", "--fix", expect=1)["database"], "bad", "tag row")
        assert "refers to a missing run" in found["message"] and "restore a backup" in found["advice"], found
        p.sql("DELETE FROM tag")
        p.sql("PRAGMA wal_checkpoint(TRUNCATE)")
        page = p.sql("SELECT rootpage AS n, (SELECT page_size FROM pragma_page_size) AS bytes FROM sqlite_schema"
                     " WHERE name = 'event_by_run'")[0]
        with open(os.path.join(p.store, "pioche.db"), "r+b") as f:
            f.seek((page["n"] - 1) * page["bytes"])
            f.write(b"\xff" * 100)
        found = checks(p, "--fix", expect=1)["database"]
        assert found[0]["state"] == "bad" and ".recover" in found[0]["advice"], found


def test_a_file_system_is_named_with_its_mode_and_why():
    with project() as p:
        p.pioche("run", "r.lua")
        assert "local (by statfs): WAL" in one(checks(p)["file system"], "ok", "")["message"]
        found = checks(p, PIOCHE_FS="network", expect=1)["file system"]
        assert "network (because PIOCHE_FS says so)" in one(found, "warn", "WAL")["message"]
        p.env["PIOCHE_FS"] = "network"
        p.pioche("ls")
        one(checks(p)["file system"], "ok", "TRUNCATE journal")


def test_runs_of_dead_processes_are_taken_in():
    with project() as p:
        p.pioche("run", "r.lua")
        log(p, "os._exit(1)")
        found = checks(p, expect=1)
        one(found["staging"], "warn", "1 run of ended processes waits")
        one(found["rings"], "warn", "1 ring of dead processes")
        one(checks(p, "--fix")["staging"], "fixed", "taken in")
        is_well(p)
        assert p.pioche("ls", "alone", "--json").json[0]["metrics"]["loss"]["count"] == 100


def test_what_was_written_after_the_end_is_folded_once():
    """Its writer was taken for dead, and was not."""
    with project() as p:
        log(p)
        journal = glob.glob(os.path.join(p.store, "runs", "*", "1", "journal.0"))[0]
        with open(journal, "rb") as f:
            whole = f.read()
        with open(journal, "r+b") as f:
            f.truncate(len(whole) // 2)
        assert p.pioche("ls", "--json").json[0]["status"] == "failed"
        with open(journal, "wb") as f:
            f.write(whole)
        one(checks(p, expect=1)["journals"], "warn", "that the database does not")
        one(checks(p, "--fix")["journals"], "fixed", "folded in")
        is_well(p, "--full")
        assert p.pioche("ls", "--json").json[0]["metrics"]["loss"]["count"] == 100


def test_runs_that_the_database_lost_come_back():
    with project() as p:
        log(p)
        p.pioche("ls")
        for path in glob.glob(os.path.join(p.store, "pioche.db*")):
            os.unlink(path)
        os.makedirs(os.path.join(p.store, "runs", "0" * 26, "1"))
        p.pioche("ls")
        found = checks(p, expect=1)["journals"]
        assert len(found) == 2 and "1 run of standalone programs" in found[0]["message"], found
        assert "belong to no run" in found[1]["message"], found
        checks(p, "--fix", expect=1)
        one(checks(p, expect=1)["journals"], "warn", "belong to no run")
        assert p.pioche("ls", "--json").json[0]["metrics"]["loss"]["count"] == 100


def killed_run(p):
    """A run whose supervisor and agent died without a word; the attempt's folder."""
    supervisor = p.start("run", "r.lua", start_new_session=True)
    wait_for(lambda: p.poll("SELECT 1 FROM attempt WHERE state = 'running'"), 20, "a running attempt")
    agent = p.sql("SELECT agent_pid AS pid, dir FROM attempt")[0]
    os.kill(supervisor.pid, signal.SIGKILL)
    harness.kill_agent(agent["pid"])
    supervisor.communicate()
    return os.path.join(p.store, agent["dir"])


def test_a_journal_that_cannot_be_read_is_set_aside():
    with project('"sh", "-c", "test -e go || exec sleep 60"') as p:
        folder = killed_run(p)
        p.write("go", "")
        wait_for(lambda: "WARN" in p.pioche("doctor", expect=None).out, 10, "the end of the agent")
        with open(os.path.join(folder, "journal.0"), "r+b") as f:
            f.write(b"garbage!" * 8)
        for path in glob.glob(os.path.join(folder, "exit.*")):
            os.unlink(path)
        assert "`pioche doctor --fix`" in p.pioche("run", "r.lua", expect=1).err
        one(checks(p, expect=1)["journals"], "bad", "w-1 attempt 1: journal.0 cannot be read")
        one(checks(p, "--fix", expect=1)["journals"], "fixed", "set aside as journal.0.damaged")
        p.pioche("run", "r.lua")
        is_well(p)
        assert p.pioche("ls", "w", "--json").json[0]["status"] == "finished"
        events = p.sql("SELECT message FROM event WHERE kind = 'journal'")
        assert "set aside as journal.0.damaged" in events[0]["message"], events
        assert os.path.exists(os.path.join(folder, "journal.0.damaged"))


def test_so_is_one_of_a_standalone_run():
    with project() as p:
        p.pioche("run", "r.lua")
        log(p, "os._exit(1)")
        journal = glob.glob(os.path.join(p.store, "staging", "*"))[0].replace("staging", "runs") + "/1/journal.0"
        with open(journal, "r+b") as f:
            f.write(b"garbage!" * 8)
        assert "`pioche doctor --fix`" in p.pioche("ls").err
        one(checks(p, expect=1)["journals"], "bad", "cannot be read")
        checks(p, "--fix")
        is_well(p)
        # What the ring still held, and the run itself, are kept.
        assert p.pioche("ls").err == "" and os.path.exists(journal + ".damaged")


def test_a_dead_supervisors_lease_is_given_back():
    with project('"sh", "-c", "exec sleep 60"') as p:
        p.env["PIOCHE_FS"] = "network"
        killed_run(p)
        one(checks(p, expect=1)["supervisor"], "warn", "is dead, and left its lease")
        assert glob.glob(os.path.join(p.store, "lease.*"))
        one(checks(p, "--fix", expect=1)["supervisor"], "fixed", "given back")
        assert not glob.glob(os.path.join(p.store, "lease.*"))
        p.write("r.lua", RECIPE % '"true"')
        p.pioche("run", "r.lua")


def test_a_far_supervisor_is_watched_before_its_lease_is_taken():
    """Where it lives nothing is taken: it beats."""
    with project('"sh", "-c", "exec sleep 60"') as p:
        p.env.update(PIOCHE_FS="network", PIOCHE_LEASE_S="2")
        supervisor = p.start("run", "r.lua", start_new_session=True)
        wait_for(lambda: p.poll("SELECT 1 FROM attempt WHERE state = 'running'"), 20, "a running attempt")
        claim, = glob.glob(os.path.join(p.store, "lease.*"))
        with open(claim, "r+b") as f:
            f.seek(f.read().index(b'"kernel":"') + 10)
            f.write(b"zzzz")
        found = one(checks(p, expect=1)["supervisor"], "warn", "on another machine")
        assert "watch it for 2 s" in found["advice"], found
        found = one(checks(p, "--fix", expect=1)["supervisor"], "warn", f"pid {supervisor.pid}")
        assert found["advice"].startswith("could not be fixed: ") and os.path.exists(claim), found
        agent = p.sql("SELECT agent_pid AS pid FROM attempt")[0]["pid"]
        os.kill(supervisor.pid, signal.SIGKILL)
        harness.kill_agent(agent)
        supervisor.communicate()
        one(checks(p, "--fix")["supervisor"], "fixed", "given back")
        assert not glob.glob(os.path.join(p.store, "lease.*"))
        one(checks(p, expect=1)["attempts"], "warn", "without a supervisor")


def test_attempts_that_nobody_tends_are_told():
    """One without a supervisor is settled by the next run of its recipe, one of a program that died by --fix."""
    with project('"sh", "-c", "test -e go || exec sleep 60"') as p:
        killed_run(p)
        p.env["PYTHONPATH"] = harness.python_library()
        p.write("log.py", LOG % "print('there', flush=True); sys.stdin.read()")
        with subprocess.Popen([sys.executable, "log.py"], cwd=p.dir, env=p.env, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as program:
            assert program.stdout.readline() == b"there\n"
            wait_for(lambda: "running" in p.pioche("ls", "alone").out, 20, "a run that is taken in while it goes")
            waits = checks(p, expect=1)["attempts"]
            program.kill()
        assert [c["state"] for c in waits] == ["warn"] and waits[0]["message"].startswith("w-1 attempt 1 is"), waits
        assert "without a supervisor" in waits[0]["message"] and "`pioche run`" in waits[0]["advice"], waits
        both = checks(p, expect=1)["attempts"]
        assert [c["message"].split()[0] for c in both] == ["w-1", "alone-1"], both
        assert "its process is gone" in both[1]["message"], both
        assert [c["state"] for c in checks(p, "--fix", expect=1)["attempts"]] == ["warn", "fixed"]
        p.write("go", "")
        p.pioche("run", "r.lua")
        is_well(p)
        loss = p.pioche("ls", "alone", "--json").json[0]
        assert (loss["status"], loss["metrics"]["loss"]["count"]) == ("failed", 100), loss


def test_a_journal_that_is_gone_is_told():
    with project() as p:
        log(p)
        p.pioche("ls")
        p.sql("UPDATE journal SET done = 0")
        for journal in glob.glob(os.path.join(p.store, "runs", "*", "1", "journal.*")):
            os.unlink(journal)
        found = one(checks(p, "--fix", expect=1)["journals"], "warn", "alone-1 attempt 1: journal.0 is gone, folded to")
        assert "unless a backup has it" in found["advice"], found


def test_a_living_supervisor_is_named_and_left_alone():
    with project('"sh", "-c", "while ! test -e go; do sleep 0.05; done"') as p:
        for mode in ("local", "network"):
            p.env.update(PIOCHE_FS=mode)
            supervisor = p.start("run", "r.lua", "--again")
            wait_for(lambda: p.poll("SELECT 1 FROM attempt WHERE state = 'running'"), 20, "an attempt")
            one(checks(p)["supervisor"], "ok", f"pid {supervisor.pid}")
            one(checks(p, "--fix")["supervisor"], "ok", f"pid {supervisor.pid}")
            assert "is asked to stop" in p.pioche("stop", "w").out
            supervisor.communicate(timeout=30)


def test_what_is_left_over_is_swept_and_no_more():
    with project() as p:
        p.pioche("run", "r.lua")
        dead = os.path.join(p.store, "staging", "0" * 26 + ".1")
        part = os.path.join(p.store, "pioche.db.part.X")
        stranger = os.path.join(p.store, "staging", "notes")
        orphan = os.path.join(p.store, "objects", "ab", "ab" + "0" * 62)
        for path in (dead, stranger, os.path.dirname(orphan)):
            os.makedirs(path)
        for path in (part, orphan):
            with open(path, "w", encoding="utf-8") as f:
                f.write("x")
        os.utime(part, (1, 1))
        found = checks(p, expect=1)
        one(found["staging"], "warn", "1 folder of work that is over")
        one(found["left-overs"], "warn", "pioche.db.part.X")
        one(found["objects"], "warn", "1 file in objects/ belongs to nothing")
        checks(p, "--fix", expect=1)
        assert not os.path.exists(dead) and not os.path.exists(part)
        assert os.path.exists(stranger) and os.path.exists(orphan)
        os.unlink(orphan)
        is_well(p)


def test_points_and_their_sums_are_counted_anew():
    with project() as p:
        log(p)
        p.pioche("ls")
        p.sql("UPDATE series SET max = 99, count = 7")
        is_well(p)
        one(checks(p, "--full", expect=1)["points"], "bad", "series 1 says other than its points")
        one(checks(p, "--full", "--fix")["points"], "fixed", "counted anew")
        is_well(p, "--full")
        loss = p.pioche("ls", "--json").json[0]["metrics"]["loss"]
        assert loss["count"] == 100 and loss["max"] == 1.0, loss
        p.sql("UPDATE chunk SET max = 98")
        one(checks(p, "--full", expect=1)["points"], "bad", "holds other points than its row says")


def test_points_that_the_database_lost_are_read_from_their_journal():
    points = ("sql", "--csv", "SELECT key, step, time_ns, value FROM point")
    with project() as p:
        log(p)
        p.pioche("ls")
        before = p.pioche(*points).out
        for damage in ("data = x'00'", "max = 98"):
            p.sql("UPDATE chunk SET " + damage)
            one(checks(p, "--full", expect=1)["points"], "bad", "chunk ")
            found = one(checks(p, "--full", "--fix")["points"], "fixed", "alone-1 attempt 1, points of rank 0: chunk ")
            assert "100 points were read again" in found["message"], found
            is_well(p, "--full")
            assert p.pioche(*points).out == before
        # Once noted it is told without a look at every chunk; nothing is made up.
        p.sql("UPDATE chunk SET data = x'00'")
        for journal in glob.glob(os.path.join(p.store, "runs", "*", "1", "journal.*")):
            os.rename(journal, journal + ".away")
        for args in (("--full", "--fix"), ("--fix",)):
            found = one(checks(p, *args, expect=1)["points"], "bad", "too short")
            assert "could not be fixed: segment 0 of journal.0" in found["advice"], found
        assert p.pioche("ls", "--json").json[0]["metrics"]["loss"]["max"] == 1.0
        for journal in glob.glob(os.path.join(p.store, "runs", "*", "1", "journal.*")):
            os.rename(journal, journal.removesuffix(".away"))
        found = one(checks(p, expect=1)["points"], "bad", "too short")
        assert found["advice"] == "`pioche doctor --fix` does it", found
        one(checks(p, "--fix")["points"], "fixed", "100 points were read again")
        is_well(p, "--full")
        assert p.pioche(*points).out == before


def test_a_clock_that_runs_behind_and_a_group_shut_out_are_told():
    with project() as p:
        p.pioche("run", "r.lua")
        p.sql(f"UPDATE run SET created_ns = {time.time_ns() + 86400 * 10**9}")
        one(checks(p, expect=1)["clock"], "warn", "ahead of this machine's clock")
        p.sql(f"UPDATE run SET created_ns = {time.time_ns()}")
        os.chmod(p.store, 0o2775)
        os.chmod(os.path.join(p.store, "pioche.db"), 0o644)
        finding = one(checks(p, expect=1)["permission"], "warn", "the group may write the store, but not")
        assert "pioche.db" in finding["message"]


def test_a_store_without_some_of_its_folders_is_still_one():
    with project() as p:
        p.pioche("run", "r.lua")
        p.sh("rm -r .pioche/runs .pioche/staging .pioche/cache .pioche/objects")
        assert p.pioche("ls", "--json").json[0]["status"] == "finished"
        is_well(p)
        log(p)
        assert len(p.pioche("ls", "--json").json) == 2
        p.write("r2.lua", (RECIPE % '"true"').replace("x = 1", "x = 2"))
        p.pioche("run", "r2.lua")


def test_what_in_the_cache_may_be_removed():
    """Nothing while an attempt is open; then --fix takes old copies of pioche, not what was built."""
    with project() as p:
        p.pioche("run", "r.lua")
        names = ["built", "pioche-old", "pioche-old.build", "pioche-new"]
        p.sh("cd .pioche/cache && mkdir " + " ".join(names))
        p.sh("cd .pioche/cache && touch pioche-old/pioche && touch -d '40 days ago' built pioche-old*")
        open_one = "INSERT INTO attempt (id, run_id, number, state, launcher, dir, world_size, created_ns)" \
            " VALUES (99, 1, 2, 'starting', 'slurm', 'x', 1, 1)"
        p.sql(open_one)
        one(checks(p, "--fix", expect=None)["checkouts"], "ok", "5 in cache/")
        p.sql("DELETE FROM attempt WHERE id = 99")
        built, copies = checks(p, expect=1)["checkouts"]
        assert built["message"] == "1 of 5 in cache/ were not used for 30 days: built", built
        assert copies["message"].endswith("30 days: pioche-old pioche-old.build"), copies
        with open(os.path.join(p.store, "lease"), "w", encoding="utf-8") as lease:
            fcntl.lockf(lease, fcntl.LOCK_EX)
            copies = checks(p, "--fix", expect=1)["checkouts"][1]
            assert copies["state"] == "warn" and "could not be fixed" in copies["advice"], copies
        kept = set(os.listdir(os.path.join(p.store, "cache"))) - {"pioche-old", "pioche-old.build"}
        built, copies = checks(p, "--fix", expect=1)["checkouts"]
        assert (built["state"], copies["state"]) == ("warn", "fixed"), (built, copies)
        assert set(os.listdir(os.path.join(p.store, "cache"))) == kept and len(kept) == 3


def test_the_table_is_one_line_a_finding():
    with project() as p:
        p.pioche("run", "r.lua")
        p.sql(f"UPDATE run SET created_ns = {time.time_ns() + 86400 * 10**9}")
        lines = p.pioche("doctor", expect=1).out.splitlines()
        assert all(line.split()[0] in ("OK", "WARN", "BAD") for line in lines), lines
        assert [line for line in lines if line.startswith("WARN  clock")][0].count(" -> ") == 1
        assert p.pioche("doctor", "--csv", expect=1).out.splitlines()[0] == "check,state,message,advice"


harness.main()
