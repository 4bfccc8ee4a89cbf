"""One engine for every weight format: rows of (torch key, our path, transform), read both ways.

A `Table` is a list of rows. A key is a template: `blocks.{n}.ffn.0.weight`. A placeholder that the
path has too (`up_{n}/conv/kernel`) names one leaf per number; a placeholder that the path lacks
(`blocks/ffn/up/kernel`) means the leaf stacks these tensors on its leading axis, as a scanned layer
keeps them. What exists is decided by our parameter tree (arrays, or shapes from `jax.eval_shape`):
rows whose path is not in the tree do not apply, and a leaf without a row is a fault of the table.

    plan(table, tree)            every leaf with its torch keys, in tree order: enough to stream by
    shapes(table, tree)          torch key -> torch shape of the whole file
    check(table, found, tree)    every missing, unexpected and misshapen key in one UsageError
    to_params(table, tensors, tree)   torch tensors (any lazy mapping) -> nested dict of arrays
    to_torch(table, params)      the exact inverse

Arrays keep the dtype they come in. One tensor may be shared by several leaves (a fused q, k, v
matrix): rows with the same key and `part=(index, parts)` take equal pieces of its first axis.

Tests: tests/convert/table_test.py.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from flax.core import meta

from ft_jax.errors import UsageError

Tree = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Transform:
    """A change of layout and its inverse; both use array methods only, so shapes can be traced."""

    name: str
    to_ours: Callable[[Any], Any]
    to_torch: Callable[[Any], Any]


SAME = Transform("same", lambda x: x, lambda x: x)
LINEAR = Transform("linear", lambda x: x.transpose(1, 0), lambda x: x.transpose(1, 0))
CONV1D = Transform("conv1d", lambda x: x.transpose(2, 1, 0), lambda x: x.transpose(2, 1, 0))
CONV2D = Transform("conv2d", lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
CONV3D = Transform(
    "conv3d", lambda x: x.transpose(2, 3, 4, 1, 0), lambda x: x.transpose(4, 3, 0, 1, 2)
)
# A 1x1 convolution that is a linear layer here, by the rank of its torch kernel.
POINT2D = Transform(
    "point2d",
    lambda x: x[:, :, 0, 0].transpose(1, 0),
    lambda x: x.transpose(1, 0)[:, :, None, None],
)
POINT3D = Transform(
    "point3d",
    lambda x: x[:, :, 0, 0, 0].transpose(1, 0),
    lambda x: x.transpose(1, 0)[:, :, None, None, None],
)
# A scale per channel that torch keeps as [c 1 1] (frames) or [c 1 1 1] (video).
GAMMA2D = Transform("gamma2d", lambda x: x[:, 0, 0], lambda x: x[:, None, None])
GAMMA3D = Transform("gamma3d", lambda x: x[:, 0, 0, 0], lambda x: x[:, None, None, None])
# A leading axis of length one that torch keeps for broadcasting over the batch.
LEADING = Transform("leading", lambda x: x[0], lambda x: x[None])


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table: where a torch tensor lies in our tree, and in which layout."""

    key: str
    path: str
    transform: Transform = SAME
    part: tuple[int, int] = (0, 1)


@dataclasses.dataclass(frozen=True)
class Table:
    """All rows of one model.

    Attributes:
        name: what the file is, as an error message says it ("Wan2.1 VAE").
        rows: the lines.
        ignored: regular expressions (whole key) of tensors a file may hold and we do not use.
    """

    name: str
    rows: tuple[Row, ...]
    ignored: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Entry:
    """One leaf of our tree and the torch tensors it is made of.

    Attributes:
        path: leaf path, joined by "/".
        keys: one torch key, or one per index of the leaf's leading axis when `stacked`.
        shape: shape of each torch tensor (of the whole tensor when it is shared by parts).
    """

    path: str
    keys: tuple[str, ...]
    shape: tuple[int, ...]
    stacked: bool
    transform: Transform
    part: tuple[int, int]


