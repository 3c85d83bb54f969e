#!/usr/bin/env python3
"""pioche_sqlite.so gives stock SQLite what `pioche sql` has: the sqlite3 shell and
Debian's Python, on a store that they may only read."""
import hashlib
import json
import os
import random
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
import peers  # noqa: E402
from harness import BUILD, Project, Skip  # noqa: E402
from test_values import NAMES, logged  # noqa: E402

EXTENSION = os.path.join(BUILD, "lib", "pioche", "pioche_sqlite.so")
PYTHON = "/usr/bin/python3"  # a Python that was built without loadable extensions cannot

QUERIES = [
    "SELECT run, key, rank, attempt, step, typeof(value) AS type, value, bits FROM point WHERE run = 'hard-1'"
    " AND key = 'plain'",
    "SELECT key, count(*) AS n, sum(bits % 1000003) AS bits FROM point GROUP BY key ORDER BY key",
    "SELECT step, bits FROM point WHERE run IN ('hard-1', 'no-1') AND key GLOB 'p*' AND rank = 0 AND step"
    " BETWEEN -1 AND 6 ORDER BY key, step",
    "SELECT step FROM point WHERE run = 'hard-1' AND key = 'plain' AND rank = 0 ORDER BY step DESC LIMIT 3",
    "SELECT first_step, last_step, count, printf('%!.17g', min) AS min, printf('%!.17g', max) AS max,"
    " printf('%!.17g', mean) AS mean FROM series_lod('curve-1', 'loss', 4)",
    "SELECT step, printf('%!.17g', smooth(value, 0.9) OVER (ORDER BY step)) AS smooth FROM point WHERE"
    " run = 'curve-1' AND key = 'loss'",
    "SELECT printf('%!.17g', area_under(step, value)) AS area, printf('%!.17g', quantile(value, 0.3)) AS q"
    " FROM point WHERE run = 'curve-1'",
    "SELECT s.key, count(p.step) AS n FROM series s JOIN run r ON r.id = s.run_id JOIN experiment e ON"
    " e.id = r.experiment_id JOIN point p ON p.run = e.name || '-' || r.number AND p.key = s.key AND"
    " p.rank = s.rank GROUP BY s.key ORDER BY s.key",
]


def environment(project):
    env = dict(project.env)
    if os.environ.get("SAN"):  # the sanitizers' run time must come first; the hosts themselves leak
        env["LD_PRELOAD"] = " ".join(subprocess.check_output(
            ["gcc", "-print-file-name=" + n], text=True).strip() for n in ("libasan.so", "libubsan.so"))
        env["ASAN_OPTIONS"] = "detect_leaks=0"
    return env


def shell(p, query, *options, expect=0):
    done = subprocess.run(["sqlite3", "-batch", *options, "-json", "-cmd", f".load '{EXTENSION[:-3]}'",
                           os.path.join(p.store, "pioche.db"), query],
                          capture_output=True, text=True, env=environment(p), stdin=subprocess.DEVNULL)
    assert (done.returncode == 0) == (expect == 0), done.stderr
    if expect:
        return done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else []


def python(p, query):
    program = ("import json, sqlite3, sys\n"
               "db = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)\n"
               "db.enable_load_extension(True)\n"
               "db.load_extension(sys.argv[2])\n"
               "rows = db.execute(sys.argv[3])\n"
               "names = [d[0] for d in rows.description]\n"
               "print(json.dumps([dict(zip(names, row)) for row in rows]))\n"
               "db.close()\n")
    if not os.access(PYTHON, os.X_OK):
        raise Skip(PYTHON)
    done = subprocess.run([PYTHON, "-c", program, os.path.join(p.store, "pioche.db"), EXTENSION, query],
                          capture_output=True, text=True, env=environment(p))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def strict(rows):
    """NaN is NULL and infinities have no JSON: as the shell writes them, as pioche does, as Python does."""
    words = {"Infinity": float("inf"), "-Infinity": float("-inf")}
    return [{k: words.get(v, v) if k == "value" else v for k, v in row.items()} for row in rows]


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def filled(p):
    logged(p)
    logged(p, "curve", "3.5")


def test_the_same_answers_as_pioche_sql():
    with Project(git=False) as p:
        filled(p)
        database = os.path.join(p.store, "pioche.db")
        before = digest(database)
        for query in QUERIES:
            ours = strict(p.pioche("sql", query, "--json").json)
            assert ours, query
            assert strict(shell(p, query)) == ours, (query, shell(p, query), ours)
            assert strict(shell(p, query, "-readonly")) == ours, query
            assert strict(python(p, query)) == ours, (query, python(p, query), ours)
        assert len(ours) == len(NAMES) + 1
        assert digest(database) == before


