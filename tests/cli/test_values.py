#!/usr/bin/env python3
"""Values and names come back bit for bit through every way out of the store."""
import csv
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project, ROOT, BUILD  # noqa: E402

# The same lists as in log_values.c.
VALUES = [0x7ff8000000000000, 0x7ff8000000000123, 0xfff8000000000001, 0x7ff0000000000001,
          0x7ff0000000000000, 0xfff0000000000000, 0x8000000000000000, 0, 1, 0x800fffffffffffff,
          0x3fb999999999999a, 0x7fefffffffffffff]
STEPS = [-2**63, -1, 0, 1, 2, 3, 4, 5, 6, 2**52 + 1, 2**53 + 1, 2**63 - 1]
NAMES = ["plain", "with space", "quote\"s and 'apostrophes'", "line\nbreak", "comma,semicolon;tab\t",
         "é€🔨", "percent%20 {brace} [1] $(x) `y` \\ /", "k" * 4096]
POINTS = list(zip(STEPS, VALUES))


def signed(bits):
    return bits - 2**64 if bits >= 2**63 else bits


def real(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


def bits_of(text):
    """The double that a text of metrics.csv stands for, as strtod reads it."""
    sign, digits = (1 << 63, text[1:]) if text[0] == "-" else (0, text)
    if digits.startswith("nan"):
        payload = int(digits[4:-1], 16) if "(" in digits else 1 << 51
        return sign | 0x7ff << 52 | payload
    return struct.unpack("<Q", struct.pack("<d", float(text)))[0]


def logged(project, *args):
    """Compile log_values against libpioche.a and run it in the project."""
    program = project.path("log values")
    flags = ["-fsanitize=" + os.environ["SAN"]] if os.environ.get("SAN") else []
    subprocess.run(["cc", "-std=gnu11", "-I" + os.path.join(ROOT, "core"), *flags, "-o", program,
                    os.path.join(ROOT, "tests", "cli", "log_values.c"),
                    os.path.join(BUILD, "lib", "libpioche.a"), "-lpthread", "-lm"], check=True)
    done = subprocess.run([program, *args], cwd=project.dir, env=project.env, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    project.pioche("ls")


def check_sql(p):
    """The stock shell on series and param; the point table inside pioche sql."""
    series = p.sql("SELECT key, count, nans, finite, first_step, last_step, last FROM series ORDER BY id")
    assert [s["key"] for s in series] == NAMES
    for s in series:
        assert (s["count"], s["nans"], s["finite"]) == (12, 4, 6), s
        assert (s["first_step"], s["last_step"]) == (STEPS[0], STEPS[-1]) and s["last"] == real(VALUES[-1])
    params = p.sql("SELECT name, value, kind, bits FROM param ORDER BY name")
    by_name = {row["name"]: row for row in params}
    assert len(params) == len(NAMES) + 3
    for name in NAMES:
        assert by_name[name]["value"] == name and by_name[name]["kind"] == "text", name
    assert (by_name["real"]["value"], by_name["real"]["bits"]) == (0.0, -2**63), by_name["real"]
    assert by_name["denormal"]["value"] == 5e-324 and by_name["large"]["value"] == 2**63 - 1
    for name in NAMES:
        text = name.replace("'", "''")
        rows = p.pioche("sql", f"SELECT step, bits FROM point WHERE run = 'hard-1' AND key = '{text}'",
                        "--json").json
        assert [(r["step"], r["bits"]) for r in rows] == [(s, signed(v)) for s, v in POINTS], name
        assert p.pioche("sql", "SELECT count(*) AS n FROM point WHERE key = '" + text + "' AND step = "
                        "9007199254740993", "--json").json == [{"n": 1}]


def check_runs(p):
    shown = p.pioche("show", "hard-1", "--json").json
    assert sorted(shown["metrics"]) == sorted(NAMES)
    for name in NAMES:
        m = shown["metrics"][name]
        assert (m["count"], m["first_step"], m["last_step"]) == (12, STEPS[0], STEPS[-1]), m
        assert (m["last"], m["min"], m["max"]) == (real(VALUES[-1]), "-Infinity", "Infinity"), m
        assert shown["params"][name] == name
    assert str(shown["params"]["real"]) == "-0.0" and shown["params"]["denormal"] == 5e-324
    assert shown["params"]["large"] == 2**63 - 1
    header, line = list(csv.reader(io.StringIO(p.pioche("ls", "--csv").out)))
    row = dict(zip(header, line))
    for name in NAMES:
        assert row["param." + name] == name and float(row["metric." + name]) == real(VALUES[-1])
    assert row["param.large"] == "9223372036854775807" and str(float(row["param.real"])) == "-0.0"
    assert float(row["param.denormal"]) == 5e-324


def check_charts(p):
    for name in NAMES:
        charts = p.pioche("chart", "hard-1", "-m", name, "--buckets", "100000", "--json").json
        assert (charts[0]["metric"], charts[0]["count"]) == (name, 12)
        buckets = charts[0]["buckets"]
        assert buckets[0]["first_step"] == STEPS[0] and buckets[-1]["last_step"] == STEPS[-1]
        assert sum(b["count"] for b in buckets) == 12
        last = buckets[-1]
        assert (last["min"], last["max"], last["mean"]) == (real(VALUES[-1]),) * 3, last


def check_bundle(p):
    p.pioche("export", "hard-1", "-o", "x.tar")
    with tarfile.open(p.path("x.tar")) as tar:
        text = tar.extractfile("hard-1/data/run/metrics.csv").read().decode()
        config = json.load(tar.extractfile("hard-1/data/run/config.json"))
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[0] == ["key", "rank", "step", "time_ns", "value"]
    found = {}
    for key, rank, step, _, value in rows[1:]:
        found.setdefault(key, []).append((int(step), bits_of(value)))
        assert rank == "0"
    assert found == {name: POINTS for name in NAMES}
    assert {name: config["params"][name] for name in NAMES} == {name: name for name in NAMES}
    assert "good" in p.pioche("verify", "x.tar").out


def test_bit_for_bit():
    """NaN payloads, infinities, -0.0, denormals, extreme steps and hard names, by every command."""
    with Project(git=False) as p:
        logged(p)
        p.check_store()
        check_sql(p)
        check_runs(p)
        check_charts(p)
        check_bundle(p)
        for verb in (["ls"], ["show", "hard-1"], ["compare"], ["chart", "hard-1", "-m", "plain"]):
            p.pioche(*verb)
        p.check_store()


def test_an_interrupted_export_leaves_nothing_in_the_store():
    with Project(git=False) as p:
        logged(p)
        before = sorted(os.listdir(p.path(".pioche/staging")))
        for n in (1, 2, 3):
            p.pioche("export", "hard-1", "-o", "x.tar", env={"PIOCHE_FS_FAULT": f"w:{n}:0"}, expect=137)
            assert sorted(os.listdir(p.path(".pioche/staging"))) == before
        p.pioche("export", "hard-1", "-o", "x.tar")
        assert not os.path.exists(p.path("x.tar.part"))


def test_standalone_runs_as_they_were():
    """Times are those of the program, not of its adoption; how it ended is no event."""
    with Project(git=False) as p:
        before = time.time_ns()
        logged(p, "curve", "3.5")
        after = time.time_ns()
        time.sleep(0.05)
        run = p.sql("SELECT r.status, r.created_ns, r.started_ns, r.ended_ns, a.created_ns AS a1, a.started_ns"
                    " AS a2, a.ended_ns AS a3 FROM run r JOIN attempt a ON a.run_id = r.id")[0]
        assert run["status"] == "finished"
        assert before <= run["created_ns"] == run["started_ns"] == run["a1"] == run["a2"] <= after, run
        assert run["started_ns"] < run["ended_ns"] == run["a3"] <= after, run
        shown = p.pioche("show", "curve-1", "--events").out
        assert "all is well" in shown and '{"' not in shown and "\nsummary\n  best" in shown, shown
        assert [e["kind"] for e in p.pioche("show", "curve-1", "--events", "--json").json["events"]] == ["note"]


def test_chart_names_the_best_first():
    with Project(git=False) as p:
        for last in ("3.5", "9", "1.5", "2.5"):
            logged(p, "curve", last)
        p.sql("UPDATE experiment SET goal_key = 'loss', goal = 'minimize'")
        legend = [line.split()[1] for line in p.pioche("chart", "curve").out.splitlines() if " last " in line]
        assert legend == ["curve-3", "curve-4", "curve-1", "curve-2"], legend
        p.sql("UPDATE experiment SET goal = 'maximize'")
        legend = [line.split()[1] for line in p.pioche("chart", "curve").out.splitlines() if " last " in line]
        assert legend == ["curve-1", "curve-4", "curve-3", "curve-2"], legend  # curve-2 failed


if __name__ == "__main__":
    harness.main()
