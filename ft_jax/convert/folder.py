"""Files and folders of published weights -> tensors by their keys, read when they are needed.

A folder may hold several models, also in folders below it (a diffusers pipeline, an original Wan
folder). Files that belong together are joined: those that an index (`*.index.json`) names, or whose
names count (`NAME-00002-of-00007.safetensors`). Links are followed, as the cache of Hugging Face
consists of them; hidden folders are passed by.

    open_all(path)     one Weights for each model in a file or folder

Tests: tests/convert/folder_test.py.
"""

import dataclasses
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from ft_jax.convert import pickle_file, safetensors_file
from ft_jax.convert.fp8 import dequantise
from ft_jax.convert.onnx_arcface import read as read_onnx
from ft_jax.errors import UsageError
from ft_jax.lazy import Lazy

Tensors = dict[str, Lazy]
READERS: dict[str, Callable[[Path], Tensors]] = {
    ".safetensors": safetensors_file.read,
    **dict.fromkeys(pickle_file.SUFFIXES, pickle_file.read),
    ".onnx": read_onnx,
}
# Read where it is named, and passed by in a folder: tokenizers have files of that ending too.
NAMED = {".model": pickle_file.read}
_COUNTED = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})(?P<suffix>\.\w+)")
_INDEX = ".index.json"


@dataclasses.dataclass(frozen=True)
class Weights:
    """One model as found: the file, or the folder of its shards, and its tensors."""

    path: Path
    tensors: Tensors


def open_all(path: str | os.PathLike[str]) -> list[Weights]:
    """All models in a file or folder.

    Raises:
        UsageError: nothing there, a damaged or missing file, or shards that do not belong together.
    """
    path = Path(path)
    _check(path)
    if path.is_file():
        readers = READERS | NAMED
        if path.suffix not in readers:
            raise UsageError(f"{path}: ends in no known way; expected {', '.join(readers)}")
        return [Weights(path, dequantise(path, readers[path.suffix](path)))]
    found = []
    for folder, below, names in os.walk(path, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith("."))
        found += [_joined(group) for group in _groups(Path(folder), sorted(names))]
    if not found:
        raise UsageError(f"{path}: no weights in this folder; expected {', '.join(READERS)}")
    return found


def _check(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise UsageError(f"{path}: a link to {os.readlink(path)}, which is gone; expected a file")
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder; expected published weights")


def _groups(folder: Path, names: list[str]) -> list[list[Path]]:
    """The files of a folder, those of one model together."""
    groups: dict[str, list[Path]] = {}
    for name in names:
        if name.endswith(_INDEX):
            groups[name.removesuffix(_INDEX)] = _indexed(folder / name)
    taken = {path.name for group in groups.values() for path in group}
    files = [name for name in names if Path(name).suffix in READERS and name not in taken]
    # A Hugging Face folder may hold the same weights twice.
    if any(name.endswith(".safetensors") for name in {*files, *taken}):
        files = [name for name in files if not name.startswith("pytorch_model")]
        groups = {stem: group for stem, group in groups.items() if stem != "pytorch_model.bin"}
    totals: dict[str, int] = {}
    for name in files:
        if counted := _COUNTED.fullmatch(name):
            key = f"{counted['stem']}-of-{counted['total']}{counted['suffix']}"
            totals[key] = int(counted["total"])
            groups.setdefault(key, []).append(folder / name)
        else:
            groups[name] = [folder / name]
    for key, total in totals.items():
        stem, _, rest = key.rpartition("-of-")
        for number in range(1, total + 1):
            shard = folder / f"{stem}-{number:05d}-of-{rest}"
            if shard not in groups[key]:
                raise UsageError(
                    f"{shard}: missing; expected {total} shards, there are {len(groups[key])}"
                )
    return list(groups.values())


def _indexed(index: Path) -> list[Path]:
    """The files that an index names; each must hold exactly what the index says."""
    _check(index)
    try:
        places: dict[str, str] = json.loads(index.read_text())["weight_map"]
    except (ValueError, KeyError, OSError):
        raise UsageError(f"{index}: damaged; expected the index of a folder of shards") from None
    shards = [index.parent / name for name in sorted(set(places.values()))]
    for shard in shards:
        if not shard.exists() and not shard.is_symlink():
            raise UsageError(f"{shard}: missing; expected {len(shards)} shards as {index} says")
        _check(shard)
        held = set(READERS[shard.suffix](shard))
        named = {key for key, name in places.items() if name == shard.name}
        if other := sorted(held ^ named):
            raise UsageError(
                f"{shard}: holds other tensors than {index.name} says, such as {other[0]}; "
                f"expected shards of one model"
            )
    return shards


def _joined(shards: list[Path]) -> Weights:
    """One model out of its shards."""
    tensors: Tensors = {}
    origin: dict[str, Path] = {}
    for shard in shards:
        _check(shard)
        for key, tensor in READERS[shard.suffix](shard).items():
            if key in tensors:
                raise UsageError(
                    f"{shard}: {key} is also in {origin[key].name}; expected shards of one model"
                )
            tensors[key], origin[key] = tensor, shard
    path = shards[0] if len(shards) == 1 else shards[0].parent
    return Weights(path, dequantise(path, tensors))