def test_plans_and_errors_are_the_same_too():
    with Project(git=False) as p:
        filled(p)
        plan = "EXPLAIN QUERY PLAN SELECT value FROM point WHERE run = 'a-1' AND key = 'b' AND rank = 0 ORDER BY step"
        done = subprocess.run(["sqlite3", "-batch", "-cmd", f".load '{EXTENSION[:-3]}'",
                               os.path.join(p.store, "pioche.db"), plan],
                              capture_output=True, text=True, env=environment(p), stdin=subprocess.DEVNULL)
        assert "SCAN point VIRTUAL TABLE INDEX 0:run =, key =, rank =, by step" in done.stdout, done
        assert "TEMP B-TREE" not in done.stdout
        error = "quantile: q is 2, expected a number from 0 to 1"
        assert error in shell(p, "SELECT quantile(1, 2)", expect=1)
        assert error in p.pioche("sql", "SELECT quantile(1, 2)", expect=1).err


NUMPY = """
import json, sys
import numpy as np
told = json.load(open(sys.argv[1]))
step, value = (np.array(told[name], float) for name in ("step", "value"))
order = np.argsort(step, kind="stable")
step, value = step[order], value[order]
near = lambda a, b: np.allclose(a, b, rtol=1e-12, atol=1e-13)
known = ~np.isnan(value)
for q, found in told["quantile"]:
    assert near(found, np.quantile(value[known], q)), ("quantile", q, found)
area = getattr(np, "trapezoid", None) or np.trapz
assert near(told["area"], area(value[known], step[known])), ("area_under", told["area"])
n = np.arange(1, known.sum() + 1)
for alpha, found in told["smooth"]:  # Kingma and Ba (2015), algorithm 1: m of n values, without its bias
    weights = np.tril((1 - alpha) * np.power(alpha, np.maximum(n[:, None] - n[None, :], 0.0)))
    assert near(found, weights @ value[known] / (1 - np.power(alpha, n))), ("smooth", alpha)
print(json.dumps("same"))
"""


def test_aggregates_are_those_of_numpy():
    """quantile, area_under and smooth, of steps that come in any order and with NaNs between."""
    harness.seed_from("SQL_SEED")
    with Project(git=False) as p:
        steps = random.sample(range(-1000, 5000), 700)
        values = [float("nan") if i % 50 == 7 else random.uniform(-1, 1) * 10 ** random.randrange(-3, 4)
                  for i in range(len(steps))]
        p.write("log.py", "import json, pioche\nwith pioche.init('n') as run:\n    for step, value in zip(*json.load("
                "open('points'))):\n        run.log({'v': value}, step=step)\n")
        p.write("points", json.dumps([steps, values]))
        subprocess.run([sys.executable, "log.py"], cwd=p.dir, check=True,
                       env=dict(p.env, PYTHONPATH=harness.python_library()))
        p.pioche("ls")

        def column(expression):
            rows = p.pioche("sql", "--json", f"SELECT {expression} AS x FROM point WHERE run = 'n-1' ORDER BY step").json
            return [row["x"] for row in rows]
        told = {"step": steps, "value": values, "area": column("area_under(step, value)")[0],
                "quantile": [[q, column(f"quantile(value, {q!r})")[0]]
                             for q in (0, 1, 0.5, 0.25, 0.999, *(random.random() for _ in range(8)))]}
        shown = [v for _, v in sorted(zip(steps, values))]
        told["smooth"] = [[alpha, [s for s, v in zip(column(f"smooth(value, {alpha}) OVER (ORDER BY step)"), shown)
                                   if v == v]] for alpha in (0, 0.5, 0.9, 0.999)]
        p.write("told", json.dumps(told))
        peers.run(p, ["numpy"], NUMPY, "told")


def test_it_needs_no_more_than_its_host_has():
    """SQLite comes from the host, which may have its own copy compiled in; of pioche nothing else is needed."""
    undefined = subprocess.run(["nm", "-D", "--undefined-only", EXTENSION], check=True, capture_output=True,
                               text=True).stdout
    assert " sqlite3_" not in undefined and " lua" not in undefined and " git_" not in undefined, undefined
    defined = subprocess.run(["nm", "-D", "--defined-only", EXTENSION], check=True, capture_output=True,
                             text=True).stdout.split()
    if not os.environ.get("SAN"):
        assert [n for n in defined if not n.startswith("0") and len(n) > 1] == ["sqlite3_piochesqlite_init"]
    for library in (EXTENSION, EXTENSION.replace("_sqlite.so", "_read.so")):
        needed = subprocess.run(["ldd", library], check=True, capture_output=True, text=True).stdout
        assert not [w for w in ("lua", "git2", "archive", "jansson", "libuv") if w in needed], needed


def test_a_database_that_is_no_store():
    with Project(git=False) as p:
        os.mkdir(p.store)
        assert "no such table" in shell(p, "SELECT * FROM point", expect=1)


if __name__ == "__main__":
    harness.main()
