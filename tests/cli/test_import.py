#!/usr/bin/env python3
"""What other trackers wrote comes in exactly once, whole, and as it grows; what
goes out, TensorBoard's own reader reads."""
import base64
import contextlib
import os
import random
import signal
import sqlite3
import struct
import sys
import time
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
import peers
from harness import Project, wait_for

# ---- event files by hand -------------------------------------------------------------

CRC = []
for i in range(256):
    for _ in range(8):
        i = i >> 1 ^ 0x82f63b78 if i & 1 else i >> 1
    CRC.append(i)


def masked(data):
    crc = 0xffffffff
    for byte in data:
        crc = CRC[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xffffffff
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff)


def varint(n):
    out = b""
    while n >= 128:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def scalar(tag, step, value, when=1700000000.0):
    v = b"\x0a" + varint(len(tag)) + tag.encode() + b"\x15" + struct.pack("<f", value)
    s = b"\x0a" + varint(len(v)) + v
    event = b"\x09" + struct.pack("<d", when) + b"\x10" + varint(step) + b"\x2a" + varint(len(s)) + s
    head = struct.pack("<Q", len(event))
    return head + masked(head) + event + masked(event)


def write(path, data, mode="wb"):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, mode) as f:
        f.write(data)


def decoded(p, run, key):
    """(step, value, seconds) of a series, through pioche."""
    rows = p.pioche("sql", "--json", "SELECT step, value, time_ns FROM point WHERE run = "
                    f"'{run}' AND key = '{key}' ORDER BY step").json
    return [(r["step"], number(r["value"]), r["time_ns"] / 1e9) for r in rows]


