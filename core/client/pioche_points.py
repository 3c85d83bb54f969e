"""What pioche.read() gives: the points of a metric, out of the store, exactly as
they were logged. pioche_read.so does the work."""

import array
import ctypes
import html
import os
from typing import Any, Iterator, Optional, Tuple, Union

from pioche import Error, _load
from pioche_values import _bytes, _integer, _name_of

_pointer, _text, _i64 = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int64


class _Points(ctypes.Structure):
    _fields_ = [("count", _i64), ("kind", _i64), ("step", _pointer), ("time_ns", _pointer),
                ("value", _pointer), ("integer", _pointer)]


class Points:
    """The points of a series by step: `step` and `time_ns` are array('q'), `value`
    is array('d'), array('q') where all were logged as ints, a list where some
    were. NumPy takes them as they are: numpy.asarray(points.value)."""

    def __init__(self, key: str, step: "array.array[int]", time_ns: "array.array[int]", value: Any):
        self.key, self.step, self.time_ns, self.value = key, step, time_ns, value

    def __len__(self) -> int:
        return len(self.step)

    def __iter__(self) -> Iterator[Tuple[int, Union[int, float]]]:
        return zip(self.step, self.value)

    def __repr__(self) -> str:
        return "<pioche points of %s, %d>" % (self.key, len(self))

    def _repr_html_(self) -> str:
        """The curve, thinned to 400 points, and its newest value."""
        finite = [(s, v) for s, v in self if v - v == 0]
        thin = finite[::max(1, len(finite) // 400)]
        if not thin:
            return html.escape("%s: nothing to draw" % self.key)
        low, high = min(v for _, v in thin), max(v for _, v in thin)
        wide, tall = (thin[-1][0] - thin[0][0]) or 1, (high - low) or 1
        line = " ".join("%.1f,%.1f" % (400 * (s - thin[0][0]) / wide, 95 - 90 * (v - low) / tall) for s, v in thin)
        return ('<svg width="400" height="100"><polyline points="%s" fill="none" stroke="currentColor"/></svg>'
                "<br>%s: %g at step %d" % (line, html.escape(self.key), finite[-1][1], finite[-1][0]))


def _find_store(given: Optional[str]) -> str:
    if given is not None and not isinstance(given, (str, os.PathLike)):
        raise TypeError("store is %.80r (%s): a path expected" % (given, _name_of(given)))
    given = given or os.environ.get("PIOCHE_STORE")
    if given:
        return given
    here = os.path.abspath(os.getcwd())
    while not os.path.isdir(os.path.join(here, ".pioche")):
        above = os.path.dirname(here)
        if above == here:
            raise Error("no store: .pioche/ is neither here nor above; give store= or set PIOCHE_STORE")
        here = above
    return os.path.join(here, ".pioche")


_reader: Any = None


def read(run: str, key: str, rank: int, store: Optional[str]) -> Points:
    global _reader
    if _reader is None:
        _reader = ctypes.CDLL(_load("pioche_read.so"))
        _reader.pio_points_read.argtypes = (ctypes.POINTER(_Points), _text, _text, _text, _i64, ctypes.c_int,
                                            _text, ctypes.c_size_t)
    points, message = _Points(), ctypes.create_string_buffer(1024)
    code = _reader.pio_points_read(ctypes.byref(points), os.fsencode(_find_store(store)), _bytes("run", run),
                                   _bytes("key", key), _integer("rank", rank), 0, message, len(message))
    if code:
        hint = ""
        if code == -3:  # PIO_ENOTFOUND
            hint = "; what a program just logged is taken in by a command of pioche (pioche ls)"
        raise Error(message.value.decode("utf-8", "replace") + hint)
    try:
        def column(code: str, at: Optional[int]) -> "array.array[Any]":
            out = array.array(code)
            if points.count:
                out.frombytes((ctypes.c_char * (8 * points.count)).from_address(at or 0))
            return out
        value: Any = column("q" if points.kind == 1 else "d", points.value)
        if points.kind == 2:
            whole = column("q", points.value)
            flags = ctypes.string_at(points.integer, points.count)
            value = [whole[i] if flags[i] else value[i] for i in range(points.count)]
        return Points(key, column("q", points.step), column("q", points.time_ns), value)
    finally:
        _reader.pio_points_free(ctypes.byref(points))
