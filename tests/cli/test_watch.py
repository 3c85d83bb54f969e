#!/usr/bin/env python3
"""The whole screen: what stands on it, how it follows the store and the terminal's
size, that it writes only what changed, and that the terminal is as it was after any
end. A small terminal is played here: it knows the sequences that pioche uses, and
fails on any other."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import PIOCHE, Project, wait_for  # noqa: E402

LEAVE = "\x1b[0m\x1b[?25h\x1b[?1049l"
SEQUENCE = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])")


class Terminal:
    """A pseudo-terminal with `pioche ARGS` on it, and the screen that it draws."""

    def __init__(self, p, *args, cols=100, rows=24, env=None, stdin=None, argv=None):
        self.master, slave = pty.openpty()
        self.slave_name = os.ttyname(slave)
        self.keep = os.open(self.slave_name, os.O_RDWR | os.O_NOCTTY)
        self.resize(cols, rows, tell=False)
        self.before = termios.tcgetattr(self.keep)

        def control():
            fcntl.ioctl(1, termios.TIOCSCTTY, 0)
        self.process = subprocess.Popen(argv or [PIOCHE, *args], cwd=p.dir, stdin=slave if stdin is None else stdin,
                                        env={**p.env, "TERM": "xterm", **(env or {})}, stdout=slave,
                                        stderr=slave, start_new_session=True, preexec_fn=control)
        os.close(slave)
        self.text, self.raw, self.alternate = "", "", False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.keep)
        os.close(self.master)

    def resize(self, cols, rows, tell=True):
        self.cols, self.rows = cols, rows
        self.cells = [""] * rows
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def press(self, keys):
        os.write(self.master, keys.encode())

    def pump(self, seconds):
        """Take what was written within that time; bytes of it."""
        got, deadline = b"", time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.master], [], [], left)[0]:
                part = os.read(self.master, 65536)
                got += part
        text = got.decode()
        self.raw += text
        self.text += text
        self.play()
        return len(got)

    def wait(self, seconds):
        """The status it ends with. A terminal reads all the while: one that does not
        holds up whoever writes to it."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"still there after {seconds} s"
            self.pump(0.05)
        return self.process.returncode

    def play(self):
        text, self.text = self.text, ""
        row, at = None, 0
        while at < len(text):
            match = SEQUENCE.match(text, at)
            if match:
                private, numbers, what = match.groups()
                if what == "H":
                    row = int(numbers.split(";")[0]) - 1
                elif what == "K" and row is not None and row < self.rows:
                    self.cells[row] = ""
                elif what == "J":
                    self.cells = [""] * self.rows
                elif private and numbers == "1049":
                    self.alternate = what == "h"
                else:
                    assert what == "m" or numbers == "25", f"unknown: {match.group()!r}"
                at = match.end()
            else:
                assert text[at] != "\x1b", repr(text[at:at + 20])
                if self.alternate and row is not None and row < self.rows:
                    self.cells[row] += text[at]
                at += 1

    def see(self, pattern, seconds=30):
        """Wait until a line of the screen matches."""
        def look():
            self.pump(0.05)
            return next((c for c in self.cells if re.search(pattern, c)), None)
        try:
            return wait_for(look, seconds, pattern)
        except AssertionError:
            raise AssertionError(f"{pattern} not seen:\n" + "\n".join(self.cells))

    def is_as_before(self):
        return termios.tcgetattr(self.keep) == self.before


RECIPE = """
local pioche = require "pioche"
return pioche.sweep { name = "w", goal = pioche.minimize "val/loss",
  program = pioche.program { command = { "python3", "program.py" }, sources = { "program.py" } },
  space = { x = { 1, 2 }, steps = 40 }, launch = { ranks_per_node = 2 } }
"""

PROGRAM = """
import os, sys, time
import pioche
run = pioche.init()
for step in range(1, 21):
    run.log({"val/loss": 2.0 / step, "lr": 1e-3}, step=step)
    print("rank", os.environ["RANK"], "at", step, "\\x1b[2J", flush=True)
run.event("phase", "half way")
while not os.path.exists(os.environ["PIOCHE_STORE"] + "/../go"):
    time.sleep(0.05)
for step in range(21, 41):
    run.log({"val/loss": 2.0 / step, "lr": 1e-3}, step=step)
sys.exit("x=2" in " ".join(sys.argv) and 3)
"""


