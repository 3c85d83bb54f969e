#!/usr/bin/env python3
"""A search that somebody wrote and that goes wrong: what is wrong is told, what ran is kept."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project, wait_for  # noqa: E402

RECIPE = """local pioche = require "pioche"
return pioche.sweep {
  name = "f", goal = pioche.minimize "loss", search = pioche.sobol {}, launch = { parallel = 3 },
  space = { x = pioche.uniform(0, 1), n = pioche.int(1, 9), k = { "a", "b" }, half = function(p) return p.x / 2 end,
    opt = pioche.one_of { adam = { beta = pioche.uniform(0, 1) }, sgd = {} } },
  where = function(p) return p.x ~= 0.75 end,
  program = pioche.objective(function(p) return p.x + p.half end),
}
"""
# In place of a search of pioche's.
SEARCH = """return { name = "sobol", summary = "mine", check = function() return { runs = 8 } end,
  new = function()
    return { adaptive = true, size = 8,
      propose = function(self, n)
        if n > 8 then return nil end
        local p = { x = n / 16, n = n, k = "a", opt = "sgd" }
        %s
        return p
      end,
      observe = function(self, n, value, how)
        %s
      end }
  end }
"""


def test_what_is_no_point_is_told_and_what_runs_ends():
    at = "if n == 6 then %s end"
    cases = {
        "return 5": "expected a table of parameters, got 5",
        "return 'x'": 'expected a table of parameters, got "x"',
        "p.x = nil": "x is missing: expected uniform(0, 1)",
        "p.x = 'low'": 'x="low": expected uniform(0, 1)',
        "p.x = 0 / 0": "expected uniform(0, 1)",
        "p.x = 1.5": "x=1.5: expected uniform(0, 1)",
        "p.n = 2.5": "n=2.5: expected int(1, 9)",
        "p.k = 'c'": 'k="c": expected a, b',
        "p.opt = 'adam'": "opt.beta is missing",
        "p.z = 1": "there is no parameter 'z'",
        "p[1] = 1": "there is no parameter '1'",
        "p.x = 0.75": "`where` is not true of it",
    }
    with Project() as p:
        p.write("r.lua", RECIPE)
        p.pioche("sweep", "ls", expect=1)
        for wrong, message in cases.items():
            p.sh("rm -rf .pioche")
            p.write("lua/pioche/samplers/sobol.lua", SEARCH % (at % wrong, ""))
            err = p.pioche("run", "r.lua", env={"PIOCHE_LUA": p.path("lua")}, expect=1).err
            assert message in err and "sobol proposed no point of the space as number 6" in err, (wrong, err)
            assert p.sql("SELECT status, count(*) AS n FROM run GROUP BY 1") == [{"status": "finished", "n": 5}]
            assert p.sql("SELECT count(*) AS n FROM proposal WHERE observed IS NOT NULL") == [{"n": 5}]
            assert p.sql("SELECT state FROM sweep") == [{"state": "interrupted"}]
        # And when it is mended it goes on.
        p.write("lua/pioche/samplers/sobol.lua", SEARCH % ("", ""))
        p.pioche("run", "r.lua", env={"PIOCHE_LUA": p.path("lua")})
        assert p.sql("SELECT status, count(*) AS n FROM run GROUP BY 1") == [{"status": "finished", "n": 8}]
        said = p.pioche("sweep", "replay", "f", "--json", env={"PIOCHE_LUA": p.path("lua")}).json
        assert said["same"] and said["proposals"] == 8


def test_what_errors_is_told_and_what_runs_ends():
    with Project() as p:
        p.write("r.lua", RECIPE)
        for propose, observe in (("if n == 6 then error('no idea') end", ""), ("", "if n == 3 then error('no idea') end")):
            p.sh("rm -rf .pioche")
            p.write("lua/pioche/samplers/sobol.lua", SEARCH % (propose, observe))
            err = p.pioche("run", "r.lua", env={"PIOCHE_LUA": p.path("lua")}, expect=3).err
            assert "no idea" in err, err
            assert p.sql("SELECT status, count(*) AS n FROM run GROUP BY 1") == [{"status": "finished", "n": 5}]


def test_the_same_point_for_ever_comes_to_an_end():
    with Project() as p:
        p.write("r.lua", RECIPE)
        search = SEARCH.replace("if n > 8 then return nil end", "n = 1")
        p.write("lua/pioche/samplers/sobol.lua", search % ("", ""))
        for _ in range(2):
            err = p.pioche("run", "r.lua", env={"PIOCHE_LUA": p.path("lua")}, expect=1).err
            assert "sobol proposed 100 points in a row that it had proposed before" in err, err
            assert p.sql("SELECT status, count(*) AS n FROM run GROUP BY 1") == [{"status": "finished", "n": 1}]
            assert p.sql("SELECT count(*) AS n FROM proposal")[0]["n"] < 102
        p.write("r.lua", RECIPE.replace("x ~= 0.75", "x == 2"))
        assert "`where` is not true" in p.pioche("run", "r.lua", env={"PIOCHE_LUA": p.path("lua")}, expect=1).err


def test_ctrl_c_ends_a_proposal_that_takes_for_ever():
    with Project() as p:
        p.write("r.lua", RECIPE)
        p.write("lua/pioche/samplers/sobol.lua", SEARCH % ("if n == 6 then io.open('%s', 'w') while true do end end"
                                                           % p.path("stuck"), ""))
        env = {"PIOCHE_LUA": p.path("lua")}
        process = p.start("run", "r.lua", env=env)
        try:
            wait_for(lambda: os.path.exists(p.path("stuck")))
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
        assert process.returncode == 130 and "interrupted: 5 of 5 runs are finished" in err, (process.returncode, err)
        assert p.sql("SELECT state FROM sweep") == [{"state": "interrupted"}]
        # Also before anything runs, where what is known is told again.
        p.sh("rm stuck")
        p.write("lua/pioche/samplers/sobol.lua", SEARCH % ("", "io.open('%s', 'w') while true do end" % p.path("stuck")))
        process = p.start("run", "r.lua", env=env)
        try:
            wait_for(lambda: os.path.exists(p.path("stuck")))
            for _ in range(3):      # nobody looks there, and the third one waits for nobody
                process.send_signal(signal.SIGINT)
                wait_for(lambda: not os.path.exists(f"/proc/{process.pid}/status")
                         or "SigPnd:\t0000000000000000\nShdPnd:\t0000000000000000"
                         in open(f"/proc/{process.pid}/status", encoding="utf-8").read())
            process.communicate(timeout=30)
        finally:
            process.kill()
        assert process.returncode == -signal.SIGINT, process.returncode
        p.write("lua/pioche/samplers/sobol.lua", SEARCH % ("", ""))
        p.pioche("run", "r.lua", env=env)
        assert p.sql("SELECT status, count(*) AS n FROM run GROUP BY 1") == [{"status": "finished", "n": 8}]


harness.main()
