#!/usr/bin/env python3
"""`run.py BUILD`: run every benchmark, print the tables, write BUILD/bench.json.

A benchmark is BUILD/bench/bench_* or tests/bench/bench_*.py. It prints JSON
objects, one a line: {"name", "value", "unit", "goal", "limit", "peer"}, null
where unknown. `limit` is what the machine could do at best, measured in the
same run; `peer` is the best of the other tools, and `peers` all of them by
name. What cannot be measured is {"name", "value": null, "why"}, or a line on
standard error that begins with "skipped".

Each runs ROUNDS times (5), and the tables show the median with minimum and
maximum. $BENCH_SCRATCH is a directory that all share until the end, for what
is slow to make. FILTER=text runs the benchmarks whose name has the text; SHORT=1
runs once, on smaller things."""
import glob
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

BUILD = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "build")
HERE = os.path.dirname(os.path.abspath(__file__))
SHORT = bool(os.environ.get("SHORT"))
ROUNDS = int(os.environ.get("ROUNDS") or (1 if SHORT else 5))
FILTER = os.environ.get("FILTER", "")
MORE_IS_BETTER = ("/s",)


def programs():
    """Those in C with a source here: an old executable may lie in the build."""
    for source in sorted(glob.glob(os.path.join(HERE, "bench_*"))):
        name, kind = os.path.splitext(os.path.basename(source))
        if FILTER in name and kind == ".c":
            yield name, [os.path.join(BUILD, "bench", name)]
        elif FILTER in name and kind == ".py":
            yield name, [sys.executable, source]


def rounds_of(name, command, scratch):
    """{row's name: its rows}; rows that could not be measured have no value."""
    env = dict(os.environ, PIOCHE_BUILD=BUILD, BENCH_SCRATCH=scratch,
               PYTHONPATH=os.path.join(BUILD, "lib", "pioche"))
    env.pop("SHORT", None)
    if SHORT:
        env["SHORT"] = "1"
    found, skipped = {}, set()
    for done_rounds in range(ROUNDS):
        print(f"{name}, round {done_rounds + 1} of {ROUNDS}", file=sys.stderr)
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
        for line in done.stdout.splitlines():
            if line.startswith("{"):
                row = json.loads(line)
                found.setdefault(row["name"], []).append(row)
        skipped.update(line for line in done.stderr.splitlines() if line.startswith("skipped"))
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            found.setdefault(name, []).append({"name": name, "value": None, "why": why})
            break
    for line in sorted(skipped):
        print(line, file=sys.stderr)
    return found


def median_of(rows, field):
    values = [row[field] for row in rows if row.get(field) is not None]
    return statistics.median(values) if values else None


def summary(name, rows):
    values = [row["value"] for row in rows if row["value"] is not None]
    if not values:
        return {"name": name, "value": None, "unit": None, "goal": None, "limit": None, "peer": None,
                "why": rows[0].get("why", "no reason given")}
    peers = sorted({peer for row in rows for peer in row.get("peers") or ()})
    return {"name": name, "value": statistics.median(values), "unit": rows[0]["unit"],
            "goal": median_of(rows, "goal"), "limit": median_of(rows, "limit"),
            "peer": median_of(rows, "peer"), "min": min(values), "max": max(values),
            "rounds": len(values),
            **({"peers": {peer: median_of([row["peers"] for row in rows], peer) for peer in peers}}
               if peers else {})}


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def is_met(row):
    if row["goal"] is None:
        return ""
    more = row["unit"].endswith(MORE_IS_BETTER)
    return "yes" if (row["value"] >= row["goal"] if more else row["value"] <= row["goal"]) else "no"


def ratio(row, other):
    """How many times `other` the value is, or how many times better than a peer."""
    return f"{row['value'] / other:.3g}" if other else "-"


def times_better(row, peer):
    if peer is None or not row["value"] or not peer:
        return "-"
    more = row["unit"].endswith(MORE_IS_BETTER)
    return f"{row['value'] / peer if more else peer / row['value']:.3g}"


def print_table(lines):
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(w) if i in (0, len(line) - 1) else cell.rjust(w)
                        for i, (cell, w) in enumerate(zip(line, widths))).rstrip())


def print_tables(results):
    measured = [row for row in results if row["value"] is not None]
    if measured:
        print_table([("what", "median", "min", "max", "goal", "met", "limit", "to limit", "peer",
                      "better", "unit")] +
                    [(row["name"], number(row["value"]), number(row["min"]), number(row["max"]),
                      number(row["goal"]), is_met(row), number(row["limit"]),
                      ratio(row, row["limit"]), number(row["peer"]), times_better(row, row["peer"]),
                      row["unit"]) for row in measured])
    beside = [row for row in measured if row.get("peers")]
    names = sorted({peer for row in beside for peer in row["peers"]})
    if beside:
        print("\nside by side")
        print_table([("what", "pioche", *names, "unit")] +
                    [(row["name"], number(row["value"]),
                      *(number(row["peers"].get(peer)) for peer in names), row["unit"])
                     for row in beside])
    for row in results:
        if row["value"] is None:
            print(f"\nnot measured: {row['name']}: {row['why']}")


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")),
                     "processor unknown")
    return f"{os.cpu_count()} cores of {model}, load {' '.join(f'{x:.2f}' for x in os.getloadavg())}"


def main():
    results, begin = [], time.monotonic()
    before = machine()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the scratch goes with us
    scratch = tempfile.mkdtemp(prefix="pioche-bench-")
    try:
        for name, command in programs():
            for row_name, rows in rounds_of(name, command, scratch).items():
                results.append(summary(row_name, rows))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print_tables(results)
    print(f"\n{before}; after {time.monotonic() - begin:.0f} s: {machine().split(', ')[-1]}")
    with open(os.path.join(BUILD, "bench.json"), "w", encoding="utf-8") as f:
        json.dump(results, f, indent=1)
    return 1 if any(row["value"] is None for row in results) or not results else 0


if __name__ == "__main__":
    sys.exit(main())
