"""What the command-line tests share: a scratch project, the program under test,
and TAP. A test module defines functions named test_* and ends with
`harness.main()`; a docstring says the promise."""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("PIOCHE_BUILD", os.path.join(ROOT, "build"))
PIOCHE = os.environ.get("PIOCHE", os.path.join(BUILD, "pioche"))
GPT = os.path.join(BUILD, "gpt")


# A machine that has much else to do takes that many times as long as a test allows for.
PATIENCE = 4


class Skip(Exception):
    """Raised with the name of what is missing."""


def python_library():
    """For programs that import pioche: the folder that has it."""
    if os.environ.get("SAN"):
        raise Skip("python3 is not built with the sanitizers")
    return os.path.join(BUILD, "lib", "pioche")


class Result:
    def __init__(self, process, out, err):
        self.status, self.out, self.err = process.returncode, out, err

    @property
    def json(self):
        return json.loads(self.out)


class Project:
    """A directory of its own with an optional git repository; removed at the end."""

    def __init__(self, git=True):
        self.dir = os.path.realpath(tempfile.mkdtemp(prefix="pioche project "))
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith(("PIOCHE_", "MAKE", "MFLAGS", "BUILD"))
                    or k == "PIOCHE_TEST_MARK"}
        self.env.update(HOME=self.dir, GIT_CONFIG_GLOBAL="/dev/null", NO_COLOR="1")
        # Nothing is measured unless a test asks for it: how many points there are is told
        # by what programs log, however long a busy machine takes for it.
        self.env.setdefault("PIOCHE_SAMPLE_MS", "0")
        if git:
            self.sh("git init -q -b main . && git config user.name t && git config user.email t@t")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Objects and attempts hold read-only files; removal needs their directories.
        subprocess.run(["chmod", "-R", "u+rwX", self.dir], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    @property
    def store(self):
        return os.path.join(self.dir, ".pioche")

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text, mode=0o644):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as f:
            return f.read()

    def sh(self, command):
        return subprocess.run(["bash", "-ec", command], cwd=self.dir, env=self.env, check=True,
                              capture_output=True, text=True).stdout

    def start(self, *args, **options):
        return subprocess.Popen([PIOCHE, *args], cwd=options.pop("cwd", self.dir),
                                env={**self.env, **options.pop("env", {})},
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, **options)

    def pioche(self, *args, timeout=120, expect=0, **options):
        """Run `pioche ARGS`; the exit status must be `expect` (None: any)."""
        process = self.start(*args, **options)
        try:
            out, err = process.communicate(timeout=timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"pioche {' '.join(args)}: no end after {timeout * PATIENCE} s\n{out}\n{err}")
        result = Result(process, out, err)
        if expect is not None:
            assert result.status == expect, (
                f"pioche {' '.join(args)}: exit status {result.status}, expected {expect}\n"
                f"stdout: {out}\nstderr: {err}")
        return result

    def sql(self, query):
        """Rows by the stock sqlite3 shell, which waits for who writes."""
        out = subprocess.run(["sqlite3", "-json", "-cmd", ".timeout 20000",
                              os.path.join(self.store, "pioche.db"), query], check=True,
                             stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
        return json.loads(out) if out.strip() else []

    def poll(self, query):
        """Like sql, but no rows while there is no store yet (the shell would make
        an empty file, which is no store)."""
        if not os.path.exists(os.path.join(self.store, "pioche.db")):
            return []
        try:
            return self.sql(query)
        except subprocess.CalledProcessError:
            return []

    def table(self, experiment):
        """What a researcher compares: everything but timings, and what the machine did."""
        rows = []
        for run in self.pioche("ls", experiment, "--json", "--all").json:
            metrics = {k: v for k, v in run["metrics"].items()
                       if k != "tokens_per_s" and not k.startswith("sys/")}
            rows.append((str(sorted(run["params"].items())), run["status"], str(sorted(
                (k, sorted(v.items())) for k, v in metrics.items()))))
        return sorted(rows)

    def check_store(self):
        assert self.sql("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
        assert self.sql("PRAGMA foreign_key_check") == []


def kill_agent(pid):
    """An agent and its keeper at once, as when their machine loses power."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            keeper = int(f.read().rsplit(")", 1)[1].split()[1])
        os.kill(keeper, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
    except (OSError, IndexError):
        pass  # it has ended by itself


def ranks_of(project, program):
    """Pids of what runs this program as a rank for the project."""
    found = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/environ", "rb") as f:
                environ = f.read()
            with open(f"/proc/{name}/cmdline", "rb") as f:
                command = f.read().split(b"\0")[0]
        except OSError:
            continue
        if project.dir.encode() in environ and b"RANK=" in environ and command.endswith(b"/" + program.encode()):
            found.append(int(name))
    return sorted(found)


def seed_from(variable):
    """Chance that can be repeated: the seed is the variable's, or a new one, and printed."""
    seed = int(os.environ.get(variable, random.SystemRandom().randrange(1 << 31)))
    print(f"# {variable}={seed}")
    random.seed(seed)


def lines(count):
    """Some text to train on."""
    return "".join(f"{i} and the {i * i} words of line {i * 7919 % 1000}\n" for i in range(count))


def wait_for(condition, seconds=20, what="condition"):
    deadline = time.monotonic() + seconds * PATIENCE
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds * PATIENCE} s")


def main():
    module = sys.modules["__main__"]
    tests = [(n, f) for n, f in vars(module).items() if n.startswith("test_") and callable(f)]
    only = sys.argv[1:]
    if only == ["--list"]:
        print("\n".join(name for name, _ in tests))
        return
    failed = 0
    print(f"1..{len(tests)}")
    for number, (name, function) in enumerate(tests, 1):
        if only and name not in only:
            continue
        try:
            function()
            print(f"ok {number} - {name}", flush=True)
        except Skip as why:
            print(f"ok {number} - {name} # SKIP {why}", flush=True)
        except BaseException:  # a failing test must not hide the next one
            failed += 1
            print(f"not ok {number} - {name}")
            print("# " + traceback.format_exc().replace("\n", "\n# "), flush=True)
    sys.exit(1 if failed else 0)
