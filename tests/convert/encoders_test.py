"""The tables of codec and encoders: they name every released tensor and lose nothing."""

import functools
import math

import jax
import numpy as np
import pytest

from ft_jax.convert import arcface, table, umt5, wan_vae
from ft_jax.convert import clip as clip_tables
from ft_jax.convert import wav2vec2 as speech
from ft_jax.errors import UsageError
from ft_jax.models import clip, face, text, vae, wav2vec2

SPEECH = wav2vec2.Config(
    channels=8, width=16, layers=2, heads=2, mlp_width=16, position_kernel=6, position_groups=2
)
IMAGE = clip.Config(pixels=16, patch=8, width=16, layers=3, heads=2, mlp_width=24, projection=6)
SMALL = {
    "codec": (wan_vae.wan_vae, vae, vae.Config(width=4, blocks=2, channels=4)),
    "codec, diffusers": (wan_vae.diffusers_vae, vae, vae.Config(width=4, blocks=2, channels=4)),
    "codec of three levels": (
        wan_vae.wan_vae,
        vae,
        vae.Config(width=4, blocks=1, channels=4, multipliers=(1, 2, 2), time=(True, True)),
    ),
    "text": (
        lambda cfg: umt5.ORIGINAL,
        text,
        text.Config("bytes", 20, 16, 2, 2, 8, 24),
    ),
    "text, Hugging Face": (
        lambda cfg: umt5.HUGGING_FACE,
        text,
        text.Config("bytes", 20, 16, 2, 2, 8, 24),
    ),
    "image": (clip_tables.original, clip, IMAGE),
    "image, Hugging Face": (clip_tables.hugging_face, clip, IMAGE),
    "speech": (lambda cfg: speech.WAV2VEC2, wav2vec2, SPEECH),
    "face": (
        arcface.arcface,
        face,
        face.Config(pixels=32, widths=(8, 8, 8, 12), blocks=(1, 2, 1, 1), width=6),
    ),
}


def abstract(module, cfg):
    return jax.eval_shape(functools.partial(module.init, cfg=cfg), jax.random.key(0))


@pytest.mark.parametrize("name", SMALL)
def test_there_and_back_gives_every_bit_again(name):
    make, module, cfg = SMALL[name]
    tree, random = abstract(module, cfg), np.random.default_rng(0)
    given = {
        key: random.normal(size=shape).astype(np.float32)
        for key, shape in table.shapes(make(cfg), tree).items()
    }
    back = table.to_torch(make(cfg), table.to_params(make(cfg), given, tree))
    assert back.keys() == given.keys()
    for key, value in given.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key)


RELEASED = {
    # table, module, config, tensors, parameters, one key with its shape
    "codec": (
        wan_vae.wan_vae, vae, vae.Config(), 194, 126_892_531,
        ("decoder.upsamples.3.time_conv.weight", (768, 384, 3, 1, 1)),
    ),
    "codec, diffusers": (
        wan_vae.diffusers_vae, vae, vae.Config(), 194, 126_892_531,
        ("decoder.up_blocks.0.upsamplers.0.time_conv.weight", (768, 384, 3, 1, 1)),
    ),
    "text": (
        lambda cfg: umt5.ORIGINAL, text, text.Config(""), 242, 5_680_910_336,
        ("blocks.23.pos_embedding.embedding.weight", (32, 64)),
    ),
    "image": (
        clip_tables.original, clip, clip.Config(projection=1024), 392, 632_076_800,
        ("visual.transformer.31.attn.to_qkv.weight", (3840, 1280)),
    ),
    "speech": (
        lambda cfg: speech.WAV2VEC2, wav2vec2, wav2vec2.Config(), 209, 94_370_816,
        ("encoder.pos_conv_embed.conv.weight", (768, 48, 128)),
    ),
    "face": (
        arcface.arcface, face, face.Config(blocks=(3, 13, 30, 3)), 771, 65_225_792,
        ("fc.weight", (512, 25088)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RELEASED)
def test_released_files_are_named_completely(name):
    make, module, cfg, tensors, parameters, (key, shape) = RELEASED[name]
    shapes = table.shapes(make(cfg), abstract(module, cfg))
    assert len(shapes) == tensors
    assert sum(math.prod(shape) for shape in shapes.values()) == parameters
    assert shapes[key] == shape


def test_the_end_of_the_image_tower_is_ignored_where_the_denoiser_does_not_read_it():
    whole = table.shapes(clip_tables.original(IMAGE), abstract(clip, IMAGE))
    cfg = clip.Config(pixels=16, patch=8, width=16, layers=3, heads=2, mlp_width=24)
    table.check(clip_tables.original(cfg), whole, abstract(clip, cfg))
    with pytest.raises(UsageError, match=r"visual\.transformer\.0\.norm1\.weight"):
        del whole["visual.transformer.0.norm1.weight"]
        table.check(clip_tables.original(cfg), whole, abstract(clip, cfg))


@pytest.mark.parametrize("spelling", [0, 1])
def test_folding_an_unfolded_weight_changes_no_bit(spelling):
    key = "encoder.pos_conv_embed.conv.weight"
    weight = np.random.default_rng(0).normal(size=(16, 8, 6)).astype(np.float32)
    apart = speech.unfold({key: weight}, spelling)
    assert key not in apart and len(apart) == 2
    np.testing.assert_array_equal(speech.fold(apart)[key], weight)
