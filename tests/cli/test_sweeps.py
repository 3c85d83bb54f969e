#!/usr/bin/env python3
"""pioche sweep: how sweeps went, points and budget that are added, and that everything
which was decided is decided again by what was known."""
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import PIOCHE, Project, wait_for  # noqa: E402

RECIPE = """local pioche = require "pioche"
return pioche.sweep {
  name = "f", goal = pioche.minimize "loss", search = pioche.%s, %s
  space = {
    x = pioche.uniform(0, 1), n = pioche.int(1, 9), steps = 9, kind = { "plain", "odd" },
    half = function(p) return p.x / 2 end,
    opt = pioche.one_of { adam = { beta = pioche.log_uniform(1e-3, 1) }, sgd = { nesterov = { true, false } } },
  },
  where = function(p) return p.x + p.n ~= 3 end,
  program = pioche.objective(function(p)
    local loss = {}
    for i = 1, 9 do loss[i] = (p.x - 0.3) ^ 2 + (p["opt.beta"] or 0.5) / i + p.n / 100 %s end
    return { loss = loss }
  end),
}
"""


def recipe(search="random { runs = 6, seed = 1 }", fields="", more=""):
    return RECIPE % (search, fields, more)


POINT = ["x=0.5", "n=2", "kind=odd", "opt=sgd", "opt.nesterov=true"]
HYPERBAND = "stop = pioche.hyperband { min = 1, max = 9, eta = 2 }, launch = { parallel = %d },"


def test_ls_and_show():
    with Project() as p:
        p.write("r.lua", recipe(fields="stop = pioche.asha { min = 1, max = 9 },"))
        p.pioche("run", "r.lua")
        p.pioche("run", "r.lua", "n=3")
        new, old = p.pioche("sweep", "ls", "--json").json
        assert [s["points"] for s in (new, old)] == [6, 6] and new["id"] > old["id"]
        assert old["search"]["name"] == "random" and old["stop"]["options"]["min"] == 1
        counts = {r["status"]: r["n"] for r in p.sql(
            "SELECT status, count(*) AS n FROM run WHERE id IN (SELECT run_id FROM proposal_run p JOIN sweep w"
            f" ON w.id = p.sweep_id WHERE w.ulid = '{old['id']}') GROUP BY 1")}
        assert old["runs"] == counts and sum(counts.values()) == 6
        shown = p.pioche("sweep", "show", old["id"][:12], "--json").json
        assert shown["id"] == old["id"] and shown["runs"] == counts
        assert p.pioche("sweep", "show", "f", "--json").json["id"] == new["id"]
        rows = p.sql("SELECT step, count(*) AS came, sum(verdict = 'go') AS go, sum(verdict = 'stop') AS stop,"
                     f" min(value) AS best FROM rung WHERE sweep_id = 1 GROUP BY 1")
        assert [{k: r[k] for k in rows[0]} for r in shown["rungs"]] == rows
        finished = [r for r in p.pioche("ls", "--all", "--json").json if r["status"] == "finished"]
        best = min((r["metrics"]["loss"]["last"], r["id"]) for r in finished if int(r["id"][2:]) <= 6)
        assert (shown["best"]["value"], shown["best"]["id"]) == best
        last = p.sql("SELECT sum(s.last_step) AS n FROM series s WHERE run_id <= 6")[0]["n"]
        assert (shown["steps"], shown["steps_whole"]) == (last, 54)
        text = p.pioche("sweep", "show", old["id"]).out
        assert "stop     asha (by=step, eta=3, max=9, min=1, promote=false)" in text, text
        assert f"steps    {last}, which is" in text, text
        assert p.pioche("sweep", "ls", "--csv").out.count("\n") == 3
        assert "there is no sweep 'nothing'" in p.pioche("sweep", "show", "nothing", expect=1).err


