#!/usr/bin/env python3
"""What programs say reaches a terminal as text: it moves no cursor, clears no
screen and rings no bell."""
import os
import pty
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import PIOCHE, Project  # noqa: E402

EVIL = "\\x1b[2J\\x07\\u009b2J\\u202e"

RECIPE = f"""
local pioche = require "pioche"
return pioche.sweep {{ name = "e",
  program = pioche.program {{ command = {{ "python3", "program.py" }}, sources = {{ "program.py" }} }},
  space = {{ s = {{ "a{EVIL}\\nb", "c" }} }}, launch = {{ ranks_per_node = 2 }} }}
""".replace("\\u009b", "\\u{9b}").replace("\\u202e", "\\u{202e}")

PROGRAM = f"""
import pioche
run = pioche.init()
key = "k{EVIL}"
run.log({{key: 1.0}}, step=1)
run.text(key, key, step=1)
run.note(key)
run.tag(key, key)
run.event(key, key)
run.summary({{key: key}})
run.table(key, {{key: [key]}})
print("\\x1b[31mred\\x1b[0m\\ttab", key, flush=True)
print("first\\rsecond\\rthird\\r", flush=True)
raise ValueError(key)
"""


def on_terminal(p, *args):
    """What `pioche ARGS` writes where stdout and stderr are a terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen([PIOCHE, *args], cwd=p.dir, env=dict(p.env, TERM="xterm", COLUMNS="120"),
                               stdin=subprocess.DEVNULL, stdout=slave, stderr=slave)
    os.close(slave)
    parts = []
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:    # the last writer is gone
            break
        if not part:
            break
        parts.append(part)
    os.close(master)
    process.wait(timeout=60)
    return b"".join(parts).decode("utf-8").replace("\r\n", "\n")


def test_no_command_hands_control_characters_on():
    harness.python_library()
    with Project() as p:
        p.write("program.py", PROGRAM)
        p.write("r.lua", RECIPE)
        for args in (["plan", "r.lua"], ["run", "r.lua"], ["ls", "--notes", "--wide"], ["ls", "--json"],
                     ["ls", "--csv"], ["show", "e-1", "--texts", "--events"], ["show", "e-1", "--json", "--texts"],
                     ["show", "e-1", "--csv"], ["compare", "e", "-p"], ["chart", "e-1", "-m", "k\x1b[2J\x07\x9b2J\u202e"],
                     ["logs", "e-1"], ["logs", "e-1", "--rank", "1"], ["logs", "e-1", "--csv"], ["logs", "e-1", "--json"],
                     ["sql", "SELECT * FROM tag", "--csv"], ["completion", "names"], ["doctor"], ["ls", "\x1b[2J"]):
            text = on_terminal(p, *args)
            assert text, args
            text = text.replace("\r\x1b[K", "").replace("\x1b[K", "")   # pioche's own progress
            odd = {c for c in text if (c < " " and c not in "\n\r\t") or "\x7f" <= c < "\xa0" or c == "\u202e"}
            assert not odd, (args, odd, text)


def test_logs_are_exact_in_a_pipe_and_shown_on_a_terminal():
    harness.python_library()
    with Project() as p:
        p.write("program.py", PROGRAM)
        p.write("r.lua", RECIPE)
        said = p.pioche("run", "r.lua", expect=1).err
        assert said.count("e-1 failed: ") == 1 and said.endswith("0 of 2 runs are finished, 2 failed\n"), said
        assert "\x1b[31mred\x1b[0m\ttab k\x1b[2J\x07" in p.pioche("logs", "e-1", "--rank", "0", "--stdout").out
        shown = on_terminal(p, "logs", "e-1", "--stdout")
        assert "[1] red" in shown and "tab k\\x1b[2J\\x07\\u009b2J\\u202e\n" in shown, shown
        assert "[0] third\n" in shown and "first" not in shown, shown
        p.env["NO_COLOR"] = ""
        colored = on_terminal(p, "logs", "e-1", "--stdout")
        assert "\x1b[36m[0] \x1b[0mthird\n" in colored and "\x1b[32m[1] \x1b[0m" in colored, colored
        p.env["NO_COLOR"] = "1"
        raw = on_terminal(p, "logs", "e-1", "--stdout", "--raw")
        assert "[1] \x1b[31mred\x1b[0m\ttab k\x1b[2J\x07" in raw, raw
        texts = p.pioche("show", "e-1", "--texts").out
        assert "at step 1 of rank 1" in texts, texts


if __name__ == "__main__":
    harness.main()
