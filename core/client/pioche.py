"""pioche: log metrics, parameters, texts, images and checkpoints of a program.

    import pioche
    with pioche.init("gpt", params={"lr": 3e-4}) as run:
        for step in range(100):
            run.log({"train/loss": loss}, step=step)

Under `pioche run` it joins the run that the agent made; anywhere else the process
becomes a run of its own in the nearest store (.pioche/, searched upwards like .git).
Of processes that torchrun started by hand rank 0 does; the others log nowhere.
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
import itertools
import math
import os
import struct
import sys
import threading
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Tuple, Type, Union

from pioche_values import (_INT64_MIN, _array, _bytes, _columns, _flatten, _image, _integer, _json, _name_of, _named,
                           _number, _scalar, _scalars, _shown, _step)

if TYPE_CHECKING:
    from pioche_checkpoint import Part, Saved
    from pioche_points import Points

__all__ = ["Run", "Error", "Part", "init", "log", "finish", "read", "rank", "world", "run"]


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
        ("pio_should_stop", _int, _pointer, _i64),
        ("pio_checkpoint_begin", _int, ctypes.POINTER(_pointer), _pointer, _i64, _int),
        ("pio_checkpoint_add", _int, _pointer, _text, _text, _int, _int, ctypes.POINTER(_i64),
         _pointer, _pointer),
        ("pio_checkpoint_commit", _int, ctypes.POINTER(_pointer), _int),
        ("pio_resume_read", _int, _pointer, _text, _text, _int, _int, ctypes.POINTER(_i64), _pointer, _pointer)):
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

class _Kept(Tuple[bytearray, Any]):
    """What the builtin log() is bound to. Sent to another process, run.log is
    the log of the run that arrives there."""

    def __reduce__(self) -> Any:
        return self[1].__self__.__reduce__()


def _builtin_log(self: _Kept) -> Any:
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
                     api.PyDict_New, api.PyDict_SetItem, api.PyObject_VectorcallDict,
                     api.PyType_IsSubtype)
        make = ctypes.PyDLL(_lib._name).pio_python_log_2
    except AttributeError:
        return None
    addresses = [ctypes.cast(function, _pointer).value for function in functions]
    addresses += map(id, (None, dict, str, float, int))
    make.restype, make.argtypes = ctypes.py_object, (_pointer, ctypes.py_object)
    return make((_pointer * len(addresses))(*addresses), self)


class Run:
    """A run. Made by init()."""

    resume_step: Optional[int]  # of the checkpoint to start from

    def __init__(self, experiment: Optional[str] = None):
        handle = _pointer()
        _check(_lib.pio_open(ctypes.byref(handle), None if experiment is None else
                             _bytes("experiment", experiment)))
        info = _lib.pio_info_get(handle).contents
        self._begin(handle, {
            "PIOCHE_RING": os.fsdecode(info.ring), "PIOCHE_RUN": info.id.decode(),
            "PIOCHE_DIR": os.fsdecode(info.dir), "PIOCHE_STAGING": os.fsdecode(info.staging),
            "PIOCHE_ATTEMPT": str(info.attempt), "RANK": str(info.rank), "WORLD_SIZE": str(info.world),
            "LOCAL_RANK": str(info.local_rank)})
        self.resume_step = None if info.resume_step < 0 else info.resume_step

    @classmethod
    def _bystander(cls, rank: int, world: int, local_rank: int) -> "Run":
        """For a process whose run is told by another one: what it logs is checked,
        and kept nowhere."""
        aside = cls.__new__(cls)
        aside._begin(None, {"PIOCHE_RING": "", "PIOCHE_RUN": "", "PIOCHE_DIR": "", "PIOCHE_STAGING": "",
                            "PIOCHE_ATTEMPT": "1", "RANK": str(rank), "WORLD_SIZE": str(world),
                            "LOCAL_RANK": str(local_rank)})
        aside._aside = True
        return aside

    def _begin(self, handle: Optional[ctypes.c_void_p], joins: Dict[str, str]) -> None:
        """`joins`: the environment in which another process opens the same run."""
        self._joins = joins
        self.id: str = joins["PIOCHE_RUN"]
        self.dir: str = joins["PIOCHE_DIR"]
        self.rank = int(joins["RANK"])
        self.world = int(joins["WORLD_SIZE"])
        self.local_rank = int(joins["LOCAL_RANK"])
        self.attempt = int(joins["PIOCHE_ATTEMPT"])
        self.resume_step = None
        self._aside = False
        self._handle = handle
        self._left: Optional[Tuple[ctypes.c_void_p, int]] = None  # to close when the last call returns
        self._pid = os.getpid()
        self._forked()
        state = bytearray(struct.pack("=Qq", handle.value or 0 if handle else 0, -1))
        self._state = memoryview(state).cast("q")  # [1]: the newest step that was logged
        builtin = _builtin_log(_Kept((state, self.log)))
        if builtin is not None:
            self.__dict__["log"] = builtin

    def _forked(self) -> None:
        """In a child nobody is inside a call, whoever was in the parent."""
        self._inside: List[int] = []  # threads, once for each call
        self._idle, self._inside_pid = threading.Condition(), os.getpid()

    def __repr__(self) -> str:
        state = "rank 0 keeps it" if self._aside else "logging" if self._handle else "finished"
        return "<pioche run %s, rank %d of %d, %s>" % (self.id, self.rank, self.world, state)

    def _repr_html_(self) -> str:
        rows = {"run": repr(self)[1:-1], "newest step": self._state[1], "directory": self.dir}
        row = "<tr><th>%s</th><td>%s</td></tr>"
        return "<table>%s</table>" % "".join(row % (key, html.escape(str(rows[key]))) for key in rows)

    def __reduce__(self) -> Any:  # to another process
        if self._aside:
            return Run._bystander, (self.rank, self.world, self.local_rank)
        return _join, (self._joins,)

    def _call(self, function: Any, *arguments: Any) -> Any:
        """function(handle, ...), beside the calls of other threads; finish() waits for all."""
        if self._aside:
            return 0
        if self._inside_pid != os.getpid():
            self._forked()
        with self._idle:
            if not self._handle:
                raise Error("run %s is finished" % self.id)
            handle, me = self._handle, threading.get_ident()
            self._inside.append(me)
        try:
            return function(handle, *arguments)
        finally:
            with self._idle:
                self._inside.remove(me)
                self._idle.notify_all()
                if self._left and not self._inside:
                    left, self._left = self._left, None
                    self._close(*left)

    def log(self, values: Mapping[str, Any], step: Optional[int] = None) -> None:
        """Log a dict of numbers at `step` (left out: one more than the last)."""
        # The builtin of python.c takes floats and ints; here is what it leaves
        # over: other types, nested dicts, errors, a full ring.
        if not isinstance(values, Mapping):
            raise TypeError("log() got a %s: a dict of numbers expected" % _name_of(values))
        at = _step(self._state[1] + 1 if step is None else step)
        flat = _flatten(values, "", {})
        points = [(_bytes("key", key), _number("value of", key, value)) for key, value in flat.items()]
        if points:
            self._call(_log, at, points)
            self._state[1] = at

    def histogram(self, key: str, values: Any, step: Optional[int] = None) -> None:
        """How values are spread: an array, a tensor, or any numbers."""
        name, at = _bytes("key", key), self._at(step)
        if hasattr(values, "detach"):
            values = values.detach().cpu()
        elif hasattr(values, "__array__"):  # NumPy's, and what can become one
            values = values.__array__()
        elif not isinstance(values, (array.array, memoryview)):
            if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
                raise TypeError("histogram %r is %s: numbers expected" % (key, _shown(values)))
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
        for name, scalar in _scalars(what, values):
            _check(self._call(_lib.pio_fact, kind, name, scalar))

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

    def should_stop(self, step: int) -> bool:
        """Is the run to end at this step? Asked at each step, after it, by every rank that
        takes part in collectives: all hear True at the same step, and may save a
        checkpoint before they end. A program that never asks gets SIGTERM instead.

            if run.should_stop(step):
                run.checkpoint(step, {"model": model.state_dict()})
                break
        """
        return bool(self._call(_lib.pio_should_stop, _step(step)))

    def checkpoint(self, step: int, roles: Mapping[str, Mapping[Any, Any]], writers: int = 1,
                   asynchronous: bool = False, wait: bool = True) -> None:
        """Save {role: state}: a state is a dict of NumPy or JAX arrays, torch tensors (from
        a GPU they are copied), buffers, or Parts of larger ones; it may be nested as a
        state_dict is, and hold numbers, texts and bytes. Each of `writers` ranks calls it.
        Returns when this rank's files are on disk; `asynchronous`: as soon as everything
        is copied, which takes as much memory. Then a thread writes, and what it could not
        write is raised by the next checkpoint(), which saves its own all the same, or told
        by finish(), which waits for it; other calls say nothing of it. While it is writing,
        another save waits for it, or with `wait=False` is refused."""
        count = max(-1, min(_integer("writers", writers), 1 << 30))  # as a C int takes it
        self._call(_save, _step(step), roles, count, (1 if asynchronous else 0) | (0 if wait else 2))

    def resume(self) -> "Optional[Saved]":
        """The checkpoint that this attempt starts from; None where it starts afresh.

            saved = run.resume()
            model.load_state_dict(saved["model"].value(torch=True))
            first = saved["extra"]["epoch"] + 1
        """
        from pioche_checkpoint import resume
        return resume(self)

    def finish(self, status: int = 0) -> None:
        """Flush and close; idempotent. `status` other than 0: the run failed."""
        code = 1 if _integer("status", status) else 0
        if self._pid != os.getpid():  # in a forked child the run is its parent's
            return
        with self._idle:
            if not self._handle:
                return
            handle, self._handle, self._state[0] = self._handle, None, 0
            me = threading.get_ident()
            self._idle.wait_for(lambda: all(thread == me for thread in self._inside))
            if self._inside:  # a signal's handler amid a call
                self._left = (handle, code)
            else:
                self._close(handle, code)

    def _close(self, handle: ctypes.c_void_p, code: int) -> None:
        if _lib.pio_close(ctypes.byref(handle), code):
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


def _hand_started() -> Optional[Tuple[int, int, int]]:
    """(rank, world, local rank) of a process that torchrun or its like started
    without `pioche run`: RANK, WORLD_SIZE and MASTER_ADDR are that contract."""
    if os.environ.get("PIOCHE_RING") or not os.environ.get("MASTER_ADDR"):
        return None
    try:
        return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK") or 0))
    except (KeyError, ValueError):
        return None


_joined: Dict[str, Run] = {}  # by ring: a run may arrive with each of a pool's tasks


def _join(environment: Dict[str, str]) -> Run:
    """A run that was sent to another process: it logs there too, and its end is
    the sender's. One that has ended arrives as finished."""
    ring = environment["PIOCHE_RING"]
    if ring in _joined and _joined[ring]._handle:
        return _joined[ring]
    if not os.path.exists(ring):
        ended = Run.__new__(Run)
        ended._begin(None, environment)
        return ended
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        _joined[ring] = Run()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return _joined[ring]


