"""pioche: log metrics, parameters, texts and checkpoints of a training program.

    import pioche
    run = pioche.init("gpt", params={"lr": 3e-4})
    for step in range(100):
        run.log({"train/loss": loss}, step=step)
    run.finish()

Under `pioche run` it joins the run that the agent made; anywhere else the
process becomes a run of its own in the nearest store (.pioche/, searched
upwards like .git). A point survives the death of the process the moment
log() returns. Standard library only: libpioche.so does the work.

Values are floats bit for bit; NumPy and torch scalars go through __float__;
nested dicts become names joined by '/'. Any thread may log; after os.fork() a
child may log on its parent's run.
"""

import ctypes
import json
import os
import struct
import sys
import threading
import traceback

__all__ = ["Run", "Error", "init", "log", "finish", "rank", "world", "run"]


class Error(RuntimeError):
    """The library refused; the message says what and why."""


class _Info(ctypes.Structure):
    _fields_ = [("rank", ctypes.c_int), ("world", ctypes.c_int), ("local_rank", ctypes.c_int),
                ("attempt", ctypes.c_int), ("resume_step", ctypes.c_int64),
                ("id", ctypes.c_char_p), ("dir", ctypes.c_char_p)]


def _candidates():
    given = os.environ.get("PIOCHE_LIB")
    if given:
        yield given
        return
    here = os.path.dirname(os.path.realpath(__file__))
    yield os.path.join(here, os.pardir, "libpioche.so")
    yield os.path.join(here, "libpioche.so")
    yield os.path.join(here, os.pardir, os.pardir, "build", "lib", "libpioche.so")  # a source tree
    yield "libpioche.so"


def _load():
    tried = []
    for path in _candidates():
        if os.sep in path and not os.path.exists(path):
            tried.append("%s: no such file" % os.path.normpath(path))
            continue
        try:
            return ctypes.CDLL(path), ctypes.PyDLL(path)
        except OSError as error:
            tried.append(str(error))
    raise ImportError("pioche needs libpioche.so: run `make` or `make install`, or set PIOCHE_LIB to "
                      "its path (tried: %s)" % "; ".join(tried))


# _fast keeps the interpreter's lock: right for calls of nanoseconds. _lib lets
# other threads run: right for calls that write files.
_lib, _fast = _load()
_pointer, _text, _i64 = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int64


def _declare(name, result, *arguments):
    for library in (_lib, _fast):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


_declare("pio_open", ctypes.c_int, ctypes.POINTER(_pointer), _text)
_declare("pio_close", ctypes.c_int, ctypes.POINTER(_pointer), ctypes.c_int)
_declare("pio_error", _text)
_declare("pio_info_get", ctypes.POINTER(_Info), _pointer)
_declare("pio_key_get", ctypes.c_uint32, _pointer, _text)
_declare("pio_log_packed", ctypes.c_int, _pointer)
_declare("pio_fact", ctypes.c_int, _pointer, ctypes.c_char, _text, _text)
_declare("pio_text", ctypes.c_int, _pointer, _text, _i64, _text)
_declare("pio_event", ctypes.c_int, _pointer, _text, _text)
_declare("pio_checkpoint_begin", ctypes.c_int, ctypes.POINTER(_pointer), _pointer, _i64, ctypes.c_int)
_declare("pio_checkpoint_add", ctypes.c_int, _pointer, _text, _text, ctypes.c_int, ctypes.c_int,
         ctypes.POINTER(_i64), _pointer)
_declare("pio_checkpoint_commit", ctypes.c_int, ctypes.POINTER(_pointer))


def _check(code):
    if code:
        raise Error(_fast.pio_error().decode("utf-8", "replace"))


def _bytes(what, value):
    if not isinstance(value, str):
        raise TypeError("%s is %.80r (%s): str expected" % (what, value, type(value).__name__))
    if "\0" in value:
        raise ValueError("%s %r holds a NUL" % (what, value))
    return value.encode("utf-8")


def _dict(what, value):
    if not hasattr(value, "items"):
        raise TypeError("%s is %.80r (%s): a dict expected" % (what, value, type(value).__name__))
    return value


def _flatten(values, prefix, flat):
    for key, value in values.items():
        if not isinstance(key, str):
            raise TypeError("key %r is no string (%s): str expected" % (key, type(key).__name__))
        name = prefix + key
        if isinstance(value, dict):
            _flatten(value, name + "/", flat)
        else:
            if name in flat:
                raise ValueError("key %r is there twice" % name)
            flat[name] = value
    return flat


def _number(key, value):
    if not isinstance(value, (str, bytes, bytearray)):
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            pass
    raise TypeError("value of %r is %.80r (%s): a number expected" % (key, value, type(value).__name__))


