#!/usr/bin/env python3
"""What the README prints is true: its recipe plans and runs, its Python and C
lines work as they stand, its commands and files exist."""
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import BUILD, ROOT, Project  # noqa: E402

with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
    README = file.read()

# What the README's recipe trains: any program that takes --name=value.
TRAIN = """
import sys
import pioche
given = dict(word[2:].split("=", 1) for word in sys.argv[1:])
assert given["data"].endswith("data/corpus.bin"), given
assert int(given["warmup"]) == int(given["steps"]) // 20, given
with pioche.init() as run:
    run.log({"val/loss": float(given["lr"]) + int(given["width"])}, step=1)
"""


def block(language):
    """The README's only block of this language."""
    found = re.findall(r"^```%s\n(.*?)^```$" % language, README, re.S | re.M)
    assert len(found) == 1, f"{len(found)} blocks of {language}"
    return found[0]


def project():
    p = Project()
    p.write("lm.lua", block("lua"))
    p.write("train.py", TRAIN)
    p.write("model/layers.py", "")
    p.write("data/corpus.bin", "In the beginning")
    return p


def test_recipe_plans():
    with project() as p:
        plan = p.pioche("plan", "lm.lua", "--json").json
        assert plan["runs_total"] == 72, plan
        assert not os.path.exists(p.store)


def test_recipe_runs_with_the_override_that_is_shown():
    harness.python_library()
    line = re.search(r"`pioche (run lm\.lua [^`]*)`", README).group(1)
    assert "lr=1e-3,3e-3" in line, line
    with project() as p:
        words = line.split() + ["search.runs=3", "seeds=2"]
        p.pioche(*words)
        runs = p.pioche("ls", "lm", "--json").json
        assert [r["status"] for r in runs] == ["finished"] * 6, runs
        assert {r["params"]["lr"] for r in runs} <= {1e-3, 3e-3}, runs
        assert "nothing to do" in p.pioche(*words).err


def test_python_lines_log():
    harness.python_library()
    with Project() as p:
        p.write("notebook.py", block("python"))
        # Where the README says that it is found, in the build directory under test.
        named = re.search(r"`PYTHONPATH=([^`]*)`", README).group(1)
        assert named.startswith("build/"), named
        path = os.path.join(BUILD, os.path.relpath(named, "build"))
        subprocess.run([sys.executable, "notebook.py"], cwd=p.dir, check=True,
                       env=dict(p.env, PYTHONPATH=path))
        run = p.pioche("show", "notebook-1", "--json").json
        assert run["params"] == {"lr": 1e-3} and run["status"] == "finished", run
        assert run["metrics"]["train/loss"]["count"] == 100, run
        assert "train/loss" in p.pioche("chart", "notebook").out


def test_c_lines_compile_and_log():
    with Project() as p:
        include, body = block("c").split("\n", 1)
        p.write("log.c", f"{include}\nint main(void)\n{{\n{body}\nreturn 0;\n}}\n")
        flags = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
        if os.environ.get("SAN"):
            flags.append("-fsanitize=" + os.environ["SAN"])
        subprocess.run(["gcc", *flags, "log.c", "-I" + os.path.join(ROOT, "core", "client"),
                        "-L" + os.path.join(BUILD, "lib"), "-Wl,-rpath," + os.path.join(BUILD, "lib"),
                        "-lpioche", "-o", "log"], cwd=p.dir, check=True)
        subprocess.run(["./log"], cwd=p.dir, env=p.env, check=True)
        run = p.pioche("show", "notebook-1", "--json").json
        assert run["metrics"]["train/loss"]["last"] == 0.01, run


def test_commands_are_there():
    verbs = {v["verb"] for v in json.loads(subprocess.run(
        [harness.PIOCHE, "help", "--json"], check=True, capture_output=True, text=True).stdout)}
    shown = set(re.findall(r"(?:^\$ |`|build/)pioche ([a-z]+)", README, re.M))
    assert len(shown) >= 5 and shown <= verbs, shown - verbs
    for goal in sorted(set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.M))):
        made = subprocess.run(["make", "-n", goal], cwd=ROOT, capture_output=True, text=True,
                              env={k: v for k, v in os.environ.items() if k != "MAKEFLAGS"})
        assert made.returncode == 0, f"make {goal}: {made.stderr}"


def test_files_are_there():
    names = set(re.findall(r"\]\(([^)#]+)\)", README))
    tour = README[README.index("## A tour of the source"):]
    names |= set(re.findall(r"^\| `([^`]+)`", tour, re.M))
    names |= set(re.findall(r"recipes/\w+\.lua", README))
    names |= {"tests/" + name for name in re.findall(r"`(\w+/)`", tour)}
    assert len(names) >= 15, names
    missing = [n for n in sorted(names) if "://" not in n and not os.path.exists(os.path.join(ROOT, n))]
    assert not missing, missing
    rooms = {f"core/{name}" for name in os.listdir(os.path.join(ROOT, "core"))}
    assert rooms <= names, rooms - names


harness.main()
