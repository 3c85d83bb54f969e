#!/usr/bin/env python3
"""Where a bundle goes: compressed, to a pipe, signed, encrypted; and what an
export that was killed has left is gone on with."""
import hashlib
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project, Skip  # noqa: E402

LOGGED = """
import pioche
with pioche.init("big", params={"lr": 1e-3}) as run:
    for step in range(2000):
        run.log({"loss": 1 / (step + 1)}, step=step)
    run.file("noise", "noise.bin")
"""


def project(noise=3000000):
    library = harness.python_library()
    p = Project(git=False)
    with open(p.path("noise.bin"), "wb") as f:
        f.write(b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(noise // 32)))
    p.write("log.py", LOGGED)
    p.sh(f"PYTHONPATH={library!r} python3 log.py")
    return p


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def need(program):
    if not shutil.which(program):
        raise Skip(f"{program} is not here")


def test_compressed_and_through_a_pipe():
    """The zstd stream holds the very tar, has its digest beside it and is the same twice."""
    with project() as p:
        p.pioche("export", "big-1", "-o", "x.tar")
        said = p.pioche("export", "big-1", "--zstd", "--json").json
        assert said["path"] == "big-1.tar.zst" and said["sha256"] == digest(p.path("big-1.tar.zst"))
        p.sh("sha256sum -c big-1.tar.zst.sha256")
        p.pioche("verify", "big-1.tar.zst")
        p.sh("mkdir out && tar xf big-1.tar.zst -C out && cd out/big-1 && sha256sum -c --quiet "
             "tagmanifest-sha256.txt manifest-sha256.txt")
        p.pioche("export", "big-1", "--zstd", "-o", "y.tar.zst")
        assert digest(p.path("y.tar.zst")) == said["sha256"]
        for way in ("--to", "-o"):
            p.sh(f"{harness.PIOCHE!r} export big-1 {way} - | cmp - x.tar; test ! -e ./-")
        p.sh(f"{harness.PIOCHE!r} export big-1 --to - --zstd 2>told | cmp - y.tar.zst; grep -q {said['sha256']} told")
        assert "exclude each other" in p.pioche("export", "big-1", "--to", "-", "-o", "z.tar", expect=2).err
        assert not os.path.exists(p.path("z.tar"))
        # Who reads no further is told of, and nothing is left.
        p.sh(f"set +o pipefail; {harness.PIOCHE!r} export big-1 --to - 2>told | head -c 10 > ten; test -s told")


def test_what_a_killed_export_left_is_gone_on_with():
    with project() as p:
        p.pioche("export", "big-1", "-o", "x.tar")
        whole = digest(p.path("x.tar"))
        with open(p.path("x.tar"), "rb") as f:
            bytes_ = f.read()
        size = len(bytes_)

        def again(left):
            with open(p.path("x.tar.part"), "wb") as f:
                f.write(left)
            said = p.pioche("export", "big-1", "-o", "x.tar", "--force").err
            assert digest(p.path("x.tar")) == whole and not os.path.exists(p.path("x.tar.part"))
            p.pioche("verify", "x.tar")
            return said

        assert "x.tar.part: 1.8 MB of an interrupted export were there already" in again(bytes_[:2000000])
        assert "were there already" in again(bytes_)
        assert "were there already" in again(bytes_ + b"more")
        assert "x.tar.part was of another export: written anew" in again(b"x" * size)
        flipped = bytearray(bytes_)
        flipped[1500000] ^= 1
        assert "x.tar.part: 1.3 MB of an interrupted export were there already" in again(bytes(flipped))
        # Killed at a write in the middle of the tar.
        for n in range(1, 60):
            result = p.pioche("export", "big-1", "-o", "k.tar", env={"PIOCHE_FS_FAULT": f"w:{n}:0"},
                              expect=137)
            if os.path.exists(p.path("k.tar.part")) and os.path.getsize(p.path("k.tar.part")) > 1000000:
                break
        assert result.status == 137 and not os.path.exists(p.path("k.tar"))
        said = p.pioche("export", "big-1", "-o", "k.tar").err
        assert "were there already" in said and digest(p.path("k.tar")) == whole, said


def test_a_signature_is_checked():
    need("ssh-keygen")
    with project(3000) as p:
        p.sh("ssh-keygen -q -t ed25519 -N '' -f key; ssh-keygen -q -t ed25519 -N '' -f other;"
             " echo \"me@lab $(cat key.pub)\" > signers; echo \"you@lab $(cat other.pub)\" > strangers")
        said = p.pioche("export", "big-1", "-o", "x.tar", "--sign", "key", "--json").json
        assert said["signature"] == "x.tar.sig"
        p.sh("ssh-keygen -Y verify -f signers -I me@lab -n file -s x.tar.sig < x.tar")
        assert "signed by me@lab" in p.pioche("verify", "x.tar", "--signers", "signers").out
        assert "by nobody in strangers" in p.pioche("verify", "x.tar", "--signers", "strangers", expect=1).out
        p.sh("cp x.tar.sig y.tar.sig")
        p.pioche("export", "big-1", "-o", "y.tar", "--zstd")
        assert "not of these bytes" in p.pioche("verify", "y.tar", "--signers", "signers", expect=1).out
        p.sh("rm y.tar.sig")
        assert "there is no signature" in p.pioche("verify", "y.tar", "--signers", "signers", expect=1).out
        assert "no such file" in p.pioche("export", "big-1", "-o", "z.tar", "--sign", "none", expect=1).err
        assert not os.path.exists(p.path("z.tar"))
        p.write("nokey", "this is no key\n")
        assert "not signed" in p.pioche("export", "big-1", "-o", "z.tar", "--sign", "nokey", expect=1).err
        assert not os.path.exists(p.path("z.tar.sig"))


def test_encrypted_for_a_recipient():
    need("age")
    with project(3000) as p:
        p.pioche("export", "big-1", "-o", "x.tar")
        p.sh("age-keygen -o key 2>/dev/null; age-keygen -y key > recipients")
        key = p.read("recipients").strip()
        said = p.pioche("export", "big-1", "--encrypt", key, "--json").json
        assert said["path"] == "big-1.tar.age" and said["sha256"] == digest(p.path("big-1.tar.age"))
        p.sh("sha256sum -c big-1.tar.age.sha256 && age -d -i key big-1.tar.age | cmp - x.tar")
        p.pioche("export", "big-1", "-o", "y", "--encrypt", "recipients", "--zstd")
        p.sh("age -d -i key y | zstd -dc | cmp - x.tar")
        result = p.pioche("export", "big-1", "-o", "z", "--encrypt", "age1bad", expect=1)
        assert "age ended with exit status 1" in result.err, result.err
        assert not [n for n in os.listdir(p.dir) if n.startswith("z")]


def test_where_age_is_missing():
    with project(3000) as p:
        os.mkdir(p.path("bin"))
        result = p.pioche("export", "big-1", "--encrypt", "age1x", expect=1, env={"PATH": p.path("bin")})
        assert "needs the program age" in result.err, result.err
        assert not [n for n in os.listdir(p.dir) if "age" in n]


harness.main()
