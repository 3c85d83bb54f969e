#!/usr/bin/env python3
"""Hold the house to its own rules: layout, include order, sizes, forbidden
calls, headers that stand alone, luacheck. Prints one line per finding and
nothing else; exit status 1 if there is any."""
import os
import re
import shutil
import subprocess
import sys

TOP = {"Makefile", "README.md", "core", "lua", "recipes", "experiments", "tests", "LICENSE"}
# A room may include itself and the rooms of lower rank.
RANK = {"base": 0, "sys": 1, "client": 2, "store": 2, "git": 2, "pack": 2, "gpu": 2,
        "launch": 3, "sweep": 3, "exchange": 3, "bind": 4, "cli": 5}
# libpioche is linked into training programs: libc alone.
LIBRARY_ROOMS_BAN = re.compile(r"#include <(sqlite3|lua|jansson|uv|git2|archive|zstd)")
FORBIDDEN = {
    re.compile(r"\b(strcpy|strcat|sprintf|vsprintf|gets|system|popen|tmpnam|alloca)\s*\("):
        lambda path: True,
    re.compile(r"(?<![\w.>])(fsync|fdatasync|rename|renameat|renameat2|fork|vfork|connect|unlinkat)\s*\("):
        lambda path: not path.startswith("core/sys/"),
    re.compile(r"(?<![\w.>_])(malloc|calloc|realloc|strdup)\s*\("):
        lambda path: path != "core/base/mem.c",
    # Their last bits are the machine's, and one bit makes another run of a proposal: sweep/real.h.
    re.compile(r"(?<![\w.>])(exp|exp2|exp10|expm1|log|log2|log10|log1p|pow|sin|cos|tan|asin|acos|atan|atan2|sinh|cosh|tanh"
               r"|erf|erfc|cbrt|hypot|tgamma|lgamma|sincos|fma)[fl]?\s*\("):
        lambda path: path.startswith(("core/sweep/", "core/bind/sweep")),
    # It loses characters where memory is out.
    re.compile(r"\b(json_loadb|json_loads|json_loadf|json_loadfd|json_load_file|json_load_callback)\s*\("):
        lambda path: path.startswith("core/") and path != "core/base/json.c",
}
# Where it is installed there are no rooms.
INSTALLED = {("core/client/pioche_nccl.h", '#include "pioche.h"')}
# The same of what is Lua: what decides in a sweep has exp and log of pioche.core.sweep, and no powers
# but squares, which are products, and those of two, which are exact.
LUA_LIBM = re.compile(r"\bmath\.(exp|log|sin|cos|tan|asin|acos|atan)\b|(?<![^\w.]2 )\^(?! 2\b(?!\.))|\^ [\d.]*\.\d")
LUA_EXACT = ("lua/pioche/samplers/", "lua/pioche/stopping/", "lua/pioche/sweep/",
             *(f"lua/pioche/{name}.lua" for name in (
                 "axes", "basins", "fronts", "infeasible", "judge", "ladder", "levels", "limits", "points", "population",
                 "price", "promise", "race", "region", "rungs", "scaling", "seeds", "space", "survival")))
FUNCTION_LINES, FILE_LINES = 70, 600

found = []


def say(path, line, text):
    found.append(f"{path}:{line}: {text}")


def tracked():
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True,
                         text=True, check=True).stdout
    return [p for p in out.splitlines() if os.path.isfile(p)]


def without_comments(text):
    """The C text with comments and string contents blanked, lines kept."""
    def blank(match):
        s = match.group(0)
        if s[0] in "\"'":
            return s[0] + re.sub(r"[^\n]", " ", s[1:-1]) + s[-1]
        return re.sub(r"[^\n]", " ", s)
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text,
                  flags=re.DOTALL)


def check_sizes(path, text):
    lines = text.count("\n")
    if lines > FILE_LINES:
        say(path, lines, f"{lines} lines; at most {FILE_LINES}: is it one room or two?")
    if path.startswith("core/bind/") and path.endswith(".c") and lines > 300:
        say(path, lines, f"{lines} lines; a binding stays small: at most 300")


