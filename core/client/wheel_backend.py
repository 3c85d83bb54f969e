"""How `pip install ./core/client` makes a wheel (PEP 517): the libraries by the
Makefile two directories up, the modules beside this file, and nothing from any
index, so that it works with build isolation, without it, and offline.

PIOCHE_BUILD names the build directory (absolute, or relative to the source
tree); "build" without it."""

import base64
import hashlib
import os
import re
import subprocess
import sysconfig
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# Packages, since py.typed is for those alone.
MODULES = ("pioche", "pioche_checkpoint", "pioche_points", "pioche_values")
LIBRARIES = ("lib/libpioche.so", "lib/pioche/pioche_read.so")


def _version():
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
        return re.search(r"^VERSION\s*:=\s*(\S+)", file.read(), re.M).group(1)


def _metadata():
    return "Metadata-Version: 2.1\nName: pioche\nVersion: %s\nRequires-Python: >=3.8\n" % _version()


def _wheel_file():
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return "Wheel-Version: 1.0\nGenerator: pioche\nRoot-Is-Purelib: false\nTag: py3-none-%s\n" % platform, platform


def _dist_info():
    return "pioche-%s.dist-info" % _version()


def _build():
    build = os.path.join(ROOT, os.environ.get("PIOCHE_BUILD", "build"))
    paths = [os.path.join(build, name) for name in LIBRARIES]
    # MAKEFLAGS of a make that runs pip would speak of that one's jobs.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    subprocess.run(["make", "-s", "BUILD=" + os.path.relpath(build, ROOT), "lib"], cwd=ROOT, env=env, check=True)
    return paths


def _contents():
    """Name in the wheel, bytes."""
    for module in MODULES:
        with open(os.path.join(HERE, module + ".py"), "rb") as file:
            yield module + "/__init__.py", file.read()
        yield module + "/py.typed", b""
    for path in _build():
        with open(path, "rb") as file:
            yield "pioche/" + os.path.basename(path), file.read()
    yield _dist_info() + "/METADATA", _metadata().encode()
    yield _dist_info() + "/WHEEL", _wheel_file()[0].encode()


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "pioche-%s-py3-none-%s.whl" % (_version(), _wheel_file()[1])
    record = ""
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in _contents():
            wheel.writestr(zipfile.ZipInfo(path), data, zipfile.ZIP_DEFLATED)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += "%s,sha256=%s,%d\n" % (path, digest, len(data))
        path = _dist_info() + "/RECORD"
        wheel.writestr(zipfile.ZipInfo(path), record + path + ",,\n", zipfile.ZIP_DEFLATED)
    return name


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    target = os.path.join(metadata_directory, _dist_info())
    os.makedirs(target)
    for name, text in (("METADATA", _metadata()), ("WHEEL", _wheel_file()[0])):
        with open(os.path.join(target, name), "w", encoding="utf-8") as file:
            file.write(text)
    return _dist_info()
