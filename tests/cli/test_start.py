#!/usr/bin/env python3
"""What a command loads before it does anything: a listing must feel like `ls`."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project, Skip  # noqa: E402

RECIPE = """local pioche = require "pioche"
return pioche.sweep { name = "one", program = pioche.program { command = { "true" } }, space = {} }
"""


def loaded(project, *args):
    """Names of the shared libraries that `pioche ARGS` loads."""
    trace = project.path("trace")
    project.pioche(*args, env={"LD_DEBUG": "files", "LD_DEBUG_OUTPUT": trace})
    names = set()
    for name in os.listdir(project.dir):
        if name.startswith("trace."):
            names.update(re.findall(r"calling init: \S*/([^/\s]+)", project.read(name)))
            os.remove(project.path(name))
    if not names:
        raise Skip("this dynamic linker tells nothing under LD_DEBUG")
    return names


def committed(project):
    project.write("one.lua", RECIPE)
    project.sh("git add one.lua && git commit -q -m one")


def test_only_what_touches_a_repository_loads_libgit2():
    """It and what it needs were a third of the time of `pioche ls`."""
    with Project() as project:
        committed(project)
        assert any(name.startswith("libgit2.") for name in loaded(project, "run", "one.lua"))
        listing = loaded(project, "ls")
        assert not any(re.match("lib(git2|ssh2|icu|krb5)", name) for name in listing), listing


def test_a_missing_libgit2_is_named():
    """Only by what needs it; the rest goes on."""
    with Project() as project:
        committed(project)
        library = next(name for name in loaded(project, "run", "one.lua")
                       if name.startswith("libgit2."))
        project.write(f"broken/{library}", "")
        env = {"LD_LIBRARY_PATH": project.path("broken")}
        project.write("one.lua", RECIPE.replace("{ \"true\" }", "{ \"true\", \"again\" }"))
        failure = project.pioche("run", "one.lua", env=env, expect=3)
        assert "libgit2, which cannot be loaded" in failure.err and library in failure.err, failure.err
        assert "one-1" in project.pioche("ls", env=env).out


harness.main()