def _scalar(name, value):
    """JSON of one parameter, tag or summary."""
    if isinstance(value, int) and not _INT64_MIN <= value <= _INT64_MAX:
        value = str(value)  # whole, where a double would round it
    if value is None or isinstance(value, (bool, str, int)):
        return json.dumps(value).encode("ascii")
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return json.dumps(str(value)).encode("ascii")
    if number != number or number in (float("inf"), float("-inf")):
        name = "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"
        return json.dumps(name).encode("ascii")
    return json.dumps(number).encode("ascii")


_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1


def _packer(handle, keys):
    """What packs the values of one set of keys for one call into C: the packing
    function, its buffer (of one thread alone) and the buffer's address."""
    n = len(keys)
    buffer = bytearray(24 + 12 * n)
    struct.pack_into("=QQ", buffer, 0, handle, n)
    struct.pack_into("=%dI" % n, buffer, 24 + 8 * n, *keys)
    address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    return struct.Struct("=q%dd" % n).pack_into, buffer, address


class Run:
    """A run. Made by init()."""

    def __init__(self, experiment):
        handle = _pointer()
        _check(_lib.pio_open(ctypes.byref(handle), None if experiment is None else
                             _bytes("experiment", experiment)))
        self._handle = handle
        self._pid = os.getpid()
        self._step = -1
        self._local = threading.local()
        info = _lib.pio_info_get(handle).contents
        self.id, self.dir = info.id.decode(), os.fsdecode(info.dir)
        self.rank, self.world, self.local_rank = info.rank, info.world, info.local_rank
        self.attempt = info.attempt
        self.resume_step = None if info.resume_step < 0 else info.resume_step

    def __repr__(self):
        rank = ", rank %d of %d" % (self.rank, self.world) if self.world > 1 else ""
        return "<pioche run %s%s%s>" % (self.id, rank, "" if self._handle else ", finished")

    def _open(self):
        if not self._handle:
            raise Error("run %s is finished" % self.id)
        return self._handle

    def _keys(self, names):
        handle = self._open()
        keys = []
        for name in names:
            key = _lib.pio_key_get(handle, _bytes("key", name))
            if not key:
                raise Error(_lib.pio_error().decode("utf-8", "replace"))
            keys.append(key)
        return keys

    def log(self, values, step=None, _call=_fast.pio_log_packed):
        """Log a dict of numbers at `step` (left out: one more than the last)."""
        if step is None:
            step = self._step + 1
        try:
            pack, buffer, address = self._local.packers[(*values,)]
            pack(buffer, 16, step, *values.values())
        except (AttributeError, KeyError, TypeError, ValueError, struct.error):
            address = 0
        if not address:
            address = self._pack_slowly(values, step)
            if not address:
                return
        self._step = step
        if _call(address):
            _check(-1)

    def _pack_slowly(self, values, step):
        """A new set of keys, or values that struct does not take as they are."""
        if not isinstance(values, dict):
            raise TypeError("log() got a %s: a dict of numbers expected" % type(values).__name__)
        if isinstance(step, float) or not hasattr(step, "__index__"):
            raise TypeError("step is %r (%s): an integer expected" % (step, type(step).__name__))
        step = step.__index__()
        if not _INT64_MIN <= step <= _INT64_MAX:
            raise ValueError("step is %d: an integer of 64 bits expected" % step)
        self._open()
        flat = _flatten(values, "", {})
        numbers = [_number(key, value) for key, value in flat.items()]
        if not flat:
            return 0
        packers = self._local.__dict__.setdefault("packers", {})
        names = tuple(flat)
        packer = packers.get(names)
        if packer is None:
            packer = _packer(self._open().value, self._keys(names))
            if len(packers) >= 1000:  # keys made up at each step must not eat the memory
                packers.clear()
            packers[names] = packer
        pack, buffer, address = packer
        pack(buffer, 16, step, *numbers)
        return address

    def _facts(self, kind, values):
        what = {b"p": "params", b"t": "tag", b"s": "summary"}[kind]
        for name, value in _flatten(_dict(what, values), "", {}).items():
            _check(_lib.pio_fact(self._open(), kind, _bytes("name", name), _scalar(name, value)))

    def params(self, values):
        """Parameters: a dict of numbers, strings, booleans; may be nested."""
        self._facts(b"p", values)

    def tag(self, name, value=True):
        self._facts(b"t", {name: value})

    def summary(self, values):
        """Results: like params, but what came out."""
        self._facts(b"s", values)

    def text(self, key, text, step=None):
        step = max(self._step, 0) if step is None else step
        _check(_lib.pio_text(self._open(), _bytes("key", key), step, _bytes("text", text)))

    def event(self, kind, message):
        _check(_lib.pio_event(self._open(), _bytes("kind", kind), _bytes("message", message)))

    def checkpoint(self, step, roles, writers=1):
        """Save {role: {name: array}}: NumPy arrays, torch CPU tensors, or anything
        with the buffer protocol. Returns when this rank's files are on disk."""
        if not hasattr(step, "__index__"):
            raise TypeError("step is %r (%s): an integer expected" % (step, type(step).__name__))
        for role, tensors in _dict("checkpoint", roles).items():
            _dict("role %r of a checkpoint" % role, tensors)
        made = _pointer()
        kept = []
        _check(_lib.pio_checkpoint_begin(ctypes.byref(made), self._open(), step.__index__(), writers))
        try:
            for role, tensors in roles.items():
                for name, value in tensors.items():
                    dtype, shape, address, owner = _array(name, value)
                    kept.append(owner)
                    _check(_lib.pio_checkpoint_add(made, _bytes("role", role), _bytes("tensor", name), dtype,
                                                   len(shape), (_i64 * len(shape))(*shape), address))
        except BaseException:
            _lib.pio_checkpoint_add(made, b"", b"", 0, 0, None, None)  # spoils it: nothing is reported
            _lib.pio_checkpoint_commit(ctypes.byref(made))
            raise
        _check(_lib.pio_checkpoint_commit(ctypes.byref(made)))

    def finish(self, status=0):
        """Flush and close; idempotent. `status` other than 0: the run failed."""
        if self._handle and self._pid == os.getpid():
            handle, self._handle = self._handle, None
            self._local = threading.local()
            _check(_lib.pio_close(ctypes.byref(handle), int(status)))

    def fail(self, kind, value, trace):
        """Close as failed, with the traceback as text."""
        if self._handle and self._pid == os.getpid():
            try:
                lines = traceback.format_exception(kind, value, trace)
                self.text("traceback", "".join(lines)[-100000:].replace("\0", "\\0"))
            finally:
                self.finish(1)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None or (kind is SystemExit and not value.code):
            self.finish()
        else:
            self.fail(kind, value, trace)
        return False


