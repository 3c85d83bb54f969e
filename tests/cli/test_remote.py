#!/usr/bin/env python3
"""Runs and what they saved travel through a directory, or through S3 by rclone: only
what is missing, nothing half, nothing that is not what its name says."""
import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
import hostile  # noqa: E402
import venvs  # noqa: E402
from harness import Project, Skip  # noqa: E402

OTHER = "01ARZ3NDEKTSV4RRFFQ69G5FB0"


def bundle(ulid, data, step=5):
    """A run with a checkpoint of one file."""
    text = hostile.manifest(run=ulid, step=step, files=[{"rank": 0, "role": "model", "bytes": len(data),
                                                         "sha256": hostile.sha256(data)}])
    row = {"attempt": 1, "step": step, "manifest_sha256": hostile.sha256(text), "writers": 1, "bytes": len(data),
           "fsyncs": 1, "stall_ns": 1, "created_ns": 1}
    return hostile.run_bag(hostile.records(run_ulid=ulid, checkpoints=[row]), **{
        "checkpoint.json": text, "model/model.safetensors": data})


def project():
    """gpt-1 and gpt-2, whose checkpoints share no file."""
    p = Project(git=False)
    for name, ulid, data in (("a.tar", hostile.ULID, hostile.weights()),
                             ("b.tar", OTHER, hostile.tensors(w=(0, 100000)))):
        with open(p.path(name), "wb") as f:
            f.write(bundle(ulid, data))
        p.pioche("import", name)
    return p


def other_store(p, name):
    os.makedirs(p.path(name), exist_ok=True)
    return {"cwd": p.path(name), "env": {"PIOCHE_STORE": p.path(name + "/.pioche")}}


def files(root):
    return sorted(os.path.relpath(os.path.join(d, f), root) for d, _, names in os.walk(root) for f in names)


def ids(p, **where):
    return [(r["id"], r["ulid"]) for r in sorted(p.pioche("ls", "--json", "--all", **where).json,
                                                key=lambda r: r["id"])]


def check_round(p, place, count):
    """Everything arrives in another store; again is nothing; what is named alone."""
    sent = p.pioche("push", place, "--json").json
    assert [(s["id"], s["sent"], s["objects"]) for s in sent] == [("gpt-1", True, 1), ("gpt-2", True, 1)], sent
    assert count() == 2
    again = p.pioche("push", place).out
    assert again == "gpt-1  as before\ngpt-2  as before\n", again
    there = other_store(p, "there")
    dry = p.pioche("pull", place, "--dry-run", "--json", **there).json
    assert [(d["id"], d["taken"], d["objects"]) for d in dry] == [("gpt-1", True, 1), ("gpt-2", True, 1)], dry
    got = p.pioche("pull", place, "gpt-2", "--json", **there).json
    assert [(g["id"], g["taken"], g["checkpoints"]) for g in got] == [("gpt-2", True, 1)], got
    assert ids(p, **there) == [("gpt-2", OTHER)]
    p.pioche("pull", place, **there)
    assert ids(p, **there) == [("gpt-1", hostile.ULID), ("gpt-2", OTHER)]
    assert p.pioche("pull", place, **there).out == "gpt-1  as before\ngpt-2  as before\n"
    assert p.pioche("verify", **there).out.count("good: 2 objects") == 1
    assert os.listdir(p.path("there/.pioche/staging")) == []


def test_a_directory():
    with project() as p:
        check_round(p, p.path("lab"), lambda: len(files(p.path("lab/objects"))))
        assert not [f for f in files(p.path("lab")) if "part" in f]
        for name in files(p.path("lab/objects")):
            with open(p.path("lab/objects/" + name), "rb") as f:
                assert hostile.sha256(f.read()) == os.path.basename(name)
        for name in files(p.path("lab/runs")):
            if name.endswith(".tar"):
                p.pioche("verify", p.path("lab/runs/" + name))


def test_a_name_of_the_project():
    with project() as p:
        p.write("pioche.lua", 'return { remotes = { lab = "some where/lab" } }')
        p.pioche("push", "lab", "gpt-1")
        assert len(files(p.path("some where/lab/runs"))) == 2
        err = p.pioche("push", "laboratory", expect=1).err
        assert "no remote 'laboratory': expected a name in `remotes` of pioche.lua" in err, err
        p.write("pioche.lua", 'return { remotes = { lab = "rclone:--config=x:y" } }')
        err = p.pioche("push", "lab", expect=1).err
        assert "rclone:NAME:PATH" in err and "pioche.lua" in err, err
        os.unlink(p.path("pioche.lua"))
        err = p.pioche("pull", "./none", expect=1).err
        assert "there is no such directory" in err, err
        os.makedirs(p.path("empty"))
        assert "there are no runs in the remote" in p.pioche("pull", "./empty").err
        assert "no run 'gpt-9' in the remote" in p.pioche("pull", "./some where/lab", "gpt-9", expect=1).err