def project():
    harness.python_library()
    p = Project()
    p.write("program.py", PROGRAM)
    p.write("r.lua", RECIPE)
    p.write(".gitignore", "go\n")
    return p


def finished():
    p = Project()
    p.write("r.lua", 'return require("pioche").sweep { name = "w", program = require("pioche").program {\n'
                     '  command = { "echo", "hello" } }, space = { x = { 1, 2, 3 } } }\n')
    p.pioche("run", "r.lua")
    return p


def test_it_follows_a_run_that_a_supervisor_holds():
    with project() as p:
        run = p.start("run", "r.lua")
        wait_for(lambda: p.poll("SELECT 1 FROM event WHERE message = 'half way'"))
        with Terminal(p, "watch", "w") as t:
            t.see(r"^pioche watch  1 planned, 1 running  supervised by \S+, pid " + str(run.pid))
            line = t.see(r"^w-1 +▶ running +20/40 +ETA ")
            assert " 0.1 " in line and "█" in line, line
            t.see(r"^w-2 +· planned")
            t.press("\r")
            t.see(r"^w-1  ▶ running  attempt 1  step 20/40  ETA \S+  val/loss 0.1$")
            t.see(r"^val/loss$")
            t.see("last 0.1 at step 20")
            t.see("phase +rank [01] half way")
            t.press("\x1b[C")
            t.see("last 0.001 at step 20", 10)
            t.press("r")
            t.see(r"^ +1 +20 .*rank 1 at 20 \\x1b\[2J *$")
            t.press("\x1b[B\r")
            t.see("^rank 1 of 2$")
            t.see(r"^rank 1 at 19 \\x1b\[2J$")
            t.press("e")
            t.see(r"^\d\d:\d\d:\d\d +phase +rank [01] half way")
            p.write("go", "")
            t.press("\x1b")
            t.see(r"^w-1  ✓ finished  attempt 1  step 40/40  val/loss 0.05$", 60)
            t.press("\x1b")
            t.see(r"^w-2 +✗ failed .*rank [01] exited with 3", 60)
            t.see("^pioche watch  1 finished, 1 failed  nobody supervises")
            assert all(len(c) <= t.cols for c in t.cells), t.cells
            t.press("q")
            assert t.wait(10) == 0
            assert t.is_as_before()
        run.communicate(timeout=60)


def test_what_nobody_supervises_goes_on_by_a_key():
    with project() as p:
        run = p.start("run", "r.lua")
        wait_for(lambda: p.poll("SELECT 1 FROM event WHERE message = 'half way'"))
        run.kill()
        run.communicate()
        with Terminal(p, "watch", "w") as t:
            t.see("^pioche watch  1 planned, 1 running  nobody supervises")
            t.see("^s supervise  ")
            t.press("s")
            t.see(r"^pioche watch  1 planned, 1 running  supervised by \S+, pid \d+, ", 60)
            p.write("go", "")
            t.see("^pioche watch  1 finished, 1 failed  nobody supervises", 60)
            t.press("s")
            t.see("^no supervisor: nothing to do: no run is open", 60)
            t.press("q")
            assert t.wait(10) == 0 and t.is_as_before()
        # A program that was started without `pioche run` wants no supervisor.
        code = "import pioche, sys; run = pioche.init('alone'); run.log({'loss': 1}); sys.stdin.read()"
        with subprocess.Popen([sys.executable, "-c", code], cwd=p.dir, stdin=subprocess.PIPE,
                              env={**p.env, "PYTHONPATH": harness.python_library()}) as alone:
            wait_for(lambda: "alone-1" in p.pioche("ls").out)
            with Terminal(p, "watch", "alone") as t:
                t.see("^pioche watch  1 running  nobody supervises")
                assert not t.cells[-1].startswith("s supervise"), t.cells
            alone.stdin.close()
            assert alone.wait(30) == 0