def _log(run: ctypes.c_void_p, step: int, points: List[Tuple[bytes, Union[int, float]]]) -> None:
    numbers = []
    for name, _ in points:
        number = _lib.pio_key_get(run, name)
        if not number:
            raise Error(_why())
        numbers.append(number)
    for number, (_, value) in zip(numbers, points):
        log = _lib.pio_log_int if isinstance(value, int) else _lib.pio_log
        _check(log(run, number, step, value))


def _save(run: ctypes.c_void_p, step: int, roles: Mapping[str, Any], writers: int, flags: int) -> None:
    """Imported amid the call: finish() waits for that, too."""
    from pioche_checkpoint import save
    save(run, step, roles, writers, flags)


# ---- the module's run -------------------------------------------------------------------------

run: Optional[Run] = None  # the newest of init()
rank = int(os.environ.get("RANK", "0") or 0) if "PIOCHE_RING" in os.environ else 0
world = int(os.environ.get("WORLD_SIZE", "1") or 1) if "PIOCHE_RING" in os.environ else 1


def _is_interactive() -> bool:  # a prompt or a notebook: the process outlives an exception
    return hasattr(sys, "ps1") or hasattr(builtins, "get_ipython")


def _script() -> str:
    path = sys.argv[0] if sys.argv and sys.argv[0] not in ("", "-c", "-m") else ""
    name = os.path.splitext(os.path.basename(path))[0]
    if name == "__main__":  # python -m package
        name = os.path.basename(os.path.dirname(os.path.abspath(path)))
    return "notebook" if name == "ipykernel_launcher" else name or "python"


