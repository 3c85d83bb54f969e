#!/usr/bin/env python3
"""What ranks wrote: in the order of the times in it, as it grows, over attempts,
of 1,016 ranks, and only what is asked for."""
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project, wait_for  # noqa: E402

RECIPE = """
local pioche = require "pioche"
return pioche.sweep {{ name = "w", retry = {{ attempts = {attempts}, backoff_s = 1 }},
  program = pioche.program {{ command = {{ "sh", "program.sh" }}, sources = {{ "program.sh" }} }},
  launch = {{ ranks_per_node = {ranks} }} }}
"""


def project(program, ranks=1, attempts=1):
    p = Project()
    p.write("program.sh", program)
    p.write("r.lua", RECIPE.format(ranks=ranks, attempts=attempts))
    return p


def fabricated(ranks, files):
    """A store with one ended attempt of `ranks`, and these files of it."""
    p = project("exit 0\n")
    p.pioche("run", "r.lua")
    folder = os.path.join(p.store, p.sql("SELECT dir FROM attempt")[0]["dir"])
    p.sql(f"UPDATE attempt SET world_size = {ranks}")
    for name, text in files.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            f.write(text)
    return p


def test_lines_of_several_ranks_are_in_the_order_of_their_times():
    with fabricated(3, {
        "rank-0.out": "no time yet\n2026-11-29 20:00:01,500 a\nTraceback\n  more\n2026-11-29 20:00:04 b\n",
        "rank-1.out": "INFO 2026-11-29T20:00:02.25Z c\n[2026-11-29 21:00:03+01:00] d\n",
        "rank-1.err": "2026-11-29 20:00:01.750 e\n",
        "rank-2.out": "never any time\n",
    }) as p:
        lines = p.pioche("logs", "w-1").out.splitlines()
        assert lines == ["[0] no time yet", "[2] never any time", "[0] 2026-11-29 20:00:01,500 a",
                         "[0] Traceback", "[0]   more", "[1 err] 2026-11-29 20:00:01.750 e",
                         "[1] INFO 2026-11-29T20:00:02.25Z c", "[1] [2026-11-29 21:00:03+01:00] d",
                         "[0] 2026-11-29 20:00:04 b"], lines
        assert p.pioche("logs", "w-1", "--rank", "1,2", "--stdout", "--tail", "1").out.splitlines() == [
            "[2] never any time", "[1] [2026-11-29 21:00:03+01:00] d"]
        assert p.pioche("logs", "w-1", "--rank", "1-2", "--grep", "c$|^never").out.splitlines() == [
            "[2] never any time", "[1] INFO 2026-11-29T20:00:02.25Z c"]
        assert p.pioche("logs", "w-1", "--rank", "0", "--grep", "TRACE", "-i").out == "Traceback\n"
        assert p.pioche("logs", "w-1", "--rank", "0", "--grep", "TRACE").out == ""
        asked = p.pioche("logs", "w-1", "--rank", "1-2", "--grep", "e", "--stderr", "--json").json
        assert asked == [{"rank": 1, "stream": "stderr", "attempt": 1,
                          "lines": ["2026-11-29 20:00:01.750 e"]}], asked


def test_1016_ranks_are_merged_with_few_files_open():
    files = {f"rank-{r}.{s}": "".join(
        f"2026-11-29 20:{m:02d}:{r % 60:02d} {s} {r}\n" for m in range(3))
        for r in range(1016) for s in ("out", "err")}
    with fabricated(1016, files) as p:
        out = subprocess.run(["bash", "-c", 'ulimit -n 128; exec "$0" logs w-1', harness.PIOCHE], cwd=p.dir,
                             env=p.env, stdin=subprocess.DEVNULL, check=True, capture_output=True,
                             text=True).stdout.splitlines()
        assert len(out) == 1016 * 6
        times = [line.split("] ", 1)[1][:19] for line in out]
        assert times == sorted(times)
        assert p.pioche("logs", "w-1", "--rank", "371", "--tail", "1").out.splitlines() == [
            "2026-11-29 20:02:11 out 371", "2026-11-29 20:02:11 err 371"]


def test_following_goes_over_attempts_and_ends_with_the_run():
    with project('echo "attempt $PIOCHE_ATTEMPT of $RANK"; printf "no newline"; sleep 0.5\n'
                 "exit $((PIOCHE_ATTEMPT < 3))\n", ranks=2, attempts=3) as p:
        run = p.start("run", "r.lua")
        wait_for(lambda: p.poll("SELECT 1 FROM attempt"))
        followed = p.pioche("logs", "w-1", "--follow", "--attempt", "1").out.splitlines()
        assert sorted(followed) == ["[0] attempt 1 of 0", "[0] no newline", "[1] attempt 1 of 1",
                                    "[1] no newline"], followed
        late = p.pioche("logs", "w-1", "--follow")
        assert run.wait(60) == 0, run.communicate()
        run.communicate()
        assert late.out.splitlines()[-1] in ("[0] no newline", "[1] no newline")
        assert late.out.count("attempt 3 of 0") == 1 and late.out.count("attempt 3 of 1") == 1, late.out
        assert late.err.endswith("w-1: attempt 3\n"), late.err
        assert p.pioche("logs", "w-1", "--follow").out == p.pioche("logs", "w-1").out


def test_a_file_that_grows_fast_is_followed_byte_by_byte():
    with project("i=0; while [ $i -lt 20 ]; do seq 1 100000; i=$((i + 1)); done; printf end\n") as p:
        run = p.start("run", "r.lua")
        wait_for(lambda: p.poll("SELECT 1 FROM attempt"))
        followed = p.pioche("logs", "w-1", "--follow").out
        run.communicate(timeout=60)
        assert followed == "".join(f"{i}\n" for i in range(1, 100001)) * 20 + "end\n"


def test_following_ends_where_nobody_supervises():
    with project("echo hello; sleep 60\n") as p:
        run = p.start("run", "r.lua")
        wait_for(lambda: p.poll("SELECT 1 FROM attempt WHERE state = 'running'"))
        agent = p.sql("SELECT agent_pid FROM attempt")[0]["agent_pid"]
        run.send_signal(signal.SIGKILL)
        run.communicate()
        followed = p.pioche("logs", "w-1", "--follow", timeout=90)
        assert followed.out == "hello\n"
        assert followed.err == ("w-1 is running, and nobody supervises it: `pioche supervise` goes on"
                                " with it\n"), followed.err
        assert not os.path.exists(f"/proc/{agent}")


harness.main()