def test_a_point_that_is_no_point_is_refused_and_changes_nothing():
    with Project() as p:
        p.write("r.lua", recipe())
        p.pioche("run", "r.lua")

        def wrong(words, message, status=1):
            err = p.pioche("sweep", "enqueue", "f", *words, expect=status).err
            assert message in err, err
        wrong(["x=2", *POINT[1:]], "x=2: expected uniform(0, 1)")
        wrong(["x=nan", *POINT[1:]], "x=nan: expected uniform(0, 1)")
        wrong([POINT[0], "n=2.5", *POINT[2:]], "n=2.5: expected int(1, 9)")
        wrong(POINT[1:], "x is missing: expected uniform(0, 1)")
        wrong([*POINT[:2], "kind=even", *POINT[3:]], "kind=even: expected plain, odd")
        wrong([*POINT, "opt.beta=0.1"], "opt.beta=0.1: it is there only when opt is adam")
        wrong([*POINT, "half=1"], "half=1: it follows from other parameters")
        wrong([*POINT, "steps=8"], "steps=8: expected 9")
        wrong([*POINT, "beta=8"], "there is no parameter 'beta'; did you mean 'opt.beta'?")
        wrong([*POINT, "x=0.1"], "x=0.1: 'x' is there twice")
        wrong(["x"], "'x': expected NAME=VALUE", 2)
        wrong([], "something is missing", 2)
        assert "expected ls, show" in p.pioche("sweep", "shwo", expect=2).err
        assert p.sql("SELECT count(*) AS n FROM proposal") == [{"n": 6}]
        # Only the recipe knows its `where`.
        p.pioche("sweep", "enqueue", "f", "x=1", *POINT[1:])
        assert "enqueued as -1 is refused: the recipe's `where`" in p.pioche("run", "r.lua").err
        assert "refused" not in p.pioche("run", "r.lua").err
        assert p.sql("SELECT count(*) AS n FROM run") == [{"n": 6}]


def test_what_is_enqueued_runs_once_and_is_no_proposal_of_the_search():
    with Project() as p:
        p.write("r.lua", recipe("tpe { runs = 20, seed = 1, startup = 5 }"))
        p.pioche("run", "r.lua")
        for _ in range(2):
            out = p.pioche("sweep", "enqueue", "f", *POINT, "--json").json
        assert out["number"] == -2 and out["params"] == {
            "x": 0.5, "n": 2, "kind": "odd", "steps": 9, "opt": "sgd", "opt.nesterov": True}
        assert "21 of 21 runs are finished" in p.pioche("run", "r.lua").err
        assert "nothing to do: 21 of 21" in p.pioche("run", "r.lua").err
        run = p.pioche("show", "f-21", "--json").json
        assert run["params"]["half"] == 0.25 and run["status"] == "finished"
        p.pioche("sweep", "extend", "f", "runs=25")
        p.pioche("run", "r.lua")
        # The search had been told of the point when it made the others.
        seen = p.sql("SELECT number, seen FROM proposal WHERE number > 20 ORDER BY number")
        assert seen[0] == {"number": 21, "seen": 22} and len(seen) == 5, seen
        assert "25 proposals and 0 verdicts come to the same" in p.pioche("sweep", "replay", "f").out


def test_points_that_come_while_it_runs_are_taken_by_who_runs():
    with Project() as p:
        slow = "+ 0 * #tostring(i):rep(60000)"
        p.write("r.lua", recipe("random { runs = 80, seed = 1 }", "launch = { parallel = 4 },", slow))
        process = p.start("run", "r.lua")
        wait_for(lambda: p.poll("SELECT 1 FROM run WHERE status = 'finished'"))
        clients = [subprocess.Popen([PIOCHE, "sweep", "enqueue", "f", f"x=0.{i}1", *POINT[1:]], cwd=p.dir,
                                    env=p.env, stdout=subprocess.DEVNULL) for i in range(9)]
        assert [c.wait(60) for c in clients] == [0] * 9
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        p.pioche("run", "r.lua")
        assert p.sql("SELECT count(*) AS n, count(DISTINCT run_id) AS runs, min(number) AS low FROM proposal_run"
                     " WHERE number < 0") == [{"n": 9, "runs": 9, "low": -9}]
        assert p.sql("SELECT status, count(*) AS n FROM run GROUP BY 1") == [{"status": "finished", "n": 89}]


def test_extend():
    with Project() as p:
        p.write("r.lua", recipe())
        p.pioche("run", "r.lua")
        before = p.table("f")
        for word, message, status in (("runs=6", "expected more than the 6", 1), ("runs=x", "expected runs=N", 2),
                                      ("seeds=9", "expected runs=N", 2)):
            assert message in p.pioche("sweep", "extend", "f", word, expect=status).err
        assert "10 points instead of 6, 6 of them proposed; `pioche run r.lua`" in p.pioche(
            "sweep", "extend", "f", "runs=10").out
        p.pioche("run", "r.lua")
        after = p.table("f")
        assert len(after) == 10 and all(row in after for row in before)
        assert "nothing to do: 10 of 10" in p.pioche("run", "r.lua").err
        assert [s["points_wanted"] for s in p.pioche("sweep", "ls", "--json").json] == [10]
        p.write("g.lua", 'local pioche = require "pioche"\nreturn pioche.sweep { name = "g", space = { x = { 1, 2 } },\n'
                         '  program = pioche.program { command = { "true" } } }\n')
        p.pioche("run", "g.lua")
        assert "its search, grid, proposes every point" in p.pioche("sweep", "extend", "g", "runs=9", expect=1).err


