"""pioche: log metrics, parameters, texts, images and checkpoints of a program.

    import pioche
    with pioche.init("gpt", params={"lr": 3e-4}) as run:
        for step in range(100):
            run.log({"train/loss": loss}, step=step)

Under `pioche run` it joins the run that the agent made; anywhere else the process
becomes a run of its own in the nearest store (.pioche/, searched upwards like .git).
A point survives the death of the process the moment log() returns.

Floats are kept bit for bit, and so is an int of 64 bits; NumPy and torch
scalars go through __index__ or __float__; nested dicts become names joined by
'/'. Any thread may log. After os.fork() a child may log on its parent's run; a
process that was spawned may log on the run it was sent (runs can be pickled).

What is wrong with an argument raises TypeError, ValueError or pioche.Error with
the argument's name. A disk that is full or gone never raises: it is told on
stderr, and in the run's history once there is room again.
"""

import array
import builtins
import ctypes
import html
import io
import json
import math
import operator
import os
import pathlib
import struct
import sys
import threading
import traceback
import zlib
from types import TracebackType
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Type, Union

if TYPE_CHECKING:
    from pioche_points import Points

__all__ = ["Run", "Error", "init", "log", "finish", "read", "rank", "world", "run"]


class Error(RuntimeError):
    """What the library refused; the message says what and why."""


class _Info(ctypes.Structure):
    _fields_ = [("rank", ctypes.c_int), ("world", ctypes.c_int), ("local_rank", ctypes.c_int),
                ("attempt", ctypes.c_int), ("resume_step", ctypes.c_int64), ("id", ctypes.c_char_p),
                ("dir", ctypes.c_char_p), ("staging", ctypes.c_char_p), ("ring", ctypes.c_char_p)]


def _candidates(name: str) -> Iterator[str]:
    given = os.environ.get("PIOCHE_LIB")
    if given:
        yield given if name == "libpioche.so" else os.path.join(os.path.dirname(given), "pioche", name)
        return
    here = os.path.dirname(os.path.realpath(__file__))
    for folder in ("", "..", "../../build/lib", "../../build/lib/pioche"):  # installed; a source tree
        yield os.path.normpath(os.path.join(here, folder, name))
    yield name


def _load(name: str) -> str:
    tried = []
    for path in _candidates(name):
        try:
            return str(ctypes.CDLL(path)._name)
        except OSError as error:
            tried.append(str(error))
    raise ImportError("pioche needs %s: run `make` or `make install`, or set PIOCHE_LIB to the path of "
                      "libpioche.so (tried: %s)" % (name, "; ".join(tried)))


_lib = ctypes.CDLL(_load("libpioche.so"))  # lets other threads run while it works or waits
_pointer, _text, _i64, _int = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int64, ctypes.c_int
_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1
_TEXT, _IMAGE, _TABLE, _FILE = range(4)


for _name, _result, *_arguments in (
        ("pio_open", _int, ctypes.POINTER(_pointer), _text),
        ("pio_close", _int, ctypes.POINTER(_pointer), _int),
        ("pio_error", _text),
        ("pio_info_get", ctypes.POINTER(_Info), _pointer),
        ("pio_key_get", ctypes.c_uint32, _pointer, _text),
        ("pio_log", _int, _pointer, ctypes.c_uint32, _i64, ctypes.c_double),
        ("pio_log_int", _int, _pointer, ctypes.c_uint32, _i64, _i64),
        ("pio_log_histogram", _int, _pointer, _text, _i64, _int, _pointer, ctypes.c_size_t),
        ("pio_log_media", _int, _pointer, _int, _text, _i64, _text, _text, ctypes.c_size_t),
        ("pio_fact", _int, _pointer, ctypes.c_char, _text, _text),
        ("pio_checkpoint_begin", _int, ctypes.POINTER(_pointer), _pointer, _i64, _int),
        ("pio_checkpoint_add", _int, _pointer, _text, _text, _int, _int, ctypes.POINTER(_i64), _pointer),
        ("pio_checkpoint_commit", _int, ctypes.POINTER(_pointer))):
    getattr(_lib, _name).restype, getattr(_lib, _name).argtypes = _result, _arguments


def _why() -> str:
    message: bytes = _lib.pio_error()
    return message.decode("utf-8", "replace")


