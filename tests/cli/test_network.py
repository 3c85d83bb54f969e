#!/usr/bin/env python3
"""A store on a network file system: who supervises is settled without locks or
clocks, nobody who slept through a takeover writes, readers do not hold a writer
up, and a full disk loses nothing that was acknowledged."""
import glob
import os
import signal
import sqlite3
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
import places  # noqa: E402
from harness import PIOCHE, Project, wait_for  # noqa: E402

RECIPE = """local pioche = require "pioche"
return pioche.sweep {
  name = "w", space = { x = 1 },
  program = pioche.program { command = { "sh", "-c", "test -e '%s' || exec sleep 60" }, sources = { "r.lua" } },
}
"""


def project(go=True):
    p = Project(git=False)
    p.write("r.lua", RECIPE % p.path("go"))
    p.env["PIOCHE_FS"] = "network"
    if go:
        p.write("go", "")
    return p


def start(p):
    """A supervisor with a run that goes on, and its agent's pid."""
    supervisor = p.start("run", "r.lua")
    wait_for(lambda: p.poll("SELECT 1 FROM attempt WHERE state = 'running'"), 30, "a running attempt")
    return supervisor, p.sql("SELECT agent_pid AS pid FROM attempt WHERE state = 'running'")[0]["pid"]


def kill(process, agent):
    """Both at once, as when a machine loses power."""
    os.kill(process.pid, signal.SIGKILL)
    harness.kill_agent(agent)
    process.communicate()


def move_far(p):
    """The newest claim says that its holder runs under another kernel."""
    claim = max(glob.glob(os.path.join(p.store, "lease.*")))
    with open(claim, "r+b") as f:
        f.seek(f.read().index(b'"kernel":"') + 10)
        f.write(b"zzzz")


def status(p):
    runs = p.pioche("ls", "w", "--json").json
    return [r["status"] for r in runs]


def test_one_supervisor_who_is_named():
    with project(go=False) as p:
        first, _ = start(p)
        second = p.pioche("run", "r.lua", expect=3)
        assert "in use by another pioche" in second.err and f"pid {first.pid}" in second.err, second.err
        p.pioche("stop", "w")
        first.communicate(timeout=30)
        assert status(p) == ["cancelled"]
        assert not glob.glob(os.path.join(p.store, "lease*")), "what is given back leaves nothing"
        p.check_store()


def test_a_killed_supervisor_is_followed_at_once():
    with project(go=False) as p:
        kill(*start(p))
        p.write("go", "")
        p.env["PIOCHE_LEASE_S"] = "3600"  # nobody waits for it
        assert "watching" not in p.pioche("run", "r.lua").err
        assert status(p) == ["finished"]
        assert len(p.sql("SELECT 1 FROM attempt")) == 2
        assert p.sql("SELECT token FROM lease") == [{"token": 2}]
        p.check_store()


def test_a_silent_one_on_another_machine_is_watched():
    with project(go=False) as p:
        p.env["PIOCHE_LEASE_S"] = "1"
        kill(*start(p))
        move_far(p)
        p.write("go", "")
        assert "watching for up to 1 s whether it lives" in p.pioche("run", "r.lua").err
        assert status(p) == ["finished"]


def test_one_that_beats_on_another_machine_is_left_alone():
    with project(go=False) as p:
        p.env["PIOCHE_LEASE_S"] = "2"
        first, _ = start(p)
        move_far(p)
        second = p.pioche("run", "r.lua", expect=3)
        assert "in use by another pioche" in second.err, second.err
        p.pioche("stop", "w")
        assert "took over" not in first.communicate(timeout=30)[1]
        assert status(p) == ["cancelled"]


def test_wrong_clocks_mislead_nobody():
    """Whoever's clock is years ahead or behind, and whatever time a claim bears: one that beats is left
    alone, one that is silent is followed."""
    year = 365 * 86400
    for holder, other in ((0, 9 * year), (-9 * year, 9 * year)):
        with project(go=False) as p, places.clock(holder) as its_clock, places.clock(other) as clock:
            p.env.update(PIOCHE_LEASE_S="2", LD_PRELOAD=its_clock)
            first, agent = start(p)
            move_far(p)
            p.env["LD_PRELOAD"] = clock
            for stamp in (1, 2**32 - 1):
                os.utime(max(glob.glob(os.path.join(p.store, "lease.*"))), (stamp, stamp))
                second = p.pioche("run", "r.lua", expect=3)
                assert "in use by another pioche" in second.err, second.err
            kill(first, agent)
            os.utime(max(glob.glob(os.path.join(p.store, "lease.*"))), (2**32 - 1, 2**32 - 1))
            p.write("go", "")
            assert "watching for up to 2 s" in p.pioche("run", "r.lua").err
            del p.env["LD_PRELOAD"]
            assert status(p) == ["finished"]
            assert p.sql("SELECT token FROM lease") == [{"token": 2}]
            p.check_store()


def test_one_that_slept_through_a_takeover_writes_no_more():
    with project(go=False) as p:
        p.env["PIOCHE_LEASE_S"] = "1"
        first, agent = start(p)
        os.kill(first.pid, signal.SIGSTOP)
        os.kill(agent, signal.SIGKILL)  # its orders would never end while the supervisor sleeps
        move_far(p)
        p.write("go", "")
        p.pioche("run", "r.lua")
        os.kill(first.pid, signal.SIGCONT)
        err = first.communicate(timeout=60)[1]
        assert first.returncode == 3 and "took over while this one was silent" in err, err
        assert status(p) == ["finished"]
        ended = p.sql("SELECT result FROM attempt ORDER BY number")
        assert ended == [{"result": "lost"}, {"result": "ok"}], ended
        p.check_store()


