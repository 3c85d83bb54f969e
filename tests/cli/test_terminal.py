#!/usr/bin/env python3
"""What programs say reaches a terminal as text: it moves no cursor, clears no
screen and rings no bell. What they draw is shown by a terminal that can."""
import base64
import os
import pty
import re
import struct
import subprocess
import sys
import zlib

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


def on_terminal(p, *args, **env):
    """What `pioche ARGS` writes where stdout and stderr are a terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen([PIOCHE, *args], cwd=p.dir, env={**p.env, "TERM": "xterm", "COLUMNS": "120", **env},
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


def png(width, height):
    """Of noise, so that it does not get small."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + os.urandom(3 * width) for _ in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def by_kitty(text):
    """The bytes of an image, of a sequence each at most 4096 bytes of base64 long."""
    parts = re.findall(r"\x1b_G([^;]*);([A-Za-z0-9+/=]*)\x1b\\", text)
    assert [keys for keys, _ in parts] == [
        ("f=100,a=T," if i == 0 else "") + f"m={int(i < len(parts) - 1)}" for i in range(len(parts))], parts
    assert all(len(data) == 4096 for _, data in parts[:-1]) and len(parts[-1][1]) <= 4096
    return base64.b64decode("".join(data for _, data in parts))


def by_iterm(text):
    size, data = re.search(r"\x1b]1337;File=inline=1;size=(\d+):([A-Za-z0-9+/=]*)\x07", text).groups()
    assert int(size) == len(base64.b64decode(data))
    return base64.b64decode(data)


def test_images_are_shown_by_terminals_that_can():
    """By kitty's protocol and iTerm's; a PNG of any size, a JPEG where the protocol takes it."""
    library = harness.python_library()
    pictures = {"small": png(1, 1), "medium": png(2, 3), "large": png(70, 50),
                "photo": b"\xff\xd8\xff\xe0 as a camera makes it"}
    with Project() as p:
        for name in ("TERM_PROGRAM", "LC_TERMINAL", "KITTY_WINDOW_ID", "TMUX"):
            p.env.pop(name, None)
        for name, data in pictures.items():
            with open(p.path(name), "wb") as f:
                f.write(data)
        p.write("draw.py", "import pioche\nwith pioche.init('i') as run:\n    for name in %r:\n"
                "        run.image(name, name)\n" % list(pictures))
        subprocess.run([sys.executable, "draw.py"], cwd=p.dir, check=True, env=dict(p.env, PYTHONPATH=library))
        for name, data in pictures.items():
            show = "show", "i-1", "--media", name
            for env in ({"TERM": "xterm-kitty"}, {"TERM": "xterm-ghostty"}, {"KITTY_WINDOW_ID": "1"}):
                text = on_terminal(p, *show, **env)
                assert "shows no image" in text if name == "photo" else by_kitty(text) == data, (name, env, text)
            for env in ({"TERM_PROGRAM": "iTerm.app"}, {"TERM_PROGRAM": "WezTerm"}, {"LC_TERMINAL": "iTerm2"}):
                assert by_iterm(on_terminal(p, *show, **env)) == data, (name, env)
            # Neither through a multiplexer, nor to what says nothing of it, nor into a pipe.
            for env in ({}, {"TERM": "screen-256color", "LC_TERMINAL": "iTerm2"},
                        {"TERM": "xterm-kitty", "TMUX": "/tmp/tmux,1,0"}):
                text = on_terminal(p, *show, **env)
                assert "--save PATH" in text and "\x1b_G" not in text and "1337" not in text, (env, text)
            piped = p.pioche(*show, env={"TERM": "xterm-kitty"}).out
            assert "--save PATH" in piped and "\x1b" not in piped, piped


if __name__ == "__main__":
    harness.main()
