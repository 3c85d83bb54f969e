"""Archives and safetensors files that nobody should take: `cases(dir)` makes them,
each with the words that its refusal has to have. What is right in all of them is
`good(dir)`, so that each is refused for its one fault."""
import hashlib
import json
import os
import shutil
import struct
import subprocess

NAME = "gpt-1"
BLOCK = 512


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# ---- tar, field by field ----------------------------------------------------------------

def header(name, size=0, kind=b"0", mode=b"0000444", link=b"", magic=b"ustar\x0000", prefix=b"",
           size_field=None, wrong_sum=False):
    if size_field is None:
        size_field = b"%011o" % size if size < 8 ** 11 else b"\x80" + size.to_bytes(11, "big")
    text = (name.ljust(100, b"\0") + mode.ljust(8, b"\0") + b"0000000\0" * 2
            + size_field.ljust(12, b"\0") + b"%011o\0" % 1700000000 + b" " * 8 + kind
            + link.ljust(100, b"\0") + magic + b"\0" * 64 + b"0000000\0" * 2
            + prefix.ljust(155, b"\0")).ljust(BLOCK, b"\0")
    total = sum(text) + (1 if wrong_sum else 0)
    return text[:148] + b"%06o\0 " % total + text[156:]


def padded(data, fill=b"\0"):
    return data + fill * (-len(data) % BLOCK)


def entry(name, data=b"", **fields):
    name = name.encode() if isinstance(name, str) else name
    before = pax(b"path=" + name) if len(name) > 100 else b""
    return before + header(name[:100], len(data), **fields) + padded(data)


def pax(*records, kind=b"x"):
    text = b""
    for record in records:
        length = len(record) + 3
        while length != len(b"%d %s\n" % (length, record)):
            length += 1
        text += b"%d %s\n" % (length, record)
    return entry("PaxHeader", text, kind=kind)


END = b"\0" * (2 * BLOCK)


# ---- bags ----------------------------------------------------------------------------------