def _fail_on_exceptions() -> None:
    """Whoever sets a hook after this calls it, or wants no exceptions told."""
    before = sys.excepthook
    if getattr(before, "_pioche", False):
        return

    def hook(kind: Type[BaseException], value: BaseException, trace: Optional[TracebackType]) -> None:
        if run is not None and not _is_interactive():
            try:
                run.fail(kind, value, trace)
            except Exception as error:  # the program's own exception is what must be seen
                print("pioche: %s" % error, file=sys.stderr)
        before(kind, value, trace)

    hook._pioche = True  # type: ignore[attr-defined]
    sys.excepthook = hook


_FOLDER_MAX = 20000  # entries of a folder on the path; one that has more is full of data


def _packages() -> Dict[str, str]:
    """What is installed, {name: version}, from the names of folders alone: reading
    what is in them, as importlib.metadata does, takes a hundred times as long."""
    found: Dict[str, str] = {}
    for folder in sys.path:
        try:
            with os.scandir(folder or ".") as entries:
                names = [entry.name for entry in itertools.islice(entries, _FOLDER_MAX)]
        except OSError:  # a zip file, or nothing
            continue
        for name in names:
            parts = name[:-10].split("-") if name.endswith(".dist-info") else []
            if len(parts) == 2:
                found.setdefault(parts[0].replace("_", "-").lower(), parts[1])
    return found


