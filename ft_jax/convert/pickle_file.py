"""PyTorch's own files (.pth, .pt, .ckpt, .bin): opened without running anything in them.

`torch.load(weights_only=True)` builds tensors and plain containers, nothing else; a file that asks
for more is refused. Nested dictionaries are joined by dots. The file is mapped into memory: its
tensors are read when they are needed. PyTorch is imported when such a file comes up.

Tests: tests/convert/folder_test.py (nested, code, damage), tests/convert/formats_test.py.
"""

import errno
import os
import pickle
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

from ft_jax.errors import UsageError
from ft_jax.lazy import Lazy

SUFFIXES = (".pth", ".pt", ".ckpt", ".bin")
# Types numpy has no name for: read as integers of their width, and named afterwards.
_VIEWS = {
    "bfloat16": ("int16", ml_dtypes.bfloat16),
    "float8_e4m3fn": ("uint8", ml_dtypes.float8_e4m3fn),
    "float8_e5m2": ("uint8", ml_dtypes.float8_e5m2),
}


def read(path: Path) -> dict[str, Lazy]:
    """The tensors of a file by their keys.

    Raises:
        UsageError: the file would run code, is damaged, holds something that is no tensor, or
            PyTorch is not installed.
    """
    torch = _torch(path)
    tensors = {}
    for key, value in _flat(_loaded(torch, path), ""):
        if not isinstance(value, torch.Tensor):
            kind = type(value).__name__
            raise UsageError(f"{path}: {key or 'its content'} is of type {kind}; expected a tensor")
        tensors[key] = _lazy(torch, value)
    return tensors


def write(path: Path, stored: Path, groups: Sequence[str]) -> None:
    """Writes the tensors of a safetensors file as a torch file.

    Args:
        path: the file to write.
        stored: a safetensors file; it is mapped, so that no more than a tensor is in memory.
        groups: first words of keys; those tensors go into dictionaries of these names.

    Raises:
        UsageError: PyTorch is not installed.
        OSError: there is no space; PyTorch does not say what else it might be.
    """
    torch = _torch(path)
    from safetensors.torch import load_file

    state: dict[str, Any] = {group: {} for group in groups}
    for key, tensor in load_file(stored).items():
        group, _, rest = key.partition(".")
        if group in groups:
            state[group][rest] = tensor
        else:
            state[key] = tensor
    try:
        torch.save(state, path)
    except RuntimeError as error:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def _torch(path: Path) -> ModuleType:
    try:
        import torch
    except ImportError:
        raise UsageError(
            f"{path}: PyTorch's own format needs the package torch, which is not installed; "
            f"expected pip install 'ft_jax[convert]', or a safetensors file"
        ) from None
    return torch


def _loaded(torch: ModuleType, path: Path) -> Any:
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            # Before 2020 the files were no archives; those are read as a whole.
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):  # a function or class to be called
            raise UsageError(
                f"{path}: would run code when it is loaded; expected a file of tensors only"
            ) from None
        raise UsageError(f"{path}: damaged; expected a file of PyTorch") from None
    except (RuntimeError, EOFError, ValueError, LookupError, struct.error, OSError):
        raise UsageError(f"{path}: damaged; expected a file of PyTorch") from None


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield prefix.removesuffix("."), value
        return
    for key, inner in value.items():
        yield from _flat(inner, f"{prefix}{key}.")


def _lazy(torch: ModuleType, tensor: Any) -> Lazy:
    tensor = tensor.detach()
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in _VIEWS:
        return Lazy(tuple(tensor.shape), np.dtype(name), lambda: tensor.numpy())
    whole, dtype = _VIEWS[name]

    def read() -> np.ndarray:
        return tensor.contiguous().view(getattr(torch, whole)).numpy().view(dtype)

    return Lazy(tuple(tensor.shape), np.dtype(dtype), read)
