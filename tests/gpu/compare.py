"""What tests/gpu/kernels.c wrote on two devices, side by side."""
import array


def read(path):
    arrays = {}
    with open(path, "rb") as f:
        while line := f.readline():
            name, count = line.decode().split()
            values = array.array("f")
            values.fromfile(f, int(count))
            arrays[name] = values
    return arrays


def differences(path_a, path_b):
    """For each array the largest difference, in parts of the array's largest value."""
    a, b = read(path_a), read(path_b)
    assert a.keys() == b.keys() and len(a) > 60, (sorted(a), sorted(b))
    found = {}
    for name, x in a.items():
        y = b[name]
        assert len(x) == len(y), name
        scale = max(max(abs(v) for v in x), 1e-6)
        found[name] = max(abs(p - q) if p == p and q == q else float("inf") for p, q in zip(x, y)) / scale
    return found
