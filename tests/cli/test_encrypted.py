#!/usr/bin/env python3
"""Bundles that are encrypted by age with a passphrase: asked for on a terminal, or said by
a file or the environment; and read again by verify and import, as those for a key are."""
import hashlib
import os
import pty
import select
import shutil
import signal
import sys
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import PIOCHE, Project, Skip  # noqa: E402

SECRET = "three wörds & a 'quote\""
LOGGED = """
import pioche
with pioche.init("big", params={"lr": 1e-3}) as run:
    for step in range(200):
        run.log({"loss": 1 / (step + 1)}, step=step)
"""


def project():
    for program in ("age", "age-keygen"):
        if not shutil.which(program):
            raise Skip(f"{program} is not here")
    library = harness.python_library()
    p = Project(git=False)
    p.write("log.py", LOGGED)
    p.sh(f"PYTHONPATH={library!r} python3 log.py")
    p.pioche("export", "big-1", "-o", "x.tar")
    p.write("secret", SECRET + "\nand a second line that is none\n")
    return p


def at_a_terminal(p, args, answers):
    """Run pioche on a terminal; for each (prompt, line) type the line when it is asked for. What was on the screen, and the exit status."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(p.dir)
        os.execve(PIOCHE, [PIOCHE, *args], dict(p.env, TERM="xterm"))
    seen, waiting, deadline = "", list(answers), time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([fd], [], [], 0.2)[0]:
            try:
                data = os.read(fd, 4096)
            except OSError:
                break
            if not data:
                break
            seen += data.decode("utf-8", "replace")
        # It asks first, and turns off the echo then.
        if waiting and waiting[0][0] in seen and not termios.tcgetattr(fd)[3] & termios.ECHO:
            os.write(fd, waiting.pop(0)[1].encode())
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    assert not waiting, (waiting, seen)
    return seen, os.waitstatus_to_exitcode(status)


def decrypted(p, path):
    """By age alone, on a terminal of its own."""
    pid, fd = pty.fork()
    if pid == 0:
        out = os.open(p.path("plain"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.execvp("age", ["age", "-d", p.path(path)])
    os.write(fd, SECRET.encode() + b"\n")
    while True:
        try:
            if not os.read(fd, 4096):
                break
        except OSError:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(fd)
    with open(p.path("plain"), "rb") as f:
        return f.read()


def elsewhere(p, name):
    os.makedirs(p.path(name))
    return {"cwd": p.path(name), "env": {"PIOCHE_STORE": p.path(name + "/.pioche")}}


def check_import(p, path, *options, env=None):
    """It becomes the run that it was, once."""
    there = elsewhere(p, "there-" + os.path.basename(path))
    there["env"].update(env or {})
    got = p.pioche("import", p.path(path), *options, "--json", **there).json
    assert [(r["id"], r["new"]) for r in got["runs"]] == [("big-1", True)] and not got["failures"], got
    again = p.pioche("import", p.path(path), *options, "--json", **there).json
    assert [(r["id"], r["new"]) for r in again["runs"]] == [("big-1", False)], again
    p.pioche("export", "big-1", "-o", p.path("back.tar"), "--force", **there)
    p.sh("cmp back.tar x.tar")
    return there


def test_said_by_a_file_or_the_environment():
    with project() as p:
        told = p.pioche("export", "big-1", "--passphrase-file", "secret", "--json").json
        with open(p.path("big-1.tar.age"), "rb") as f:
            assert told["path"] == "big-1.tar.age" and told["sha256"] == hashlib.sha256(f.read()).hexdigest(), told
        p.sh("sha256sum -c --quiet big-1.tar.age.sha256")
        with open(p.path("x.tar"), "rb") as f:
            assert decrypted(p, "big-1.tar.age") == f.read()
        env = {"PIOCHE_PASSPHRASE": SECRET}
        said = p.pioche("export", "big-1", "-o", "env.age", "--passphrase", "--zstd", env=env)
        assert "age -d env.age | tar x --zstd && cd big-1" in said.out, said.out
        good = p.pioche("verify", "big-1.tar.age", "--passphrase-file", "secret").out
        assert good.startswith("big-1.tar.age: good: "), good
        assert "env.age: good: " in p.pioche("verify", "env.age", env=env).out
        check_import(p, "big-1.tar.age", "--passphrase-file", p.path("secret"))
        there = check_import(p, "env.age", env=env)
        names = [r["bundle"] for r in p.pioche("sql", "--json", "SELECT bundle FROM origin", **there).json]
        assert names == ["big-1.tar"], names
        # Nothing of it is in a store, in what a program was started with, or left behind.
        p.sh(f"! grep -rqa {SECRET.split()[1]!r} .pioche there-env.age; ! ls *.part 2>/dev/null")


def test_asked_for_on_the_terminal():
    with project() as p:
        answers = [("Enter passphrase", SECRET + "\n"), ("Confirm passphrase", SECRET + "\n")]
        seen, status = at_a_terminal(p, ["export", "big-1", "-o", "t.age", "--passphrase"], answers)
        assert status == 0 and "t.age" in seen and SECRET not in seen, (status, seen)
        with open(p.path("x.tar"), "rb") as f:
            assert decrypted(p, "t.age") == f.read()
        seen, status = at_a_terminal(p, ["verify", "t.age"], [("Enter passphrase", SECRET + "\n")])
        assert status == 0 and "t.age: good: " in seen, (status, seen)
        seen, status = at_a_terminal(p, ["verify", "t.age"], [("Enter passphrase", "wrong\n")])
        assert status == 1 and "it is not the right passphrase" in seen, (status, seen)
        # Ctrl-C while it asks: there is no bundle, and the next one is not in its way.
        seen, status = at_a_terminal(p, ["export", "big-1", "-o", "c.age", "--passphrase"],
                                     [("Enter passphrase", "\x03")])
        assert status == -signal.SIGINT and not os.path.exists(p.path("c.age")), (status, seen)
        p.pioche("export", "big-1", "-o", "c.age", "--passphrase-file", "secret")
        assert not os.path.exists(p.path("c.age.part")) and decrypted(p, "c.age") == decrypted(p, "t.age")


def test_encrypted_for_a_key():
    with project() as p:
        p.sh("age-keygen -o key 2>/dev/null; age-keygen -y key > recipients; age-keygen -o other 2>/dev/null")
        p.pioche("export", "big-1", "-o", "k.age", "--encrypt", "recipients")
        assert "k.age: good: " in p.pioche("verify", "k.age", "--identity", "key").out
        check_import(p, "k.age", "--identity", p.path("key"))
        bad = p.pioche("verify", "k.age", "--identity", "other", expect=1).out
        assert "it is not the right key, or the file is damaged" in bad, bad
        assert "--identity FILE says which" in p.pioche("verify", "k.age", expect=2).err
        assert "there is no such file" in p.pioche("verify", "k.age", "--identity", "none", expect=1).err


def test_what_cannot_be_is_said_and_nothing_is_left():
    with project() as p:
        def refused(words, *args, expect=2, **options):
            err = p.pioche(*args, expect=expect, **options).err
            assert words in err, (words, err)

        p.write("empty", "\n")
        p.write("control", "a\tb\n")
        export = ["export", "big-1", "-o", "n.age"]
        refused("there is no terminal to ask on", *export, "--passphrase")
        refused("exclude each other", *export, "--passphrase", "--encrypt", "age1x")
        refused("--to - and --passphrase-file exclude each other", "export", "big-1", "--to", "-", "--passphrase-file",
                "secret")
        refused("it is empty", *export, "--passphrase-file", "empty", expect=1)
        refused("without control characters", *export, "--passphrase-file", "control", expect=1)
        refused("none", *export, "--passphrase-file", "none", expect=1)
        refused("at most 1000 bytes", *export, "--passphrase", env={"PIOCHE_PASSPHRASE": "x" * 1001}, expect=1)
        os.mkdir(p.path("bin"))
        refused("needs the program age", *export, "--passphrase-file", "secret", env={"PATH": p.path("bin")}, expect=1)
        assert not [n for n in os.listdir(p.dir) if n.startswith("n.age")], os.listdir(p.dir)

        p.pioche(*export, "--passphrase-file", "secret")
        refused("there is no terminal to ask on", "verify", "n.age")
        wrong = p.pioche("verify", "n.age", env={"PIOCHE_PASSPHRASE": "wrong"}, expect=1).out
        assert "it is not the right passphrase" in wrong, wrong
        with open(p.path("n.age"), "rb") as f:
            whole = f.read()
        for name, data in (("cut.age", whole[:-100]), ("flipped.age", whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])):
            with open(p.path(name), "wb") as f:
                f.write(data)
            assert name in p.pioche("verify", name, "--passphrase-file", "secret", expect=1).out
            there = elsewhere(p, "no-" + name)
            failed = p.pioche("import", p.path(name), "--passphrase-file", p.path("secret"), "--json", expect=1, **there)
            assert name in failed.json["failures"][0]["message"] and not failed.json["runs"], failed.json
            assert p.pioche("ls", "--json", "--all", **there).json == []
            assert os.listdir(p.path(f"no-{name}/.pioche/staging")) == []


harness.main()