def number(value):
    return float({"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}.get(value, value)) \
        if isinstance(value, str) else value


def same(a, b):
    return a == b or (a != a and b != b)


# ---- without any peer ------------------------------------------------------------------

def test_a_tree_is_searched_and_known_again():
    """each directory of event files is one run, also the second time"""
    with Project(git=False) as p:
        for name in ("a", "b/c", ".hidden"):
            write(p.path(f"logs/{name}/events.out.tfevents.1.h"), scalar("loss", 1, 0.5))
        os.symlink("a", p.path("logs/again"))
        first = p.pioche("import", "logs", "--json").json
        assert [(r["id"], r["new"], r["points"]) for r in first["runs"]] == [
            ("logs-1", True, 1), ("logs-2", True, 1)], first
        write(p.path("logs/a/events.out.tfevents.1.h"), scalar("loss", 2, 0.25), "ab")
        again = p.pioche("import", "logs/", p.path("logs/a"), "--json").json
        assert [(r["id"], r["new"], r["points"]) for r in again["runs"]] == [
            ("logs-1", False, 1), ("logs-2", False, 0)], again
        assert decoded(p, "logs-1", "loss") == [(1, 0.5, 1.7e9), (2, 0.25, 1.7e9)]
        names = p.sql("SELECT value FROM tag WHERE name = 'name' ORDER BY run_id")
        assert [r["value"] for r in names] == ["a", "b/c"]
        text = p.pioche("import", "logs").out
        assert "2 runs as before: nothing in" in text, text
        p.check_store()


def test_experiment_dry_run_and_csv():
    """--experiment names it, --dry-run counts and writes nothing"""
    with Project(git=False) as p:
        write(p.path("x.tfevents.1"), scalar("a", 1, 1) * 3)
        dry = p.pioche("import", "x.tfevents.1", "--dry-run", "--json").json
        assert dry["dry_run"] and dry["runs"][0]["points"] == 3 and dry["runs"][0]["id"] is None
        assert not os.path.exists(p.store)
        out = p.pioche("import", "x.tfevents.1", "-e", "mine", "--csv").out.splitlines()
        assert out[0].startswith("run,format,source,new") and out[1].startswith("mine-1,tensorboard,")
        assert p.pioche("import", "x.tfevents.1", "--dry-run", "--json").json["runs"][0]["points"] == 0
        assert "would take 1 run as before" in p.pioche("import", "x.tfevents.1", "-n").out


def test_bad_paths_are_named():
    """a clear message, exit status 1, and no store"""
    with Project(git=False) as p:
        p.write("empty/readme.txt", "nothing")
        p.write("x.wandb", "nothing of theirs")
        p.write("log.swanlab", ":SWL and more")
        for args, words in (
                (["none"], "no such file or directory"),
                (["empty"], "neither event files of TensorBoard"),
                (["x.wandb"], "neither event files of TensorBoard"),
                (["x.wandb", "--format", "wandb"], "byte 0 should begin"),
                (["log.swanlab"], "SwanLab"),
        ):
            got = p.pioche("import", *args, expect=1)
            assert words in got.err, (args, got.err)
        assert "expected 1 to 200 letters" in p.pioche("import", "empty", "-e", "a b", expect=1).err
        for args in ([], ["x", "--format", "aim"], ["x", "--follow", "--json"]):
            p.pioche("import", *args, expect=2)
        write(p.path("t.tfevents.1"), scalar("a", 1, 1))
        p.pioche("import", "t.tfevents.1")
        both = p.pioche("import", "t.tfevents.1", "x.wandb", "--format", "wandb", expect=1)
        assert both.err.count("byte 0 should begin") == 2, both.err


def test_killed_at_any_moment_it_goes_on():
    """SIGKILL at 20 random times, then once more: each point is there once"""
    seed = int(os.environ.get("SEED", "7"))
    chance = random.Random(seed)
    print(f"# SEED={seed}")
    with Project(git=False) as p:
        block = b"".join(scalar("ab"[i % 2], i, i % 97) for i in range(2000))
        for part in range(4):
            write(p.path(f"logs/run/x.tfevents.{part}"), block * 400)
        want = 4 * 400 * 2000
        p.pioche("import", "logs", "--dry-run")
        killed = 0
        for _ in range(20):
            process = p.start("import", "logs")
            try:
                process.wait(chance.uniform(0.005, 0.35))
            except Exception:
                killed += 1
                process.send_signal(signal.SIGKILL)
            process.communicate()
            got = p.poll("SELECT coalesce(sum(count), 0) AS n FROM series")
            assert not got or got[0]["n"] <= want
        assert killed >= 3, killed
        p.pioche("import", "logs")
        assert p.sql("SELECT count(*) AS n FROM run") == [{"n": 1}]
        rows = p.sql("SELECT key, count, last_step, sum FROM series ORDER BY key")
        each = sum(i % 97 for i in range(0, 2000, 2)), sum(i % 97 for i in range(1, 2000, 2))
        assert [(r["key"], r["count"], r["sum"]) for r in rows] == [
            ("a", want // 2, each[0] * 1600), ("b", want // 2, each[1] * 1600)], rows
        assert p.sql("SELECT sum(count) AS n FROM chunk") == [{"n": want}]
        p.check_store()


def test_follow_takes_what_is_written_meanwhile():
    """--follow sees a file grow and a run appear, until it is interrupted"""
    with Project(git=False) as p:
        write(p.path("logs/a/x.tfevents.1"), scalar("a", 1, 1))
        follower = p.start("import", "logs", "--follow")
        try:
            wait_for(lambda: p.poll("SELECT 1 FROM run"), seconds=60, what="the first run")
            record = scalar("a", 2, 2)
            write(p.path("logs/a/x.tfevents.1"), record[:9], "ab")
            write(p.path("logs/b/x.tfevents.1"), scalar("a", 1, 1))
            wait_for(lambda: len(p.poll("SELECT 1 FROM run")) == 2, seconds=60, what="the second run")
            write(p.path("logs/a/x.tfevents.1"), record[9:], "ab")
            wait_for(lambda: p.poll("SELECT sum(count) AS n FROM series") == [{"n": 3}],
                     seconds=60, what="the third point")
        finally:
            follower.send_signal(signal.SIGINT)
            follower.communicate(timeout=20)
        p.check_store()


def test_two_importers_of_one_source_take_turns():
    """started at once, they bring each point once"""
    with Project(git=False) as p:
        write(p.path("logs/x.tfevents.1"), b"".join(scalar("a", i, i) for i in range(3000)) * 300)
        several = [p.start("import", "logs") for _ in range(4)]
        for process in several:
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
        assert p.sql("SELECT sum(count) AS n FROM series") == [{"n": 900000}]
        assert p.sql("SELECT count(*) AS n FROM run") == [{"n": 1}]
        p.check_store()


# ---- a log of W&B by hand -----------------------------------------------------------------


def field(number, body):
    return varint(number << 3 | 2) + varint(len(body)) + body


def item(key, text):
    return field(1, field(1, key.encode()) + field(16, text.encode()))


def wandb_log(*records):
    out = b":W&B\xe1\xbe\0"
    for record in records:
        assert 32768 - len(out) % 32768 > len(record) + 14
        out += struct.pack("<IHB", zlib.crc32(b"\1" + record), len(record), 1) + record
    return out


def test_death_before_any_operation_on_files():
    """console, a large image and points: all of them once, whatever died before"""
    with Project(git=False) as p:
        write(p.path("w/files/big.png"), b"\x89PNG\r\n\x1a\n" + bytes(100000))
        write(p.path("w/run-x.wandb"), wandb_log(
            field(17, field(1, b"x") + field(3, b"proj")),
            field(13, b"\x08\x01" + field(3, b"said\n")),
            field(2, item("_step", "4") + item("loss", "0.5")
                  + item("im", '{"_type": "image-file", "path": "big.png"}')),
            field(18, b"")))
        deaths = 0
        for n in range(1, 100):
            got = p.pioche("import", "w", env={"PIOCHE_FS_FAULT": f"wsru:{n}:0"}, expect=None)
            if got.status == 0:
                break
            assert got.status == 137, got.err
            deaths += 1
        assert deaths >= 6, deaths
        p.pioche("import", "w")
        assert p.sql("SELECT count, last FROM series") == [{"count": 1, "last": 0.5}]
        assert p.sql("SELECT count(*) AS n FROM media JOIN object USING (sha256)") == [{"n": 1}]
        assert p.pioche("logs", "proj-1").out == "said\n"
        assert os.listdir(os.path.join(p.store, "staging")) == []
        p.pioche("verify")
        p.check_store()


# ---- TensorBoard ------------------------------------------------------------------------

WRITE_TENSORBOARDX = """
import json, sys
import numpy as np
from tensorboardX import SummaryWriter
w = SummaryWriter("tb/run")
values = [0.1, -0.0, 1e-40, 3.4e38, float("nan"), float("inf"), -1.5]
for i, v in enumerate(values):
    w.add_scalar("train/loss", v, i * 10, walltime=1700000000.5 + i)
w.add_scalar("big_step", 1, 2**40, walltime=1700000000)
w.add_text("note", "hello **there** \\u00e9", 3, walltime=1700000001)
numbers = np.concatenate([np.random.RandomState(1).randn(1000), [0, 0, 5]])
w.add_histogram("weights", numbers, 4)
image = (np.random.RandomState(2).rand(3, 16, 24) * 255).astype("uint8")
w.add_image("picture", image, 5)
w.add_hparams({"lr": 0.1, "depth": 4, "act": "relu", "flag": True}, {"acc": 0.5}, name="hp", global_step=1)
w.close()
w = SummaryWriter("tb/run", purge_step=30, filename_suffix=".resumed")
w.add_scalar("train/loss", 7, 30, walltime=1700000100)
w.close()
"""

READ_TENSORBOARD = """
import base64, glob, json, sys
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util import tensor_util
out = {}
for path in sorted(glob.glob(sys.argv[1] + "/*tfevents*")):
    for event in EventFileLoader(path).Load():
        if not event.HasField("summary"):
            continue
        for value in event.summary.value:
            plugin = value.metadata.plugin_data.plugin_name
            if plugin == "hparams":
                continue
            array = tensor_util.make_ndarray(value.tensor)
            if array.dtype == object:
                got = [base64.b64encode(x).decode() for x in array.ravel()]
            else:
                got = [repr(float(x)) for x in array.ravel()]
            out.setdefault(value.tag, []).append([event.step, event.wall_time, got, plugin])
print(json.dumps(out))
"""


def theirs(p, directory):
    return peers.run(p, ["tensorboard"], READ_TENSORBOARD, directory)


def test_tensorboard_files_as_tensorboardx_writes_them():
    """scalars, text, histogram, image, hparams and a restart are what its reader sees"""
    with Project(git=False) as p:
        peers.run(p, ["PIL", "tensorboardX"], WRITE_TENSORBOARDX)
        got = p.pioche("import", "tb", "--json").json
        assert not got["failures"] and not got["passed_over"], got
        by_source = {os.path.basename(r["source"]): r["id"] for r in got["runs"]}
        seen = theirs(p, "tb/run")
        loss = {step: (float(v[0]), t) for step, t, v, _ in seen["train/loss"]}
        assert loss.pop(40) and loss.pop(50) and loss.pop(60)  # hidden by the restart
        ours = decoded(p, by_source["run"], "train/loss")
        assert [s for s, _, _ in ours] == sorted(loss), ours
        for step, value, when in ours:
            assert same(value, loss[step][0]) and abs(when - loss[step][1]) < 1e-6, (step, value, when)
        assert decoded(p, by_source["run"], "big_step")[0][:2] == (2**40, 1.0)
        text = p.sql("SELECT key, step, message FROM event WHERE kind = 'text'")
        assert text == [{"key": "note/text_summary", "step": 3,
                         "message": "hello **there** \u00e9"}], text
        image = p.sql("SELECT step, mime, hex(data) AS bytes FROM media WHERE kind = 'image'")
        png = base64.b64decode(seen["picture"][0][2][2])
        assert [(r["step"], r["mime"], bytes.fromhex(r["bytes"])) for r in image] == [
            (5, "image/png", png)]
        params = p.pioche("show", by_source["hp"], "--json").json["params"]
        assert params == {"lr": 0.1, "depth": 4, "act": "relu", "flag": True}, params
        attempts = p.sql("SELECT count(*) AS n FROM attempt GROUP BY run_id ORDER BY n")
        assert [r["n"] for r in attempts] == [1, 2]
        # Out again, and read by TensorBoard itself.
        p.pioche("export", by_source["run"], by_source["hp"], "--tensorboard", "out")
        back = theirs(p, "out/" + by_source["run"])
        assert [(s, float(v[0])) if float(v[0]) == float(v[0]) else s for s, _, v, _ in back["train/loss"]] \
            == [(s, v) if v == v else s for s, v, _ in ours]
        assert base64.b64decode(back["picture"][0][2][2]) == png
        assert back["note/text_summary"][0][2] == seen["note/text_summary"][0][2]
        sums = [sum(float(x) for x in h[2][2::3]) for h in (seen["weights"][0], back["weights"][0])]
        assert sums == [1003, 1003], sums
        assert "exists already" in p.pioche("export", by_source["run"], "--tensorboard", "out",
                                            expect=1).err
        p.check_store()


def test_export_is_read_by_tensorboard_bit_for_bit():
    """values that no f32 holds, every rank, parameters, and the same names each time"""
    with Project(git=False) as p:
        p.write("log.py", """
import pioche, struct, math
with pioche.init("x", params={"lr": 1e-3, "name": "n"}) as run:
    for i, v in enumerate([0.1, 1e300, -0.0, float("inf"), 5e-324, math.pi]):
        run.log({"f64": v, "f32": float(i) / 4}, step=i)
    run.text("note", "said", step=2)
""")
        p.sh(f"PYTHONPATH='{harness.python_library()}' python3 log.py")
        p.pioche("export", "x-1", "--tensorboard", "out")
        seen = theirs(p, "out/x-1")
        assert [float(v[0]) for _, _, v, _ in seen["f64"]] == [0.1, 1e300, 0, float("inf"), 5e-324,
                                                              3.141592653589793]
        assert seen["f64"][2][2] == ["-0.0"]
        assert [(s, float(v[0])) for s, _, v, _ in seen["f32"]] == [(i, i / 4) for i in range(6)]
        names = os.listdir(p.path("out/x-1"))
        p.pioche("export", "x-1", "--tensorboard", "out2")
        assert os.listdir(p.path("out2/x-1")) == names
        with open(p.path("out/x-1/" + names[0]), "rb") as a, open(p.path("out2/x-1/" + names[0]), "rb") as b:
            assert a.read() == b.read()


# ---- W&B ------------------------------------------------------------------------------------

WRITE_WANDB = """
import os, sys, json
import numpy as np, wandb
run = wandb.init(project="proj", name="nm", group="g", tags=["t1"], notes="some notes", job_type="train",
                 config={"lr": 0.1, "net": {"depth": 3, "act": "relu"}, "list": [1, 2]})
for i in range(200):
    run.log({"loss": 1 / (i + 1), "val": {"acc": i / 10}, "word": "w%d" % i}, step=i * 2)
run.log({"inf": float("inf"), "h": wandb.Histogram(np.arange(50)),
         "im": wandb.Image((np.random.RandomState(1).rand(8, 8, 3) * 255).astype("uint8"))})
run.summary["best"] = 0.25
print("to stdout")
print("to stderr", file=sys.stderr)
how = sys.argv[1]
if how == "kill":
    import time, signal
    time.sleep(2)
    os.kill(os.getpid(), signal.SIGKILL)
if how != "ok":
    run.finish(exit_code=int(how))
else:
    run.finish()
"""


def write_wandb(p, how, expect=0):
    peers.run(p, ["numpy", "PIL", "wandb"], WRITE_WANDB, how, expect=expect, WANDB_MODE="offline",
              WANDB_SILENT="true", WANDB_DIR=p.dir)


def test_wandb_offline_runs_as_wandb_writes_them():
    """config, summary, history, console, media, names and the exit code"""
    with Project(git=False) as p:
        write_wandb(p, "ok")
        got = p.pioche("import", "wandb", "--json").json
        assert len(got["runs"]) == 1 and got["runs"][0]["id"] == "proj-1", got
        run = p.pioche("show", "proj-1", "--json").json
        assert run["status"] == "finished" and run["attempts"][0]["result"] == "ok"
        for name, value in {"lr": 0.1, "net/depth": 3, "net/act": "relu", "list": [1, 2],
                            "summary/best": 0.25}.items():
            assert run["params"][name] == value, (name, run["params"])
        assert "summary/loss" not in run["params"]
        for name, value in {"name": "nm", "group": "g", "t1": "true", "notes": "some notes",
                            "job_type": "train"}.items():
            assert run["tags"][name] == value, run["tags"]
        loss = decoded(p, "proj-1", "loss")
        assert [(s, v) for s, v, _ in loss] == [(i * 2, 1 / (i + 1)) for i in range(200)]
        assert abs(loss[0][2] - time.time()) < 600
        assert [v for _, v, _ in decoded(p, "proj-1", "val/acc")] == [i / 10 for i in range(200)]
        assert decoded(p, "proj-1", "inf")[0][1] == float("inf")
        assert p.sql("SELECT count(*) AS n FROM event WHERE kind = 'text' AND key = 'word'") == [{"n": 200}]
        kinds = p.sql("SELECT kind, key, mime FROM media ORDER BY kind")
        assert [(r["kind"], r["key"]) for r in kinds] == [("histogram", "h"), ("image", "im")], kinds
        logs = {l["stream"]: "\n".join(l["lines"]) for l in p.pioche("logs", "proj-1", "--json").json}
        assert "to stdout" in logs["stdout"] and "to stderr" in logs["stderr"], logs
        assert p.pioche("import", "wandb", "--json").json["runs"][0]["points"] == 0
        p.check_store()


def test_wandb_torn_and_failed_and_killed():
    """a torn copy is taken as far as it goes, then whole; the end is as they say"""
    with Project(git=False) as p:
        write_wandb(p, "3")
        folder, = [d for d in os.listdir(p.path("wandb")) if d.startswith("offline-run")]
        name, = [n for n in os.listdir(p.path("wandb/" + folder)) if n.endswith(".wandb")]
        with open(p.path(f"wandb/{folder}/{name}"), "rb") as f:
            whole = f.read()
        taken = 0
        for cut in (5000, len(whole) // 2, len(whole) - 3, len(whole)):
            write(p.path(f"copy/{name}"), whole[:cut])
            report = p.pioche("import", "copy", "--json").json
            taken += report["runs"][0]["points"]
        assert [s for s, _, _ in decoded(p, "proj-1", "loss")] == [i * 2 for i in range(200)]
        assert taken == p.sql("SELECT sum(count) AS n FROM series")[0]["n"]
        assert p.sql("SELECT exit_code FROM attempt") == [{"exit_code": 3}]
        write_wandb(p, "kill", expect=-9)
        os.rename(p.path("wandb/" + folder), p.path("done"))
        p.pioche("import", "wandb")
        run = p.pioche("show", "proj-2", "--json").json
        assert run["status"] == "failed" and run["attempts"][0]["result"] == "lost"
        assert "no exit record" in run["reason"], run["reason"]


# ---- trackio and MLflow -----------------------------------------------------------------------

WRITE_TRACKIO = """
import trackio
for n in range(2):
    trackio.init(project="tp", name="run%d" % n, config={"lr": 0.5, "n": {"x": 1}}, group="gg")
    for i in range(300):
        trackio.log({"loss": 1 / (i + 1), "v": {"a": i}, "nan": float("nan"), "s": "text"})
    trackio.finish()
"""


def test_trackio_databases_as_trackio_writes_them():
    """runs, config, values and times; the database stays as it is"""
    with Project(git=False) as p:
        peers.run(p, ["trackio"], WRITE_TRACKIO, TRACKIO_DIR=p.path("trackio"), HF_HUB_OFFLINE="1")
        with open(p.path("trackio/tp.db"), "rb") as f:
            before = zlib.crc32(f.read())
        files = sorted(os.listdir(p.path("trackio")))
        got = p.pioche("import", "trackio", "--json").json
        assert [r["id"] for r in got["runs"]] == ["tp-1", "tp-2"] and not got["failures"], got
        with open(p.path("trackio/tp.db"), "rb") as f:
            assert zlib.crc32(f.read()) == before
        assert sorted(os.listdir(p.path("trackio"))) == files
        with contextlib.closing(sqlite3.connect(p.path("trackio/tp.db"))) as db:
            rows = db.execute("SELECT step, json_extract(metrics, '$.loss') FROM metrics WHERE run_name ="
                              " 'run0' ORDER BY step").fetchall()
        loss = decoded(p, "tp-1", "loss")
        assert [(s, v) for s, v, _ in loss] == rows and len(rows) == 300
        assert abs(loss[0][2] - time.time()) < 600
        assert decoded(p, "tp-2", "v/a")[7][:2] == (7, 7)
        assert p.sql("SELECT nans FROM series WHERE key = 'nan'") == [{"nans": 300}] * 2
        run = p.pioche("show", "tp-1", "--json").json
        assert run["params"] == {"lr": 0.5, "n/x": 1} and run["tags"]["name"] == "run0", run
        assert p.pioche("import", "trackio", "--json").json["runs"][0]["points"] == 0


WRITE_MLFLOW = """
import mlflow, sys
mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.set_experiment("my exp")
with mlflow.start_run(run_name="first", tags={"a": "b"}):
    mlflow.log_params({"lr": 0.1, "opt": "adam"})
    for i in range(20):
        mlflow.log_metric("loss", 1 / (i + 1), step=i)
    mlflow.log_metric("nan", float("nan"), step=0)
try:
    with mlflow.start_run(run_name="second"):
        mlflow.log_metric("loss", 1.0, step=2**40)
        raise ValueError
except ValueError:
    pass
"""


def test_mlflow_databases_as_mlflow_writes_them():
    """runs, parameters, tags, values, status and times, also while it is open for writing"""
    with Project(git=False) as p:
        peers.run(p, ["mlflow"], WRITE_MLFLOW, MLFLOW_DISABLE_TELEMETRY="true")
        writer = sqlite3.connect(p.path("mlflow.db"))
        writer.execute("BEGIN IMMEDIATE")  # a reader must not need more than to read
        got = p.pioche("import", "mlflow.db", "--json").json
        writer.rollback()
        assert [(r["id"], r["status"]) for r in got["runs"]] == [
            ("my-exp-1", "finished"), ("my-exp-2", "failed")], got
        assert [(s, v) for s, v, _ in decoded(p, "my-exp-1", "loss")] == [(i, 1 / (i + 1)) for i in range(20)]
        assert decoded(p, "my-exp-2", "loss")[0][:2] == (2**40, 1.0)
        assert p.sql("SELECT nans FROM series WHERE key = 'nan'") == [{"nans": 1}]
        run = p.pioche("show", "my-exp-1", "--json").json
        assert run["params"] == {"lr": 0.1, "opt": "adam"}, run["params"]
        assert run["tags"]["a"] == "b" and run["tags"]["name"] == "first", run["tags"]
        start, = writer.execute("SELECT start_time FROM runs WHERE name = 'first'").fetchone()
        assert p.sql("SELECT started_ns FROM run WHERE number = 1") == [{"started_ns": start * 10**6}]
        writer.close()
        again = p.pioche("import", "mlflow.db", "--json").json
        assert [r["points"] for r in again["runs"]] == [0, 0]
        p.check_store()


if __name__ == "__main__":
    harness.main()