def _check(code: int) -> None:
    if code:
        raise Error(_why())


_told_missing = False


def _check_kept(code: int) -> None:
    """Like _check, but what the disk refuses must not end a training."""
    global _told_missing
    if code not in (-8, -9):  # PIO_EIO, PIO_ENOSPC
        return _check(code)
    if not _told_missing:
        print("pioche: not kept, nor perhaps what follows: %s" % _why(), file=sys.stderr)
    _told_missing = True


# ---- fast logging -------------------------------------------------------------------

def _builtin_log(self: Tuple[bytearray, Any]) -> Any:
    """log() as a builtin function (python.c), or None where the interpreter is
    not CPython with its lock."""
    try:
        if sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)():
            return None
        api = ctypes.pythonapi
        functions = (api.PyCFunction_NewEx, api.PyDict_Next, api.PyDict_Size, api.PyObject_Type,
                     api.Py_IncRef, api.Py_DecRef, api.PyFloat_AsDouble, api.PyLong_AsLongLongAndOverflow,
                     api.PyUnicode_AsUTF8AndSize, api.PyErr_Clear, api.PyByteArray_AsString,
                     api.PyTuple_GetItem, api.PyTuple_Size, api.PyUnicode_CompareWithASCIIString,
                     api.PyObject_Vectorcall)
        make = ctypes.PyDLL(_lib._name).pio_python_log
    except AttributeError:
        return None
    addresses = [ctypes.cast(function, _pointer).value for function in functions]
    addresses += map(id, (None, dict, str, float, int))
    make.restype, make.argtypes = ctypes.py_object, (_pointer, ctypes.py_object)
    return make((_pointer * len(addresses))(*addresses), self)


# ---- arguments ----------------------------------------------------------------------

def _name_of(value: object) -> str:
    return type(value).__name__


def _bytes(what: str, value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError("%s is %.80r (%s): str expected" % (what, value, _name_of(value)))
    if "\0" in value:
        raise ValueError("%s %.80r holds a NUL" % (what, value))
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("%s %.80r is no Unicode text: it holds a lone surrogate" % (what, value)) from None


def _dict(what: str, value: Any) -> Any:
    if not hasattr(value, "items"):
        raise TypeError("%s is %.80r (%s): a dict expected" % (what, value, _name_of(value)))
    return value


def _step(value: Any) -> int:
    try:
        step = operator.index(value)
    except TypeError:
        raise TypeError("step is %.80r (%s): an integer expected" % (value, _name_of(value))) from None
    if not _INT64_MIN <= step <= _INT64_MAX:
        raise ValueError("step is %d: an integer of 64 bits expected" % step)
    return step


def _flatten(values: Mapping[str, Any], prefix: str, flat: Dict[str, Any]) -> Dict[str, Any]:
    for key, value in values.items():
        if not isinstance(key, str):
            raise TypeError("key %.80r is no string (%s): str expected" % (key, _name_of(key)))
        name = prefix + key
        if isinstance(value, dict):
            _flatten(value, name + "/", flat)
        elif name in flat:
            raise ValueError("key %.80r is there twice" % name)
        else:
            flat[name] = value
    return flat


def _as_number(value: Any) -> Union[int, float, None]:
    """An exact int of 64 bits where it is whole by its type, else a float."""
    if isinstance(value, (str, bytes, bytearray)):
        return None
    for convert in (operator.index, float):
        try:
            number: Union[int, float] = convert(value)
            return number if _INT64_MIN <= number <= _INT64_MAX or convert is float else float(number)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            continue
    return None


def _number(what: str, key: str, value: Any) -> Union[int, float]:
    number = _as_number(value)
    if number is None:
        raise TypeError("%s %r is %.80r (%s): a number expected" % (what, key, value, _name_of(value)))
    return number


def _scalar(what: str, value: Any) -> Any:
    """What json.dumps writes as one scalar."""
    if isinstance(value, str):
        _bytes(what, value)
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int) and not _INT64_MIN <= value <= _INT64_MAX:
        return str(value)  # whole, where a double would round it
    number = _as_number(value)
    if number is None:
        return str(value)
    if number - number == 0:
        return number
    return "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


