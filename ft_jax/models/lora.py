"""Low-rank changes of the base model (LoRA): y = x W + (alpha / rank) (x A) B.

A linear layer of the blocks whose path matches `targets` is given two small matrices, A (`down`,
random) and B (`up`, zero at first, so that nothing changes). `ft_jax.nn.linear` applies them where
it finds them, in the collection `lora`; the kernels of the base stay where and what they are. So
the parameter tree of the denoiser gains one key, with the base's own paths below it:

    lora/blocks/self_attention/query/down   [layers inputs rank]
    lora/blocks/self_attention/query/up     [layers rank outputs]

`merged` adds the product to the kernels, for a network that knows no low-rank path.

Source: Hu et al. 2021, arXiv 2106.09685. Tests: tests/models/lora_test.py.
"""

import dataclasses
import functools
import re
import zlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from ft_jax.errors import UsageError
from ft_jax.lazy import Lazy
from ft_jax.typing import Params

BLOCKS = "blocks/"


@dataclasses.dataclass(frozen=True)
class Config:
    """Which layers are changed, and by how much.

    Attributes:
        rank: of the change of one layer.
        alpha: what is added is scaled by alpha / rank.
        targets: regex; whole paths of linear layers of the blocks, as "blocks/mlp/hidden".
    """

    rank: int
    alpha: float
    targets: str

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UsageError(f"lora.rank: {self.rank}; expected at least 1")
        if self.alpha <= 0:
            raise UsageError(f"lora.alpha: {self.alpha}; expected a positive number")
        try:
            re.compile(self.targets)
        except re.error as error:
            raise UsageError(
                f"lora.targets: {self.targets!r} ({error}); expected a regular expression"
            ) from None

    @property
    def scale(self) -> float:
        """Of what is added."""
        return self.alpha / self.rank


def init(cfg: Config, dit: Params, key: jax.Array) -> dict[str, Any]:
    """Fresh matrices for the kernels of `dit`, all in boxes with logical axes; their effect is 0.

    Raises:
        UsageError: no layer matches the targets.
    """
    kernels = {
        path.removesuffix("/kernel"): leaf
        for path, leaf in _flat(dit).items()
        if path.startswith(BLOCKS) and path.endswith("/kernel")
    }
    chosen = {path: leaf for path, leaf in kernels.items() if re.fullmatch(cfg.targets, path)}
    if not chosen:
        raise UsageError(
            f"lora.targets: {cfg.targets!r} matches none; expected some of {', '.join(kernels)}"
        )
    leaves = {}
    for path, boxed in chosen.items():
        (layers, inputs, outputs), names = boxed.value.shape, boxed.names
        # By its path, so that a layer's draw does not depend on which others there are.
        own = jax.random.fold_in(key, zlib.crc32(path.encode()))
        down = jax.random.normal(own, (layers, inputs, cfg.rank)) * inputs**-0.5
        up = jnp.zeros((layers, cfg.rank, outputs))
        leaves[f"{path}/down"] = nn.LogicallyPartitioned(down, (names[0], names[1], None))
        leaves[f"{path}/up"] = nn.LogicallyPartitioned(up, (names[0], None, names[2]))
    return traverse_util.unflatten_dict(leaves, sep="/")


def of(params: Params) -> Params:
    """The low-rank part of a denoiser's parameters.

    Raises:
        UsageError: there is none.
    """
    if "lora" not in params:
        raise UsageError("denoiser/lora: no parameters; expected those the settings speak of")
    return params["lora"]


def scaled(cfg: Config, lora: Params) -> dict[str, Any]:
    """The tree with the scale in `up`, as the linear layers take it."""
    leaves = {
        path: leaf * jnp.asarray(cfg.scale, leaf.dtype) if path.endswith("/up") else leaf
        for path, leaf in _flat(lora).items()
    }
    return traverse_util.unflatten_dict(leaves, sep="/")


def merged(cfg: Config, params: Params) -> dict[str, Any]:
    """The parameters of a denoiser that computes the same without a low-rank path.

    Args:
        cfg: as the parameters were made.
        params: {"dit", "lora", ...} of arrays, lazy or not.

    Returns:
        The same without "lora"; changed kernels are lazy, in the type they had.

    Raises:
        UsageError: there is no "lora".
    """
    leaves, changes = _flat(params["dit"]), _flat(of(params))
    for path in changes:
        if not path.endswith("/down"):
            continue
        layer = path.removesuffix("/down")
        kernel = leaves[f"{layer}/kernel"]
        read = functools.partial(_sum, cfg.scale, kernel, changes[path], changes[f"{layer}/up"])
        leaves[f"{layer}/kernel"] = Lazy(tuple(kernel.shape), np.dtype(kernel.dtype), read)
    rest = {name: tree for name, tree in params.items() if name != "lora"}
    return {**rest, "dit": traverse_util.unflatten_dict(leaves, sep="/")}


def _sum(scale: float, kernel: Any, down: Any, up: Any) -> np.ndarray:
    """The kernel + scale * down @ up, one block at a time, in float32."""
    whole, down, up = (np.asarray(x) for x in (kernel, down, up))
    result = np.empty_like(whole)
    for block in range(len(whole)):
        a, b = (x[block].astype(np.float32) for x in (down, up))
        result[block] = whole[block].astype(np.float32) + scale * (a @ b)
    return result


def _flat(tree: Params) -> dict[str, Any]:
    return dict(traverse_util.flatten_dict(dict(tree), sep="/"))
