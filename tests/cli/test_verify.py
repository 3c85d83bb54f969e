#!/usr/bin/env python3
"""`pioche verify` names what is damaged: the object, the bytes, the tensors, the
rank and its role, and the checkpoints; and what a kill cut short goes on."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import GPT, Project  # noqa: E402

RECIPE = """local pioche = require "pioche"
return pioche.sweep {
  name = "tiny",
  program = pioche.program { command = { "%s" }, inputs = { text = "text.txt" } },
  space = { width = 16, heads = 2, depth = 1, context = 32, batch = 8, steps = 12,
            ["save-every"] = 6, ["sample-bytes"] = 0 },
  goal = pioche.minimize "val/loss",
  keep = { last = 2 },
}
"""


def project():
    p = Project()
    p.write("recipe.lua", RECIPE % GPT)
    p.write("text.txt", harness.lines(3000))
    p.sh("git add -A && git commit -qm start")
    p.pioche("run", "recipe.lua")
    return p


def flip(p, sha, at):
    path = os.path.join(p.store, "objects", sha[:2], sha)
    os.chmod(path, 0o644)
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1]))
    os.chmod(path, 0o444)


def test_a_finding_names_all_that_it_touches():
    with project() as p:
        files = p.sql("SELECT c.step, f.sha256, o.bytes FROM checkpoint c JOIN checkpoint_file f ON"
                      " f.checkpoint_id = c.id JOIN object o USING (sha256) WHERE f.role = 'model'"
                      " ORDER BY c.step")
        assert [f["step"] for f in files] == [6, 12], files
        first, sha, size = files[0]["sha256"], files[1]["sha256"], files[1]["bytes"]
        tensors = [r["name"] for r in p.sql(f"SELECT name FROM tensor WHERE sha256 = '{sha}'"
                                            " ORDER BY offset, name")]
        assert "good: " in p.pioche("verify", "tiny-1").out
        flip(p, sha, size - 1)
        assert p.pioche("verify", "--quick").status == 0
        line = (f"bad: object {sha} has other bytes than its name says: bytes 0 to {size - 1} of {size}, in"
                f" its header, {tensors[0]}, {tensors[1]} and {len(tensors) - 2} more tensors; rank 0's"
                " model of tiny-1 at step 12")
        assert line in p.pioche("verify", "tiny-1", expect=1).out.splitlines()

        damage = p.pioche("verify", "--json", expect=1).json[0]
        assert not damage["ok"] and len(damage["findings"]) == 1
        found = damage["damage"][0]
        assert found["object"] == sha and found["ranges"] == [[0, size]]
        assert found["tensors"] == ["its header"] + tensors
        assert [(c["run"], c["step"], c["rank"], c["role"]) for c in found["checkpoints"]] \
            == [("tiny-1", 12, 0, "model")]
        told = [c for c in p.pioche("doctor", "--json", expect=1).json if c["check"] == "objects"]
        assert len(told) == 1 and told[0]["state"] == "bad" and sha in told[0]["message"], told

        flip(p, sha, size - 1)
        os.makedirs(os.path.join(p.store, "objects", "00"), exist_ok=True)
        p.write(".pioche/objects/00/left", "by a crash")
        result = p.pioche("verify")
        assert "note: left in objects/ belongs to nothing" in result.out and "; 1 orphan of" in result.out
        assert p.pioche("verify", "--json").json[0]["orphans"] == ["left"]
        told = [c for c in p.pioche("doctor", "--json", expect=1).json if c["check"] == "objects"]
        assert [c["state"] for c in told] == ["warn"] and "1 file in objects/" in told[0]["message"], told
        halves = [p.pioche("verify", "--sample", f"{n}/2", "--json").json[0]["files"] for n in (1, 2)]
        assert sum(halves) == p.sql("SELECT count(*) AS n FROM object")[0]["n"]

        # A pass of which the first object is done: a store of before that was killed.
        p.sh("sqlite3 .pioche/pioche.db \"INSERT INTO verification (part, parts, cursor, objects, bytes,"
             " begun_ns) SELECT 1, 1, min(sha256), 1, 5, 1 FROM object\"")
        assert "; 1 of them by a pass that began " in p.pioche("verify").out
        assert "of them by a pass" not in p.pioche("verify").out
        os.unlink(os.path.join(p.store, "objects", first[:2], first))
        result = p.pioche("verify", "--quick", "tiny-1", expect=1)
        assert f"bad: object {first} is missing; rank 0's model of tiny-1 at step 6" in result.out


def test_a_checkpoint_found_bad_is_not_resumed_from():
    """The first attempt saves all it has and fails; the second starts from the newest
    checkpoint that is sound, and saves what is bad anew."""
    with Project() as p:
        failing = 'command = { "sh", "-c", [["%s" "$@" && test -e "%s"]], "gpt" }' % (GPT, p.path("go"))
        p.write("recipe.lua", RECIPE.replace('command = { "%s" }', failing))
        p.write("text.txt", harness.lines(3000))
        p.write(".gitignore", "go\n")
        p.sh("git add -A && git commit -qm start")
        p.pioche("run", "recipe.lua", expect=1)
        newest = p.sql("SELECT c.step, f.sha256, o.bytes FROM checkpoint c JOIN checkpoint_file f ON"
                       " f.checkpoint_id = c.id JOIN object o USING (sha256) ORDER BY c.step DESC,"
                       " f.role LIMIT 1")[0]
        assert newest["step"] == 12
        flip(p, newest["sha256"], newest["bytes"] - 1)
        p.pioche("verify", "tiny-1", expect=1)
        before = p.sql("SELECT max(number) AS n FROM attempt")[0]["n"]
        sound = p.sql("SELECT manifest_sha256 AS m FROM checkpoint WHERE step = 6")
        p.sh("touch go")
        p.pioche("run", "recipe.lua")
        begun = p.sql(f"SELECT resume_checkpoint AS m FROM attempt WHERE number = {before + 1}")
        assert begun == sound, (begun, sound)
        told = [r["message"] for r in p.sql("SELECT message FROM event WHERE kind = 'checkpoint.unsound'")]
        assert len(told) == 1 and told[0].startswith("the checkpoint of step 12 is passed over: rank 0's "), told
        assert told[0].endswith("has other bytes than its name says; step 6 is the newest sound one"), told
        p.pioche("verify")


def test_wrong_usage():
    with Project() as p:
        for args, said in ((["--sample", "3/2"], "expected n/t, as 1/10"),
                           (["--sample", "ten"], "expected n/t, as 1/10"),
                           (["--quick", "--full"], "exclude each other"),
                           (["--quick", "--anew"], "always begins anew"),
                           (["--quick", "x.tar"], "a bundle is always read whole")):
            assert said in p.pioche("verify", *args, expect=2).err, args


harness.main()