class Run:
    """A run. Made by init()."""

    def __init__(self, experiment: Optional[str] = None):
        handle = _pointer()
        _check(_lib.pio_open(ctypes.byref(handle), None if experiment is None else
                             _bytes("experiment", experiment)))
        info = _lib.pio_info_get(handle).contents
        self.id: str = info.id.decode()
        self.dir: str = os.fsdecode(info.dir)
        self.rank: int = info.rank
        self.world: int = info.world
        self.local_rank: int = info.local_rank
        self.attempt: int = info.attempt
        self.resume_step: Optional[int] = None if info.resume_step < 0 else info.resume_step
        self._joins = {"PIOCHE_RING": os.fsdecode(info.ring), "PIOCHE_RUN": self.id, "PIOCHE_DIR": self.dir,
                       "PIOCHE_STAGING": os.fsdecode(info.staging), "PIOCHE_ATTEMPT": str(self.attempt),
                       "RANK": str(self.rank), "WORLD_SIZE": str(self.world),
                       "LOCAL_RANK": str(self.local_rank)}
        self._handle: Optional[ctypes.c_void_p] = handle
        self._pid = self._lock_pid = os.getpid()
        self._lock = threading.RLock()
        state = bytearray(struct.pack("=Qq", handle.value, -1))
        self._state = memoryview(state).cast("q")  # [1]: the newest step that was logged
        builtin = _builtin_log((state, self.log))
        if builtin is not None:
            self.__dict__["log"] = builtin

    def __repr__(self) -> str:
        state = "logging" if self._handle else "finished"
        return "<pioche run %s, rank %d of %d, %s>" % (self.id, self.rank, self.world, state)

    def _repr_html_(self) -> str:
        rows = {"run": repr(self)[1:-1], "newest step": self._state[1], "directory": self.dir}
        row = "<tr><th>%s</th><td>%s</td></tr>"
        return "<table>%s</table>" % "".join(row % (key, html.escape(str(rows[key]))) for key in rows)

    def __reduce__(self) -> Any:  # to another process
        return _join, (self._joins,)

    def _call(self, function: Any, *arguments: Any) -> Any:
        """function(handle, ...); finish() in another thread waits meanwhile."""
        if self._lock_pid != os.getpid():  # forked: nobody holds it here
            self._lock, self._lock_pid = threading.RLock(), os.getpid()
        with self._lock:
            if not self._handle:
                raise Error("run %s is finished" % self.id)
            return function(self._handle, *arguments)

    def log(self, values: Mapping[str, Any], step: Optional[int] = None) -> None:
        """Log a dict of numbers at `step` (left out: one more than the last)."""
        # The builtin of python.c takes floats and ints; here is what it leaves
        # over: other types, nested dicts, errors, a full ring.
        if not isinstance(values, Mapping):
            raise TypeError("log() got a %s: a dict of numbers expected" % _name_of(values))
        at = self._state[1] + 1 if step is None else _step(step)
        flat = _flatten(values, "", {})
        points = [(_bytes("key", key), _number("value of", key, value)) for key, value in flat.items()]
        numbers = []
        for name, value in points:
            number = self._call(_lib.pio_key_get, name)
            if not number:
                raise Error(_why())
            numbers.append(number)
        for number, (_, value) in zip(numbers, points):
            log = _lib.pio_log_int if isinstance(value, int) else _lib.pio_log
            _check(self._call(log, number, at, value))
        if points:
            self._state[1] = at

    def histogram(self, key: str, values: Any, step: Optional[int] = None) -> None:
        """How values are spread: an array, a tensor, or any numbers."""
        name, at = _bytes("key", key), self._at(step)
        if hasattr(values, "detach"):
            values = values.detach().cpu()
        elif not hasattr(values, "__array_interface__") and not isinstance(values, (array.array, memoryview)):
            if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
                raise TypeError("histogram %r is %.80r (%s): numbers expected" %
                                (key, values, _name_of(values)))
            values = array.array("d", [float(_number("value of", key, value)) for value in values])
        dtype, shape, address, owner = _array("histogram", key, values)
        _check_kept(self._call(_lib.pio_log_histogram, name, at, dtype, address, math.prod(shape)))

    def _at(self, step: Optional[int]) -> int:
        """Left out: the newest step that was logged; before the first, none."""
        return _step(step) if step is not None else self._state[1] if self._state[1] >= 0 else _INT64_MIN

    def _media(self, kind: int, key: str, step: int, name: Optional[bytes], data: Optional[bytes]) -> None:
        size = len(data or b"")
        _check_kept(self._call(_lib.pio_log_media, kind, _bytes("key", key), step, name, data, size))

    def text(self, key: str, text: str, step: Optional[int] = None) -> None:
        """A text: a sample, a prompt and its answer."""
        self._media(_TEXT, key, self._at(step), None, _bytes("text", text))

    def image(self, key: str, image: Any, step: Optional[int] = None) -> None:
        """A PNG or JPEG (bytes, or its path), a PIL image, or an array of bytes
        (uint8) of shape height x width, with 1, 3 or 4 channels behind."""
        self._media(_IMAGE, key, self._at(step), None, _image(key, image))

    def table(self, key: str, table: Any, step: Optional[int] = None) -> None:
        """A list of dicts, a dict of lists, or a pandas DataFrame."""
        columns = _columns(key, table)
        data = [[_scalar("cell of %r" % key, cell) for cell in column] for column in columns.values()]
        self._media(_TABLE, key, self._at(step), None, _json({"columns": list(columns), "data": data}))

    def file(self, key: str, file: Any, step: Optional[int] = None) -> None:
        """A file, by its path, or its bytes: kept whole, under its SHA-256. It
        belongs to the run as a whole unless a step is given."""
        at = _INT64_MIN if step is None else _step(step)
        if isinstance(file, (bytes, bytearray)):
            return self._media(_FILE, key, at, _bytes("key", key), bytes(file))
        if not isinstance(file, (str, os.PathLike)):
            raise TypeError("file %r is %.80r (%s): a path or bytes expected" % (key, file, _name_of(file)))
        return self._media(_FILE, key, at, os.fsencode(file), None)

    def _facts(self, kind: bytes, what: str, values: Any) -> None:
        for name, value in _flatten(_dict(what, values), "", {}).items():
            scalar = _json(_scalar("value of %r" % name, value))
            _check(self._call(_lib.pio_fact, kind, _bytes("name", name), scalar))

    def params(self, values: Mapping[str, Any]) -> None:
        """Parameters: a dict of numbers, strings, booleans; may be nested."""
        self._facts(b"p", "params", values)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Results: like params, but what came out."""
        self._facts(b"s", "summary", values)

    def tag(self, name: str, value: Any = True) -> None:
        self._facts(b"t", "tag", {name: value})

    def event(self, kind: str, message: str) -> None:
        """Something that happened."""
        _check(self._call(_lib.pio_fact, b"e", _bytes("kind", kind), _bytes("message", message)))

    def note(self, text: str) -> None:
        """A remark, as `pioche note` writes."""
        _check(self._call(_lib.pio_fact, b"e", b"note", _bytes("note", text)))

    def checkpoint(self, step: int, roles: Mapping[str, Mapping[str, Any]], writers: int = 1) -> None:
        """Save {role: {name: array}}: NumPy arrays, torch CPU tensors, or anything
        with the buffer protocol. Returns when this rank's files are on disk."""
        for role, tensors in _dict("checkpoint", roles).items():
            _dict("role %r of a checkpoint" % role, tensors)
        self._call(_checkpoint, _step(step), roles, writers)

    def finish(self, status: int = 0) -> None:
        """Flush and close; idempotent. `status` other than 0: the run failed."""
        if self._pid == os.getpid():  # in a forked child the run is its parent's
            with self._lock:
                if self._handle:
                    handle, self._handle, self._state[0] = self._handle, None, 0
                    if _lib.pio_close(ctypes.byref(handle), int(status)):
                        print("pioche: run %s: %s" % (self.id, _why()), file=sys.stderr)

    def fail(self, kind: Optional[Type[BaseException]], value: Optional[BaseException],
             trace: Optional[TracebackType]) -> None:
        """Close as failed, with the traceback as text."""
        if self._handle and self._pid == os.getpid():
            try:
                whole = "".join(traceback.format_exception(kind, value, trace))[-100000:].replace("\0", "\\0")
                self.text("traceback", whole.encode("utf-8", "backslashreplace").decode("utf-8"))
            finally:
                self.finish(1)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], value: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        if kind is None or (isinstance(value, SystemExit) and not value.code):
            self.finish()
        elif issubclass(kind, KeyboardInterrupt) and _is_interactive():
            # A person stopped a cell; the kernel lives on, and what was logged is good.
            if self._handle:
                self.event("interrupt", "stopped by a person")
            self.finish()
        else:
            self.fail(kind, value, trace)


