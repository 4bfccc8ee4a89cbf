"""Wan2.1_VAE.pth (original names) <-> ft_jax/models/vae.py.

The torch file numbers blocks and samplers of all levels in one list; ours are named by level.

Tests: tests/convert/encoders_test.py (released keys), tests/parity/vae_parity_test.py.
"""

from ft_jax.convert import table
from ft_jax.convert.table import Row, Table, Transform
from ft_jax.models.vae import Config

# Convolution over time alone [o i 3 1 1] <-> linear layer on three frames side by side [3 i, o].
TIME = Transform(
    "time taps",
    lambda x: x[:, :, :, 0, 0].transpose(2, 1, 0).reshape(-1, x.shape[0]),
    lambda x: x.reshape(3, -1, x.shape[1]).transpose(2, 1, 0)[..., None, None],
)


def _layer(key: str, path: str, transform: Transform) -> list[Row]:
    return [Row(f"{key}.weight", f"{path}/kernel", transform), Row(f"{key}.bias", f"{path}/bias")]


def _block(key: str, path: str) -> list[Row]:
    return [
        Row(f"{key}.residual.0.gamma", f"{path}/norm_1/scale", table.GAMMA3D),
        *_layer(f"{key}.residual.2", f"{path}/conv_1", table.CONV3D),
        Row(f"{key}.residual.3.gamma", f"{path}/norm_2/scale", table.GAMMA3D),
        *_layer(f"{key}.residual.6", f"{path}/conv_2", table.CONV3D),
        *_layer(f"{key}.shortcut", f"{path}/shortcut", table.POINT3D),
    ]


def _sampler(key: str, path: str) -> list[Row]:
    return [
        *_layer(f"{key}.resample.1", f"{path}/conv", table.CONV2D),
        *_layer(f"{key}.time_conv", f"{path}/time", TIME),
    ]


def _ends(key: str, path: str) -> list[Row]:
    return [
        *_layer(f"{key}.conv1", f"{path}/stem", table.CONV3D),
        *_block(f"{key}.middle.0", f"{path}/middle/block_0"),
        Row(f"{key}.middle.1.norm.gamma", f"{path}/middle/attention/norm/scale", table.GAMMA2D),
        *_layer(f"{key}.middle.1.to_qkv", f"{path}/middle/attention/qkv", table.POINT2D),
        *_layer(f"{key}.middle.1.proj", f"{path}/middle/attention/out", table.POINT2D),
        *_block(f"{key}.middle.2", f"{path}/middle/block_1"),
        Row(f"{key}.head.0.gamma", f"{path}/head_norm/scale", table.GAMMA3D),
        *_layer(f"{key}.head.2", f"{path}/head", table.CONV3D),
    ]


def _levels(key: str, path: str, levels: int, blocks: int, sampler: str) -> list[Row]:
    rows, number = [], 0
    for level in range(levels):
        for block in range(blocks):
            rows += _block(f"{key}.{number}", f"{path}/level_{level}_block_{block}")
            number += 1
        if level + 1 < levels:
            rows += _sampler(f"{key}.{number}", f"{path}/level_{level}_{sampler}")
            number += 1
    return rows


def wan_vae(cfg: Config) -> Table:
    """The table of an autoencoder of these sizes."""
    levels = len(cfg.multipliers)
    rows = [
        *_ends("encoder", "encoder"),
        *_levels("encoder.downsamples", "encoder", levels, cfg.blocks, "down"),
        *_layer("conv1", "moments", table.POINT3D),
        *_layer("conv2", "entry", table.POINT3D),
        *_ends("decoder", "decoder"),
        *_levels("decoder.upsamples", "decoder", levels, cfg.blocks + 1, "up"),
    ]
    return Table("the Wan2.1 VAE", tuple(rows))
