"""One part of a system -> a published file, tensor by tensor.

    folder   STEM.safetensors, or shards of a chosen size and STEM.safetensors.index.json; and
             config.json, so that `from_pretrained` of diffusers or transformers takes the folder
    file     one safetensors file
    torch    a file of PyTorch, made of a safetensors file beside it that is then removed

Written under another name beside the target and renamed when complete. With every part of the
denoiser goes the PyTorch file that runs it (torch_addon/), beside the target.

Tests: tests/convert/formats_test.py, tests/cli/convert_test.py,
tests/parity/from_pretrained_test.py.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ft_jax.convert import formats, pickle_file, safetensors_file
from ft_jax.convert.safetensors_file import Layout
from ft_jax.convert.torch_addon import FILE
from ft_jax.errors import UsageError
from ft_jax.models.system import System

SUFFIXES = {"file": (".safetensors",), "torch": pickle_file.SUFFIXES}
READ_AS_FILE = (*SUFFIXES["file"], *SUFFIXES["torch"])


def check_target(fmt: formats.Format, out: Path) -> None:
    """Raises a UsageError if `out` exists, or has an ending that the format's files do not have."""
    if out.exists():
        raise UsageError(f"{out}: exists; expected a new name")
    if fmt.kind != "folder" and out.suffix not in SUFFIXES[fmt.kind]:
        expected = " or ".join(SUFFIXES[fmt.kind])
        raise UsageError(f"{out}: ends in {out.suffix or 'nothing'}; expected {expected}")
    if fmt.kind == "folder" and out.suffix in READ_AS_FILE:
        raise UsageError(f"{out}: {fmt.name} is a folder; expected a name without {out.suffix}")


def write(
    fmt: formats.Format,
    system: System,
    params: Mapping[str, Any],
    out: Path,
    shard_bytes: int,
) -> list[Path]:
    """Writes the part of `params` that the format is about.

    Args:
        fmt: the form.
        system: sizes of the parameters.
        params: {part: parameters}, lazy or not.
        out: file or folder to write; nothing may be there.
        shard_bytes: size at which a folder goes on to the next file.

    Returns:
        The files written.

    Raises:
        UsageError: `out` cannot be written, or the weights have no such part.
    """
    check_target(fmt, out)
    layout, stream = formats.tensors(fmt, system, params)
    metadata = fmt.metadata(system)
    beside = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        beside.mkdir(parents=True)
        if fmt.kind == "folder":
            shards = _shards(layout, fmt.stem, shard_bytes)
            files = {beside / name: shards[name] for name in shards}
            safetensors_file.write(files, stream, metadata)
            if len(shards) > 1:
                _write_json(beside / f"{fmt.stem}.safetensors.index.json", _index(shards))
            if fmt.settings is not None:
                _write_json(beside / "config.json", fmt.settings(system))
            program = _program(fmt, beside)
            beside.rename(out)
            return [*sorted(out.iterdir()), *program]
        stored = beside / "whole.safetensors"
        safetensors_file.write({stored: layout}, stream, metadata)
        if fmt.kind == "torch":
            made = beside / out.name
            pickle_file.write(made, stored, fmt.groups)
            stored = made
        program = _program(fmt, beside)
        stored.rename(out)
        return [out, *program]
    except OSError as error:
        raise UsageError(f"{out}: {error.strerror}; expected a place to write to") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _program(fmt: formats.Format, beside: Path) -> list[Path]:
    """Puts the PyTorch file that runs a denoiser's parts into the folder of `beside`."""
    if not fmt.part.startswith("denoiser/"):
        return []
    target = beside.with_name(FILE.name)
    copy = beside.with_name(f"{beside.name}.py")
    try:
        shutil.copyfile(FILE, copy)
        copy.replace(target)
    finally:
        copy.unlink(missing_ok=True)
    return [target]


def _size(entry: tuple[tuple[int, ...], np.dtype[Any]]) -> int:
    return int(np.prod(entry[0], dtype=np.int64)) * entry[1].itemsize


def _shards(layout: Layout, stem: str, limit: int) -> dict[str, Layout]:
    """File name -> its part of the layout; a tensor larger than the limit has a file of its own."""
    parts: list[dict[str, Any]] = [{}]
    held = 0
    for key, entry in layout.items():
        if parts[-1] and held + _size(entry) > limit:
            parts.append({})
            held = 0
        parts[-1][key] = entry
        held += _size(entry)
    if len(parts) == 1:
        return {f"{stem}.safetensors": parts[0]}
    total = len(parts)
    return {
        f"{stem}-{number:05d}-of-{total:05d}.safetensors": part
        for number, part in enumerate(parts, 1)
    }


def _index(shards: Mapping[str, Layout]) -> dict[str, Any]:
    total = sum(_size(entry) for layout in shards.values() for entry in layout.values())
    places = {key: name for name, layout in shards.items() for key in layout}
    return {"metadata": {"total_size": total}, "weight_map": places}


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