def _join(environment: Dict[str, str]) -> Run:
    """A run that was sent to another process: it logs there too, and its end is
    the sender's."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        return Run()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _checkpoint(run: ctypes.c_void_p, step: int, roles: Mapping[str, Any], writers: int) -> None:
    made, kept = _pointer(), []
    _check(_lib.pio_checkpoint_begin(ctypes.byref(made), run, step, writers))
    try:
        for role, tensors in roles.items():
            for name, value in tensors.items():
                dtype, shape, address, owner = _array("tensor", name, value)
                kept.append(owner)
                _check(_lib.pio_checkpoint_add(made, _bytes("role", role), _bytes("tensor", name), dtype,
                                               len(shape), (_i64 * len(shape))(*shape), address))
    except BaseException:
        _lib.pio_checkpoint_add(made, b"", b"", 0, 0, None, None)  # spoils it: nothing is reported
        _lib.pio_checkpoint_commit(ctypes.byref(made))
        raise
    _check(_lib.pio_checkpoint_commit(ctypes.byref(made)))


# ---- arrays, images, tables ----------------------------------------------------------

_DTYPES = {"bool": 0, "uint8": 1, "int8": 2, "int16": 3, "uint16": 4, "float16": 5, "bfloat16": 6,
           "int32": 7, "uint32": 8, "float32": 9, "float64": 10, "int64": 11, "uint64": 12}
_FORMATS = {"?": "bool", "B": "uint8", "b": "int8", "h": "int16", "H": "uint16", "e": "float16",
            "i": "int32", "I": "uint32", "f": "float32", "d": "float64", "q": "int64", "Q": "uint64",
            "l": "int64", "L": "uint64", "c": "uint8"}


def _array(what: str, name: str, value: Any) -> Tuple[int, Sequence[int], Optional[int], Any]:
    """dtype number, shape, address and what must stay alive."""
    owner: Any
    shape: Sequence[int]
    if hasattr(value, "data_ptr"):
        owner = value.detach()
        if owner.device.type != "cpu":
            raise TypeError("%s %r is on %s: move it to the CPU first" % (what, name, owner.device))
        owner = owner.contiguous()
        dtype = str(owner.dtype).rpartition(".")[2]
        shape, address = tuple(owner.shape), owner.data_ptr()
    else:
        try:
            view = memoryview(value)
        except (TypeError, ValueError):
            raise TypeError("%s %r is a %s: an array expected" % (what, name, _name_of(value))) from None
        dtype = _FORMATS.get(view.format.lstrip("@=<"), view.format)
        shape = view.shape or ()
        if not view.c_contiguous or view.readonly or 0 in shape:
            owner = bytearray(view.tobytes() or b" ")
        else:
            owner = view.cast("B")
        address = ctypes.addressof(ctypes.c_char.from_buffer(owner))
    if dtype not in _DTYPES:
        raise TypeError("%s %r has elements of type %s: one of %s expected" %
                        (what, name, dtype, ", ".join(_DTYPES)))
    return _DTYPES[dtype], shape, address, owner


def _png(height: int, width: int, channels: int, pixels: bytes) -> bytes:
    """The PNG of 8 bits a channel (ISO/IEC 15948), each row unfiltered."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    stride = width * channels
    rows = b"".join(b"\0" + pixels[at:at + stride] for at in range(0, height * stride, stride))
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 6)) +
            chunk(b"IEND", b""))


