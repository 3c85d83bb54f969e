#!/usr/bin/env python3
"""Integers, histograms, images, tables, files and notes from Python, in the
journal and out of the store. Prints TAP."""

import hashlib
import json
import struct
import unittest
import zlib

import client


def png_pixels(data):
    """Size, channels and pixels of an 8-bit PNG whose rows are unfiltered."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, found = 8, {}
    while at < len(data):
        (n,), kind = struct.unpack_from(">I", data, at), data[at + 4:at + 8]
        body = data[at + 8:at + 8 + n]
        assert struct.unpack_from(">I", data, at + 8 + n)[0] == zlib.crc32(kind + body)
        found[kind] = body
        at += 12 + n
    assert kind == b"IEND"
    width, height, depth, colour = struct.unpack_from(">IIBB", found[b"IHDR"])
    channels = {0: 1, 2: 3, 6: 4}[colour]
    rows = zlib.decompress(found[b"IDAT"])
    stride = 1 + width * channels
    assert depth == 8 and len(rows) == height * stride and set(rows[::stride]) == {0}
    return height, width, channels, b"".join(rows[i + 1:i + stride] for i in range(0, len(rows), stride))


class Media(client.Client):
    def test_integers_are_exact(self):
        self.run_program("""
class Index:
    def __init__(self, n): self.n = n
    def __index__(self): return self.n
    def __float__(self): return 0.5
run = pioche.init()
run.log({"n": 2**53 + 1, "low": -2**63, "high": 2**63 - 1, "flag": True})
run.log({"n": Index(2**60 + 1), "x": 0.5}, step=Index(7))
run.log({"n": 10**25})
run.log({"deep": {"n": 3, "x": 3.0}})
""")
        points = self.heard().points
        self.assertEqual(points, [
            ("n", 0, 2**53 + 1), ("low", 0, -2**63), ("high", 0, 2**63 - 1), ("flag", 0, 1),
            ("n", 7, 2**60 + 1), ("x", 7, 0.5), ("n", 8, 1e25), ("deep/n", 9, 3), ("deep/x", 9, 3.0)])
        self.assertEqual([type(v) for _, _, v in points], [int] * 5 + [float, float, int, float])

    def test_what_python_logs_read_gives_back(self):
        self.run_program("""
run = pioche.init("r")
for i in range(5000):
    run.log({"loss": 1 / (i + 1), "n": 2**53 + i}, step=i)
    run.log({"mixed": i if i % 2 else i / 2}, step=i)
run.log({"nan": float("nan")})
run.finish()
""")
        self.pioche("ls")
        self.run_program("""
import array, math
p = pioche.read("r-1", "loss")
assert p.value == array.array("d", [1 / (i + 1) for i in range(5000)]), p
assert list(p.step) == list(range(5000)) and len(p) == 5000 and len(p.time_ns) == 5000
n = pioche.read("r-1", "n")
assert n.value == array.array("q", range(2**53, 2**53 + 5000))
mixed = list(pioche.read("r-1", "mixed"))
assert mixed == [(i, i if i % 2 else i / 2) for i in range(5000)]
assert type(mixed[1][1]) is int and type(mixed[2][1]) is float
assert math.isnan(pioche.read("r-1", "nan").value[0])
assert "<svg" in p._repr_html_() and "loss: 0.0002 at step 4999" in p._repr_html_()
assert "nothing to draw" in pioche.read("r-1", "nan")._repr_html_()
for words, text in ((("r-1", "absent"), "absent"), (("r-9", "loss"), "r-9"), (("r-1", "loss", 3), "3")):
    try: pioche.read(*words)
    except pioche.Error as e: assert text in str(e) and "(pioche ls)" in str(e), e
    else: raise SystemExit(words)
try: pioche.read("r-1", "loss", "x")
except TypeError as e: assert "rank is 'x' (str): an integer expected" in str(e), e
else: raise SystemExit("rank")
try: pioche.read(3, "loss")
except TypeError as e: assert "run is 3 (int)" in str(e)
""", expect=0)

    def test_images(self):
        self.run_program("""
import array, pioche_values
run = pioche.init()
png = pioche_values._png(1, 1, 1, b"\\x07")
open("one.png", "wb").write(png)
run.image("bytes", png, step=3); run.image("path", "one.png"); run.log({"x": 1.0}, step=9)
run.image("jpeg", b"\\xff\\xd8\\xff\\xe0rest")
for shape in ((2, 3), (2, 3, 1), (2, 3, 3), (2, 3, 4)):
    n = 1
    for s in shape: n *= s
    run.image("array/%d" % len(shape) + str(shape[-1]), memoryview(bytes(range(n))).cast("B", shape))
class Pil:
    def save(self, file, format): file.write(png); assert format == "PNG"
run.image("pil", Pil())
run.image("large", png + bytes(100000))
def refused(error, text, image):
    try: run.image("bad", image)
    except error as e: assert text in str(e) and "'bad'" in str(e) or "\\"bad\\"" in str(e), e
    else: raise SystemExit(text)
