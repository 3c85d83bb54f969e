#!/usr/bin/env python3
"""What runs the tests tells the truth of them: a fault is not run away from."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import ROOT, Project  # noqa: E402

# It fails once, and passes from then on.
ONCE = """echo 1..1
if mkdir "%s"; then echo "%s"; echo "not ok 1 - it"; exit 1; fi
echo "ok 1 - it"
"""


def run(p, *names):
    done = subprocess.run([sys.executable, os.path.join(ROOT, "tests", "run"), *(p.path(n) for n in names)], env=p.env,
                          capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


def test_what_passes_at_the_second_try_is_named():
    with Project(git=False) as p:
        p.write("once.sh", ONCE % (p.path("mark"), "late"))
        status, lines = run(p, "once.sh")
        assert status == 0 and lines[-1] == "1 passed, 0 failed, 0 skipped", lines
        assert f"unsteady {p.path('once.sh')}: it" in lines, lines


def test_what_a_sanitizer_or_a_signal_tells_is_a_fault():
    with Project(git=False) as p:
        for i, words in enumerate(("==1==ERROR: AddressSanitizer: heap-use-after-free", "a.c:1:2: runtime error: shift",
                                   "WARNING: ThreadSanitizer: data race")):
            p.write("once.sh", ONCE % (p.path(f"mark{i}"), words))
            status, lines = run(p, "once.sh")
            assert status == 1 and lines[-1] == "0 passed, 1 failed, 0 skipped", (words, lines)
        p.write("crash.sh", f"""ulimit -c 0; mkdir "{p.path('mark')}" && kill -SEGV $$; echo 1..1; echo "ok 1 - it"\n""")
        status, lines = run(p, "crash.sh")
        assert status == 1 and f"failed {p.path('crash.sh')}: exit status -11" in lines, lines


def test_what_fails_twice_or_says_nothing_or_leaves_something_has_failed():
    with Project(git=False) as p:
        p.write("twice.sh", "echo 1..1; echo 'not ok 1 - it'; exit 1\n")
        p.write("silent.sh", "true\n")
        p.write("leaves.sh", "echo 1..1; echo 'ok 1 - it'; sleep 60 & touch \"$TMPDIR/file\"\n")
        status, lines = run(p, "twice.sh", "silent.sh", "leaves.sh")
        failed = [line for line in lines if line.startswith("failed ")]
        assert status == 1 and len(failed) == 4, lines
        for words in ("twice.sh: it", "silent.sh: said nothing", "leaves.sh: left processes behind: sleep 60",
                      "leaves.sh: left files behind: file"):
            assert any(words in line for line in failed), (words, failed)


if __name__ == "__main__":
    harness.main()