def _tell_environment(run: Run) -> None:
    """One process a node tells what it runs with. What is amiss there stops nobody."""
    if run.local_rank or not run._handle:
        return
    facts: Dict[str, Any] = {
        "version": sys.version.split()[0], "implementation": sys.implementation.name,
        "executable": sys.executable or "", "packages": _packages()}
    torch = sys.modules.get("torch")
    for name, path in (("cuda", "version.cuda"), ("nccl", "cuda.nccl.version")):
        try:
            value: Any = torch
            for step in path.split("."):
                value = getattr(value, step)
            value = value() if callable(value) else value
            if value:
                facts["torch." + name] = ".".join(map(str, value)) if isinstance(value, tuple) else str(value)
        except Exception:  # not imported, built without it, or made otherwise
            continue
    try:
        run._call(_lib.pio_fact, b"v", b"python", _json(facts))
    except (Error, ValueError):  # a library older than this file, names that are no text
        pass


def init(experiment: Optional[str] = None, params: Optional[Mapping[str, Any]] = None) -> Run:
    """Open the run of this process. `experiment` (the script's name unless told)
    matters outside `pioche run` alone; a run that is still open is finished first."""
    global run, rank, world
    if params is not None:  # before anything is finished or begun
        _scalars("params", params)
    if experiment is not None and experiment != "":
        _named("experiment", experiment)
    if run is not None and run._handle and run._pid == os.getpid():
        run.finish()
    by_hand = _hand_started()
    if by_hand and by_hand[0] > 0:
        if by_hand[0] == 1:
            print("pioche: %d processes were started without `pioche run`: rank 0 keeps the run, what the"
                  " others log is kept nowhere" % by_hand[1], file=sys.stderr)
        run = Run._bystander(*by_hand)
    else:
        run = Run(experiment or _script())
        if by_hand:
            run.world = by_hand[1]
    rank, world = run.rank, run.world
    _fail_on_exceptions()
    if params is not None:
        run.params(params)
    _tell_environment(run)
    return run


def read(run: Union[Run, str], key: str, rank: int = 0, store: Optional[str] = None) -> "Points":
    """The points of metric `key` of a run ("gpt-17", a ULID, or a Run), as the
    store has them: a command of pioche takes in what a program just logged."""
    from pioche_points import read as read_points
    return read_points(run.id if isinstance(run, Run) else run, key, rank, store)


def __getattr__(name: str) -> Any:
    if name == "Part":
        from pioche_checkpoint import Part
        return Part
    raise AttributeError("module 'pioche' has no attribute %r" % name)


def log(values: Mapping[str, Any], step: Optional[int] = None) -> None:
    """run.log of the module's run."""
    if run is None:
        raise Error("pioche.init() has not been called")
    run.log(values, step)


def finish(status: int = 0) -> None:
    if run is not None:
        run.finish(status)