def weights(header_text=None, data=b"\0" * 16, length=None):
    if header_text is None:
        header_text = json.dumps({"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}})
    text = header_text.encode() if isinstance(header_text, str) else header_text
    return struct.pack("<Q", len(text) if length is None else length) + text + data


PAYLOAD = {
    "data/model/model.safetensors": weights(),
    "data/run/config.json": b"{}\n",
    "data/run/recipe.lua": b"return 1\n",
}


class Bag:
    """The files of a bundle; what is changed before `tar()` is wrong in that alone."""

    def __init__(self, payload=None):
        self.payload = dict(PAYLOAD if payload is None else payload)
        self.declaration = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
        self.oxum = f"{sum(map(len, self.payload.values()))}.{len(self.payload)}"
        self.info = None
        self.manifest = "".join(f"{sha256(d)}  {n}\n" for n, d in sorted(self.payload.items())).encode()
        self.tagmanifest = None
        self.extra_tags = {}

    def tags(self):
        info = f"Payload-Oxum: {self.oxum}\n".encode() if self.info is None else self.info
        tags = {"bagit.txt": self.declaration, "bag-info.txt": info,
                "manifest-sha256.txt": self.manifest, **self.extra_tags}
        tags = {n: d for n, d in tags.items() if d is not False}
        listed = "".join(f"{sha256(d)}  {n}\n" for n, d in sorted(tags.items())).encode()
        listed = listed if self.tagmanifest is None else self.tagmanifest
        return {**tags, "tagmanifest-sha256.txt": listed} if listed is not False else tags

    def head(self):
        return entry(NAME + "/", kind=b"5", mode=b"0000755") + b"".join(
            entry(f"{NAME}/{n}", d) for n, d in self.tags().items())

    def body(self):
        return b"".join(entry(f"{NAME}/{n}", d) for n, d in sorted(self.payload.items()))

    def tar(self, before_end=b"", after_tags=b""):
        return self.head() + after_tags + self.body() + before_end + END


def changed(**fields):
    bag = Bag()
    for name, value in fields.items():
        setattr(bag, name, value)
    return bag.tar()


def extra(name, data=b"x", **fields):
    """One entry more, which the manifest does not know."""
    return Bag().tar(entry(name, data, **fields))


def listed(name, data=b"x"):
    """One entry more, with everything in order but its name."""
    return Bag({**PAYLOAD, name: data}).tar()


def with_weights(data):
    return Bag({**PAYLOAD, "data/model/model.safetensors": data}).tar()


def tensors(**ranges):
    """A header of U8 vectors at these ranges, and the data up to the last."""
    text = json.dumps({name: {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]}
                       for name, (begin, end) in ranges.items()})
    return weights(text, b"\0" * max(end for _, end in ranges.values()))


def repack(dir, *flags, change=""):
    """The good bundle as GNU tar makes it of its unpacked files."""
    root = os.path.join(dir, "unpacked")
    shutil.rmtree(root, ignore_errors=True)
    os.makedirs(root)
    subprocess.run(["tar", "xf", "-"], input=Bag().tar(), cwd=root, check=True)
    subprocess.run(["bash", "-ec", "chmod -R u+w .; cd " + NAME + ";" + change], cwd=root, check=True)
    order = ["bagit.txt", "bag-info.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt", "data"]
    tar = subprocess.run(["tar", "cf", "-", *flags, "--sort=name", *(f"{NAME}/{n}" for n in order)], cwd=root,
                         check=True, capture_output=True).stdout
    shutil.rmtree(root)
    return tar


def zstd(data, *flags):
    return subprocess.run(["zstd", "-q", "-c", *flags], input=data, check=True, capture_output=True).stdout


# ---- runs ------------------------------------------------------------------------------------

ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def records(**changes):
    """run/records.json of a small run; a change replaces a member, of the run with
    `run_` before its name."""
    run = {"ulid": ULID, "number": 1, "status": "finished", "generation": 1, "created_ns": 1700000000 * 10 ** 9,
           **{name[4:]: value for name, value in changes.items() if name.startswith("run_")}}
    return {"format": "pioche/run/1", "schema": 5, "experiment": {"name": "gpt", "created_ns": 1},
            "sweep": None, "commit": None, "run": run,
            "params": [{"name": "lr", "kind": "real", "value": 0.5}], "tags": [], "media": [], "checkpoints": [],
            "attempts": [{"number": 1, "state": "ended", "result": "ok", "launcher": "local", "dir": "runs/x/1",
                          "world_size": 1, "created_ns": 1, "nodes": 1, "ranks": [], "environment": []}],
            **{name: value for name, value in changes.items() if not name.startswith("run_")}}


def run_bag(document=None, events=b"", points=b"PIOPTS01", **files):
    """A bundle of one run; what is None is not in it."""
    document = records() if document is None else document
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    payload = {"data/run/records.json": text, "data/run/events.jsonl": events, "data/run/points.bin": points,
               **{f"data/{name}": data for name, data in files.items()}}
    return Bag({name: data for name, data in payload.items() if data is not None}).tar()


def manifest(**changes):
    return json.dumps({"version": 1, "run": ULID, "step": 5, "files": [
        {"rank": 0, "role": "model", "sha256": sha256(weights()), "bytes": len(weights())}], **changes}).encode()


def checkpoint(text, data=None, **changes):
    """A run with one checkpoint of this manifest; `data`: its file."""
    row = {"attempt": 1, "step": 5, "manifest_sha256": sha256(text), "writers": 1, "bytes": 1, "fsyncs": 1,
           "stall_ns": 1, "created_ns": 1, "state": "sealed", **changes}
    return run_bag(records(checkpoints=[row]), **{"checkpoint.json": text,
                                                  "model/model.safetensors": weights() if data is None else data})


def attempt(**changes):
    return records(attempts=[{**records()["attempts"][0], **changes}])


def half_weights():
    """Two of the four rows of a tensor, but not the first."""
    parts = '{"w":{"offset":[1,0],"shape":[4,2]}}'
    return weights(json.dumps({"__metadata__": {"format": "pioche", "parts": parts},
                               "w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}))


def bad_runs():
    """Bundles that are in order as such, but whose runs are not."""
    odd_manifest = manifest(files=[{"rank": 0, "role": "model", "bytes": 3, "sha256": sha256(b"[1]")}])
    yield "no-records", Bag().tar(), "holds no run/records.json"
    yield "records-no-json", run_bag(b"{"), "'}' expected"
    yield "records-list", run_bag(b"[]"), "format"
    yield "records-later", run_bag(records(format="pioche/run/2")), "a later pioche wrote it"
    yield "schema-later", run_bag(records(schema=99)), "a later pioche wrote it"
    yield "no-ulid", run_bag(records(run_ulid="../../../etc/passwd")), "is no ULID of a run"
    yield "ulid-lower", run_bag(records(run_ulid=ULID.lower())), "ULID"
    yield "ulid-number", run_bag(records(run_ulid=5)), "ulid"
    yield "run-number", run_bag(records(run_number=-1)), "expected 1 or more"
    yield "run-status", run_bag(records(run_status="fine")), "a run that cannot be"
    yield "run-time", run_bag(records(run_created_ns="now")), "a run that cannot be"
    yield "run-column", run_bag(records(**{"run_x\" = 1; --": 1})), "no run has a"
    yield "experiment", run_bag(records(experiment={"name": "../x"})), "expected 1 to 200 letters"
    yield "experiment-goal", run_bag(records(experiment={"name": "g", "goal": "win", "goal_key": "x"})), "expected minimize"
    yield "param-kind", run_bag(records(params=[{"name": "a", "kind": "blob", "value": 1}])), "a param that cannot be"
    yield "param-twice", run_bag(records(params=[{"name": "a", "kind": "int", "value": 1}] * 2)), "a param that cannot be"
    yield "param-value", run_bag(records(params=[{"name": "a", "kind": "int", "value": True}])), "is no value of a column"
    yield "param-hex", run_bag(records(params=[{"name": {"hex": "zz"}, "kind": "int", "value": 1}])), "is no value of a column"
    yield "param-text", run_bag(records(params=["a"])), "a param that is no object"
    yield "attempt-zero", run_bag(attempt(number=0)), "expected 1 or more"
    yield "attempt-twice", run_bag(records(attempts=records()["attempts"] * 2)), "a attempt that cannot be"
    yield "attempt-result", run_bag(attempt(result="fine")), "a attempt that cannot be"
    yield "rank-twice", run_bag(attempt(ranks=[{"rank": 0, "node": "n"}] * 2)), "a rank that cannot be"
    yield "environment", run_bag(attempt(environment=[{"sha256": "../../../x", "part": "machine"}])), "there is no environment/"
    yield "event-no-json", run_bag(events=b"nothing\n"), "events.jsonl"
    yield "event-of-none", run_bag(events=b'{"attempt":7,"time_ns":1,"kind":"a","message":"b"}\n'), "has no attempt 7"
    yield "event-kind", run_bag(events=b'{"time_ns":1,"message":"b"}\n'), "a event that cannot be"
    yield "no-events", run_bag(events=None), "there is no run/events.jsonl"
    yield "no-points", run_bag(points=None), "there is no run/points.bin"
    yield "points-magic", run_bag(points=b"PIOPTS99"), "these are no points"
    yield "points-cut", run_bag(points=b"PIOPTS01\1\0\0\0"), "points are cut short"
    yield "points-huge", run_bag(points=b"PIOPTS01" + b"\xff" * 20), "a block of impossible size"
    yield "medium-digest", run_bag(records(media=[{"sha256": "0" * 64, "kind": "file", "key": "k", "rank": 0,
                                                   "time_ns": 1, "mime": "x"}])), "as no file of the bundle has"
    yield "medium-kind", run_bag(records(media=[{"sha256": sha256(b"m"), "kind": "film", "key": "k", "rank": 0, "time_ns": 1,
                                                 "mime": "x", "inline": True}]), **{"run/media/m": b"m"}), "a media that cannot be"
    yield "checkpoint-digest", checkpoint(manifest(), manifest_sha256="0" * 64), "as no file of the bundle has"
    yield "checkpoint-run", checkpoint(manifest(run="01ARZ3NDEKTSV4RRFFQ69G5FAW")), "of another run or step"
    yield "checkpoint-step", checkpoint(manifest(step=6)), "of another run or step"
    yield "checkpoint-empty", checkpoint(manifest(files=[])), "a checkpoint without files"
    yield "checkpoint-size", checkpoint(manifest(files=[{"rank": 0, "role": "model", "bytes": 5,
                                                         "sha256": sha256(weights())}])), "says otherwise"
    yield "checkpoint-no-weights", Bag({
        "data/run/records.json": json.dumps(records(checkpoints=[{
            "attempt": 1, "step": 5, "manifest_sha256": sha256(odd_manifest), "writers": 1, "bytes": 1, "fsyncs": 1,
            "stall_ns": 1, "created_ns": 1}])).encode(), "data/run/events.jsonl": b"", "data/run/points.bin": b"PIOPTS01",
        "data/checkpoint.json": odd_manifest, "data/model/model.bin": b"[1]"}).tar(), "too short for a safetensors file"
    for name, change, words in (("role", {"role": "../../x"}, "of role \"../../x\""), ("role-empty", {"role": ""}, "of role \"\""),
                                ("rank", {"rank": -1}, "and rank -1"), ("part", {"part": -1}, "part -1")):
        yield f"checkpoint-{name}", checkpoint(manifest(files=[{"rank": 0, "role": "model", "sha256": sha256(weights()),
                                                                "bytes": len(weights()), **change}])), words
    half = half_weights()
    for name, ranks, words in (("hole", [0], "nobody saved what lies before"), ("overlap", [0, 1], "rank 0 and rank 1 overlap")):
        yield f"checkpoint-{name}", checkpoint(manifest(files=[{"rank": rank, "role": "model", "sha256": sha256(half),
                                                                "bytes": len(half)} for rank in ranks]), half), words
    yield "sweep-missing", run_bag(records(sweep=ULID)), "there is no sweep/"
    yield "code-missing", run_bag(records(commit="0" * 40), **{"code.json": b"[", "code.bundle": b""}), "expected"
    yield "code-no-bundle", run_bag(records(commit="0" * 40), **{
        "code.json": json.dumps([{"commit_id": "0" * 40, "tree_id": "1" * 40, "parent_id": "", "branch": "main",
                                  "dirty": 0, "created_ns": 1, "object": "tree"}]).encode(),
        "code.bundle": b"PACK"}), "is no git bundle"
    yield "code-no-pack", run_bag(records(commit="0" * 40), **{
        "code.json": json.dumps([{"commit_id": "0" * 40, "tree_id": "1" * 40, "parent_id": "", "branch": "main",
                                  "dirty": 0, "created_ns": 1, "object": "tree"}]).encode(),
        "code.bundle": b"# v2 git bundle\n\nPACKxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}), "code.bundle"


# ---- the corpus ----------------------------------------------------------------------------

def entries():
    """Entries that no bundle has."""
    yield "absolute", extra("/etc/passwd"), "not in the bag's directory"
    yield "dot-dot", extra(f"{NAME}/data/../../x"), 'has a ".." component'
    yield "dot-dot-first", extra("../x"), "not in the bag's directory"
    yield "dot-dot-listed", Bag({**PAYLOAD, "data/../x": b"x"}).tar(), 'has a ".." component'
    yield "dot", extra(f"{NAME}/./data/x"), 'empty or "." component'
    yield "empty-component", extra(f"{NAME}/data//x"), 'empty or "." component'
    yield "absolute-inside", extra(f"{NAME}//data/x"), "is absolute"
    yield "other-directory", extra("gpt-2/data/x"), "not in the bag's directory"
    yield "bag-is-hidden", entry(".x/bagit.txt", b"x") + END, "not in the bag's directory"
    yield "bag-is-a-file", entry(NAME, b"x") + END, "is a file, expected the bag's directory"
    yield "hard-link", extra(f"{NAME}/data/x", b"", kind=b"1", link=b"gpt-1/bagit.txt"), "is a hard link"
    yield "symbolic-link", extra(f"{NAME}/data/x", b"", kind=b"2", link=b"/etc"), "is a symbolic link"
    yield "link-as-bag", entry(NAME, kind=b"2", link=b"/tmp") + END, "is a symbolic link"
    yield "file-with-target", extra(f"{NAME}/data/x", link=b"/etc/passwd"), "has the target of a link"
    yield "character-device", extra(f"{NAME}/data/x", b"", kind=b"3"), "is a character device"
    yield "block-device", extra(f"{NAME}/data/x", b"", kind=b"4"), "is a block device"
    yield "fifo", extra(f"{NAME}/data/x", b"", kind=b"6"), "is a FIFO"
    yield "contiguous", extra(f"{NAME}/data/x", kind=b"7"), "is a contiguous file"
    yield "sparse", extra(f"{NAME}/data/x", kind=b"S"), "is a sparse file"
    yield "volume-label", extra("label", b"", kind=b"V"), "is the label of a volume"
    yield "multi-volume", extra(f"{NAME}/data/x", kind=b"M"), "the rest of a file of another volume"
    yield "unknown-type", extra(f"{NAME}/data/x", kind=b"Z"), "is of no type that is known"
    yield "set-user-id", extra(f"{NAME}/data/x", mode=b"0004755"), "set-user-ID"
    yield "directory-with-bytes", extra(f"{NAME}/data/d/", kind=b"5"), "is a directory with bytes in it"
    yield "twice", Bag().tar(entry(f"{NAME}/data/run/config.json", b"{}\n")), "more than the"
    yield "directory-twice", Bag().tar(entry(f"{NAME}/data/", kind=b"5") * 2), 'entry "data" is there twice'
    yield "tag-twice", extra(f"{NAME}/bagit.txt", Bag().declaration), 'entry "bagit.txt" is there twice'
    yield "unlisted", changed(payload={**PAYLOAD, "data/x": b"x"}, oxum="102.4"), "data/x: not listed in"
    yield "unlisted-tag", extra(f"{NAME}/setup.py"), "setup.py: not listed in tagmanifest-sha256.txt"
    yield "file-and-directory", listed("data/run/config.json/x"), "is a file and a directory"
    yield "case-clash", listed("data/run/Config.json"), "differ in case alone"
    yield "control-byte", listed("data/a\x1b[2Jb"), "has a control character"
    yield "new-line", extra(f"{NAME}/data/a\nb"), "has a control character"
    yield "not-ascii", listed("data/\u202e.txt"), "not ASCII"
    yield "backslash", listed("data/..\\x"), "has a control character, '%', '\\'"
    yield "percent", listed("data/%2e%2e"), "has a control character, '%'"
    yield "long-component", listed("data/" + "n" * 256), "a component longer than 255 bytes"
    yield "long-path", listed("data/" + "n/" * 500), "is longer than 1000 bytes"


def headers(dir):
    """What no header says, or no two tools read alike."""
    yield "name-behind-nul", extra(f"{NAME}/data/x\0/../../y".encode()), "behind the NUL of its name"
    yield "pax-name-with-nul", Bag().tar(pax(b"path=gpt-1/data/x\0y") + entry("x")), "holds a NUL"
    yield "pax-global", pax(b"path=gpt-1/data/x", kind=b"g") + Bag().tar(), "for all entries that follow"
    yield "pax-sparse", Bag().tar(pax(b"GNU.sparse.major=1") + entry("x")), 'a record "GNU.sparse.major"'
    yield "pax-link", Bag().tar(pax(b"linkpath=/etc/passwd") + entry("x")), 'a record "linkpath"'
    yield "pax-attribute", Bag().tar(pax(b"SCHILY.xattr.user.x=1") + entry("x")), "SCHILY.xattr"
    yield "pax-path-twice", Bag().tar(pax(b"path=a", b"path=b") + entry("x")), "has a record twice"
    yield "pax-twice", Bag().tar(pax(b"mtime=1") * 2 + entry("x")), "a second header for one entry"
    yield "pax-of-nothing", Bag().tar(pax(b"mtime=1")), "the last header describes no entry"
    yield "pax-length", Bag().tar(entry("p", b"99 mtime=1\n", kind=b"x") + entry("x")), "is no list of records"
    yield "pax-size", Bag().tar(pax(b"size=99999999999999999999") + entry("x")), "a size that is none"
    yield "pax-size-minus", Bag().tar(pax(b"size=-1") + entry("x")), "a size that is none"
    yield "pax-absolute", Bag().tar(pax(b"path=/etc/passwd") + entry("x")), "not in the bag's directory"
    yield "pax-large", Bag().tar(pax(b"mtime=" + b"1" * 70000) + entry("x")), "expected at most 65536"
    yield "long-name-large", Bag().tar(header(b"L", 1 << 33, kind=b"L")), "expected at most 65536"
    yield "long-name-nul", Bag().tar(entry("L", b"gpt-1/data/x\0y\0", kind=b"L") + entry("x")), "has no NUL at its end"
    yield "long-link", Bag().tar(entry("L", b"/etc/passwd\0", kind=b"K") + entry("x")), "the long name of a link"
    yield "size-negative", Bag().tar(header(b"gpt-1/data/x", size_field=b"\xff" * 12)), "a size that is none"
    yield "size-no-number", Bag().tar(header(b"gpt-1/data/x", size_field=b"0x10")), "a size that is none"
    yield "size-overflow", Bag().tar(header(b"gpt-1/data/x", size_field=b"\x80\0\0\0" + b"\xff" * 8)), "a size that is none"
    yield "checksum", extra(f"{NAME}/data/x", wrong_sum=True), "no header of a tar"
    yield "old-tar", extra(f"{NAME}/data/x", magic=b"\0" * 8), "no header of a tar"
    yield "padding", Bag().head() + header(b"gpt-1/data/run/config.json", 3) + b"{}\n" + b"X" * 509 + END, \
        "bytes behind the end of an entry"
    yield "gnu-sparse", repack(dir, "--sparse", change="truncate -s 1M data/run/recipe.lua"), "is a sparse file"
    yield "gnu-links", repack(dir, change="ln -s /etc/passwd data/x"), "is a symbolic link"
    yield "gnu-hard-links", repack(dir, change="ln data/run/recipe.lua data/run/s.lua"), "is a hard link"


def manifests():
    """Tag files that say something else, or nothing."""
    good = Bag()
    yield "no-declaration", changed(declaration=False), "bagit.txt is missing"
    yield "bagit-0.97", changed(declaration=b"BagIt-Version: 0.97\n"), "expected BagIt-Version 1.0"
    yield "no-info", changed(info=False), "bag-info.txt is missing"
    yield "no-manifest", changed(manifest=False), "manifest-sha256.txt is missing"
    yield "no-tagmanifest", changed(tagmanifest=False), "tagmanifest-sha256.txt is missing"
    yield "no-oxum", changed(info=b"Contact-Name: nobody\n"), "no Payload-Oxum"
    yield "oxum-no-number", changed(oxum="0x20.3"), "no Payload-Oxum"
    yield "oxum-overflow", changed(oxum="99999999999999999999.3"), "no Payload-Oxum"
    yield "oxum-few-bytes", changed(oxum="12.3"), "more than the 12 bytes in 3 files"
    yield "oxum-few-files", changed(oxum="9999.2"), "more than the 9999 bytes in 2 files"
    yield "oxum-more", changed(oxum="9999.3"), "Payload-Oxum says 9999 bytes in 3 files"
    yield "crlf", changed(manifest=good.manifest.replace(b"\n", b"\r\n")), "has a control character"
    yield "upper-case", changed(manifest=good.manifest.upper()), "lower-case hexadecimal digits"
    yield "one-space", changed(manifest=good.manifest.replace(b"  ", b" ")), "two spaces and a path"
    yield "md5", changed(manifest=good.manifest[32:]), "64 lower-case hexadecimal digits"
    yield "last-line", changed(manifest=good.manifest[:-1]), "the last line does not end"
    yield "listed-twice", changed(manifest=good.manifest + good.manifest), "is listed twice"
    yield "listed-absolute", changed(manifest=good.manifest + b"0" * 64 + b"  /etc/passwd\n"), "is absolute"
    yield "missing", changed(manifest=good.manifest + b"0" * 64 + b"  data/x\n"), "data/x: listed in"
    yield "tag-in-manifest", changed(manifest=good.manifest + b"0" * 64 + b"  bagit.txt\n"), "does not belong"
    yield "nul-in-manifest", changed(manifest=good.manifest.replace(b"data/run", b"data\0run")), "two spaces and a path"
    yield "digest", changed(manifest=good.manifest.replace(b"0", b"1")), "SHA-256 is"
    yield "tag-digest", changed(tagmanifest=b"".join(b"%s  %s\n" % (b"0" * 64, n) for n in (
        b"bagit.txt", b"bag-info.txt", b"manifest-sha256.txt"))), "bagit.txt: SHA-256 is"


def ends(dir):
    """Cut short, gone on, or much larger than it looks."""
    tar = Bag().tar()
    yield "empty", b"", "cut short or no tar archive"
    yield "cut-in-header", tar[:700], "cut short"
    yield "cut-in-tags", tar[:BLOCK * 6 + 10], "cut short"
    yield "cut-in-payload", tar[:-2048 - 500], "cut short"
    yield "cut-before-end", tar[:-1024], "cut short"
    yield "cut-in-end", tar[:-512], "the end of the archive is missing"
    yield "second-archive", tar + Bag().tar(), "bytes after the end of the archive"
    yield "hole-of-zeros", tar[:-1024] + b"\0" * BLOCK + tar, "bytes after the end of the archive"
    yield "trailing", tar + b"x", "bytes after the end of the archive"
    yield "noise", bytes((i * 2654435761 >> 13) & 255 for i in range(5000)), "no tar archive"
    yield "zip", b"PK\x03\x04" + b"\0" * 1000, "no tar archive"
    yield "gzip", subprocess.run(["gzip", "-c"], input=tar, check=True, capture_output=True).stdout, "no tar archive"
    huge = header(b"gpt-1/data/run/config.json", 1 << 40)
    yield "zstd-cut", zstd(tar)[:-40], "its last zstd frame does not end"
    yield "zstd-damaged", zstd(tar, "--check")[:-1] + b"\0", "its zstd frame"
    yield "zstd-of-noise", zstd(b"x" * 5000), "no tar archive"
    yield "zstd-trailing", zstd(tar) + b"more", "its zstd frame"
    yield "zstd-twice", zstd(tar) * 2, "bytes after the end of the archive"
    yield "zstd-bomb-end", zstd(tar + b"\0" * (17 << 20)), "of zeros after the end"
    yield "zstd-bomb-tag", zstd(header(b"gpt-1/VERIFY.txt", 1 << 40) + b"\0" * (1 << 20)), "larger than 256 MiB"
    yield "zstd-bomb-payload", zstd(Bag().head() + huge + b"\0" * (1 << 20)), "more than the"
    yield "zstd-window", zstd(os.urandom(1 << 20) * 2 + tar, "--ultra", "--long=29", "-1", "--stream-size=536870912")[:99], \
        "its zstd frame"


def model_files():
    """safetensors files: what is wrong with them, alone and in a bundle."""
    plain = json.dumps({"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}})
    deep = "[" * 5000 + "]" * 5000
    yield "short", b"\x10\0\0", "too few for the header of a safetensors file"
    yield "claim-100-MB", weights(plain, length=100_000_001), "expected at most 100000000"
    yield "claim-past-end", weights(plain, length=99_000_000), "cut short or not a safetensors file"
    yield "claim-all", weights(plain, length=(1 << 64) - 1), "expected at most 100000000"
    yield "claim-nothing", weights("", length=0), "expected 2 to"
    yield "no-object", weights("[1, 2, 3]"), "does not start with '{'"
    yield "no-json", weights("{" + "x" * 40), "string or '}' expected"
    yield "deep-json", weights('{"w": %s}' % deep), "maximum parsing depth"
    yield "bytes-after-json", weights(plain + "{}"), "end of file expected"
    yield "not-utf8", weights(plain.replace("w", "\xff").encode("latin-1")), "unable to decode byte 0xff"
    yield "key-twice", weights("{%s, %s}" % (plain[1:-1], plain[1:-1])), "duplicate"
    yield "overlap", tensors(a=(0, 8), b=(4, 12)), "without overlaps"
    yield "hole", tensors(a=(0, 8), b=(12, 16)), "without holes"
    yield "late-begin", tensors(a=(8, 16)), "without holes"
    yield "range-back", weights(json.dumps({"w": {"dtype": "U8", "shape": [4], "data_offsets": [8, 4]}})), "lie outside"
    yield "range-negative", weights(json.dumps({"w": {"dtype": "U8", "shape": [4], "data_offsets": [-4, 0]}})), "lie outside"
    yield "range-past-end", weights(plain, data=b"\0" * 8), "lie outside"
    yield "range-real", weights(json.dumps({"w": {"dtype": "U8", "shape": [4], "data_offsets": [0.0, 4.0]}})), "no pair of integers"
    yield "range-overflow", weights('{"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 99999999999999999999]}}'), "too big"
    yield "bytes-after", weights(plain, data=b"\0" * 20), "bytes after the last tensor"
    yield "shape-overflow", weights(json.dumps({"w": {"dtype": "F32", "shape": [1 << 40, 1 << 40],
                                                      "data_offsets": [0, 16]}})), "overflows 63 bits"
    yield "shape-negative", weights(json.dumps({"w": {"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]}})), "no integer >= 0"
    yield "shape-deep", weights(json.dumps({"w": {"dtype": "F32", "shape": [1] * 33, "data_offsets": [0, 4]}})), "33 dimensions"
    yield "shape-other", weights(json.dumps({"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 16]}})), "need 24"
    yield "dtype", weights(json.dumps({"w": {"dtype": "Q4_K", "shape": [4], "data_offsets": [0, 16]}})), "is unknown"
    yield "no-dtype", weights(json.dumps({"w": {"shape": [4], "data_offsets": [0, 16]}})), "dtype is missing"
    yield "metadata", weights(json.dumps({"__metadata__": {"a": 1}}), data=b""), "is no string"
    yield "metadata-text", weights(json.dumps({"__metadata__": "a"}), data=b""), "is no JSON object"


def good(dir):
    """Files that are in order: the plain bundle, others' ways to pack it, a model."""
    yield "plain.tar", Bag().tar()
    yield "gnu.tar", repack(dir)
    yield "pax.tar", repack(dir, "--format=pax")
    yield "long-name.tar", listed("data/" + "n" * 255)
    yield "model.safetensors", weights()
    yield "plain.tar.zst", zstd(Bag().tar())


def run_cases(dir):
    """As `cases`: what only an import sees."""
    for name, data, words in bad_runs():
        path = os.path.join(dir, name + ".tar")
        with open(path, "wb") as f:
            f.write(data)
        yield path, words


def cases(dir):
    """(path, words) of each file, which is made below `dir`."""
    made = list(entries()) + list(headers(dir)) + list(manifests()) + list(ends(dir))
    made = [(name + ".tar", data, words) for name, data, words in made]
    for name, data, words in model_files():
        made.append((name + ".safetensors", data, words))
        made.append((name + "-in-bundle.tar", with_weights(data), words))
    for name, data, words in made:
        path = os.path.join(dir, name)
        with open(path, "wb") as f:
            f.write(data)
        yield path, words