def _image(key: str, image: Any) -> bytes:
    if isinstance(image, (bytes, bytearray)):
        return bytes(image)
    if isinstance(image, (str, os.PathLike)):
        return pathlib.Path(image).read_bytes()
    if hasattr(image, "save") and not hasattr(image, "data_ptr"):  # PIL's
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        return buffer.getvalue()
    if hasattr(image, "detach"):
        image = image.detach().cpu().contiguous().numpy()
    try:
        view = memoryview(image)
    except (TypeError, ValueError):
        raise TypeError("image %r is %.80r (%s): PNG or JPEG bytes, a path, a PIL image or an array of "
                        "uint8 expected" % (key, image, _name_of(image))) from None
    shape = tuple(view.shape or ())
    if view.format != "B" or len(shape) not in (2, 3) or 0 in shape or (len(shape) == 3 and
                                                                       shape[2] not in (1, 3, 4)):
        raise TypeError("image %r is an array of shape %r and type %s: uint8 of height x width, with 1, 3 or "
                        "4 channels, expected" % (key, shape, _FORMATS.get(view.format, view.format)))
    return _png(shape[0], shape[1], shape[2] if len(shape) == 3 else 1, view.tobytes())


def _columns(key: str, table: Any) -> Dict[str, List[Any]]:
    columns: Dict[str, List[Any]] = {}
    if hasattr(table, "columns") and hasattr(table, "to_dict"):  # pandas'
        columns = {str(name): table[name].tolist() for name in table.columns}
    elif isinstance(table, Mapping):
        for name, cells in table.items():
            if isinstance(cells, (str, bytes)) or not hasattr(cells, "__iter__"):
                raise TypeError("column %r of table %r is %.80r (%s): a list expected" %
                                (name, key, cells, _name_of(cells)))
            columns[name] = list(cells)
    elif isinstance(table, (list, tuple)):
        names = dict.fromkeys(name for row in table for name in _dict("row of table %r" % key, row))
        columns = {name: [row.get(name) for row in table] for name in names}
    else:
        raise TypeError("table %r is %.80r (%s): a list of dicts, a dict of lists or a DataFrame expected" %
                        (key, table, _name_of(table)))
    lengths = {_bytes("column name of table %r" % key, name): len(columns[name]) for name in columns}
    if len(set(lengths.values())) > 1:
        raise ValueError("columns of table %r are of different lengths: %.200r" % (key, lengths))
    return columns


