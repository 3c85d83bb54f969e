#!/usr/bin/env python3
"""Random points with NaN payloads, infinities, denormals, extreme, late and equal steps, under very many
names, logged by a program in C and by one in Python: SQL, the loadable extension, charts, CSV, bundles and
reads from Python show the same of both, bit for bit. POINTS=1000000 logs a million from each, of 100,000 names."""
import csv
import io
import os
import random
import struct
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import BUILD, ROOT, Project  # noqa: E402
from test_sqlite import EXTENSION, environment  # noqa: E402
from test_values import bits_of, signed  # noqa: E402

POINTS = int(os.environ.get("POINTS") or 30000)
KEYS = POINTS // 10
RECORD = struct.Struct("=IIqQ")
HARD_BITS = [0x7ff8000000000000, 0xfff8000000000001, 0x7ff0000000000001, 0x7ff7ffffffffffff, 0x7ff0000000000000,
             0xfff0000000000000, 0x8000000000000000, 0, 1, 0x800fffffffffffff, 0x0010000000000000,
             0x7fefffffffffffff, 0x3fb999999999999a, 0x36a0000000000000, 0x380fffffc0000000]
HARD_STEPS = [-2**63, -2**63 + 1, -1, 0, 2**53 + 1, 2**63 - 2, 2**63 - 1]
harness.seed_from("EXACT_SEED")

LOG = """
import struct, sys, pioche
run = pioche.init(sys.argv[1])
log, real = run.log, struct.Struct("=d").unpack
with open(sys.argv[2], "rb") as f:
    for key, whole, step, bits in struct.iter_unpack("=IIqQ", f.read()):
        value = (bits - (bits >> 63 << 64)) if whole else real(bits.to_bytes(8, sys.byteorder))[0]
        log({"key/%06d" % key: value}, step=step)
run.finish()
"""

READ = """
import array, sys, pioche
for key in sys.argv[1:]:
    both = [pioche.read(run + "-1", key) for run in ("c", "python")]
    for points in both:
        for i, step in enumerate(points.step):
            value = points.value[i]
            bits = value & (1 << 64) - 1 if isinstance(value, int) else int.from_bytes(
                array.array("d", [value]).tobytes(), sys.byteorder)
            print(key, step, bits, int(isinstance(value, int)))
"""


def random_records(draw):
    """Three quarters of them of few keys, the rest of any."""
    for i in range(POINTS):
        kind = draw.randrange(16)
        key = draw.randrange(8) if kind % 4 else draw.randrange(KEYS)
        step = (draw.choice(HARD_STEPS) if kind == 0 else draw.getrandbits(64) - 2**63 if kind == 1
                else draw.randrange(100) if kind == 2 else i // 32 + draw.randrange(3))
        kind = draw.randrange(8)
        bits = (draw.choice(HARD_BITS) if kind == 0 else draw.getrandbits(64) if kind == 1
                else 0x7ff << 52 | draw.getrandbits(12) if kind == 2 else draw.getrandbits(40) if kind == 3
                else int.from_bytes(struct.pack("<d", draw.uniform(-10, 10)), "little"))
        yield key, int(key == 3 or draw.randrange(16) == 0), step, bits


def logged_twice(p):
    """The records as they come back: by key, then by step, then in the order logged."""
    records = list(random_records(random))
    with open(p.path("records"), "wb") as f:
        f.write(b"".join(RECORD.pack(*record) for record in records))
    program = p.path("log exact")
    subprocess.run(["cc", "-std=gnu11", "-O1", "-I" + os.path.join(ROOT, "core"), "-o", program,
                    os.path.join(ROOT, "tests", "cli", "log_exact.c"), os.path.join(BUILD, "lib", "libpioche.a"),
                    "-lpthread", "-lm"], check=True)
    python = [sys.executable, p.write("log.py", LOG)]
    for command in ([program, "c", "records", str(KEYS)], [*python, "python", "records"]):
        subprocess.run(command, cwd=p.dir, env=p.env, check=True)
    p.pioche("ls")
    return sorted(records, key=lambda r: (r[0], r[2]))


def sql_of(run):
    """`bits` is NULL where the value is a whole number."""
    return ("SELECT key, step, typeof(bits) = 'null' AS whole, coalesce(bits, value) AS bits FROM point"
            f" WHERE run = '{run}-1' ORDER BY key, step")


def by_extension(p, run):
    return subprocess.run(["sqlite3", "-batch", "-readonly", "-csv", "-header", "-cmd",
                           f".load '{EXTENSION[:-3]}'", os.path.join(p.store, "pioche.db"), sql_of(run)],
                          check=True, capture_output=True, text=True, env=environment(p),
                          stdin=subprocess.DEVNULL).stdout.replace("\r\n", "\n")


def csv_of_bundle(p, run):
    p.pioche("export", run + "-1", "-o", run + ".tar")
    with tarfile.open(p.path(run + ".tar")) as tar:
        text = tar.extractfile(run + "-1/data/run/metrics.csv").read().decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[0] == ["key", "rank", "step", "time_ns", "value"]
    return rows[1:]


def check_csv(p, want):
    both = [[(key, step, value) for key, _, step, _, value in csv_of_bundle(p, run)] for run in ("c", "python")]
    assert both[0] == both[1]
    for (key, whole, step, bits), (name, shown, value) in zip(want, both[0], strict=True):
        assert (name, int(shown)) == (f"key/{key:06d}", step)
        assert (int(value) == signed(bits)) if whole else (bits_of(value) == bits), (name, step, value, hex(bits))


def real_of(whole, bits):
    return float(signed(bits)) if whole else struct.unpack("=d", bits.to_bytes(8, sys.byteorder))[0]


def check_charts(p, want):
    for key in (0, 3, 7):
        mine = [r for r in want if r[0] == key]
        drawn = [p.pioche("chart", run + "-1", "-m", f"key/{key:06d}", "--buckets", "60", "--json").json[0]
                 for run in ("c", "python")]
        assert drawn[0]["buckets"] == drawn[1]["buckets"] and drawn[0]["count"] == len(mine)
        for bucket in drawn[0]["buckets"]:
            inside = [real_of(w, b) for _, w, s, b in mine if bucket["first_step"] <= s <= bucket["last_step"]]
            finite = [v for v in inside if v - v == 0]
            assert bucket["count"] == len(inside), bucket
            assert not finite or (bucket["min"], bucket["max"]) == (min(finite), max(finite)), bucket


def test_what_c_and_python_log_is_the_same_everywhere():
    library = harness.python_library()
    with Project(git=False) as p:
        p.env["PYTHONPATH"] = library
        want = logged_twice(p)
        text = "key,step,whole,bits\n" + "".join(f"key/{key:06d},{step},{whole},{signed(bits)}\n"
                                                 for key, whole, step, bits in want)
        for run in ("c", "python"):
            assert p.pioche("sql", "--csv", sql_of(run)).out == text, run
            assert by_extension(p, run) == text, run
        check_csv(p, want)
        check_charts(p, want)
        keys = [0, 3, 5, next(r[0] for r in want if r[0] > 100)]
        read = subprocess.run([sys.executable, "-c", READ, *(f"key/{key:06d}" for key in keys)], cwd=p.dir, env=p.env,
                              check=True, capture_output=True, text=True).stdout
        assert read == "".join("".join(f"key/{k:06d} {s} {b} {w}\n" for k, w, s, b in want if k == key) * 2
                               for key in keys)
        p.check_store()


if __name__ == "__main__":
    harness.main()
