#!/usr/bin/env python3
"""Bad recipes and bad command lines: the exact message, the exit status, and
that nothing was changed. In messages, {dir} stands for the project."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project, Skip  # noqa: E402

GOOD = """local pioche = require "pioche"
return pioche.sweep {
  name = "w",
  program = pioche.program { command = { "true" } },
  space = { x = { 1, 2 } },
}
"""


def sweep(space="x = { 1, 2 }", rest="", program='command = { "true" }'):
    """A recipe whose space stands on line 5 and whose rest on line 6."""
    return GOOD.replace("x = { 1, 2 }", space).replace('command = { "true" }', program).replace(
        "},\n}\n", "},\n  " + rest + "\n}\n")


# name: (recipe text, arguments after `plan recipe.lua`, exit status, exact message)
RECIPES = {
}

# name: (arguments, exit status, exact message)
COMMANDS = {
}


def listing(p):
    found = []
    for base, dirs, files in os.walk(p.dir):
        dirs.sort()
        for name in sorted(files):
            path = os.path.join(base, name)
            with open(path, "rb") as f:
                found.append((path, f.read()))
    return found


def message_of(p, result):
    return result.err.strip().removeprefix("pioche: ").replace(p.dir, "{dir}")


def check_recipe(name):
    text, arguments, status, message = RECIPES[name]
    with Project(git=False) as p:
        p.write("recipe.lua", text)
        before = listing(p)
        for verb in ("plan", "run"):
            result = p.pioche(verb, "recipe.lua", *arguments, expect=status)
            assert message_of(p, result) == message, (
                f"{verb}\nexpected: {message}\n  actual: {message_of(p, result)}")
            assert listing(p) == before, f"{verb} changed something"


def check_command(name):
    arguments, status, message = COMMANDS[name]
    with Project(git=False) as p:
        p.write("recipe.lua", GOOD)
        p.pioche("run", "recipe.lua")
        result = p.pioche(*arguments, expect=status)
        assert message_of(p, result) == message, (
            f"expected: {message}\n  actual: {message_of(p, result)}")
        p.check_store()
        assert len(p.sql("SELECT 1 FROM run")) == 2


for _name in RECIPES:
    globals()["test_recipe_" + _name.replace(" ", "_")] = lambda name=_name: check_recipe(name)
for _name in COMMANDS:
    globals()["test_command_" + _name.replace(" ", "_")] = lambda name=_name: check_command(name)


def test_store_of_a_newer_version_is_refused_untouched():
    with Project(git=False) as p:
        p.write("recipe.lua", GOOD)
        p.pioche("run", "recipe.lua")
        p.sql("PRAGMA user_version = 99")
        for verb in (["ls"], ["run", "recipe.lua"], ["compare", "w"]):
            result = p.pioche(*verb, expect=1)
            assert "newer pioche" in result.err and "99" in result.err, result.err
        assert p.sql("PRAGMA user_version") == [{"user_version": 99}]


def test_store_that_cannot_be_written():
    if os.getuid() == 0 and not shutil.which("setpriv"):
        raise Skip("setpriv is missing, and root may write everything")
    with Project(git=False) as p:
        p.write("recipe.lua", GOOD)
        p.pioche("run", "recipe.lua")
        subprocess.run(["chmod", "-R", "a+rX,a-w", p.store], check=True)
        os.chmod(p.dir, 0o755)
        prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []

        def as_nobody(*args):
            return subprocess.run([*prefix, harness.PIOCHE, *args], cwd=p.dir, env=p.env,
                                  capture_output=True, text=True)
        done = as_nobody("ls", "--json")
        assert done.returncode == 0 and len(harness.json.loads(done.stdout)) == 2, done
        p.write("other.lua", GOOD.replace("{ 1, 2 }", "{ 3 }"))
        done = as_nobody("run", "other.lua")
        assert done.returncode in (1, 3) and p.store in done.stderr, done


def test_full_disk():
    if os.getuid() != 0:
        raise Skip("only root may mount a small tmpfs")
    with Project(git=False) as p:
        os.makedirs(p.store)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", p.store],
                          capture_output=True).returncode:
            raise Skip("mount is not allowed here")
        try:
            p.write("recipe.lua", GOOD)
            result = p.pioche("run", "recipe.lua", expect=3)
            assert "no space left" in result.err.lower(), result.err
            subprocess.run(["mount", "-o", "remount,size=50m", p.store], check=True)
            p.pioche("run", "recipe.lua")
            p.check_store()
            assert len(p.sql("SELECT 1 FROM run WHERE status = 'finished'")) == 2
        finally:
            subprocess.run(["umount", p.store], check=True)


def test_no_store():
    with Project(git=False) as p:
        for verb in (["ls"], ["compare", "w"], ["show", "w-1"], ["sql", "SELECT 1"]):
            result = p.pioche(*verb, expect=1)
            assert "no store" in result.err, result.err
        assert not os.path.exists(p.store)


harness.main()
