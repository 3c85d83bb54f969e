"""A drill amid a run of the experiment `d`, and what has to come of it."""
from harness import wait_for


def drilled(p, reference, kind, *options, recipe="r.lua", detected=(), attempts=2, saved=40):
    """The drill is noticed, the run goes on, and ends as if nothing had happened: with
    the table `reference`. Returns what the drill reported."""
    run = p.start("run", recipe)
    try:
        wait_for(lambda: p.poll(f"SELECT 1 FROM checkpoint WHERE step >= {saved}"), 180, "a checkpoint")
        said = p.pioche("drill", kind, "--yes", "--json", *options, timeout=300, expect=None)
        assert said.status == 0, (said.out, said.err)
        report = said.json
        assert report["recovered"] and report["kind"] == kind and report["attempt"] == 1, report
        for part in detected:
            assert part in report["detected"], report
        wait_for(lambda: p.poll("SELECT 1 FROM run WHERE status IN ('finished', 'failed')"), 300, "the end")
    finally:
        if run.poll() is None and not p.poll("SELECT 1 FROM run WHERE status = 'finished'"):
            run.kill()
        run.communicate(timeout=60)
    wait_for(lambda: not p.poll("SELECT 1 FROM attempt WHERE state != 'ended'"), 60, "the attempts' end")
    p.pioche("supervise", "--stop")
    assert len(p.sql("SELECT 1 FROM attempt")) == attempts, p.sql("SELECT * FROM attempt")
    assert p.sql("SELECT kind FROM event WHERE kind = 'drill'"), "the drill is on record"
    assert p.table("d") == reference, "the metrics differ from an undisturbed run's"
    assert "nothing to do" in p.pioche("run", recipe).err
    p.check_store()
    p.pioche("verify")
    return report