def test_a_reader_who_does_not_read_on_holds_nobody_up():
    with project() as p:
        p.pioche("run", "r.lua")
        rows = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 200000)"
        reader = p.start("sql", rows + " SELECT n, e.name FROM c, experiment e")
        reader.stdout.read(1)  # it prints, into a pipe that is full now
        p.write("r2.lua", (RECIPE % p.path("go")).replace("x = 1", "x = 2").replace("r.lua", "r2.lua"))
        p.pioche("run", "r2.lua", timeout=25)  # less than a writer would wait
        assert status(p) == ["finished", "finished"]
        out, err = reader.communicate()
        assert reader.returncode == 0 and not err and out.count("\n") > 190000  # but for the first bytes


def test_a_store_that_stood_on_a_local_disk_changes_its_mode():
    """With what a dead writer left in its WAL."""
    with project() as p:
        p.env["PIOCHE_FS"] = "local"
        p.pioche("run", "r.lua")
        leave = ("import sqlite3, os, sys; d = sqlite3.connect(sys.argv[1]); d.execute(\"INSERT INTO "
                 "experiment (name, created_ns) VALUES ('late', 1)\"); d.commit(); os._exit(0)")
        database = os.path.join(p.store, "pioche.db")
        subprocess.run([sys.executable, "-c", leave, database], check=True)
        assert os.path.getsize(database + "-wal") > 0
        p.env["PIOCHE_FS"] = "network"
        p.pioche("ls")
        assert not os.path.exists(database + "-wal") and not os.path.exists(database + "-shm")
        assert p.sql("SELECT count(*) AS n FROM experiment") == [{"n": 2}]
        p.env["PIOCHE_FS"] = "local"
        p.pioche("ls")
        assert p.sql("PRAGMA journal_mode") == [{"journal_mode": "wal"}]
        p.check_store()


def test_rings_are_never_on_a_network_file_system():
    with Project(git=False) as outer, places.fuse(outer.dir) as mount:
        outer.env["PYTHONPATH"] = harness.python_library()
        log = [sys.executable, "-c", "import pioche; pioche.init('x').finish()"]
        made = subprocess.run(log, cwd=mount, env=outer.env, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        assert not [f for _, _, files in os.walk(mount) for f in files if f.endswith(".ring")]
        refused = subprocess.run(log, cwd=mount, env={**outer.env, "PIOCHE_SHM": mount},
                                 capture_output=True, text=True, check=False)
        assert refused.returncode and "set PIOCHE_SHM to a directory of this machine" in refused.stderr
        assert os.listdir(os.path.join(mount, ".pioche", "staging")) != []  # of the first alone
        assert len(os.listdir(os.path.join(mount, ".pioche", "runs"))) == 1


def test_runs_through_fuse_end_as_anywhere():
    with Project(git=False) as outer, places.fuse(outer.dir) as mount:
        outer.env["PYTHONPATH"] = harness.python_library()
        outer.write("mount/t.py", "import sys, pioche\nwith pioche.init() as run:\n"
                    "  for i in range(500): run.log({'loss': i / 7}, step=i)\n")
        outer.write("mount/r.lua", f"""local pioche = require "pioche"
return pioche.sweep {{ name = "w", space = {{ x = {{ 1, 2, 3 }} }},
  program = pioche.program {{ command = {{ "{sys.executable}", "t.py" }} }},
  launch = {{ ranks_per_node = 2, parallel = 2 }} }}""")
        done = subprocess.run([PIOCHE, "run", "r.lua"], cwd=mount, env=outer.env, capture_output=True,
                              text=True, check=False)
        assert done.returncode == 0, done.stderr
        database = sqlite3.connect(os.path.join(mount, ".pioche", "pioche.db"))
        assert database.execute("SELECT count(*), sum(count) FROM series").fetchone() == (6, 3000)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        database.close()


def test_a_disk_that_is_full_stops_the_log_and_not_the_program():
    with Project(git=False) as outer, places.small_disk(outer.dir, 1 << 20) as disk:
        outer.env["PYTHONPATH"] = harness.python_library()
        log = ("import pioche\nrun = pioche.init('full')\nfor i in range(100000):\n"
               "  run.log({'loss': i / 7}, step=i)\nprint('trained')\nrun.finish()\n")
        logged = subprocess.run([sys.executable, "-c", log], cwd=disk, env=outer.env, check=False,
                                capture_output=True, text=True)
        assert "trained" in logged.stdout and "No space left" in logged.stderr, logged
        listed = subprocess.run([PIOCHE, "ls"], cwd=disk, env=outer.env, capture_output=True, text=True,
                                check=False)
        assert "space" in listed.stderr and "damaged" not in listed.stderr, listed
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        runs = subprocess.run([PIOCHE, "ls", "--json"], cwd=disk, env=outer.env, capture_output=True,
                              text=True, check=True)
        runs = harness.json.loads(runs.stdout)
        # Everything up to where the log stopped, without a hole.
        loss = runs[0]["metrics"]["loss"]
        assert loss["count"] > 1000 and loss["last_step"] == loss["count"] - 1, runs
        assert subprocess.run([PIOCHE, "doctor", "--full", "--store", os.path.join(disk, ".pioche")],
                              env=outer.env, capture_output=True, check=False, text=True
                              ).stdout.count("BAD") == 0


harness.main()
