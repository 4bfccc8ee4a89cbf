"""The Wan2.1 DiT under its original and its diffusers names <-> `dit/...`.

Paths are those of the whole denoiser, so pass `{"dit": params["dit"]}`. Stacked blocks are leading
axes here and numbered keys there. Rows that a variant lacks (image rows of a text-to-video model)
do not apply.

Facts: the original's `norm3`, before the cross-attention, is `norm2` in diffusers; the feed-forward
network is `ffn.0, ffn.2` there and `ffn.net.0.proj, ffn.net.2` here.
Tests: tests/parity/dit_parity_test.py (both names, both ways), tests/models/dit_test.py (released
sizes), tests/parity/from_pretrained_test.py (settings).
"""

from typing import Any

from ft_jax.convert.table import LEADING, LINEAR, Row, Table, Transform
from ft_jax.models import dit

# The patch embedding is a convolution whose stride is its kernel: a linear map of (c pt ph pw).
PATCH = Transform(
    "patch",
    lambda x: x.reshape(x.shape[0], -1).transpose(1, 0),
    lambda x: x.transpose(1, 0).reshape(x.shape[1], -1, 1, 2, 2),
)

# our path under dit/, original key, diffusers key; {n} = block
_LINEAR = (
    ("text_embedding/hidden", "text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    ("text_embedding/output", "text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    ("time_embedding/hidden", "time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    ("time_embedding/output", "time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    ("time_projection", "time_projection.1", "condition_embedder.time_proj"),
    ("image_embedding/hidden", "img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj"),
    ("image_embedding/output", "img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2"),
    ("head/output", "head.head", "proj_out"),
    ("blocks/self_attention/query", "blocks.{n}.self_attn.q", "blocks.{n}.attn1.to_q"),
    ("blocks/self_attention/key", "blocks.{n}.self_attn.k", "blocks.{n}.attn1.to_k"),
    ("blocks/self_attention/value", "blocks.{n}.self_attn.v", "blocks.{n}.attn1.to_v"),
    ("blocks/self_attention/output", "blocks.{n}.self_attn.o", "blocks.{n}.attn1.to_out.0"),
    ("blocks/cross_attention/query", "blocks.{n}.cross_attn.q", "blocks.{n}.attn2.to_q"),
    ("blocks/cross_attention/key", "blocks.{n}.cross_attn.k", "blocks.{n}.attn2.to_k"),
    ("blocks/cross_attention/value", "blocks.{n}.cross_attn.v", "blocks.{n}.attn2.to_v"),
    ("blocks/cross_attention/output", "blocks.{n}.cross_attn.o", "blocks.{n}.attn2.to_out.0"),
    (
        "blocks/cross_attention/image_key",
        "blocks.{n}.cross_attn.k_img",
        "blocks.{n}.attn2.add_k_proj",
    ),
    (
        "blocks/cross_attention/image_value",
        "blocks.{n}.cross_attn.v_img",
        "blocks.{n}.attn2.add_v_proj",
    ),
    ("blocks/mlp/hidden", "blocks.{n}.ffn.0", "blocks.{n}.ffn.net.0.proj"),
    ("blocks/mlp/output", "blocks.{n}.ffn.2", "blocks.{n}.ffn.net.2"),
)
_RMS = (
    ("self_attention/norm_query", "self_attn.norm_q", "attn1.norm_q"),
    ("self_attention/norm_key", "self_attn.norm_k", "attn1.norm_k"),
    ("cross_attention/norm_query", "cross_attn.norm_q", "attn2.norm_q"),
    ("cross_attention/norm_key", "cross_attn.norm_k", "attn2.norm_k"),
    ("cross_attention/norm_image_key", "cross_attn.norm_k_img", "attn2.norm_added_k"),
)
_LAYER_NORM = (
    ("image_embedding/norm_in", "img_emb.proj.0", "condition_embedder.image_embedder.norm1"),
    ("image_embedding/norm_out", "img_emb.proj.4", "condition_embedder.image_embedder.norm2"),
    ("blocks/norm_cross", "blocks.{n}.norm3", "blocks.{n}.norm2"),
)
_MODULATION = (
    ("blocks/modulation/table", "blocks.{n}.modulation", "blocks.{n}.scale_shift_table"),
    ("head/modulation/table", "head.modulation", "scale_shift_table"),
)


def _rows(naming: int) -> tuple[Row, ...]:
    """All rows under one naming: 1 = original, 2 = diffusers."""
    rows = [
        Row("patch_embedding.weight", "dit/patch_embedding/kernel", PATCH),
        Row("patch_embedding.bias", "dit/patch_embedding/bias"),
    ]
    for names in _LINEAR:
        rows.append(Row(f"{names[naming]}.weight", f"dit/{names[0]}/kernel", LINEAR))
        rows.append(Row(f"{names[naming]}.bias", f"dit/{names[0]}/bias"))
    for names in _RMS:
        key = f"blocks.{{n}}.{names[naming]}.weight"
        rows.append(Row(key, f"dit/blocks/{names[0]}/scale"))
    for names in _LAYER_NORM:
        rows.append(Row(f"{names[naming]}.weight", f"dit/{names[0]}/scale"))
        rows.append(Row(f"{names[naming]}.bias", f"dit/{names[0]}/bias"))
    rows += [Row(names[naming], f"dit/{names[0]}", LEADING) for names in _MODULATION]
    return tuple(rows)


ORIGINAL = Table("Wan2.1 DiT, original names", _rows(1))
DIFFUSERS = Table(
    "Wan2.1 DiT, diffusers names",
    _rows(2),
    # Files of early conversions carry a norm that the model never applied.
    ignored=(r"blocks\.\d+\.attn2\.norm_added_q\.weight",),
)


def settings(cfg: dit.Config) -> dict[str, Any]:
    """config.json of the original model."""
    return {
        "_class_name": "WanModel",
        "model_type": "t2v" if cfg.image_width is None else "i2v",
        "dim": cfg.width,
        "eps": cfg.eps,
        "ffn_dim": cfg.mlp_width,
        "freq_dim": cfg.frequency_width,
        "in_dim": cfg.input_channels,
        "out_dim": cfg.latent_channels,
        "num_heads": cfg.heads,
        "num_layers": cfg.layers,
        "text_len": cfg.text_tokens,
    }


def diffusers_settings(cfg: dit.Config) -> dict[str, Any]:
    """config.json of diffusers' WanTransformer3DModel, and the arguments of its constructor."""
    return {
        "_class_name": "WanTransformer3DModel",
        "patch_size": list(cfg.patch),
        "num_attention_heads": cfg.heads,
        "attention_head_dim": cfg.head_width,
        "in_channels": cfg.input_channels,
        "out_channels": cfg.latent_channels,
        "text_dim": cfg.text_width,
        "freq_dim": cfg.frequency_width,
        "ffn_dim": cfg.mlp_width,
        "num_layers": cfg.layers,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "eps": cfg.eps,
        "image_dim": cfg.image_width,
        "added_kv_proj_dim": None if cfg.image_width is None else cfg.width,
        "rope_max_seq_len": 1024,
    }