def test_it_fits_the_size_and_writes_only_what_changed():
    with finished() as p:
        with Terminal(p, "watch") as t:
            t.see("^w-3 +✓ finished")
            t.pump(0.5)
            assert t.pump(2.5) == 0, "an idle screen is not drawn again"
            for cols, rows in ((40, 6), (12, 3), (1, 1), (200, 50)):
                t.resize(cols, rows)
                t.pump(1.5)
                assert all(len(c) <= cols for c in t.cells), (cols, t.cells)
                if rows > 1:
                    assert t.cells[0].startswith("pioche watch"[:cols - 1]), t.cells
            t.see("^w-1 +✓ finished")
            t.press("\x1b[B")
            assert 0 < t.pump(1.5) < 500, "two lines changed"
            p.pioche("note", "w-1", "a note")
            t.press("\x1b[F\r")
            t.see("note +a note")
            t.press("\x0c")
            assert t.pump(1.0) > 500, "Ctrl-L draws everything"


def ended(p, t, status, end=None):
    t.see("✓ finished")
    assert not t.is_as_before(), "keys are raw meanwhile"
    if end:
        end()
    assert t.wait(20) == status
    t.pump(0.2)
    assert t.is_as_before(), "the terminal's settings are what they were"
    assert LEAVE in t.raw and not t.alternate, t.raw[-200:]


def test_the_terminal_is_as_it_was_after_any_end():
    with finished() as p:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGABRT):
            with Terminal(p, "watch") as t:
                ended(p, t, -number, lambda: t.process.send_signal(number))
        with Terminal(p, "watch") as t:
            ended(p, t, -signal.SIGINT, lambda: t.press("\x03"))
        with Terminal(p, "watch", stdin=subprocess.DEVNULL) as t:
            ended(p, t, 0, lambda: t.press("q"))


def test_the_terminal_is_as_it_was_after_a_bug():
    with finished() as p:
        lua = p.path("lua")
        p.sh(f"cp -r '{os.path.join(harness.ROOT, 'lua')}' '{lua}'")
        views = os.path.join(lua, "pioche", "watch", "views.lua")
        with open(views, encoding="utf-8") as f:
            text = f.read()
        with open(views, "w", encoding="utf-8") as f:
            f.write(text.replace("function views.events(state, height)",
                                 "function views.events(state, height)\n  error('on purpose')"))
        with Terminal(p, "watch", env={"PIOCHE_LUA": lua}) as t:
            ended(p, t, 3, lambda: t.press("e"))
            after = t.raw.split(LEAVE)[-1]
            assert "a bug in pioche" in after and "on purpose" in after, after


def stopped(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        return f.read().rsplit(")", 1)[1].split()[0] == "T"


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again():
    with finished() as p:
        shell = ["bash", "-mc", f"'{PIOCHE}' watch; echo stopped $?; read -r go; fg"]
        with Terminal(p, argv=shell) as t:
            t.see("✓ finished")
            t.press("\x1a")
            wait_for(lambda: t.pump(0.05) >= 0 and "stopped 148" in t.raw)
            assert not t.alternate and t.is_as_before()
            assert LEAVE in t.raw
            t.press("go\n")
            t.see("✓ finished")
            assert t.alternate and not t.is_as_before()
            t.press("q")
            assert t.wait(10) == 0
            t.pump(0.1)
            assert not t.alternate and t.is_as_before()


def test_a_stop_that_nothing_can_catch_is_made_good_when_it_goes_on():
    with finished() as p:
        with Terminal(p, "watch") as t:
            t.see("✓ finished")
            t.process.send_signal(signal.SIGSTOP)
            wait_for(lambda: stopped(t.process.pid))
            termios.tcsetattr(t.keep, termios.TCSANOW, t.before)   # as a shell does
            t.cells = ["rubbish"] * t.rows
            t.process.send_signal(signal.SIGCONT)
            t.see("✓ finished")
            assert "rubbish" not in t.cells and not t.is_as_before()
            t.press("q")
            assert t.wait(10) == 0 and t.is_as_before()


def test_where_there_is_no_terminal_it_says_what_else_there_is():
    with finished() as p:
        err = p.pioche("watch", expect=2).err
        assert err == ("pioche: watch draws on a terminal, and standard output is none: `pioche ls`, `pioche attach"
                       " RUN` and `pioche logs RUN --follow` print lines\n"), err
        with Terminal(p, "watch", "w-9") as t:
            assert t.wait(20) == 1
            t.pump(0.1)
            assert "w-9" in t.raw and "\x1b" not in t.raw, t.raw


harness.main()