def test_records_first_weights_later():
    with project() as p:
        p.pioche("push", "./lab")
        there = other_store(p, "there")
        p.pioche("pull", p.path("lab"), "gpt", "--no-weights", **there)
        assert len(ids(p, **there)) == 2 and files(p.path("there/.pioche/objects")) == []
        got = p.pioche("pull", p.path("lab"), "--json", **there).json
        assert [g["checkpoints"] for g in got] == [1, 1] and len(files(p.path("there/.pioche/objects"))) == 2, got


def test_records_that_changed_take_the_place_of_the_old():
    with project() as p:
        p.pioche("push", "./lab", "gpt-1")
        before = files(p.path("lab/runs"))
        p.pioche("tag", "gpt-1", "phase=second")
        sent = p.pioche("push", "./lab", "gpt-1", "--json").json[0]
        after = files(p.path("lab/runs"))
        assert (sent["sent"], sent["objects"]) == (True, 0), sent
        assert len(after) == 2 and not set(before) & set(after), (before, after)


def test_what_is_not_what_its_name_says_goes_nowhere():
    with project() as p:
        p.pioche("push", "./lab")
        lab = p.path("lab/objects")
        first = next(f for f in files(lab) if os.path.getsize(os.path.join(lab, f)) < 1000)
        path = os.path.join(lab, first)
        os.chmod(path, 0o644)
        with open(path, "r+b") as f:
            f.seek(-1, os.SEEK_END)
            f.write(b"X")
        there = other_store(p, "there")
        result = p.pioche("pull", p.path("lab"), expect=1, **there)
        assert "has other bytes than its name says" in result.err and "gpt-1" in result.err, result.err
        # The other run is taken all the same; of this one there is nothing.
        assert ids(p, **there) == [("gpt-2", OTHER)] and len(files(p.path("there/.pioche/objects"))) == 1
        assert os.listdir(p.path("there/.pioche/staging")) == []
        # Damage at home does not leave it.
        shutil.rmtree(p.path("lab"))
        mine = os.path.join(p.store, "objects", first)
        os.chmod(mine, 0o644)
        with open(mine, "r+b") as f:
            f.seek(-1, os.SEEK_END)
            f.write(b"X")
        assert "has other bytes" in p.pioche("push", "./lab", "gpt-1", expect=1).err
        assert files(p.path("lab")) == []


def test_killed_anywhere_it_goes_on():
    with project() as p:
        n, there = 1, other_store(p, "there")
        while True:
            result = p.pioche("push", "./lab", expect=None, env={"PIOCHE_FS_FAULT": f"wsru:{n}:0"})
            # What has its name is whole, and what a bundle needs is there before it.
            for name in files(p.path("lab/objects")) if os.path.isdir(p.path("lab/objects")) else []:
                if not name.endswith(".part"):
                    with open(p.path("lab/objects/" + name), "rb") as f:
                        assert hostile.sha256(f.read()) == os.path.basename(name), n
            if os.path.isdir(p.path("lab")):
                shutil.rmtree(p.path("there/.pioche"), ignore_errors=True)
                p.pioche("pull", p.path("lab"), **there)
                p.pioche("verify", **there)
            if result.status == 0:
                break
            assert result.status == 137, (n, result.status, result.err)
            n += 7
        assert n > 20 and ids(p, **there) == [("gpt-1", hostile.ULID), ("gpt-2", OTHER)], n
        assert not [f for f in files(p.path("lab")) if f.endswith(".part")]


def fetched(p):
    """Whole objects that a pull which is gone had fetched: their paths, by digest."""
    found = glob.glob(glob.escape(p.path("there/.pioche/staging")) + "/*/objects/*/*")
    return {os.path.basename(f): f for f in found if len(os.path.basename(f)) == 64}


def check_left(p, there, damaged):
    """What was fetched is not asked of the remote again, unless it is not what its name says;
    an import in between leaves it alone."""
    p.pioche("import", p.path("c.tar"), **there)
    (name, path), *_ = fetched(p).items()
    place = p.path(f"lab/objects/{name[:2]}/{name}")
    if damaged:
        os.chmod(path, 0o644)
        with open(path, "r+b") as f:
            f.seek(-1, os.SEEK_END)
            f.write(b"X")
    else:
        os.rename(place, place + ".away")
    said = p.pioche("pull", p.path("lab"), **there).err
    assert ("of an interrupted pull were there already" in said) != damaged, said
    if not damaged:
        os.rename(place + ".away", place)


