"""Hugging Face wav2vec2 (and HuBERT) base checkpoints <-> ft_jax/models/wav2vec2.py.

The positional convolution is kept with its weight norm folded; `fold` and `unfold` change between
the two, for both spellings of the torch names. Files of a model with a head prefix every key:
take the prefix off first.

Tests: tests/convert/encoders_test.py, tests/parity/wav2vec2_parity_test.py,
tests/parity/from_pretrained_test.py (settings).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ft_jax.convert import table
from ft_jax.convert.table import Row, Table, Transform
from ft_jax.models.wav2vec2 import KERNELS, STRIDES, Config

_POSITION = "encoder.pos_conv_embed.conv"
POSITION = f"{_POSITION}.weight"
SPELLINGS = (
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ("weight_g", "weight_v"),
)


def _taps(kernel: int) -> Transform:
    """[o i k] <-> [k i, o]."""
    return Transform(
        "taps",
        lambda x: x.transpose(2, 1, 0).reshape(-1, x.shape[0]),
        lambda x: x.reshape(kernel, -1, x.shape[1]).transpose(2, 1, 0),
    )


def _both(key: str, path: str) -> list[Row]:
    """A linear layer or a norm with a bias, told apart by the path."""
    first = Row(f"{key}.weight", f"{path}/kernel", table.LINEAR)
    if path.endswith("norm"):
        first = Row(f"{key}.weight", f"{path}/scale")
    return [first, Row(f"{key}.bias", f"{path}/bias")]


def _rows() -> tuple[Row, ...]:
    rows = []
    for index, kernel in enumerate(KERNELS):
        key = f"feature_extractor.conv_layers.{index}.conv.weight"
        rows.append(Row(key, f"features/conv_{index}/kernel", _taps(kernel)))
    layer = "encoder.layers.{n}"
    for key, path in (
        ("feature_extractor.conv_layers.0.layer_norm", "features/norm"),
        ("feature_projection.layer_norm", "project_norm"),
        ("feature_projection.projection", "project"),
        ("encoder.layer_norm", "norm"),
        (f"{layer}.attention.q_proj", "layers/query"),
        (f"{layer}.attention.k_proj", "layers/key"),
        (f"{layer}.attention.v_proj", "layers/value"),
        (f"{layer}.attention.out_proj", "layers/out"),
        (f"{layer}.layer_norm", "layers/attention_norm"),
        (f"{layer}.feed_forward.intermediate_dense", "layers/up"),
        (f"{layer}.feed_forward.output_dense", "layers/down"),
        (f"{layer}.final_layer_norm", "layers/mlp_norm"),
    ):
        rows += _both(key, path)
    rows.append(Row(f"{_POSITION}.weight", "position/kernel", table.CONV1D))
    rows.append(Row(f"{_POSITION}.bias", "position/bias"))
    return tuple(rows)


# The mask embedding serves training only; the others are heads of whole models.
WAV2VEC2 = Table(
    "the wav2vec2 encoder",
    _rows(),
    (r"masked_spec_embed", r"lm_head\..*", r"quantizer\..*", r"project_(q|hid)\..*"),
)


def fold(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces the positional convolution's magnitude and direction by its weight.

    The norm is taken per kernel tap, over both channel axes, in float32.
    """
    folded = dict(tensors)
    for magnitude, direction in SPELLINGS:
        if f"{_POSITION}.{magnitude}" in folded and f"{_POSITION}.{direction}" in folded:
            g = np.asarray(folded.pop(f"{_POSITION}.{magnitude}"))
            v = np.asarray(folded.pop(f"{_POSITION}.{direction}"))
            weight = v.astype(np.float32) * (g.astype(np.float32) / _norm(v))
            folded[f"{_POSITION}.weight"] = weight.astype(v.dtype)
    return folded


def unfold(tensors: Mapping[str, Any], spelling: int = 0) -> dict[str, Any]:
    """The inverse of `fold`: the weight is its own direction, so folding again changes no bit.

    The magnitude stays in float32: rounded, it would no longer be the norm of the weight.
    """
    unfolded = dict(tensors)
    weight = np.asarray(unfolded.pop(f"{_POSITION}.weight"))
    magnitude, direction = SPELLINGS[spelling]
    unfolded[f"{_POSITION}.{magnitude}"] = _norm(weight)
    unfolded[f"{_POSITION}.{direction}"] = weight
    return unfolded


def _norm(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(x.astype(np.float32)).sum((0, 1), keepdims=True))


def settings(cfg: Config) -> dict[str, Any]:
    """config.json of Hugging Face's Wav2Vec2Model, whose layout HuBERT shares."""
    return {
        "architectures": ["Wav2Vec2Model"],
        "model_type": "wav2vec2",
        "hidden_size": cfg.width,
        "num_hidden_layers": cfg.layers,
        "num_attention_heads": cfg.heads,
        "intermediate_size": cfg.mlp_width,
        "conv_dim": [cfg.channels] * len(KERNELS),
        "conv_kernel": list(KERNELS),
        "conv_stride": list(STRIDES),
        "feat_extract_norm": "group",
        "num_conv_pos_embeddings": cfg.position_kernel,
        "num_conv_pos_embedding_groups": cfg.position_groups,
    }
