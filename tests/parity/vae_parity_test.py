"""The autoencoder against diffusers' on random weights: values and gradients."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan

from ft_jax.convert import table
from ft_jax.convert.wan_vae import diffusers_vae, wan_vae
from ft_jax.models import vae

CFG = vae.Config(
    width=8, blocks=1, channels=4, mean=(0.3, -0.2, 0.1, 0.0), std=(1.0, 2.0, 0.5, 1.5)
)

# diffusers' names of whatever the original calls otherwise.
RENAMED = (
    (r"^quant_conv\.", "conv1."),
    (r"^post_quant_conv\.", "conv2."),
    (r"^(encoder|decoder)\.conv_in\.", r"\1.conv1."),
    (r"^(encoder|decoder)\.norm_out\.", r"\1.head.0."),
    (r"^(encoder|decoder)\.conv_out\.", r"\1.head.2."),
    (r"\.mid_block\.resnets\.0\.", ".middle.0."),
    (r"\.mid_block\.attentions\.0\.", ".middle.1."),
    (r"\.mid_block\.resnets\.1\.", ".middle.2."),
    (r"\.down_blocks\.(\d+)\.", r".downsamples.\1."),
    (r"(middle\.[02]|downsamples\.\d+|upsamples\.\d+)\.norm1\.", r"\1.residual.0."),
    (r"(middle\.[02]|downsamples\.\d+|upsamples\.\d+)\.conv1\.", r"\1.residual.2."),
    (r"(middle\.[02]|downsamples\.\d+|upsamples\.\d+)\.norm2\.", r"\1.residual.3."),
    (r"(middle\.[02]|downsamples\.\d+|upsamples\.\d+)\.conv2\.", r"\1.residual.6."),
    (r"\.conv_shortcut\.", ".shortcut."),
)


def original_name(key: str) -> str:
    blocks = CFG.blocks + 1

    def number(match: re.Match) -> str:
        level, rest = int(match.group(1)), match.group(2)
        place = int(match.group(3)) if rest == "resnets" else blocks
        return f".upsamples.{level * (blocks + 1) + place}."

    key = re.sub(r"\.up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)\.", number, key)
    for pattern, name in RENAMED:
        key = re.sub(pattern, name, key)
    return key


@functools.cache
def both():
    torch.manual_seed(0)
    model = AutoencoderKLWan(
        base_dim=CFG.width,
        z_dim=CFG.channels,
        dim_mult=list(CFG.multipliers),
        num_res_blocks=CFG.blocks,
        temperal_downsample=list(CFG.time),
    ).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("gamma"):
                value.copy_(1 + 0.2 * torch.randn(value.shape))
    tensors = {original_name(k): v.numpy() for k, v in model.state_dict().items()}
    abstract = jax.eval_shape(functools.partial(vae.init, cfg=CFG), jax.random.key(0))
    return model, jax.tree.map(jnp.asarray, table.to_params(wan_vae(CFG), tensors, abstract))


def test_both_namings_put_every_tensor_in_the_same_place():
    model, params = both()
    tensors = {key: value.numpy() for key, value in model.state_dict().items()}
    found = table.flatten(table.to_params(diffusers_vae(CFG), tensors, params))
    for path, leaf in table.flatten(params).items():
        np.testing.assert_array_equal(found[path], leaf, err_msg=path)


def channels_last(x: torch.Tensor) -> np.ndarray:
    return np.moveaxis(x.detach().numpy(), 1, -1)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def raw_of(latents: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(-1, 1, 1, 1) for values in (CFG.mean, CFG.std))
    return latents * std + mean


@functools.cache
def run(method: str):
    return jax.jit(getattr(vae, method), static_argnums=(1, 3))


TILES = vae.Tiles("blend", (4, 4), (3, 3))


@pytest.fixture
def tiled_model():
    """The network of diffusers with tiles of 32 pixels, 24 from one to the next."""
    model, params = both()
    model.enable_tiling(32, 32, 24, 24)
    yield model, params
    model.disable_tiling()


@pytest.mark.parametrize(("frames", "rows", "columns"), [(1, 16, 24), (9, 24, 16), (13, 8, 40)])
def test_encoding_equals_diffusers(frames, rows, columns):
    model, params = both()
    video = draw(2, 3, frames, rows, columns).clamp(-1, 1)
    with torch.no_grad():
        distribution = model.encode(video, return_dict=False)[0]
    raw = channels_last(distribution.mean)
    theirs = (raw - np.array(CFG.mean)) / np.array(CFG.std)
    ours = run("encode")(params, CFG, jnp.asarray(channels_last(video)))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(("frames", "rows", "columns"), [(1, 3, 2), (4, 2, 3), (2, 1, 5)])
def test_decoding_equals_diffusers(frames, rows, columns):
    model, params = both()
    latents = draw(2, CFG.channels, frames, rows, columns)
    with torch.no_grad():
        theirs = channels_last(model.decode(raw_of(latents), return_dict=False)[0])
    ours = run("decode")(params, CFG, jnp.asarray(channels_last(latents)))
    # diffusers clamps to the range of pixels.
    np.testing.assert_allclose(np.clip(ours, -1, 1), theirs, atol=1e-5)


# Sides that a tile covers, that end within an overlap, and with a last tile of one latent.
@pytest.mark.parametrize(("frames", "rows", "columns", "chunk"), [(2, 5, 3, 1), (1, 7, 6, 0)])
def test_decoding_in_tiles_equals_diffusers(tiled_model, frames, rows, columns, chunk):
    model, params = tiled_model
    latents = draw(1, CFG.channels, frames, rows, columns)
    with torch.no_grad():
        theirs = channels_last(model.decode(raw_of(latents), return_dict=False)[0])
    pieces = vae.Pieces(chunk, TILES)
    ours = run("decode")(params, CFG, jnp.asarray(channels_last(latents)), pieces)
    np.testing.assert_allclose(np.clip(ours, -1, 1), theirs, atol=1e-5)


def test_encoding_in_tiles_equals_diffusers(tiled_model):
    model, params = tiled_model
    video = draw(1, 3, 5, 24, 56).clamp(-1, 1)
    with torch.no_grad():
        distribution = model.encode(video, return_dict=False)[0]
    theirs = (channels_last(distribution.mean) - np.array(CFG.mean)) / np.array(CFG.std)
    pieces = vae.Pieces(0, TILES)
    ours = run("encode")(params, CFG, jnp.asarray(channels_last(video)), pieces)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def assert_equal_gradients(model, ours_of_params, ours_of_input, input_gradient):
    """Every tensor's gradient within 1e-4 of its largest value; a tensor unused there is 0 here."""
    gradients = {
        original_name(name): np.zeros(value.shape, np.float32)
        if value.grad is None
        else value.grad.numpy()
        for name, value in model.named_parameters()
    }
    theirs = table.to_params(wan_vae(CFG), gradients, jax.tree.map(jnp.asarray, ours_of_params))
    pairs = jax.tree.map(lambda one, other: (one, other), ours_of_params, theirs)
    pairs = jax.tree.leaves(pairs, is_leaf=lambda leaf: isinstance(leaf, tuple))
    for one, other in [*pairs, (ours_of_input, channels_last(input_gradient))]:
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())


@pytest.mark.parametrize("method", ["encode", "decode"])
def test_gradients_equal_diffusers(method):
    model, params = both()
    if method == "encode":
        x = draw(1, 3, 9, 16, 8).clamp(-1, 1).requires_grad_()
        made = model.encode(x, return_dict=False)[0].parameters
        ours = lambda tree, x: jnp.concatenate(vae.encode_distribution(tree, CFG, x), -1)  # noqa: E731
    else:
        x = draw(1, CFG.channels, 3, 2, 1).requires_grad_()
        made = model.decode(raw_of(x), return_dict=False)[0]
        ours = lambda tree, x: jnp.clip(vae.decode(tree, CFG, x), -1, 1)  # noqa: E731
    model.zero_grad()
    weights = draw(*made.shape)
    (made * weights).sum().backward()
    loss = lambda tree, x: (ours(tree, x) * channels_last(weights)).sum()  # noqa: E731
    found, of_input = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, jnp.asarray(channels_last(x)))
    assert_equal_gradients(model, found, of_input, x.grad)