def test_each_command_prints_the_json_that_its_help_tells_of():
    with Project() as p:
        p.write("r.lua", recipe(fields="stop = pioche.asha { min = 1, max = 9 },").replace("runs = 6", "runs = 30"))
        p.pioche("run", "r.lua")
        text = " ".join(p.pioche("help", "sweep").out.split()).split("JSON: of ")[1]

        def told(words, *args):
            """What it prints has the keys that the help names after `words`, and no others."""
            listed = text[text.index(words + " ") + len(words):].split("{", 1)[1]
            depth, end = 1, 0
            while depth:
                depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(listed[end], 0)
                end += 1
            plain, deep = "", 0
            for c in listed[:end - 1]:
                deep += c in "{[("
                plain += c if not deep else ""
                deep -= c in "}])"
            names = {word.strip() for part in plain.split(",") for word in part.replace(" and ", ",").split(",")}
            found = p.pioche("sweep", *args, "--json").json
            found = found[0] if isinstance(found, list) else found
            assert set(found) == names, (args, set(found) ^ names)
            return found
        told("ls", "ls")
        told("of front", "front", "f")
        told("of importance", "importance", "f")
        told("of slice", "slice", "f", "x")
        told("of enqueue", "enqueue", "f", *POINT)
        assert told("of extend", "extend", "f", "runs=31")["points_wanted"] == 31
        frozen = told("of freeze and thaw", "freeze", "f", "x=0.5", "--reason", "it is known")
        assert (frozen["change"], frozen["detail"]) == ("freeze", {"values": {"x": 0.5}}), frozen
        assert told("of freeze and thaw", "thaw", "f", "x")["change"] == "thaw"
        dropped = told("of drop and restore", "drop", "f-2", "--reason", "a slow node")
        assert dropped == {"run": "f-2", "change": "drop", "reason": "a slow node"}, dropped
        assert told("of drop and restore", "restore", "f-2")["change"] == "restore"
        p.pioche("run", "r.lua")
        assert told("of replay", "replay", "f")["same"]
        for verb in ("show", "front", "importance", "extend", "freeze", "thaw", "replay", "enqueue", "slice"):
            more = {"extend": ["runs=3"], "freeze": ["x=1"], "thaw": ["x"], "enqueue": ["x=1"], "slice": ["x"]}.get(verb, [])
            assert "there is no sweep 'g'; did you mean 'f'?" in p.pioche("sweep", verb, "g", *more, expect=1).err, verb
            assert f"usage: pioche sweep {verb} " in p.pioche("sweep", verb, expect=2).err, verb
        for verb in ("drop", "restore"):
            assert "no run 'f-99'" in p.pioche("sweep", verb, "f-99", "--reason", "x", expect=1).err, verb
        assert "f: no parameter 'xx' varies; did you mean 'x'?" in p.pioche("sweep", "slice", "f", "xx", expect=1).err
        assert "of sweep importance, not of sweep drop" in p.pioche("sweep", "drop", "f-1", "--fanova", expect=2).err


def test_replay_after_kills_and_with_workers():
    for workers, kills in ((1, 0), (4, 2)):
        with Project() as p:
            p.write("r.lua", recipe("tpe { runs = 60, seed = 2 }", HYPERBAND % workers,
                                    "+ 0 * #tostring(i):rep(20000)"))
            for kill in range(kills):
                process = p.start("run", "r.lua")
                some = f"SELECT 1 FROM run WHERE status = 'finished' LIMIT 1 OFFSET {9 * kill + 4}"
                wait_for(lambda: p.poll(some), 60)
                process.send_signal(signal.SIGKILL)
                process.communicate()
            p.pioche("run", "r.lua")
            said = p.pioche("sweep", "replay", "f", "--json").json
            verdicts = p.sql("SELECT count(*) AS n FROM rung")[0]["n"]
            assert said["same"] and (said["proposals"], said["verdicts"]) == (60, verdicts), said
            assert verdicts > 60
            if not kills:
                continue
            # What is on record is changed.
            p.sh("sqlite3 .pioche/pioche.db \"UPDATE rung SET verdict = iif(verdict = 'go', 'stop', 'go')"
                 " WHERE id = 9\"")
            said = p.pioche("sweep", "replay", "f", "--json", expect=1).json
            assert said["verdicts"] == 8 and not said["same"], said
            p.sh("sqlite3 .pioche/pioche.db \"UPDATE proposal SET params = json_set(params, '$.x', 0.25)"
                 " WHERE number = 17\"")
            out = p.pioche("sweep", "replay", "f", expect=1).out
            assert "f: proposal 17 is on record as" in out and '"x":0.25' in out, out
            p.write("r.lua", p.read("r.lua").replace("pioche.int(1, 9)", "pioche.int(1, 8)"))
            assert "r.lua is not what it was" in p.pioche("sweep", "replay", "f", expect=1).err


harness.main()
