#!/usr/bin/env python3
"""What the recipe language and its driver promise beyond test_run.py: the same
plan in every process, programs that git ignores, builds that hear Ctrl-C, labs,
generations."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project, wait_for  # noqa: E402

SPACE = """
local pioche = require "pioche"
return pioche.sweep {
  name = "w",
  program = pioche.program { command = { "true" }, args = function(p) return { p.lr } end },
  space = {
    lr = pioche.log_uniform(1e-5, 1e-1), width = pioche.log_int(8, 4096), n = pioche.int(-5, 5),
    optimizer = pioche.one_of { adamw = { beta2 = pioche.uniform(0.9, 0.999) }, sgd = { m = { 0, 0.9 } } },
    twice = function(p)
      local sum, t = 0, { c = 1, a = 2, b = 3 }
      for k, v in pairs(t) do sum = sum * 10 + v + #k end
      return sum * p.n
    end,
  },
  where = function(p) return p.width % 2 == 0 end,
  search = pioche.random { runs = 20, seed = 11 },
}
"""


def test_a_plan_is_the_same_bytes_in_every_process():
    with Project() as p:
        p.write("r.lua", SPACE)
        plans = {p.pioche("plan", "r.lua", "--json", env={"N": str(i)}).out for i in range(100)}
        assert len(plans) == 1
        assert not os.path.exists(p.store), "plan wrote a store"
        assert p.sh("git for-each-ref") == ""


def test_a_program_that_git_ignores_is_explained():
    with Project() as p:
        p.write(".gitignore", "prog\n")
        p.write("prog", "#!/bin/sh\n", 0o755)
        p.write("r.lua", 'local pioche = require "pioche"\nreturn pioche.sweep {\n  name = "w",\n'
                         '  program = pioche.program {\n    command = { "./prog" } } }\n')
        err = p.pioche("run", "r.lua", expect=1).err
        assert ('r.lua:5: command: "./prog" is not in the snapshot of the code: '
                "if git ignores it, let `build` make it") in err, err


def test_an_interrupt_ends_a_build():
    with Project() as p:
        p.write("r.lua", 'local pioche = require "pioche"\nreturn pioche.sweep { name = "w",\n'
                         '  program = pioche.program { command = { "./x" },\n'
                         '    build = { "sh", "-c", "echo > ../started; sleep 60" } } }\n')
        process = p.start("run", "r.lua")
        wait_for(lambda: os.path.exists(os.path.join(p.store, "cache", "started")))
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130, err
        assert time.monotonic() - began < 5
        assert [r["status"] for r in p.pioche("ls", "--json").json] == ["planned"]


def test_again_makes_a_new_generation_and_keeps_the_old():
    with Project() as p:
        p.write("r.lua", 'local pioche = require "pioche"\nreturn pioche.sweep { name = "w",\n'
                         '  program = pioche.program { command = { "true" } }, space = { x = { 1, 2 } } }\n')
        p.pioche("run", "r.lua")
        p.pioche("run", "r.lua", "--again")
        rows = p.sql("SELECT identity, count(*) AS n, max(generation) AS g FROM run GROUP BY 1")
        assert [(r["n"], r["g"]) for r in rows] == [(2, 2), (2, 2)], rows
        assert "nothing to do" in p.pioche("run", "r.lua").err


def test_a_lab_goes_on_where_it_was_and_plan_follows_it():
    with Project() as p:
        p.write("r.lua", """
local pioche = require "pioche"
local prog = pioche.program { command = { "sh", "-c", "test ! -e stop" } }
return function(lab)
  local all = lab:sweep(pioche.sweep { name = "a", program = prog, space = { x = { 1, 2 } } })
  assert(#all:runs() == 2)
  local one = lab:run { name = "b", program = prog, params = all:runs()[2].params:with { y = 3 } }
  assert(one.params.x == 2 and one.params.y == 3 and one.name == "b-1")
end
""")
        out = p.pioche("plan", "r.lua").out
        assert "sweep a: 2 runs, 0 finished already" in out and "not known yet" in out, out
        p.pioche("run", "r.lua")
        assert "nothing to do: 3 of 3" in p.pioche("run", "r.lua").err
        assert "Everything that it asks for is finished." in p.pioche("plan", "r.lua").out
        p.write("stop", "")
        assert "b-1" not in p.pioche("run", "r.lua", expect=1).err
        p.check_store()


def test_a_lab_notes_and_exports():
    with Project() as p:
        p.write(".gitignore", "out\n")
        os.makedirs(p.path("out"))
        p.write("r.lua", """
local pioche = require "pioche"
local prog = pioche.program { command = { "true" } }
return function(lab)
  local one = lab:run { name = "b", program = prog, params = { x = 1 } }
  lab:note("the run is " .. one.name)
  local path = lab:export(one, "out/b.tar")
  lab:note("it is at " .. path)
end
""")
        assert "1  line 5: run b: 1 run, 0 finished" in p.pioche("plan", "r.lua").out
        err = p.pioche("run", "r.lua").err
        assert "the run is b-1\n" in err and f"it is at {p.path('out/b.tar')}\n" in err, err
        p.pioche("verify", "out/b.tar")
        before = os.stat(p.path("out/b.tar"))
        again = p.pioche("run", "r.lua").err
        assert "nothing to do" in again and "the run is b-1\n" in again, again
        after = os.stat(p.path("out/b.tar"))
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns), "left alone"
        assert "2  export to out/b.tar" in p.pioche("plan", "r.lua").out
        os.unlink(p.path("out/b.tar"))
        p.pioche("run", "r.lua")
        p.pioche("verify", "out/b.tar")
        # The bundle of another run is replaced, a file that is no bundle is not.
        p.write("r.lua", p.read("r.lua").replace("x = 1", "x = 2"))
        p.pioche("run", "r.lua")
        assert b"b-2/bagit.txt" in open(p.path("out/b.tar"), "rb").read()
        p.write("out/b.tar", "precious")
        message = f"r.lua:7: lab:export: {p.path('out/b.tar')} exists already, and is no bundle"
        assert message in p.pioche("run", "r.lua", expect=1).err
        assert p.read("out/b.tar") == "precious"


harness.main()
