"""What the calls of pioche.py take: their arguments checked, each error naming the
argument, what it is and what was expected; and arrays, images and tables as the
library wants them. NumPy, torch, PIL and pandas are known by what their objects
can do, and never imported."""

import array
import ctypes
import io
import json
import operator
import os
import pathlib
import struct
import sys
import zlib
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1


# ---- arguments ----------------------------------------------------------------------

def _name_of(value: object) -> str:
    return type(value).__name__


def _shown(value: object) -> str:
    """For a message; Python refuses to print an int of thousands of digits."""
    if isinstance(value, int) and value.bit_length() > 128:
        return "an int of %d bits" % value.bit_length()
    return "%.80r (%s)" % (value, _name_of(value))


def _bytes(what: str, value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError("%s is %.80r (%s): str expected" % (what, value, _name_of(value)))
    if "\0" in value:
        raise ValueError("%s %.80r holds a NUL" % (what, value))
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("%s %.80r is no Unicode text: it holds a lone surrogate" % (what, value)) from None


def _named(what: str, value: object) -> bytes:
    """A name as core/client/name.c has it."""
    name = _bytes(what, value)
    if not 1 <= len(name) <= 4096:
        raise ValueError("%s %.80r is of %d bytes: 1 to 4096 expected" % (what, value, len(name)))
    return name


def _dict(what: str, value: Any) -> Any:
    if not hasattr(value, "items"):
        raise TypeError("%s is %.80r (%s): a dict expected" % (what, value, _name_of(value)))
    return value


def _integer(what: str, value: Any) -> int:
    """One of 64 bits."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError("%s is %s: an integer expected" % (what, _shown(value))) from None
    if not _INT64_MIN <= number <= _INT64_MAX:
        raise ValueError("%s is %s: an integer of 64 bits expected" % (what, _shown(number)))
    return number


def _step(value: Any) -> int:
    return _integer("step", value)


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
    if hasattr(value, "detach"):  # a tensor that has a gradient warns of its conversion
        value = value.detach()
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
        raise TypeError("%s %r is %s: a number expected" % (what, key, _shown(value)))
    return number


def _scalar(what: str, value: Any) -> Any:
    """What json.dumps writes as one scalar."""
    if isinstance(value, str):
        _bytes(what, value)
    if value is None or isinstance(value, (bool, str)):
        return value
    if _name_of(value) in ("bool", "bool_"):  # NumPy's
        return bool(value)
    if _name_of(value) in ("NAType", "NaTType"):  # pandas'
        return None
    if isinstance(value, int) and not _INT64_MIN <= value <= _INT64_MAX:
        return str(value) if value.bit_length() < 10000 else hex(value)  # a double would round it
    number = _as_number(value)
    if number is None:
        return str(value)
    if number - number == 0:
        return number
    return "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _scalars(what: str, values: Any) -> List[Tuple[bytes, bytes]]:
    """Names and the JSON of their values; nested dicts flattened."""
    return [(_named("name", name), _json(_scalar("value of %r" % name, value)))
            for name, value in _flatten(_dict(what, values), "", {}).items()]


# ---- arrays, images, tables ----------------------------------------------------------

_DTYPES = {"bool": 0, "uint8": 1, "int8": 2, "int16": 3, "uint16": 4, "float16": 5, "bfloat16": 6,
           "int32": 7, "uint32": 8, "float32": 9, "float64": 10, "int64": 11, "uint64": 12,
           "float8_e4m3fn": 13, "float8_e5m2": 14, "float8_e8m0fnu": 15}
_FORMATS = {"?": "bool", "B": "uint8", "b": "int8", "h": "int16", "H": "uint16", "e": "float16",
            "i": "int32", "I": "uint32", "f": "float32", "d": "float64", "q": "int64", "Q": "uint64",
            "l": "int64", "L": "uint64", "c": "uint8"}


def _stays_on_gpu(tensor: Any) -> bool:
    """Can the library fetch it from there, as it is? ROCm's torch says "cuda", too."""
    version = getattr(sys.modules.get("torch"), "version", None)
    return (tensor.device.type == "cuda" and bool(getattr(version, "cuda", None)) and tensor.is_contiguous() and
            not tensor.is_neg())


def _view(what: str, name: str, value: Any) -> Tuple[memoryview, str]:
    """The memory of an array, and the type of its elements. Those that NumPy does not have
    itself (bfloat16, float8: JAX's arrays, ml_dtypes) are in no buffer, but their bytes are; and
    what JAX has on a GPU is copied from there."""
    try:
        view = memoryview(value)
        return view, _FORMATS.get(view.format.lstrip("@=<"), view.format)
    except (TypeError, ValueError, BufferError, RuntimeError):
        dtype = str(getattr(value, "dtype", ""))
        if not dtype or not hasattr(value, "__array__"):
            raise TypeError("%s %r is a %s: an array expected" % (what, name, _name_of(value))) from None
    if dtype not in _DTYPES:
        return memoryview(b""), dtype  # which is told
    array = value.__array__()
    return memoryview(array.view("u%d" % array.dtype.itemsize)), dtype


def _array(what: str, name: str, value: Any, gpu: bool = False) -> Tuple[int, Sequence[int], Optional[int], Any]:
    """dtype number, shape, address and what must stay alive; with `gpu` the address may be
    one of CUDA."""
    owner: Any
    shape: Sequence[int]
    if hasattr(value, "data_ptr"):
        owner = value.detach()
        if owner.device.type == "meta" or str(owner.layout) != "torch.strided":
            raise TypeError("%s %r is on %s, its layout is %s: a dense tensor with data expected" %
                            (what, name, owner.device, owner.layout))
        if not (gpu and _stays_on_gpu(owner)):
            owner = owner.cpu().resolve_neg().contiguous()  # a view may hold its numbers negated
        dtype = str(owner.dtype).rpartition(".")[2]
        shape, address = tuple(owner.shape), owner.data_ptr()
    else:
        view, dtype = _view(what, name, value)
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
        try:
            return pathlib.Path(image).read_bytes()
        except OSError as error:
            raise type(error)(error.errno, "image %r: %s" % (key, error.strerror), os.fspath(image)) from None
    if hasattr(image, "save") and not hasattr(image, "data_ptr"):  # PIL's
        buffer = io.BytesIO()
        try:
            image.save(buffer, format="PNG")
        except OSError as error:
            raise ValueError("image %r: %s; convert it to RGB first" % (key, error)) from None
        return buffer.getvalue()
    try:
        view = memoryview(image.detach().cpu().contiguous().numpy() if hasattr(image, "detach") else image)
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
        names = [str(name) for name in table.columns]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError("column %.80r of table %r is there twice" % (twice[0], key))
        columns = {str(name): list(table[name]) for name in table.columns}
    elif isinstance(table, Mapping):
        for name, cells in table.items():
            if isinstance(cells, (str, bytes)) or not hasattr(cells, "__iter__"):
                raise TypeError("column %r of table %r is %.80r (%s): a list expected" %
                                (name, key, cells, _name_of(cells)))
            columns[name] = list(cells)
    elif isinstance(table, (list, tuple)):
        found = dict.fromkeys(name for row in table for name in _dict("row of table %r" % key, row))
        columns = {name: [row.get(name) for row in table] for name in found}
    else:
        raise TypeError("table %r is %.80r (%s): a list of dicts, a dict of lists or a DataFrame expected" %
                        (key, table, _name_of(table)))
    lengths = {_bytes("column name of table %r" % key, name): len(columns[name]) for name in columns}
    if len(set(lengths.values())) > 1:
        raise ValueError("columns of table %r are of different lengths: %.200r" % (key, lengths))
    return columns
