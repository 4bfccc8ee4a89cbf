"""Weights in 8-bit floats with a scale beside each, as ComfyUI files have them -> bfloat16.

    x.weight [o, i] fp8 and x.scale_weight (or x.weight_scale), one number or one a row
    -> x.weight = fp8 * scale

Markers (`scaled_fp8`) and scales of inputs, which only serve 8-bit matrix products, are left out.
The product is rounded once, from float32; a scale that is a power of two loses nothing.

Tests: tests/convert/fp8_test.py.
"""

from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from ft_jax.errors import UsageError
from ft_jax.lazy import Lazy

_FP8 = (np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(ml_dtypes.float8_e5m2))
_SCALES = ("scale_weight", "weight_scale")
_ONLY_FOR_FP8 = ("scaled_fp8", "scale_input", "input_scale", *_SCALES)


def dequantise(path: Path, tensors: Mapping[str, Lazy]) -> dict[str, Lazy]:
    """`tensors` without 8-bit floats; as they are, if there are none.

    Raises:
        UsageError: a tensor is in 8-bit floats and has no scale: its numbers mean nothing.
    """
    weights = {
        key: tensor
        for key, tensor in tensors.items()
        if key.rpartition(".")[2] not in _ONLY_FOR_FP8
    }
    small = [key for key, tensor in weights.items() if tensor.dtype in _FP8]
    if not small:
        return dict(tensors)
    scales = {key: _scale(key, tensors) for key in small}
    if alone := [key for key, scale in scales.items() if scale is None]:
        raise UsageError(
            f"{path}: {len(alone)} of {len(tensors)} tensors are fp8 without a scale, such as "
            f"{alone[0]}; expected one named scale_weight or weight_scale beside each"
        )
    for key, scale in scales.items():
        if scale is not None:
            weights[key] = _product(tensors[key], scale)
    return weights


def _scale(key: str, tensors: Mapping[str, Lazy]) -> Lazy | None:
    stem = key.removesuffix("weight")
    return next((tensors[stem + name] for name in _SCALES if stem + name in tensors), None)


def _product(tensor: Lazy, scale: Lazy) -> Lazy:
    def read() -> np.ndarray:
        factor = np.asarray(scale).astype(np.float32)
        if factor.size > 1:
            factor = factor.reshape(-1, *(1,) * (len(tensor.shape) - 1))
        values = np.asarray(tensor).astype(np.float32) * factor
        return values.reshape(tensor.shape).astype(ml_dtypes.bfloat16)

    return Lazy(tensor.shape, np.dtype(ml_dtypes.bfloat16), read)
