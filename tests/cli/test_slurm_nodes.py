#!/usr/bin/env python3
"""Nodes that are out of service, and nodes that are left out, on a real Slurm in a
box: what can wait for them waits, what never can run is refused."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from pod.project import PodProject, boxed  # noqa: E402


def set_state(box, node, state):
    box.run("scontrol", "update", f"nodename={node}", f"state={state}", "reason=a test")


def nodes_of(p, attempt):
    return [r["node"] for r in p.sql(f"SELECT DISTINCT node FROM rank WHERE attempt_id = {attempt} ORDER BY node")]


def test_a_node_that_is_down_is_waited_for():
    """A launch that needs it is queued, and runs when it is back; one that no node of the
    partition could ever make possible is refused, and told what there is."""
    with boxed(4) as box, PodProject(box) as p:
        set_state(box, "dgx-002", "DOWN")
        for launch, has in (
                ("nodes = 5", "partition batch has 4 nodes, and it needs 5"),
                ("nodes = 3, spares = 2", "partition batch has 4 nodes, and it needs 5"),
                ("nodes = 3, exclude = 'dgx-[001,003]'",
                 "partition batch has 4 nodes, of which a job like this could have 2, and it needs 3"),
                ("nodes = 1, ranks_per_node = 9, partition = 'urgent'",
                 "partition urgent has 4 nodes, of which a job like this could have 0, and it needs 1"),
                ("nodes = 4, partition = 'nope'", "allocation failure: Invalid partition name specified")):
            p.recipe(launch)
            refused = p.pioche("run", "recipe.lua", expect=1)
            assert has in refused.err and "recipe.lua:5: launch: Slurm refuses" in refused.err, refused.err
        assert not os.path.exists(p.store) and not box.jobs()
        p.recipe("nodes = 4", space="steps = 3")
        run = p.start("run", "recipe.lua")
        try:
            # A scheduler that is busy looks at a job a minute later.
            waiting = p.wait_attempt(lambda a: (a["reason"] or "").startswith(
                "ReqNodeNotAvail, UnavailableNodes:dgx-002, 4 nodes, job "), 100)
            assert waiting["status"] == "queued", waiting
            set_state(box, "dgx-002", "IDLE")
            _, err = run.communicate(timeout=240)
        finally:
            run.kill()
        assert run.returncode == 0, err
        assert [a["result"] for a in p.attempts()] == ["ok"] and nodes_of(p, 1) == box.nodes
        p.check_nothing_left()


def test_a_node_that_is_left_out():
    """It is left out while others do, whatever else is to be left out that is no node
    here; it is taken where the others are down."""
    with boxed(2) as box, PodProject(box) as p:
        p.recipe("nodes = 1", space="x = 1, steps = 3")
        p.pioche("run", "recipe.lua", timeout=240)
        p.pioche("nodes", "exclude", "dgx-001", "laptop")
        done = p.pioche("run", "recipe.lua", "x=2", timeout=240)
        assert "cannot be left out" not in done.err and nodes_of(p, 2) == ["dgx-002"], done.err
        set_state(box, "dgx-002", "DOWN")
        done = p.pioche("run", "recipe.lua", "x=3", timeout=240)
        assert "pod-3: dgx-001, laptop cannot be left out: allocation failure: Requested node" in done.err, done.err
        assert nodes_of(p, 3) == ["dgx-001"]
        p.check_nothing_left()


if __name__ == "__main__":
    harness.main()
