"""A drill amid a run of the experiment `d`, and what has to come of it."""
import contextlib
import sys

from harness import Skip, wait_for

REPORTS = []


@contextlib.contextmanager
def underway(p, recipe, *words):
    """`pioche run` from its fourth checkpoint on; behind the block the run is over, whoever
    supervised it last."""
    run = p.start("run", recipe, *words)
    try:
        wait_for(lambda: p.poll("SELECT 1 FROM checkpoint WHERE step >= 40"), 180, "a checkpoint")
        yield
        wait_for(lambda: p.poll("SELECT 1 FROM run WHERE status IN ('finished', 'failed')"), 300, "the end")
    finally:
        if run.poll() is None and not p.poll("SELECT 1 FROM run WHERE status = 'finished'"):
            run.kill()
        run.communicate(timeout=60)
    wait_for(lambda: not p.poll("SELECT 1 FROM attempt WHERE state != 'ended'"), 60, "the attempts' end")
    p.pioche("supervise", "--stop")


def check_as_undisturbed(p, reference, recipe, *words, attempts):
    """The run ended as if nothing had happened: with the table `reference`."""
    assert len(p.sql("SELECT 1 FROM attempt")) == attempts, p.sql("SELECT * FROM attempt")
    assert p.table("d") == reference, "the metrics differ from an undisturbed run's"
    assert "nothing to do" in p.pioche("run", recipe, *words).err
    p.check_store()
    p.pioche("verify")


def drilled(p, reference, kind, *options, recipe="r.lua", detected=(), attempts=2):
    """The drill is noticed, and the run goes on. Returns what the drill reported."""
    with underway(p, recipe):
        said = p.pioche("drill", kind, "--yes", "--json", *options, timeout=300, expect=None)
        assert said.status == 0, (said.out, said.err)
        report = said.json
        assert report["recovered"] and report["kind"] == kind and report["attempt"] == 1, report
        for part in detected:
            assert part in report["detected"], report
    assert p.sql("SELECT kind FROM event WHERE kind = 'drill'"), "the drill is on record"
    check_as_undisturbed(p, reference, recipe, attempts=attempts)
    REPORTS.append(report)
    return report


def print_table(functions):
    """What the drills of these tests notice after how long; what fails or cannot be done
    here is left out, with the reason on standard error."""
    print("| drill | noticed after | went on after | what was noticed |\n|---|---|---|---|")
    for function in functions:
        REPORTS.clear()
        try:
            function()
        except (Skip, AssertionError) as why:
            print(f"left out: {function.__name__[5:]}: {why}", file=sys.stderr)
        for r in REPORTS:
            noticed = "not noticed" if r["detected_s"] is None else f"{r['detected_s']:.1f} s"
            print(f"| `{r['kind']}` | {noticed} | {r['recovered_s']:.1f} s | {r['detected'] or ''} |", flush=True)
