"""Every format at the released sizes, both ways: all tensors named, none left over, none read."""

import dataclasses
import functools
import hashlib
from pathlib import Path

import numpy as np
import pytest

from configs import models
from ft_jax.checkpoints.tree import flatten, unflatten
from ft_jax.config import build
from ft_jax.convert import folder, formats
from ft_jax.lazy import Lazy
from ft_jax.models import lora
from ft_jax.models.system import System

LOW_RANK = lora.Config(32, 16.0, ".*")
TENSORS = {
    # format: how many, and parameters of the part
    "wan": (1303, 16_394_878_784),
    "wan_comfyui": (1303, 16_394_878_784),
    "wan_diffusers": (1303, 16_394_878_784),
    "fantasytalking": (83, 840_437_760),
    "fantasytalking_safetensors": (83, 840_437_760),
    "fantasytalking_comfyui": (83, 840_437_760),
    "identity": (135, 920_839_424),
    "motion": (16, 16_270_336),
    # 40 blocks of 12 layers: down, up and alpha each.
    "lora_comfyui": (40 * 12 * 3, 40 * 32 * (10 * (5120 + 5120) + 2 * (5120 + 13824))),
    "vae": (194, 126_892_531),
    "vae_comfyui": (194, 126_892_531),
    "vae_diffusers": (194, 126_892_531),
    "umt5": (242, 5_680_910_336),
    "umt5_hf": (242, 5_680_910_336),
    "clip": (392, 632_076_800),
    "clip_hf": (520, 632_076_800),
    "wav2vec2": (210, 94_370_816),
    "wav2vec2_weight_g": (210, 94_370_816),
    "arcface": (771, 65_225_792),
    "syncnet": (88, 13_640_256),
}
DIGESTS = {
    # Of the sorted lines "key:shape" of the released files.
    "wan": "f78147526bdc56f928ddb05c106f4e26c2ea0901bac9de9fe75152cfc87d3d68",
    "umt5": "08b21ef3870c5c3fd0d545b8e75d21dc62e5c03c0789f43a0439499ed74660fb",
    "vae": "4ba8fe9cb374796bfd7aaf25117648d4c7eea1d77bbaf82f80ff6223e18c3dbe",
    # Without the text tower.
    "clip": "9d874116747e9d78f8884afa4c399f79155a0398a73e27974fa2d07b0acaa731",
}


@functools.cache
def system() -> System:
    """I2V-14B, with the end of the image tower."""
    made = build(System, models.get_config("wan_14b").to_dict())
    return dataclasses.replace(made, image=dataclasses.replace(made.image, projection=1024))


def system_of(name: str) -> System:
    made = system()
    if name != "lora_comfyui":
        return made
    return dataclasses.replace(made, denoiser=dataclasses.replace(made.denoiser, lora=LOW_RANK))


def unread(shape: tuple[int, ...]) -> Lazy:
    """Numbers of a small tensor, as a scale or a norm; nothing large is ever asked for."""

    def read() -> np.ndarray:
        assert np.prod(shape) < 10_000_000, shape
        return np.full(shape, LOW_RANK.alpha, np.float32)

    return Lazy(tuple(shape), np.dtype(np.float32), read)


@functools.cache
def layout(name: str) -> dict[str, tuple[int, ...]]:
    """{key: shape} of the file that is written, without its prefix."""
    fmt, made = formats.named(name), system_of(name)
    leaves = {path: unread(shape) for path, shape in own(name).items()}
    written, _ = formats.tensors(fmt, made, unflatten(leaves))
    return {key.removeprefix(fmt.prefixes[0]): shape for key, (shape, _) in written.items()}


def own(name: str) -> dict[str, tuple[int, ...]]:
    """{path: shape} of the part that the format is about."""
    fmt = formats.named(name)
    root = "denoiser/" * fmt.part.startswith("denoiser/") or f"{fmt.part}/"
    tree = formats.abstract(system_of(name), fmt.part)
    return {f"{root}{path}": tuple(leaf.shape) for path, leaf in flatten(tree).items()}


def test_every_format_is_here():
    assert TENSORS.keys() == formats.FORMATS.keys()


@pytest.mark.parametrize("name", TENSORS)
def test_a_file_is_written_with_every_tensor_and_read_with_none_left_over(name: str):
    tensors, parameters = TENSORS[name]
    shapes, fmt = layout(name), formats.named(name)
    assert len(shapes) == tensors
    assert sum(int(np.prod(shape)) for shape in own(name).values()) == parameters
    file = {fmt.prefixes[0] + key: unread(shape) for key, shape in shapes.items()}
    seen, leaves = formats.leaves(folder.Weights(Path("x"), file), system_of(name), None)
    assert seen.part == fmt.part and seen.table(system()).name == fmt.table(system()).name
    assert {path: leaf.shape for path, leaf in leaves.items()} == own(name)


@pytest.mark.parametrize("name", DIGESTS)
def test_the_keys_are_those_of_the_released_file(name: str):
    shapes = dict(layout(name))
    if name == "clip":
        shapes["log_scale"] = ()  # carried along, as the text tower is
    lines = [f"{key}:{','.join(map(str, shape))}" for key, shape in sorted(shapes.items())]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == DIGESTS[name]
