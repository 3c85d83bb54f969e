#!/usr/bin/env python3
"""Run every benchmark five times, print one table, write build/bench.json.

A benchmark is build/bench/bench_* or tests/bench/bench_*.py; it prints JSON
objects, one a line: {"name", "value", "unit", "goal", "limit", "peer"}. `limit` is what
the machine could do at best, measured in the same run; `peer` the same figure
of another tool. The table shows the median with minimum and maximum."""
import glob
import json
import os
import statistics
import subprocess
import sys

BUILD = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "build")
HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS = int(os.environ.get("ROUNDS", "5"))


def programs():
    yield from ([p] for p in sorted(glob.glob(os.path.join(BUILD, "bench", "bench_*")))
                if os.access(p, os.X_OK) and not p.endswith(".d"))
    yield from ([sys.executable, p] for p in sorted(glob.glob(os.path.join(HERE, "bench_*.py"))))


def rounds_of(command):
    env = dict(os.environ, PIOCHE_BUILD=BUILD, PYTHONPATH=os.path.join(BUILD, "lib", "pioche"))
    found, skipped = {}, set()
    for _ in range(ROUNDS):
        done = subprocess.run(command, capture_output=True, text=True, env=env)
        if done.returncode:
            print(f"{command[-1]} failed:\n{done.stderr}", file=sys.stderr)
            return None
        for line in done.stdout.splitlines():
            if line.startswith("{"):
                row = json.loads(line)
                found.setdefault(row["name"], []).append(row)
        skipped.update(l for l in done.stderr.splitlines() if l.startswith("skipped"))
    for line in sorted(skipped):
        print(line)
    return found


def number(value):
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def main():
    results, broken = [], False
    for command in programs():
        found = rounds_of(command)
        broken = broken or found is None
        for name, rows in (found or {}).items():
            median = sorted(rows, key=lambda r: r["value"])[len(rows) // 2]
            values = [r["value"] for r in rows]
            peers = [r["peer"] for r in rows if r.get("peer") is not None]
            limits = [r["limit"] for r in rows if r.get("limit") is not None]
            results.append({
                "name": name, "value": statistics.median(values), "unit": median["unit"],
                "goal": median.get("goal"),
                "limit": statistics.median(limits) if limits else None,
                "peer": statistics.median(peers) if peers else None,
                "min": min(values), "max": max(values)})
    print(f"{'what':42} {'median':>12} {'min':>12} {'max':>12} {'goal':>12} {'limit':>12} "
          f"{'to limit':>9} {'peer':>12} {'to peer':>8}  unit")
    for r in results:
        to_limit = f"{r['value'] / r['limit']:.2f}" if r["limit"] else "-"
        to_peer = f"{r['value'] / r['peer']:.2f}" if r["peer"] else "-"
        print(f"{r['name']:42} {number(r['value']):>12} {number(r['min']):>12} "
              f"{number(r['max']):>12} {number(r['goal']):>12} {number(r['limit']):>12} "
              f"{to_limit:>9} {number(r['peer']):>12} {to_peer:>8}  {r['unit']}")
    with open(os.path.join(BUILD, "bench.json"), "w", encoding="utf-8") as f:
        json.dump(results, f, indent=1)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