# ---- the module's run -------------------------------------------------------------------------

run: Optional[Run] = None  # the newest of init()
rank = int(os.environ.get("RANK", "0") or 0) if "PIOCHE_RING" in os.environ else 0
world = int(os.environ.get("WORLD_SIZE", "1") or 1) if "PIOCHE_RING" in os.environ else 1


def _is_interactive() -> bool:  # a prompt or a notebook: the process outlives an exception
    return hasattr(sys, "ps1") or hasattr(builtins, "get_ipython")


def _script() -> str:
    name = os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] not in ("", "-c", "-m") else ""
    return os.path.splitext(name)[0] or "python"


def _hook(kind: Type[BaseException], value: BaseException, trace: Optional[TracebackType],
          _before: Any = sys.excepthook) -> None:
    if run is not None and not _is_interactive():
        try:
            run.fail(kind, value, trace)
        except Exception as error:  # the program's own exception is what must be seen
            print("pioche: %s" % error, file=sys.stderr)
    _before(kind, value, trace)


def init(experiment: Optional[str] = None, params: Optional[Mapping[str, Any]] = None) -> Run:
    """Open the run of this process. `experiment` (the script's name unless told)
    matters outside `pioche run` alone; a run that is still open is finished first."""
    global run, rank, world
    if run is not None and run._handle and run._pid == os.getpid():
        run.finish()
    run = Run(experiment or _script() if isinstance(experiment, (str, type(None))) else experiment)
    rank, world = run.rank, run.world
    if sys.excepthook is not _hook:
        sys.excepthook = _hook
    if params is not None:
        run.params(params)
    return run


def read(run: Union[Run, str], key: str, rank: int = 0, store: Optional[str] = None) -> "Points":
    """The points of metric `key` of a run ("gpt-17", a ULID, or a Run), as the
    store has them: a command of pioche takes in what a program just logged."""
    from pioche_points import read as read_points
    return read_points(run.id if isinstance(run, Run) else run, key, rank, store)


def log(values: Mapping[str, Any], step: Optional[int] = None) -> None:
    """run.log of the module's run."""
    if run is None:
        raise Error("pioche.init() has not been called")
    run.log(values, step)


def finish(status: int = 0) -> None:
    if run is not None:
        run.finish(status)
