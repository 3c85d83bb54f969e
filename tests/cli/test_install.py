#!/usr/bin/env python3
"""`make install` gives a program and libraries that work from where they were
put, to C, C++ and Python programs that know pkg-config and nothing else."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import BUILD, ROOT, Project, Skip  # noqa: E402

PYTHON = """
import pioche
with pioche.init("hello-py", params={"lr": 0.1, "name": "a\\nb"}) as run:
    for step in range(1, 101):
        run.log({"train": {"loss": 1 / step}}, step=step)
"""


def installed(p):
    prefix = p.path("opt pioche")
    # The build directory is passed on, so that a sanitized build installs itself.
    relative = os.path.relpath(BUILD, ROOT)
    subprocess.run(["make", "-s", f"BUILD={relative}", f"PREFIX={prefix}", "install"],
                   cwd=ROOT, env={k: v for k, v in p.env.items() if k != "MAKEFLAGS"},
                   check=True, capture_output=True)
    return prefix


def check_run(p, pioche, name):
    env = {k: v for k, v in p.env.items() if not k.startswith("PIOCHE_")}
    out = subprocess.run([pioche, "show", f"{name}-1", "--json"], cwd=p.dir, env=env, check=True,
                         capture_output=True, text=True).stdout
    run = harness.json.loads(out)
    run = run[0] if isinstance(run, list) else run
    loss = run["metrics"]["train/loss"]
    assert run["status"] == "finished", run
    assert (loss["count"], loss["first_step"], loss["last_step"]) == (100, 1, 100), loss
    assert loss["last"] == 0.01 and loss["min"] == 0.01 and loss["max"] == 1.0, loss
    return run


def test_c_and_cxx_programs_compile_and_log():
    with Project() as p:
        prefix = installed(p)
        env = dict(p.env, PKG_CONFIG_PATH=f"{prefix}/lib/pkgconfig")
        flags = ["-Wall", "-Wextra", "-pedantic", "-Werror"]
        if os.environ.get("SAN"):
            flags.append("-fsanitize=" + os.environ["SAN"])
        with open(os.path.join(ROOT, "tests", "client", "example.c"), encoding="utf-8") as f:
            p.write("example.c", f.read())
        # The prefix holds a space: flags are named one by one, as a build system would.
        paths = [f"-I{prefix}/include", f"-L{prefix}/lib", f"-Wl,-rpath,{prefix}/lib", "-lpioche"]
        for number, compiler in enumerate((["gcc", "-std=c11", "-x", "c"],
                                           ["g++", "-std=c++17", "-x", "c++"]), 1):
            if subprocess.run(["which", compiler[0]], capture_output=True).returncode:
                raise Skip(f"{compiler[0]} is missing")
            subprocess.run([*compiler, *flags, "example.c", "-x", "none", *paths, "-o", "example"],
                           cwd=p.dir, env=env, check=True)
            subprocess.run(["./example"], cwd=p.dir, env=p.env, check=True)
            ids = [r["number"] for r in p.sql("SELECT number FROM run")] if number == 2 else []
            run = check_run(p, f"{prefix}/bin/pioche", "hello-c")
            assert run["params"] == {"lr": 0.125, "summary/best": 0.01}, run["params"]
            assert run["metrics"]["tokens"]["last"] == 1000000007 * 100, run["metrics"]["tokens"]
            assert not ids or ids == [1]
        media = p.sql("SELECT kind, key, count(*) AS n FROM media GROUP BY 1, 2 ORDER BY 1")
        assert [tuple(m.values()) for m in media] == [("histogram", "weights", 4), ("table", "accuracy", 2)], media
        version = subprocess.run(["pkg-config", "--modversion", "pioche"], env=env, check=True,
                                 capture_output=True, text=True).stdout.strip()
        assert version in p.pioche("--version").out


def test_python_program_logs():
    harness.python_library()
    with Project() as p:
        prefix = installed(p)
        p.write("train.py", PYTHON)
        subprocess.run([sys.executable, "train.py"], cwd=p.dir, check=True,
                       env=dict(p.env, PYTHONPATH=f"{prefix}/lib/pioche"))
        run = check_run(p, f"{prefix}/bin/pioche", "hello-py")
        assert run["params"] == {"lr": 0.1, "name": "a\nb"}, run["params"]
        sum_of = "SELECT sum(step) FROM point WHERE run = 'hello-py-1' AND key = 'train/loss'"
        shell = subprocess.run(["sqlite3", "-cmd", f".load '{prefix}/lib/pioche/pioche_sqlite'",
                                os.path.join(p.store, "pioche.db"), sum_of], check=True, capture_output=True, text=True)
        assert shell.stdout == "5050\n", shell.stdout
        read = "import pioche; print(sum(pioche.read('hello-py-1', 'train/loss').step))"
        python = subprocess.run([sys.executable, "-c", read], cwd=p.dir, check=True, capture_output=True, text=True,
                                env=dict(p.env, PYTHONPATH=f"{prefix}/lib/pioche"))
        assert python.stdout == "5050\n", python.stdout


def test_installed_tree_is_what_the_help_says():
    with Project() as p:
        prefix = installed(p)
        for name in ("bin/pioche", "lib/libpioche.so", "lib/libpioche.a", "include/pioche.h",
                     "lib/pioche/pioche.py", "lib/pioche/pioche_checkpoint.py", "lib/pioche/pioche_points.py",
                     "lib/pioche/pioche_torch.py", "lib/pioche/pioche_values.py",
                     "lib/pkgconfig/pioche.pc", "share/pioche/recipes/hello.lua"):
            assert os.path.isfile(os.path.join(prefix, name)), name
        # The installed program finds its library beside itself: a rank can import pioche.
        p.write("r.lua", """
local pioche = require "pioche"
return pioche.sweep { name = "w", program = pioche.program {
  command = { "python3", "-c", "import pioche; print(pioche.__file__)" } }, space = { x = 1 } }
""")
        harness.python_library()
        subprocess.run([f"{prefix}/bin/pioche", "run", "r.lua"], cwd=p.dir, env=p.env, check=True,
                       capture_output=True)
        out = subprocess.run([f"{prefix}/bin/pioche", "logs", "w-1"], cwd=p.dir, env=p.env,
                             check=True, capture_output=True, text=True).stdout
        assert f"{prefix}/lib/pioche/pioche.py" in out, out


harness.main()
