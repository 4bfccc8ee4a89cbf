"""Safetensors files read tensor by tensor, and written without holding more than one.

The library checks a file when it is opened; its numpy form knows no 8-bit floats, and it writes
only what is in memory as a whole. So bytes are read and written here: eight bytes of length, a JSON
header with type, shape and place of every tensor, then the tensors.

    read(path)                       {key: Lazy}
    write(folder, files, stream)     files of {key: (shape, type)}, filled as tensors come

Tests: tests/convert/folder_test.py (types, damage), tests/convert/formats_test.py.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ft_jax.errors import UsageError
from ft_jax.lazy import Lazy

Layout = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
"""{key: (shape, type)} of one file."""

TYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_NAMES = {dtype: name for name, dtype in TYPES.items()}


def read(path: Path) -> dict[str, Lazy]:
    """The tensors of a file by their keys; reads the header only.

    Raises:
        UsageError: the file is damaged, or has a type that no weights have.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy"):
            pass  # checks that header and length agree
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path}: damaged ({error}); expected a safetensors file") from None
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    tensors = {}
    for key, entry in header.items():
        if entry["dtype"] not in TYPES:
            raise UsageError(
                f"{path}: {key} is {entry['dtype']}; expected one of {', '.join(TYPES)}"
            )
        place = 8 + length + entry["data_offsets"][0]
        tensors[key] = _tensor(path, tuple(entry["shape"]), TYPES[entry["dtype"]], place)
    return tensors


def _tensor(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], place: int) -> Lazy:
    count = int(np.prod(shape, dtype=np.int64))
    # Not mapped into memory: pages of a mapped file would stay and count as this process's.
    return Lazy(shape, dtype, lambda: np.fromfile(path, dtype, count, offset=place).reshape(shape))


def write(
    files: Mapping[Path, Layout],
    stream: Iterable[tuple[str, np.ndarray]],
    metadata: Mapping[str, str],
) -> None:
    """Writes files whose tensors come in any order, one after the other.

    Args:
        files: what each file will hold; no key in two of them.
        stream: (key, tensor) of every key.
        metadata: text for the header of each file.
    """
    places: dict[str, tuple[Path, int]] = {}
    for path, layout in files.items():
        header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
        offsets, end = {}, 0
        for key, (shape, dtype) in layout.items():
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            header[key] = {
                "dtype": _NAMES[dtype],
                "shape": list(shape),
                "data_offsets": [end, end + size],
            }
            offsets[key] = end
            end += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + end)
        places |= {key: (path, 8 + len(text) + offset) for key, offset in offsets.items()}
    for key, tensor in stream:
        path, place = places.pop(key)
        with path.open("r+b") as file:
            file.seek(place)
            file.write(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)
    if places:
        raise ValueError(f"{next(iter(places))}: announced and not written")
