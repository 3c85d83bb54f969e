#!/usr/bin/env python3
"""What a training program gets when it links libpioche: libc, the names of its
headers, and nothing else."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import BUILD, ROOT, Skip  # noqa: E402

LIBRARY = os.path.join(BUILD, "lib", "libpioche.so")
HEADERS = [os.path.join(ROOT, "core", "client", name) for name in ("pioche.h", "pioche_nccl.h")]

# Of libc itself: the dynamic linker, and what glibc before 2.34 kept apart.
LIBC = {"libc", "ld-linux-x86-64", "ld-linux-aarch64", "libpthread"}
# Exported for pioche.py alone: log() as a builtin function of CPython.
EXTRAS = {"pio_python_log_2"}


def tool(*command):
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError as e:
        raise Skip(f"{command[0]} is missing (Debian package binutils)") from e


def test_it_needs_libc_alone():
    """A training program must not drag in SQLite, Lua, jansson or libuv, nor start with libcrypto."""
    needed = set(re.findall(r"\(NEEDED\).*\[(.*?)\.so", tool("readelf", "-d", LIBRARY)))
    sanitizers = {name for name in needed if os.environ.get("SAN") and name.endswith("san")}
    assert needed <= LIBC | sanitizers, needed


def pioche_h():
    with open(HEADERS[0], encoding="utf-8") as f:
        return f.read()


def test_it_exports_what_the_headers_declare():
    """No more: an internal name that a program could reach is a promise unmade."""
    text = ""
    for header in HEADERS:
        with open(header, encoding="utf-8") as f:
            text += re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
    declared = set(re.findall(r"^PIO_API[^;(]*?(\w+)\(", text, flags=re.M))
    assert len(declared) >= 15, declared
    documented = re.findall(r"^PIO_API[^;(]*?(\w+)\(", pioche_h(), flags=re.M)
    assert 15 <= len(documented) < 20, documented  # what a person has to learn
    exported = {line.split()[-1] for line in tool("nm", "-D", "--defined-only", LIBRARY).splitlines()}
    exported = {name for name in exported if name.startswith("pio") or not os.environ.get("SAN")}
    assert exported == declared | EXTRAS, exported ^ (declared | EXTRAS)


def test_its_name_is_its_soname():
    """What was linked against it is found where `make install` puts it."""
    assert "[libpioche.so]" in next(line for line in tool("readelf", "-d", LIBRARY).splitlines()
                                    if "(SONAME)" in line)


def test_nothing_of_it_can_be_undefined():
    """It loads with all names bound at once, as under LD_BIND_NOW."""
    if os.environ.get("SAN"):
        raise Skip("a sanitizer must be loaded first")
    code = f"import ctypes, os; ctypes.CDLL({LIBRARY!r}, mode=os.RTLD_NOW | os.RTLD_LOCAL)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "LD_BIND_NOW": "1"})


harness.main()
