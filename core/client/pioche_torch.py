"""pioche_torch.py: what PyTorch saved, as safetensors files.

    python3 pioche_torch.py FROM TO

FROM is a file of torch.save (.pt, .pth, .bin, .ckpt), a folder of such files (with
Hugging Face's index where there is one), or a folder of torch.distributed.checkpoint.
TO is a folder, which gets model-00001.safetensors and so on. Files of torch.save are
loaded with weights_only: nothing in them is executed. The .metadata of a distributed
checkpoint is a pickle that torch's own reader loads, so that one is only for those
whose maker you trust.

`pioche checkpoint import` calls this where there is a torch; the module needs nothing
of pioche. Exit status 1 and one line on stderr: it cannot be done; 4: there is no torch."""
import ctypes
import json
import os
import struct
import sys
import tempfile
from typing import Any, Dict, Iterator, List, Tuple

FILE_BYTES = 4 << 30
HEADER_BYTES = 99 * 1000 * 1000
NO_TORCH = 4
SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
# Under one of these lies the model in what training scripts save of everything.
MODEL_KEYS = ("state_dict", "model_state_dict", "model")
NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
         "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8",
         "bool": "BOOL", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
         "float8_e8m0fnu": "F8_E8M0", "complex64": "C64"}


class Refused(Exception):
    pass


def flatten(value: Any, prefix: str = "") -> Iterator[Tuple[str, Any]]:
    """(name, leaf) of nested dicts and lists, their names joined by points."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        name = prefix + str(key)
        if isinstance(item, (dict, list, tuple)):
            yield from flatten(item, name + ".")
        else:
            yield name, item


def take(torch: Any, found: Dict[str, Any], value: Any, path: str) -> None:
    """The model's tensors of what one file held."""
    if not isinstance(value, dict):
        raise Refused("%s: it holds a %s, expected a state dict" % (path, type(value).__name__))
    for key in MODEL_KEYS:
        if isinstance(value.get(key), dict):
            rest = sorted(str(k) for k in value if k != key)
            if rest:
                print("%s: of it '%s' is taken, not %s" % (path, key, ", ".join(rest)), file=sys.stderr)
            value = value[key]
            break
    for name, item in flatten(value):
        if not isinstance(item, torch.Tensor):
            continue  # a step count, a name: no tensor
        if name in found:
            raise Refused("'%s' is there twice, the second time in %s" % (name, path))
        if item.layout != torch.strided or item.is_quantized or str(item.dtype)[6:] not in NAMES:
            raise Refused("'%s' of %s is %s, %s: safetensors has no such tensors" % (name, path, item.dtype, item.layout))
        found[name] = item


def load_distributed(torch: Any, path: str) -> Any:
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
    with tempfile.TemporaryDirectory(dir=sys.argv[2]) as scratch:
        whole = os.path.join(scratch, "whole.pt")
        dcp_to_torch_save(path, whole)
        return torch.load(whole, map_location="cpu", weights_only=True)


def load(torch: Any, path: str) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    if os.path.isdir(path) and os.path.exists(os.path.join(path, ".metadata")):
        take(torch, found, load_distributed(torch, path), path)
        return found
    files = [path]
    if os.path.isdir(path):
        files = sorted(os.path.join(path, n) for n in os.listdir(path) if n.endswith(SUFFIXES))
    for file in files:
        try:
            value = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises what its unpickler meets
            raise Refused("%s: torch cannot load it with weights_only: %s" % (
                file, " ".join(str(error).split())[:300])) from error
        take(torch, found, value, file)
    if not found:
        raise Refused("%s: there is no tensor in it" % path)
    return found


def write(path: str, tensors: List[Tuple[str, Any]]) -> None:
    head: Dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors:
        begin, end = end, end + tensor.numel() * tensor.element_size()
        head[name] = {"dtype": NAMES[str(tensor.dtype)[6:]], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in tensors:
            kept = tensor.detach().resolve_conj().resolve_neg().contiguous()
            size = kept.numel() * kept.element_size()
            if size:
                f.write(memoryview((ctypes.c_char * size).from_address(kept.data_ptr())))


def write_all(folder: str, found: Dict[str, Any]) -> None:
    """The widest elements first, as the format wants it, in files of at most 4 GiB or of one tensor,
    whose headers readers of the format take."""
    order = sorted(found.items(), key=lambda item: (-item[1].element_size(), item[0]))
    files: List[List[Tuple[str, Any]]] = [[]]
    size = header = 0
    for name, tensor in order:
        n = tensor.numel() * tensor.element_size()
        entry = 128 + 6 * len(name.encode()) + 24 * tensor.dim()  # at most
        if size and size + n > FILE_BYTES or header + entry > HEADER_BYTES:
            files.append([])
            size = header = 0
        files[-1].append((name, tensor))
        size, header = size + n, header + entry
    for number, tensors in enumerate(files, 1):
        write(os.path.join(folder, "model-%05d.safetensors" % number), tensors)


def main() -> int:
    try:
        import torch
    except ImportError:
        return NO_TORCH
    try:
        os.makedirs(sys.argv[2], exist_ok=True)
        write_all(sys.argv[2], load(torch, sys.argv[1]))
    except (Refused, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