def test_a_pull_that_was_killed_goes_on():
    with project() as p:
        p.pioche("push", "./lab")
        with open(p.path("c.tar"), "wb") as f:
            f.write(bundle("01ARZ3NDEKTSV4RRFFQ69G5FC0", hostile.tensors(w=(0, 400)), step=6))
        n, went_on = 1, 0
        while True:
            there = other_store(p, "there")
            fault = dict(there["env"], PIOCHE_FS_FAULT=f"wsru:{n}:0")
            status = p.pioche("pull", p.path("lab"), cwd=there["cwd"], env=fault, expect=None).status
            whole = len(fetched(p)) > 0
            if whole:
                check_left(p, there, damaged=went_on % 2 == 1)
                went_on += 1
            elif status == 137:
                p.pioche("pull", p.path("lab"), **there)
            pulled = [one for one in ids(p, **there) if one[1] in (hostile.ULID, OTHER)]
            assert len(pulled) == 2 and p.pioche("verify", **there).status == 0, (n, pulled)
            assert os.listdir(p.path("there/.pioche/staging")) == [], n
            shutil.rmtree(p.path("there"))
            if status == 0:
                break
            assert status == 137, (n, status)
            n += 3
        assert went_on >= 2, (n, went_on)


# ---- rclone --------------------------------------------------------------------------------

def moto(p):
    """An S3 server of this test's own, and rclone's configuration for it."""
    if not shutil.which("rclone"):
        raise Skip("rclone is not installed")
    python = venvs.python_with("moto[s3,server]", name="moto", check="import moto.server, moto.s3.urls")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = subprocess.Popen([python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=5).close()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, "no S3 server"
            time.sleep(0.1)
    p.write("rclone.conf", f"[box]\ntype = s3\nprovider = Other\naccess_key_id = key-of-test\n"
            f"secret_access_key = secret-of-test\nendpoint = http://127.0.0.1:{port}\n", 0o600)
    p.env["RCLONE_CONFIG"] = p.path("rclone.conf")
    p.env["NO_PROXY"] = p.env["no_proxy"] = "127.0.0.1"
    p.env.pop("AWS_CA_BUNDLE", None) # rclone 1.60 speaks to no S3 at all where it is set
    return process


def test_what_came_before_the_line_went_dead_is_kept_whatever_comes_after():
    if not shutil.which("rclone"):
        raise Skip("rclone is not installed")
    with project() as p:
        p.pioche("push", "./lab")
        p.write("rclone.conf", "[disk]\ntype = local\n", 0o600)
        # What it copies first arrives, and it fails all the same.
        p.write("bin/rclone", f"""#!/bin/sh
{shutil.which("rclone")} "$@" || exit
if [ "$1" = copy ] && mkdir "{p.path("failed")}" 2> /dev/null; then echo 'the line is dead' >&2; exit 5; fi
""", 0o755)
        for network in (False, True):
            there = other_store(p, "there")
            there["env"].update(RCLONE_CONFIG=p.path("rclone.conf"), PATH=p.path("bin") + ":" + os.environ["PATH"])
            if network:
                there["env"]["PIOCHE_FS"] = "network"
            first = p.pioche("pull", f"rclone:disk:{p.path('lab')}", expect=3, **there)
            assert "the line is dead" in first.err and len(ids(p, **there)) == 1, first.err
            staging = p.path("there/.pioche/staging")
            assert len(os.listdir(staging)) == (0 if network else 1), "on a network disk there are no heirs"
            again = p.pioche("pull", f"rclone:disk:{p.path('lab')}", **there)
            assert ("of an interrupted pull were there already" in again.err) is not network, again.err
            assert len(ids(p, **there)) == 2 and os.listdir(staging) == []
            shutil.rmtree(p.path("there"))
            shutil.rmtree(p.path("failed"))


def test_s3_by_rclone():
    with project() as p:
        server = moto(p)
        try:
            p.sh("rclone mkdir box:bucket")
            place = "rclone:box:bucket/lab"
            check_round(p, place, lambda: len(p.sh("rclone lsf -R --files-only box:bucket/lab/objects").split()))
            # An object that was cut off in the storage is sent again; one with other bytes is not taken.
            small = hostile.sha256(hostile.weights())
            p.sh(f"printf short | rclone rcat box:bucket/lab/objects/{small[:2]}/{small}")
            assert p.pioche("push", place, "gpt-1", "--json").json[0]["objects"] == 1
            damaged = hostile.weights()[:-1] + b"X"
            with open(p.path("damaged"), "wb") as f:
                f.write(damaged)
            p.sh(f"rclone copyto damaged box:bucket/lab/objects/{small[:2]}/{small}")
            shutil.rmtree(p.path("there/.pioche"))
            result = p.pioche("pull", place, "gpt-1", expect=1, **other_store(p, "there"))
            assert f"object {small} came with other bytes" in result.err, result.err
            # Keys are in rclone's file, and in nothing of ours.
            held = subprocess.run(["grep", "-rlE", "secret-of-test|key-of-test", p.store, p.path("there")],
                                  capture_output=True, text=True).stdout
            assert held == "", held
            err = p.pioche("push", "rclone:nowhere:x", expect=3).err
            assert "rclone lsf failed" in err, err
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=30)


harness.main()
