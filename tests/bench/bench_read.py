#!/usr/bin/env python3
"""One series of 1,000,000 noisy losses out of the store into Python, exactly: steps,
times and values, as pioche.read() gives them, and the C call below it alone.

The limit is libzstd alone, decompressing the same three columns from frames of
4,096 points whose bytes are shuffled, as a store of nothing but zstd would."""
import array
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time

SHORT = bool(os.environ.get("SHORT"))
BUILD = os.environ["PIOCHE_BUILD"]
SCRATCH = os.environ.get("BENCH_SCRATCH") or tempfile.mkdtemp(prefix="pioche-bench-")
POINTS = 100000 if SHORT else 1000000
BLOCK = 4096
TIMES = 5
sys.path.insert(0, os.path.join(BUILD, "lib", "pioche"))
import pioche  # noqa: E402
import pioche_points  # noqa: E402


def best_ms(function):
    best = float("inf")
    for _ in range(TIMES):
        begin = time.perf_counter()
        function()
        best = min(best, (time.perf_counter() - begin) * 1e3)
    return best


def limit_ms(points):
    """None where libzstd cannot be found."""
    try:
        zstd = ctypes.CDLL("libzstd.so.1")
    except OSError:
        return None
    zstd.ZSTD_compress.restype = zstd.ZSTD_decompress.restype = ctypes.c_size_t
    zstd.ZSTD_compress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
    zstd.ZSTD_decompress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    room, out, frames = ctypes.create_string_buffer(16 * BLOCK), ctypes.create_string_buffer(8 * BLOCK), []
    for column in (points.step, points.time_ns, points.value):
        for at in range(0, len(column), BLOCK):
            raw = column[at:at + BLOCK].tobytes()
            shuffled = b"".join(raw[plane::8] for plane in range(8))
            size = zstd.ZSTD_compress(room, len(room), shuffled, len(shuffled), 1)
            frames.append((room.raw[:size], size))

    def decompress():
        for frame, size in frames:
            zstd.ZSTD_decompress(out, len(out), frame, size)
    return best_ms(decompress)


def call_ms(store):
    points, message = pioche_points._Points(), ctypes.create_string_buffer(1024)
    library = pioche_points._reader

    def call():
        if library.pio_points_read(ctypes.byref(points), os.fsencode(store), b"bench-1", b"train/loss", 0, 0,
                                   message, len(message)):
            raise SystemExit(message.value.decode())
        library.pio_points_free(ctypes.byref(points))
    return best_ms(call)


def main():
    store = os.path.join(SCRATCH, "read", ".pioche")
    if not os.path.exists(store):
        subprocess.run([os.path.join(BUILD, "bench", "make_store"), store, "series", "bench", str(POINTS)], check=True)
    points = pioche.read("bench-1", "train/loss", store=store)
    assert len(points) == POINTS and isinstance(points.value, array.array)
    limit = limit_ms(points)
    read = best_ms(lambda: pioche.read("bench-1", "train/loss", store=store))
    for name, value in ((f"read {POINTS // 1000}k points into Python", read),
                        (f"read {POINTS // 1000}k points, the C call", call_ms(store))):
        print(json.dumps({"name": name, "value": value, "unit": "ms", "goal": 20 * POINTS / 1e6, "limit": limit,
                          "peer": None}))


if __name__ == "__main__":
    main()
