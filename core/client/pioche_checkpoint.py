"""What run.checkpoint() takes and run.resume() gives back.

A role is a file of tensors under their names: a flat state_dict is saved as it is,
and the safetensors package loads it. What is nested has names joined by dots
("state.0.exp_avg"), and what is no tensor (numbers, texts, None) goes, with how
everything was nested, as JSON into one tensor of bytes of the role "extra", so that
the files of weights hold weights alone. NumPy and torch are used where a tensor of
theirs is asked for, and never imported to save one."""

import ctypes
import importlib
import json
import math
import os
import re
import struct
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from pioche import Error, Run, _check, _i64, _int, _lib, _pointer
from pioche_values import _DTYPES, _array, _bytes, _dict, _integer, _name_of

_TREE = "pioche.tree."  # and the role: the tensor of "extra" that says how it was nested
_NESTED_MAX = 100       # a dict that holds itself has no end
_DTYPE_NAMES = {0: "BOOL", 1: "U8", 2: "I8", 3: "I16", 4: "U16", 5: "F16", 6: "BF16", 7: "I32", 8: "U32",
                9: "F32", 10: "F64", 11: "I64", 12: "U64", 13: "F8_E4M3", 14: "F8_E5M2", 15: "F8_E8M0"}
_TYPES = {_DTYPE_NAMES[number]: name for name, number in _DTYPES.items()}  # "F32": "float32"
_WIDTHS = {name: int(re.sub(r"^\D+|_.*", "", name) or 8) // 8 for name in _TYPES}
_FORMATS = {"BOOL": "?", "U8": "B", "I8": "b", "I16": "h", "U16": "H", "F16": "e", "BF16": "H", "I32": "i",
            "U32": "I", "F32": "f", "F64": "d", "I64": "q", "U64": "Q", "F8_E4M3": "B", "F8_E5M2": "B", "F8_E8M0": "B"}
_BYTES = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8", "float8_e8m0fnu": "uint8"}


class _CPart(ctypes.Structure):
    _fields_ = [("ndim", _int), ("shape", ctypes.POINTER(_i64)), ("offset", ctypes.POINTER(_i64)),
                ("flat", _int)]


def _numbers(values: Sequence[int]) -> Any:
    return (_i64 * len(values))(*values)


class Part:
    """A tensor that is part of a larger one, of `shape`: it begins at `offset` in
    each dimension; or, where that is one int, it is a run of the larger one's elements
    in row-major order, of one dimension itself (FSDP, ZeRO)."""

    def __init__(self, value: Any, shape: Sequence[int], offset: Union[int, Sequence[int]]):
        self.value = value
        self.shape, self.offset = _place(shape, offset)

    def __repr__(self) -> str:
        return "<pioche part of shape %r from %r on>" % (self.shape, self.offset)


def _place(shape: Sequence[int], offset: Union[int, Sequence[int]]) -> Tuple[Tuple[int, ...], Any]:
    whole = tuple(_integer("shape of the whole", n) for n in shape)
    if isinstance(offset, (tuple, list)):
        begin: Any = tuple(_integer("offset", n) for n in offset)
        if len(begin) != len(whole):
            raise ValueError("offset %r of a part of %r: one for each dimension expected" % (begin, whole))
        return whole, begin
    return whole, _integer("offset", offset)


def _c_part(shape: Tuple[int, ...], offset: Union[int, Tuple[int, ...]]) -> Any:
    begin = offset if isinstance(offset, tuple) else (offset,)
    return ctypes.byref(_CPart(len(shape), _numbers(shape), _numbers(begin), not isinstance(offset, tuple)))


# ---- saving -------------------------------------------------------------------------

def _is_tensor(value: Any) -> bool:
    if isinstance(value, Part) or hasattr(value, "data_ptr"):
        return True
    if isinstance(value, (str, bytes, bool, int, float)):
        return False
    try:
        memoryview(value)
    except (TypeError, ValueError, BufferError, RuntimeError):  # the last of JAX, of what is on a GPU
        return hasattr(value, "__array__")  # _array tells what is wrong with it
    return True


class _Flattened:
    """A role's tensors by name, and the tree: JSON in which a tensor is {"$tensor": name}."""

    def __init__(self, role: str, value: Mapping[Any, Any]):
        self.role = role
        self.tensors: Dict[str, Any] = {}
        self.plain = True  # a flat dict of tensors needs no tree, nor does one of nothing
        self.tree = self._node(_dict("role %r of a checkpoint" % role, value), "", 0)

    def _tensor(self, name: str, value: Any) -> str:
        if name in self.tensors:
            raise ValueError("%r of role %r is there twice, once it is nested" % (name, self.role))
        self.tensors[name] = value
        return name

    def _node(self, value: Any, name: str, depth: int) -> Any:
        if depth > _NESTED_MAX:
            raise ValueError("%.80r of role %r is nested more than %d deep" % (name, self.role, _NESTED_MAX))
        if hasattr(value, "items") and not _is_tensor(value):
            return self._dict(value, name, depth)
        if isinstance(value, (list, tuple)):
            self.plain = False
            nodes = [self._node(item, self._join(name, str(i)), depth + 1) for i, item in enumerate(value)]
            return nodes if isinstance(value, list) else {"$tuple": nodes}
        self.plain &= depth == 1 and _is_tensor(value)
        if isinstance(value, bytes):
            return {"$bytes": self._tensor(name, value)}
        if _is_tensor(value):
            return {"$tensor": self._tensor(name, value)}
        return self._scalar(name, value)

    def _dict(self, value: Any, name: str, depth: int) -> Any:
        pairs = [(key, self._node(item, self._join(name, self._key(name, key)), depth + 1))
                 for key, item in value.items()]
        self.plain &= all(isinstance(key, str) for key, _ in pairs)
        if all(isinstance(key, str) and not key.startswith("$") for key, _ in pairs):
            return dict(pairs)
        return {"$dict": [[key, node] for key, node in pairs]}

    def _key(self, name: str, key: Any) -> str:
        if key is not None and not isinstance(key, (str, int)):
            raise TypeError("key %.80r of %r in role %r is a %s: str or int expected" %
                            (key, name, self.role, _name_of(key)))
        return str(key)

    @staticmethod
    def _join(name: str, key: str) -> str:
        return name + "." + key if name else key

    def _scalar(self, name: str, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return str(value)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            number = float(value)
            return number if math.isfinite(number) else {"$float": struct.pack(">d", number).hex()}
        raise TypeError("%r of role %r is a %s: a tensor, an array, bytes, str, int, float, bool, None, or a "
                        "dict, list or tuple of these expected" % (name, self.role, _name_of(value)))


def _flatten_roles(roles: Mapping[str, Any]) -> Dict[str, Dict[str, Any]]:
    found: Dict[str, Dict[str, Any]] = {}
    trees: Dict[str, Any] = {}
    for role, value in _dict("checkpoint", roles).items():
        _bytes("role", role)
        flat = _Flattened(role, value)
        if flat.tensors:
            found[role] = flat.tensors
        if not flat.plain:
            trees[_TREE + role] = json.dumps(flat.tree, separators=(",", ":")).encode("ascii")
    for name, tree in trees.items():
        if name in found.setdefault("extra", {}):
            raise ValueError("%r of role 'extra' is a name that pioche needs" % name)
        found["extra"][name] = tree
    return found


def _add(made: Any, role: str, name: str, value: Any) -> Any:
    """Returns what must live until the commit."""
    part = None
    if isinstance(value, Part):
        part, value = _c_part(value.shape, value.offset), value.value
    dtype, shape, address, owner = _array("tensor", name, value, gpu=True)
    _check(_lib.pio_checkpoint_add(made, _bytes("role", role), _bytes("tensor", name), dtype, len(shape),
                                   _numbers(shape), part, address))
    return owner


def save(run: ctypes.c_void_p, step: int, roles: Mapping[str, Any], writers: int, flags: int) -> None:
    flat, made, kept = _flatten_roles(roles), _pointer(), []
    _check(_lib.pio_checkpoint_begin(ctypes.byref(made), run, step, writers))
    try:
        for role, tensors in flat.items():
            for name, value in tensors.items():
                kept.append(_add(made, role, name, value))
    except BaseException:
        _lib.pio_checkpoint_add(made, None, None, 0, 0, None, None, None)  # gives it up
        _lib.pio_checkpoint_commit(ctypes.byref(made), 0)
        raise
    _check(_lib.pio_checkpoint_commit(ctypes.byref(made), flags))


# ---- reading ------------------------------------------------------------------------

class _Entry(NamedTuple):
    dtype: str               # "F32"
    shape: Tuple[int, ...]   # of the whole
    rank: int                # who saved it
    is_whole: bool


def _unescape(field: str) -> str:
    return re.sub(r"\\(.)", lambda found: {"t": "\t", "n": "\n"}.get(found[1], found[1]), field)


def _read_index(path: str, rank: int) -> Dict[str, Dict[str, _Entry]]:
    """{role: {name: entry}} of the index (resume.h), which the library has checked."""
    found: Dict[str, Dict[str, _Entry]] = {}
    role, saver = "", 0
    with open(path, encoding="utf-8", newline="\n") as file:
        next(file)
        for line in file:
            fields = line.rstrip("\n").split("\t")
            if fields[0] == "file":
                role, saver = _unescape(fields[1]), int(fields[2])
                continue
            shape = tuple(int(n) for n in fields[5 if len(fields) == 7 else 4].split(",") if n)
            entry = _Entry(fields[2], shape, saver, len(fields) == 5 or fields[0] == "slice")
            before = found.setdefault(role, {}).get(_unescape(fields[1]))
            if before is None or (entry.is_whole and (not before.is_whole or entry.rank == rank)):
                found[role][_unescape(fields[1])] = entry
    return found


class Role(Mapping[str, Any]):
    """What one role of a checkpoint holds, by name: names that were nested are joined
    by dots. A tensor is read when it is asked for, as a NumPy array where there is
    NumPy (which shows bfloat16 as uint16, float8 as uint8), else as a memoryview."""

    def __init__(self, saved: "Saved", name: str):
        self._saved, self._name = saved, name
        self._entries = saved._index.get(name, {})
        self._tree = saved._tree(name)
        self._leaves: Dict[str, Any] = {}
        if self._tree is None:
            self._leaves = {key: {"$tensor": key} for key in self._entries if not key.startswith(_TREE)}
        else:
            self._collect(self._tree, "")

    def _collect(self, node: Any, name: str) -> None:
        items: List[Tuple[Any, Any]] = []
        if isinstance(node, list):
            items = list(enumerate(node))
        elif isinstance(node, dict) and "$tuple" in node:
            items = list(enumerate(node["$tuple"]))
        elif isinstance(node, dict) and "$dict" in node:
            items = node["$dict"]
        elif isinstance(node, dict) and not any(key.startswith("$") for key in node):
            items = list(node.items())
        else:
            self._leaves[name] = node
        for key, item in items:
            self._collect(item, _Flattened._join(name, str(key)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._leaves)

    def __len__(self) -> int:
        return len(self._leaves)

    def __getitem__(self, name: str) -> Any:
        return self._value(self._leaves[name], False)

    def __repr__(self) -> str:
        return "<pioche role %s, %d names>" % (self._name, len(self))

    def dtype(self, name: str) -> str:
        """As NumPy and torch say it: "float32"."""
        return _TYPES[self._entry(name).dtype]

    def shape(self, name: str) -> Tuple[int, ...]:
        """Of the whole tensor, whatever the parts in which it was saved."""
        return self._entry(name).shape

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            raise KeyError("no tensor %r in role %r of the checkpoint" % (name, self._name))
        return self._entries[name]

    def read(self, name: str, shape: Optional[Sequence[int]] = None,
             offset: Union[int, Sequence[int]] = 0, torch: bool = False) -> Any:
        """A tensor; with `shape` the part of that shape that begins at `offset`, or
        where that is an int, a run of its elements (see Part). Only what is asked for is
        read. `torch`: as a tensor of torch."""
        entry, part = self._entry(name), None
        whole = entry.shape
        size = whole if shape is None else tuple(_integer("shape", n) for n in shape)
        if shape is not None:
            part = _c_part(*_place(whole, offset))
        if any(n < 0 for n in size):
            raise ValueError("shape %r of a part of %r" % (size, name))
        if torch:
            library: Any = importlib.import_module("torch")
            made = library.empty(size, dtype=getattr(library, _TYPES[entry.dtype]))
            self._fill(name, entry, size, part, made.data_ptr() if made.numel() else None)
            return made
        data = bytearray(math.prod(size) * _WIDTHS[entry.dtype])
        self._fill(name, entry, size, part,
                   ctypes.addressof(ctypes.c_char.from_buffer(data)) if data else None)
        return _as_array(data, entry.dtype, size)

    def _fill(self, name: str, entry: _Entry, size: Tuple[int, ...], part: Any, address: Optional[int]) -> None:
        self._saved._run._call(_fill, _bytes("role", self._name), _bytes("tensor", name),
                               _DTYPES[_TYPES[entry.dtype]], size, part, address)

    def value(self, torch: bool = False) -> Any:
        """What was given to checkpoint() for this role, nested as it was."""
        if self._tree is None:
            return {name: self._value(leaf, torch) for name, leaf in self._leaves.items()}
        return self._value(self._tree, torch)

    def _value(self, node: Any, torch: bool) -> Any:
        if isinstance(node, list):
            return [self._value(item, torch) for item in node]
        if not isinstance(node, dict):
            return node
        if "$tensor" in node:
            return self.read(node["$tensor"], torch=torch)
        if "$bytes" in node:
            return self._saved._bytes(self._name, node["$bytes"])
        if "$float" in node:
            return struct.unpack(">d", bytes.fromhex(node["$float"]))[0]
        if "$tuple" in node:
            return tuple(self._value(item, torch) for item in node["$tuple"])
        if "$dict" in node:
            return {key: self._value(item, torch) for key, item in node["$dict"]}
        return {key: self._value(item, torch) for key, item in node.items()}


def _fill(run: ctypes.c_void_p, role: bytes, name: bytes, dtype: int, size: Tuple[int, ...], part: Any,
          address: Optional[int]) -> None:
    _check(_lib.pio_resume_read(run, role, name, dtype, len(size), _numbers(size), part, address))


def _as_array(data: bytearray, dtype: str, shape: Tuple[int, ...]) -> Any:
    try:
        numpy: Any = importlib.import_module("numpy")
    except ImportError:
        view: Any = memoryview(data)
        if 0 in shape:  # a memoryview has no such shape
            return view.cast(_FORMATS[dtype])
        return view.cast("B").cast(_FORMATS[dtype], shape)
    return numpy.frombuffer(data, _BYTES.get(_TYPES[dtype], _TYPES[dtype])).reshape(shape)


class Saved(Mapping[str, Role]):
    """The checkpoint that this attempt starts from: its `step`, and its roles."""

    def __init__(self, run: Run, step: int, path: str):
        self._run, self.step = run, step
        try:
            self._index = _read_index(path, run.rank)
        except (OSError, ValueError, IndexError) as error:
            raise Error("the index of the checkpoint of step %d cannot be read: %s" % (step, error)) from None
        held = [role for role in self._index if any(not name.startswith(_TREE) for name in self._index[role])]
        trees = [name[len(_TREE):] for name in self._index.get("extra", {}) if name.startswith(_TREE)]
        self._roles = sorted({*held, *trees})

    def _bytes(self, role: str, name: str) -> bytes:
        entry = self._index[role][name]
        data = bytearray(math.prod(entry.shape))
        address = ctypes.addressof(ctypes.c_char.from_buffer(data)) if data else None
        self._run._call(_fill, _bytes("role", role), _bytes("tensor", name), _DTYPES["uint8"], entry.shape, None,
                        address)
        return bytes(data)

    def _tree(self, role: str) -> Any:
        if _TREE + role not in self._index.get("extra", {}):
            return None
        return json.loads(self._bytes("extra", _TREE + role))

    def __iter__(self) -> Iterator[str]:
        return iter(self._roles)

    def __len__(self) -> int:
        return len(self._roles)

    def __getitem__(self, role: str) -> Role:
        if role not in self._roles:
            raise KeyError("no role %r in the checkpoint: %s" % (role, ", ".join(self._roles)))
        return Role(self, role)

    def __repr__(self) -> str:
        return "<pioche checkpoint of step %d: %s>" % (self.step, ", ".join(self._roles))


def resume(run: Run) -> Optional[Saved]:
    path = os.environ.get("PIOCHE_RESUME")
    return None if run.resume_step is None or not path else Saved(run, run.resume_step, path)
