"""8-bit weights of ComfyUI files."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from ft_jax.convert.fp8 import dequantise
from ft_jax.errors import UsageError
from ft_jax.lazy import Lazy

FILE = Path("file.safetensors")
SMALL = np.random.default_rng(0).standard_normal((3, 4)).astype(ml_dtypes.float8_e4m3fn)


def lazy(**arrays) -> dict[str, Lazy]:
    return {
        key.replace("__", "."): Lazy(array.shape, array.dtype, lambda array=array: array)
        for key, array in arrays.items()
    }


@pytest.mark.parametrize("name", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("scale", [np.float32(0.25), np.float32([2, 4, 8]), np.float32([[2]] * 3)])
def test_weights_are_multiplied_by_their_scale(name: str, scale):
    scale, bias = np.asarray(scale), np.ones(3, np.float16)
    given = lazy(a__weight=SMALL, a__bias=bias, a__scale_input=np.ones(1)) | {
        f"a.{name}": lazy(x=scale)["x"],
        "scaled_fp8": lazy(x=np.zeros(2, ml_dtypes.float8_e4m3fn))["x"],
    }
    whole = dequantise(FILE, given)
    assert sorted(whole) == ["a.bias", "a.weight"]
    wanted = SMALL.astype(np.float32) * scale.reshape(-1, 1)
    np.testing.assert_array_equal(whole["a.weight"], wanted.astype(ml_dtypes.bfloat16), strict=True)
    np.testing.assert_array_equal(whole["a.bias"], bias, strict=True)
    assert whole["a.weight"].dtype == ml_dtypes.bfloat16


def test_fp8_without_scales_is_refused():
    given = lazy(a__weight=SMALL, b__weight=SMALL, b__scale_weight=np.ones(()), c=np.ones(2))
    with pytest.raises(UsageError) as caught:
        dequantise(FILE, given)
    assert str(caught.value) == (
        "file.safetensors: 1 of 4 tensors are fp8 without a scale, such as a.weight; expected one "
        "named scale_weight or weight_scale beside each"
    )


def test_a_file_without_fp8_keeps_every_tensor():
    given = lazy(a__weight=np.ones(2), a__scale_weight=np.ones(1))
    assert dequantise(FILE, given) == given
