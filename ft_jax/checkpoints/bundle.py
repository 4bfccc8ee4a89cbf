"""The shipped form of a system: one safetensors file, bfloat16, nothing in it is executed.

Key = ``part/path/to/leaf`` (parts: denoiser codec speech text image face landmarks); the metadata
entry ``system`` is the JSON of the system's configuration, so that a bundle is enough to run the
model. Written beside and renamed: a reader sees the old file or the new one.

Tests: tests/checkpoints/bundle_test.py (round trip; truncated, foreign and renamed files).
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ft_jax.checkpoints.tree import flatten, unflatten
from ft_jax.errors import UsageError
from ft_jax.media import file
from ft_jax.typing import Params

SHIPPED = Path(__file__).parents[1] / "assets" / "mini.safetensors"
"""The model that comes with the package."""


def save(
    path: str | os.PathLike[str], system: Mapping[str, Any], parts: Mapping[str, Params]
) -> None:
    """Writes {part: parameters} and the system's configuration to `path`, floats as bfloat16.

    Raises:
      UsageError: `path` cannot be written.
    """
    from safetensors.numpy import save_file

    arrays = {key: _packed(leaf) for key, leaf in flatten(parts).items()}
    target = Path(path)
    beside = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    # One entry alone: several come out in an order that differs from file to file.
    metadata = {"system": json.dumps(system, sort_keys=True)}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file(arrays, str(beside), metadata=metadata)
        beside.chmod(0o644)  # the writer makes it private
        os.replace(beside, target)
    except OSError as error:
        raise UsageError(f"{target}: {error.strerror}; expected a path to write to") from None
    finally:
        beside.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Params]]:
    """Reads a bundle: (configuration of the system, {part: parameters as bfloat16 arrays}).

    Raises:
      UsageError: The file is missing, damaged, or no bundle; the message names it.
    """
    from safetensors import SafetensorError, safe_open

    check(path)
    try:
        with file.on_disk(file.place(path)) as local, safe_open(local, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            leaves = {key: opened.get_tensor(key) for key in opened.keys()}
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path}: damaged ({error}); expected a bundle (.safetensors)") from None
    if "system" not in metadata:
        raise UsageError(f"{path}: no entry 'system' in its metadata; expected a bundle")
    for key in leaves:
        if "/" not in key:
            raise UsageError(f"{path}: key {key!r} has no part; expected part/path/to/leaf")
    return json.loads(metadata["system"]), unflatten(leaves)


def is_bundle(path: str | os.PathLike[str]) -> bool:
    """Is there such a file, and not one of somebody else's weights?"""
    from safetensors import SafetensorError, safe_open

    place = file.place(path)
    if place.suffix != ".safetensors" or not place.is_file():
        return False
    try:
        with file.on_disk(place) as local, safe_open(local, framework="numpy") as opened:
            return "system" in (opened.metadata() or {})
    except (SafetensorError, OSError):
        return False


def check(path: str | os.PathLike[str]) -> None:
    """Raises a UsageError unless there is a file `path`, without reading it."""
    if not file.place(path).is_file():
        raise UsageError(f"{path}: no such file; expected a bundle (.safetensors)")


def _packed(leaf: Any) -> np.ndarray:
    array = np.asarray(leaf)
    if np.issubdtype(array.dtype, np.floating) or array.dtype == ml_dtypes.bfloat16:
        array = array.astype(ml_dtypes.bfloat16)
    return np.ascontiguousarray(array)