def check_functions(path, code):
    start = None
    for number, line in enumerate(code.splitlines(), 1):
        if line.startswith("{"):
            start = number
        elif re.match(r"^[A-Za-z_].*\)\s*\{$", line):
            start = number
        elif line.startswith("}") and start:
            if number - start > FUNCTION_LINES:
                say(path, start, f"a function of {number - start} lines; at most {FUNCTION_LINES}")
            start = None


def check_includes(path, text):
    parts = path.split("/")
    if parts[0] != "core":
        return
    room = parts[1]
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r'#include "(\w+)/', line)
        if match and match.group(1) in RANK:
            other = match.group(1)
            if other != room and RANK[other] >= RANK[room]:
                say(path, number, f"room {room} must not include room {other}")
        elif (re.match(r'#include "', line) and "gen/" not in line
              and (path, line) not in INSTALLED):
            say(path, number, "include by room: #include \"room/file.h\"")
        if re.match(r"#include <(lua|lauxlib|lualib)", line) and room != "bind":
            say(path, number, "only core/bind includes lua.h")
        if re.match(r"#include <(cuda|nccl|cublas|nvml)", line) and room != "gpu":
            say(path, number, "only core/gpu includes CUDA and NCCL headers")
        if room == "client" and LIBRARY_ROOMS_BAN.match(line):
            say(path, number, "libpioche needs libc alone")


def check_calls(path, code):
    for number, line in enumerate(code.splitlines(), 1):
        for pattern, applies in FORBIDDEN.items():
            match = pattern.search(line)
            if match and applies(path):
                say(path, number, f"{match.group(1)}() is forbidden here")


def check_header(path):
    # An including line of its own, so that a header of macros alone is no empty unit.
    name = path.removeprefix("core/")
    source = f'#include "{name}"\nextern int not_empty;\n'
    result = subprocess.run(
        ["gcc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Icore",
         "-fsyntax-only", "-x", "c", "-", *pkg_flags], input=source, text=True, capture_output=True)
    if result.returncode:
        say(path, 1, "does not compile alone: " + result.stderr.strip().splitlines()[0])


def check_lua(paths):
    tool = shutil.which("luacheck")
    if not tool:
        say("lua", 0, "luacheck is missing (Debian package lua-check)")
        return
    result = subprocess.run([tool, "--no-color", "--codes", "-q", "--std", "lua54",
                             "--max-line-length", "120", *paths], text=True, capture_output=True)
    if result.returncode:
        found.extend(l.strip() for l in result.stdout.splitlines() if re.match(r"\s+\S+:\d+", l))


def check_exact(path, text):
    for number, line in enumerate(text.splitlines(), 1):
        code = re.sub(r'"(?:\\.|[^"\\])*"', '""', line.split("--")[0])
        if path.startswith(LUA_EXACT) and LUA_LIBM.search(code):
            say(path, number, f"{LUA_LIBM.search(code).group(0)}: its last bits are the machine's")


def check_words(path, text):
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line) and path != "tests/lint.py":
            say(path, number, "unfinished, by its own words")
        if len(line.expandtabs(8)) > 120 and path.endswith((".c", ".h")):
            say(path, number, "a line of more than 120 columns")


pkg_flags = subprocess.run(["pkg-config", "--cflags", "sqlite3", "lua5.4", "libgit2", "libarchive",
                            "libuv", "jansson"], capture_output=True, text=True).stdout.split()


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    files = tracked()
    for top in sorted({p.split("/")[0] for p in files} - TOP):
        if not top.startswith("."):
            say(top, 0, "does not belong at the top level")
    for path in files:
        if not path.endswith((".c", ".h", ".cu", ".lua", ".py", ".sh", ".sql")):
            continue
        with open(path, encoding="utf-8") as f:
            text = f.read()
        check_sizes(path, text)
        check_words(path, text)
        check_exact(path, text)
        if path.endswith((".c", ".h", ".cu")):
            code = without_comments(text)
            check_functions(path, code)
            check_includes(path, text)
            if path.startswith(("core/", "experiments/")):
                check_calls(path, code if path.startswith("core/") else
                            re.sub(r"\b(malloc|calloc|realloc|strdup)\b", " ", code))
        if path.startswith("core/") and path.endswith(".h"):
            check_header(path)
    check_lua([p for p in ("lua", "recipes") if os.path.isdir(p)])
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