# ---- arrays -------------------------------------------------------------------

_DTYPES = {"bool": 0, "uint8": 1, "int8": 2, "int16": 3, "uint16": 4, "float16": 5, "bfloat16": 6,
           "int32": 7, "uint32": 8, "float32": 9, "float64": 10, "int64": 11, "uint64": 12}
_FORMATS = {"?": "bool", "B": "uint8", "b": "int8", "h": "int16", "H": "uint16", "e": "float16",
            "i": "int32", "I": "uint32", "f": "float32", "d": "float64", "q": "int64", "Q": "uint64",
            "l": "int64", "L": "uint64", "c": "uint8"}


def _array(name, value):
    """dtype number, shape, address and what must stay alive."""
    if hasattr(value, "data_ptr"):
        value = value.detach()
        if value.device.type != "cpu":
            raise TypeError("tensor %r is on %s: move it to the CPU first" % (name, value.device))
        value = value.contiguous()
        dtype = str(value.dtype).rpartition(".")[2]
        shape, address, owner = tuple(value.shape), value.data_ptr(), value
    else:
        try:
            view = memoryview(value)
        except TypeError:
            raise TypeError("tensor %r is a %s: an array expected" % (name, type(value).__name__)) from None
        dtype = _FORMATS.get(view.format.lstrip("@=<"), view.format)
        shape = view.shape
        if not view.c_contiguous or view.readonly:
            owner = bytearray(view.tobytes())
        else:
            owner = view.cast("B") if 0 not in shape else bytearray(1)
        address = ctypes.addressof((ctypes.c_char * max(len(owner), 1)).from_buffer(owner)) if len(owner) else None
    if dtype not in _DTYPES:
        raise TypeError("tensor %r has elements of type %s: one of %s expected" %
                        (name, dtype, ", ".join(_DTYPES)))
    return _DTYPES[dtype], shape, address, owner


# ---- the module's run -----------------------------------------------------------

run = None  # the newest of init()
rank = int(os.environ.get("RANK", "0") or 0) if "PIOCHE_RING" in os.environ else 0
world = int(os.environ.get("WORLD_SIZE", "1") or 1) if "PIOCHE_RING" in os.environ else 1


def _script():
    name = os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] not in ("", "-c", "-m") else ""
    return os.path.splitext(name)[0] or "python"


def _hook(kind, value, trace, _before=sys.excepthook):
    if run is not None:
        try:
            run.fail(kind, value, trace)
        except Exception as error:  # the program's own exception is what must be seen
            print("pioche: %s" % error, file=sys.stderr)
    _before(kind, value, trace)


def init(experiment=None, params=None):
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


def log(values, step=None):
    """run.log of the module's run."""
    if run is None:
        raise Error("pioche.init() has not been called")
    run.log(values, step)


def finish(status=0):
    if run is not None:
        run.finish(status)