refused(pioche.Error, "no PNG and no JPEG", b"GIF89a")
refused(TypeError, "a path, a PIL image or an array", 3)
refused(TypeError, "uint8 of height x width", memoryview(bytes(8)))
refused(TypeError, "uint8 of height x width", memoryview(bytes(10)).cast("B", (1, 2, 5)))
refused(TypeError, "float64", memoryview(array.array("d", [1.0])).cast("B").cast("d", (1, 1)))
""")
        media = self.heard().media
        self.assertEqual({m["kind"] for m in media}, {"i"})
        by_key = {m["key"]: m for m in media}
        self.assertEqual((by_key["bytes"]["step"], by_key["path"]["step"]), (3, client.NO_STEP))
        self.assertEqual(by_key["jpeg"]["step"], 9)
        self.assertEqual(by_key["jpeg"]["mime"], "image/jpeg")
        self.assertEqual(png_pixels(by_key["path"]["data"]), (1, 1, 1, b"\x07"))
        self.assertEqual(by_key["pil"]["data"], by_key["bytes"]["data"])
        for key, channels in (("array/23", 1), ("array/31", 1), ("array/33", 3), ("array/34", 4)):
            n = 6 * channels
            self.assertEqual(png_pixels(by_key[key]["data"]), (2, 3, channels, bytes(range(n))))
            self.assertEqual((by_key[key]["mime"], by_key[key]["path"]), ("image/png", ""))
        large = by_key["large"]
        self.assertEqual(large["sha256"], hashlib.sha256(large["data"]).hexdigest())
        self.assertEqual((large["bytes"], large["path"][:6]), (len(large["data"]), "media/"))

    def test_tables(self):
        self.run_program("""
run = pioche.init()
run.table("rows", [{"a": 1, "b": "x"}, {"b": None, "c": float("nan")}])
run.table("columns", {"a": (1, 2), "b": [True, "é"]}, step=4)
class bool_:
    def __bool__(self): return True
class NAType: pass
class Frame:
    columns = ["p", 2]
    def to_dict(self): pass
    def __getitem__(self, name): return [1.5, float("inf"), bool_(), NAType()]
run.table("frame", Frame()); run.table("empty", [])
run.table("long", {"n": list(range(50000))})
def refused(error, text, table):
    try: run.table("bad", table)
    except error as e: assert text in str(e) and "'bad'" in str(e), e
    else: raise SystemExit(text)
refused(TypeError, "a list of dicts", 3)
refused(TypeError, "row of table 'bad' is 3", [3])
refused(TypeError, "column 'a' of table 'bad' is 'xy' (str)", {"a": "xy"})
refused(TypeError, "column name of table 'bad' is 3 (int)", {3: [1]})
refused(ValueError, "different lengths", {"a": [1], "b": []})
Frame.columns = ["p", 1, "1"]
refused(ValueError, "column '1' of table 'bad' is there twice", Frame())
""")
        tables = {m["key"]: m for m in self.heard().media}
        def table(key):
            read = json.loads(tables[key]["data"])
            return dict(zip(read["columns"], read["data"]))
        self.assertEqual(table("rows"), {"a": [1, None], "b": ["x", None], "c": [None, "NaN"]})
        self.assertEqual(table("columns"), {"a": [1, 2], "b": [True, "é"]})
        self.assertEqual(table("frame"), {c: [1.5, "Infinity", True, None] for c in "p2"})
        self.assertEqual(table("empty"), {})
        self.assertEqual(table("long"), {"n": list(range(50000))})
        self.assertEqual((tables["columns"]["step"], tables["rows"]["kind"]), (4, "t"))
        self.assertEqual(tables["rows"]["mime"], "application/x-pioche-table+json")

    def test_files_and_notes(self):
        self.run_program("""
import pathlib
run = pioche.init()
open("model.bin", "wb").write(b"weights" * 1000)
run.file("model", "model.bin"); run.file("again", pathlib.Path("model.bin"), step=2)
run.file("bytes", b"")
run.note("looks good")
for error, text, file in ((pioche.Error, "is no file", "absent"), (pioche.Error, "is no file", "."),
                          (TypeError, "file 'bad' is 3 (int)", 3)):
    try: run.file("bad", file)
    except error as e: assert text in str(e), e
    else: raise SystemExit(text)
""")
        heard = self.heard()
        self.assertEqual(heard.events, [("note", "looks good")])
        files = heard.media
        self.assertEqual([(m["key"], m["name"], m["step"]) for m in files], [
            ("model", "model.bin", client.NO_STEP), ("again", "model.bin", 2), ("bytes", "bytes", client.NO_STEP)])
        for m in files:
            self.assertEqual(m["sha256"], hashlib.sha256(m["data"]).hexdigest())
        self.assertEqual(files[0]["data"], b"weights" * 1000)

    def test_histograms(self):
        self.run_program("""
