"""Wan2.1_VAE.pth (original names), or diffusers' AutoencoderKLWan <-> ft_jax/models/vae.py.

The original numbers blocks and samplers of all levels in one list, and so does diffusers on the way
down; ours are named by level.

Tests: tests/convert/encoders_test.py (released keys), tests/parity/vae_parity_test.py,
tests/parity/from_pretrained_test.py (settings).
"""

import dataclasses
from typing import Any

from ft_jax.convert import table
from ft_jax.convert.table import Row, Table, Transform
from ft_jax.models.vae import Config

# Convolution over time alone [o i 3 1 1] <-> linear layer on three frames side by side [3 i, o].
TIME = Transform(
    "time taps",
    lambda x: x[:, :, :, 0, 0].transpose(2, 1, 0).reshape(-1, x.shape[0]),
    lambda x: x.reshape(3, -1, x.shape[1]).transpose(2, 1, 0)[..., None, None],
)


@dataclasses.dataclass(frozen=True)
class _Names:
    """What a naming calls the parts that every block, end and level has."""

    norms: tuple[str, str]
    convolutions: tuple[str, str]
    shortcut: str
    middle: tuple[str, str, str]
    stem: str
    head_norm: str
    head: str
    levels: tuple[str, str]
    moments: str
    entry: str


_ORIGINAL = _Names(
    norms=("residual.0.gamma", "residual.3.gamma"),
    convolutions=("residual.2", "residual.6"),
    shortcut="shortcut",
    middle=("middle.0", "middle.1", "middle.2"),
    stem="conv1",
    head_norm="head.0.gamma",
    head="head.2",
    levels=("downsamples", "upsamples"),
    moments="conv1",
    entry="conv2",
)
_DIFFUSERS = _Names(
    norms=("norm1.gamma", "norm2.gamma"),
    convolutions=("conv1", "conv2"),
    shortcut="conv_shortcut",
    middle=("mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1"),
    stem="conv_in",
    head_norm="norm_out.gamma",
    head="conv_out",
    levels=("down_blocks", "up_blocks"),
    moments="quant_conv",
    entry="post_quant_conv",
)


def _layer(key: str, path: str, transform: Transform) -> list[Row]:
    return [Row(f"{key}.weight", f"{path}/kernel", transform), Row(f"{key}.bias", f"{path}/bias")]


def _block(names: _Names, key: str, path: str) -> list[Row]:
    rows = _layer(f"{key}.{names.shortcut}", f"{path}/shortcut", table.POINT3D)
    for number, (norm, conv) in enumerate(zip(names.norms, names.convolutions, strict=True), 1):
        rows.append(Row(f"{key}.{norm}", f"{path}/norm_{number}/scale", table.GAMMA3D))
        rows += _layer(f"{key}.{conv}", f"{path}/conv_{number}", table.CONV3D)
    return rows


def _sampler(key: str, path: str) -> list[Row]:
    return [
        *_layer(f"{key}.resample.1", f"{path}/conv", table.CONV2D),
        *_layer(f"{key}.time_conv", f"{path}/time", TIME),
    ]


def _ends(names: _Names, side: str) -> list[Row]:
    first, attention, last = (f"{side}.{name}" for name in names.middle)
    middle = f"{side}/middle"
    return [
        *_layer(f"{side}.{names.stem}", f"{side}/stem", table.CONV3D),
        *_block(names, first, f"{middle}/block_0"),
        Row(f"{attention}.norm.gamma", f"{middle}/attention/norm/scale", table.GAMMA2D),
        *_layer(f"{attention}.to_qkv", f"{middle}/attention/qkv", table.POINT2D),
        *_layer(f"{attention}.proj", f"{middle}/attention/out", table.POINT2D),
        *_block(names, last, f"{middle}/block_1"),
        Row(f"{side}.{names.head_norm}", f"{side}/head_norm/scale", table.GAMMA3D),
        *_layer(f"{side}.{names.head}", f"{side}/head", table.CONV3D),
    ]


def _levels(names: _Names, side: str, levels: int, blocks: int) -> list[Row]:
    """Blocks and samplers of all levels; one list, but for the way up in diffusers' naming."""
    upwards = side == "decoder"
    key, sampler = f"{side}.{names.levels[upwards]}", ("down", "up")[upwards]
    nested = upwards and names is _DIFFUSERS
    rows, number = [], 0
    for level in range(levels):
        for block in range(blocks):
            place = f"{level}.resnets.{block}" if nested else number
            rows += _block(names, f"{key}.{place}", f"{side}/level_{level}_block_{block}")
            number += 1
        if level + 1 < levels:
            place = f"{level}.upsamplers.0" if nested else number
            rows += _sampler(f"{key}.{place}", f"{side}/level_{level}_{sampler}")
            number += 1
    return rows


def _table(name: str, cfg: Config, names: _Names) -> Table:
    levels = len(cfg.multipliers)
    rows = [
        *_ends(names, "encoder"),
        *_levels(names, "encoder", levels, cfg.blocks),
        *_layer(names.moments, "moments", table.POINT3D),
        *_layer(names.entry, "entry", table.POINT3D),
        *_ends(names, "decoder"),
        *_levels(names, "decoder", levels, cfg.blocks + 1),
    ]
    return Table(name, tuple(rows))


def wan_vae(cfg: Config) -> Table:
    """The table of an autoencoder of these sizes, original names."""
    return _table("the Wan2.1 VAE", cfg, _ORIGINAL)


def diffusers_vae(cfg: Config) -> Table:
    """Likewise under the names of diffusers' AutoencoderKLWan."""
    return _table("the Wan2.1 VAE (diffusers names)", cfg, _DIFFUSERS)


def diffusers_settings(cfg: Config) -> dict[str, Any]:
    """config.json of diffusers' AutoencoderKLWan."""
    return {
        "_class_name": "AutoencoderKLWan",
        "base_dim": cfg.width,
        "z_dim": cfg.channels,
        "dim_mult": list(cfg.multipliers),
        "num_res_blocks": cfg.blocks,
        "attn_scales": [],
        "temperal_downsample": list(cfg.time),
        "latents_mean": list(cfg.mean),
        "latents_std": list(cfg.std),
        "scale_factor_temporal": cfg.time_factor,
        "scale_factor_spatial": cfg.space_factor,
    }
