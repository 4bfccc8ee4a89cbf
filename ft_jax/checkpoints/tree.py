"""Nested parameter dictionaries by path: flatten, split, merge, digest, fingerprint.

A path is the keys joined by ``/`` (``denoiser/audio/projector/kernel``); paths are API, and
optimizer groups, conversion tables and bundles all name parameters by them. A leaf is anything that
is not a mapping, so trees of arrays, of abstract arrays and of boxed arrays are treated alike.

Tests: tests/checkpoints/tree_test.py.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ml_dtypes import bfloat16

from ft_jax.lazy import Lazy
from ft_jax.typing import Params


def flatten(tree: Params, prefix: str = "") -> dict[str, Any]:
    """Nested mappings -> {path: leaf}, in sorted order of the paths' keys."""
    leaves: dict[str, Any] = {}
    for key in sorted(tree):
        path = f"{prefix}{key}"
        if isinstance(tree[key], Mapping):
            leaves.update(flatten(tree[key], f"{path}/"))
        else:
            leaves[path] = tree[key]
    return leaves


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def split(tree: Params, keep: Callable[[str], bool]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Cuts `tree` into the leaves whose path satisfies `keep`, and the others."""
    leaves = flatten(tree)
    kept = {path: leaf for path, leaf in leaves.items() if keep(path)}
    others = {path: leaf for path, leaf in leaves.items() if path not in kept}
    return unflatten(kept), unflatten(others)


def merge(first: Params, second: Params) -> dict[str, Any]:
    """Puts two trees without a common path back together; undoes `split`."""
    a, b = flatten(first), flatten(second)
    if both := sorted(set(a) & set(b)):
        raise ValueError(f"{both[0]}: in both trees; expected disjoint trees")
    return unflatten({**a, **b})


def digest(leaves: Mapping[str, Any]) -> str:
    """SHA-256 over the paths, types, shapes and bytes of {path: array}.

    Where every array has a digest noted (ft_jax/lazy.py), over those instead of the bytes.
    """
    state = hashlib.sha256()
    is_noted = all(isinstance(leaf, Lazy) and leaf.digest for leaf in leaves.values())
    for path in sorted(leaves):
        if is_noted:
            leaf = leaves[path]
            state.update(f"{path} {leaf.dtype.name} {leaf.shape} {leaf.digest}\n".encode())
            continue
        array = np.ascontiguousarray(np.asarray(leaves[path]))
        state.update(f"{path} {array.dtype.name} {array.shape}\n".encode())
        state.update(array.reshape(-1).view(np.uint8).data)
    return state.hexdigest()


def content(array: np.ndarray) -> str:
    """SHA-256 of the bytes of one array."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return hashlib.sha256(flat.data).hexdigest()


def fingerprint(settings: Mapping[str, Any], params: Params) -> str:
    """Short hash of one part of a system: its weights in bfloat16 and its settings.

    The settings belong to it: latents are normalised by the codec's mean and deviation.
    """
    leaves = {path: np.asarray(leaf).astype(bfloat16) for path, leaf in flatten(params).items()}
    text = json.dumps(settings, sort_keys=True) + digest(leaves)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