import array
run = pioche.init()
values = [0.5, 1.0, 1.0, 3.0, float("nan"), 0.0, -2.0]
run.histogram("list", values); run.histogram("array", array.array("d", values), step=1)
run.histogram("f32", array.array("f", values)); run.histogram("ints", range(10)); run.histogram("none", [])
def refused(text, values):
    try: run.histogram("bad", values)
    except TypeError as e: assert text in str(e) and "'bad'" in str(e), e
    else: raise SystemExit(text)
class Array:
    def __array__(self): return array.array("d", values)
run.histogram("like", Array())
class Tensor:  # torch's, of which a view may hold its numbers negated
    device, dtype, shape, layout = type("cpu", (), {"type": "cpu"}), "torch.float64", (7,), "torch.strided"
    def __init__(self, held): self.held = held
    def detach(self): return self
    cpu = contiguous = detach
    def resolve_neg(self): return Tensor(array.array("d", [-v for v in self.held]))
    def data_ptr(self): return self.held.buffer_info()[0]
run.histogram("negated", Tensor(array.array("d", [-v for v in values])))
refused("is 'abc' (str): numbers expected", "abc")
refused("is 3 (int): numbers expected", 3)
refused("value of 'bad' is 'x' (str)", [1, "x"])
refused("elements of type", memoryview(b"ab").cast("c").cast("B").cast("P") if 0 else array.array("u", "ab"))
""")
        media = {m["key"]: m for m in self.heard().media}
        self.assertEqual({m["mime"] for m in media.values()}, {"application/x-pioche-histogram"})
        self.assertEqual(media["list"]["data"], media["array"]["data"])
        for other in ("f32", "like", "negated"):
            self.assertEqual(media["list"]["data"], media[other]["data"], other)
        data = media["list"]["data"]
        self.assertEqual((data[:6], data[6]), (b"PIOH\x01\x01", 1))  # one NaN
        self.assertEqual(struct.unpack_from("<4d", data, 9), (-2.0, 3.0, 3.5, 15.25))

    def test_media_come_out_of_the_store(self):
        self.run_program("""
run = pioche.init("m")
run.histogram("h", [1.0, 2.0]); run.table("t", {"a": [1]}); run.file("f", b"abc"); run.log({"n": 2**60 + 1})
import pioche_values
run.image("i", pioche_values._png(1, 1, 3, b"abc") + bytes(100000), step=3)
""")
        self.pioche("ls")
        rows = json.loads(self.pioche("sql", "--json", "SELECT kind, key, bytes, sha256 IS NOT NULL AS object "
                                      "FROM media ORDER BY kind"))
        self.assertEqual([(r["kind"], r["key"], bool(r["object"])) for r in rows], [
            ("file", "f", True), ("histogram", "h", False), ("image", "i", True), ("table", "t", False)])
        self.assertIn("1152921504606846977", self.pioche("sql", "--json", "SELECT last_int FROM series"))

    def test_numpy_and_torch_take_part(self):
        try:
            import numpy  # noqa: F401
        except ImportError:
            raise unittest.SkipTest("numpy is missing") from None
        self.run_program("""
import numpy as np
run = pioche.init()
run.log({"f32": np.float32(0.1), "i64": np.int64(2**60 + 1), "f64": np.float64(0.1), "u8": np.uint8(200)})
run.histogram("h", np.arange(6, dtype=np.float32).reshape(2, 3).T)
run.image("i", np.zeros((4, 5, 3), np.uint8))
class Type(str): pass
class Foreign:  # as arrays of ml_dtypes and of JAX: in no buffer
    def __init__(self, dtype, numbers):
        self.dtype, self.numbers = Type(dtype), numbers
        self.dtype.itemsize = numbers.itemsize
    def __array__(self):
        return self
    def view(self, kind):
        return self.numbers.view(kind)
run.histogram("bf list", [1.0, 0.0, 2.0, float("nan")])
run.histogram("f8 list", [1.0, 448.0, -1.0, float("nan")])
eight = np.arange(12, dtype=np.uint8).reshape(3, 4).T
run.histogram("bf", Foreign("bfloat16", np.array([[0x3f80, 0x4000], [0, 0x7fc0]], np.uint16).T))
run.histogram("f8", Foreign("float8_e4m3fn", np.array([0x38, 0x7e, 0xb8, 0x7f], np.uint8)))
run.checkpoint(1, {"model": {"f8": Foreign("float8_e5m2", eight), "e": Foreign("float8_e8m0fnu", eight[:0])}})
try: run.checkpoint(2, {"model": {"w": Foreign("float4_e2m1fn", eight)}})
except TypeError as e: assert "'w' has elements of type float4_e2m1fn: one of bool, " in str(e), e
else: raise SystemExit("saved")
""")
        heard = self.heard()
        self.assertEqual([v for _, _, v in heard.points], [struct.unpack("f", struct.pack("f", 0.1))[0],
                                                          2**60 + 1, 0.1, 200])
        media = {m["key"]: m["data"] for m in heard.media}
        self.assertEqual(set(media), {"h", "i", "bf", "f8", "bf list", "f8 list"})
        self.assertEqual((media["bf"], media["f8"]), (media["bf list"], media["f8 list"]))
        self.assertEqual(heard.checkpoints, 1)


client.main(Media)