def _placeholders(template: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", template))


def _pattern(template: str) -> re.Pattern[str]:
    pieces = re.split(r"\{(\w+)\}", template)
    text = "".join(
        rf"(?P<{piece}>\d+)" if index % 2 else re.escape(piece)
        for index, piece in enumerate(pieces)
    )
    return re.compile(text)


def _fill(template: str, values: Mapping[str, Any]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: str(values[match.group(1)]), template)


def flatten(tree: Tree) -> dict[str, Any]:
    """Nested dict -> {"a/b/c": leaf}, without the boxes that carry logical axis names."""
    return traverse_util.flatten_dict(meta.unbox(tree), sep="/")


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`, for leaves without boxes."""
    return traverse_util.unflatten_dict(dict(leaves), sep="/")


@functools.lru_cache(maxsize=1024)
def _torch_shape(transform: Transform, shape: tuple[int, ...]) -> tuple[int, ...]:
    return jax.eval_shape(transform.to_torch, jax.ShapeDtypeStruct(shape, "float32")).shape


def _entry(row: Row, path: str, leaf: Any, values: dict[str, str]) -> Entry:
    free = _placeholders(row.key) - values.keys()
    if len(free) > 1:
        raise ValueError(f"{row.key}: more than one placeholder is missing from {row.path}")
    shape = tuple(leaf.shape)
    if free:
        (name,) = free
        keys = tuple(_fill(row.key, {**values, name: index}) for index in range(shape[0]))
        shape = shape[1:]
    else:
        keys = (_fill(row.key, values),)
    torch_shape = _torch_shape(row.transform, shape)
    if row.part[1] > 1:
        torch_shape = (torch_shape[0] * row.part[1], *torch_shape[1:])
    return Entry(path, keys, torch_shape, bool(free), row.transform, row.part)


def plan(table: Table, tree: Tree) -> list[Entry]:
    """Every leaf of `tree` (arrays or shapes) with the torch tensors it is made of.

    Raises:
        ValueError: a leaf that no row, or more than one, describes (a fault of the table).
    """
    exact = {row.path: row for row in table.rows if not _placeholders(row.path)}
    if len(exact) + sum(bool(_placeholders(row.path)) for row in table.rows) < len(table.rows):
        raise ValueError(f"{table.name}: two rows have the same path")
    patterns = [(row, _pattern(row.path)) for row in table.rows if _placeholders(row.path)]
    entries, faults = [], []
    for path, leaf in flatten(tree).items():
        found = [(exact[path], {})] if path in exact else []
        matches = ((row, pattern.fullmatch(path)) for row, pattern in patterns)
        found += [(row, match.groupdict()) for row, match in matches if match]
        if len(found) != 1:
            faults.append(f"{path} has {len(found)} rows")
            continue
        entries.append(_entry(found[0][0], path, leaf, found[0][1]))
    if faults:
        raise ValueError(f"{table.name}: " + ", ".join(faults))
    return entries


def shapes(table: Table, tree: Tree) -> dict[str, tuple[int, ...]]:
    """Torch key -> torch shape of everything a file for this tree holds."""
    return {key: entry.shape for entry in plan(table, tree) for key in entry.keys}


def _listed(title: str, lines: Iterable[str]) -> list[str]:
    lines = list(lines)
    return [f"{len(lines)} {title}: " + ", ".join(lines)] if lines else []


def check(
    table: Table, found: Mapping[str, tuple[int, ...]], tree: Tree, origin: str = "weights"
) -> None:
    """Compare what a file holds with what the tree needs.

    Args:
        table: the model's table.
        found: torch key -> shape in the file.
        tree: our parameters or their shapes.
        origin: the file's name, for the message.

    Raises:
        UsageError: one message with every missing, unexpected and misshapen key.
    """
    expected = shapes(table, tree)
    ignored = [re.compile(pattern) for pattern in table.ignored]
    unexpected = [
        key
        for key in found
        if key not in expected and not any(pattern.fullmatch(key) for pattern in ignored)
    ]
    misshapen = [
        f"{key} {list(found[key])} instead of {list(shape)}"
        for key, shape in expected.items()
        if key in found and tuple(found[key]) != shape
    ]
    faults = [
        *_listed("missing", (key for key in expected if key not in found)),
        *_listed("unexpected", unexpected),
        *_listed("of another shape", misshapen),
    ]
    if faults:
        raise UsageError(
            f"{origin}: does not hold the {len(expected)} tensors of {table.name}; "
            + "; ".join(faults)
        )


def _piece(tensor: Any, part: tuple[int, int]) -> Any:
    index, parts = part
    size = tensor.shape[0] // parts if parts > 1 else 0
    return tensor[index * size : (index + 1) * size] if parts > 1 else tensor


def leaf(entry: Entry, tensors: Mapping[str, Any]) -> np.ndarray:
    """One leaf of our tree from its torch tensors; holds no more than the leaf and one tensor."""
    if not entry.stacked:
        tensor = np.asarray(tensors[entry.keys[0]])
        return np.asarray(entry.transform.to_ours(_piece(tensor, entry.part)), order="C")
    stacked: np.ndarray | None = None
    for index, key in enumerate(entry.keys):
        tensor = entry.transform.to_ours(_piece(np.asarray(tensors[key]), entry.part))
        if stacked is None:
            stacked = np.empty((len(entry.keys), *tensor.shape), tensor.dtype)
        if tensor.dtype != stacked.dtype:
            raise UsageError(
                f"{key}: dtype {tensor.dtype}; expected {stacked.dtype} like {entry.keys[0]}"
            )
        stacked[index] = tensor
    assert stacked is not None
    return stacked


def to_params(
    table: Table, tensors: Mapping[str, Any], tree: Tree, origin: str = "weights"
) -> dict[str, Any]:
    """Torch tensors -> our nested parameter dict.

    Args:
        table: the model's table.
        tensors: torch key -> array with `.shape`; may read lazily.
        tree: our parameters or their shapes; decides which leaves exist.
        origin: the file's name, for the message.

    Returns:
        Nested dict of numpy arrays, in the dtype of the tensors.

    Raises:
        UsageError: see `check`.
    """
    check(table, {key: tuple(tensors[key].shape) for key in tensors}, tree, origin)
    flat = {entry.path: leaf(entry, tensors) for entry in plan(table, tree)}
    return unflatten(flat)


def stream_torch(table: Table, params: Tree) -> Iterator[tuple[str, np.ndarray]]:
    """Torch tensors of our parameters (lazy or not) one after the other, parts of one joined."""
    leaves = flatten(params)
    waiting: dict[str, dict[int, np.ndarray]] = {}
    for entry in plan(table, params):
        leaf = np.asarray(leaves[entry.path])  # once: it may be read from a disk
        for index, key in enumerate(entry.keys):
            array = leaf[index] if entry.stacked else leaf
            tensor = np.asarray(entry.transform.to_torch(array), order="C")
            position, parts = entry.part
            if parts == 1:
                yield key, tensor
                continue
            pieces = waiting.setdefault(key, {})
            pieces[position] = tensor
            if len(pieces) == parts:
                yield key, np.concatenate([pieces[place] for place in range(parts)])
                del waiting[key]
    if waiting:
        raise ValueError(f"{table.name}: parts without their others: {', '.join(waiting)}")


def to_torch(table: Table, params: Tree) -> dict[str, np.ndarray]:
    """Our parameters -> {torch key: tensor}; the exact inverse of `to_params`."""
    return dict(stream_torch(table, params))
