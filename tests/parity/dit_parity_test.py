"""The base model against diffusers' on random weights: values, gradients, names both ways."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers import transformer_wan

from ft_jax.convert import table, wan_dit
from ft_jax.models import dit, fantasy

BASE = dit.Config(
    width=48,
    layers=2,
    heads=2,
    mlp_width=40,
    latent_channels=4,
    frequency_width=32,
    text_width=20,
    text_tokens=512,  # diffusers takes all rows but the last 512 for image tokens
    image_width=16,
    precision="parity",
)
CONFIGS = {
    "image": BASE,
    "text": dit.Config(**{**vars(BASE), "image_width": None}),
}


class ExactTimesteps(torch.nn.Module):
    """diffusers builds the sinusoid in float32, which is 5.6e-5 off; the original uses float64."""

    def __init__(self, num_channels, **_):
        super().__init__()
        self.half = num_channels // 2

    def forward(self, timestep):
        steps = torch.arange(self.half, dtype=torch.float64)
        angle = timestep.double()[:, None] * 10000.0 ** (-steps / self.half)
        return torch.cat([angle.cos(), angle.sin()], -1).float()


@functools.cache
def both(name):
    cfg = CONFIGS[name]
    is_image = cfg.image_width is not None
    torch.manual_seed(0)
    with mock.patch.object(transformer_wan, "Timesteps", ExactTimesteps):
        model = WanTransformer3DModel(
            num_attention_heads=cfg.heads,
            attention_head_dim=cfg.head_width,
            in_channels=2 * cfg.latent_channels + 4 if is_image else cfg.latent_channels,
            out_channels=cfg.latent_channels,
            text_dim=cfg.text_width,
            freq_dim=cfg.frequency_width,
            ffn_dim=cfg.mlp_width,
            num_layers=cfg.layers,
            image_dim=cfg.image_width,
            added_kv_proj_dim=cfg.width if is_image else None,
        ).eval()
    for key, parameter in model.named_parameters():
        is_scale = "norm" in key and key.endswith("weight")
        torch.nn.init.normal_(parameter, mean=float(is_scale), std=0.15)
    full = fantasy.Config(cfg, None, None, None)
    tensors = {key: value.numpy() for key, value in model.state_dict().items()}
    params = table.to_params(wan_dit.DIFFUSERS, tensors, fantasy.abstract_params(full))
    return model, tensors, full, params


def inputs(cfg, frames, rows, columns):
    draw = np.random.default_rng(0).standard_normal
    normal = lambda *shape: draw(shape).astype(np.float32)  # noqa: E731
    image = None if cfg.image_width is None else normal(2, 5, cfg.image_width)
    extra = None if image is None else normal(2, frames, rows, columns, cfg.latent_channels + 4)
    text = normal(2, cfg.text_tokens, cfg.text_width)
    text[:, 400:] = 0
    latents = normal(2, frames, rows, columns, cfg.latent_channels)
    return latents, np.array([0.937, 0.25], np.float32), extra, image, text


def run_theirs(model, latents, sigma, extra, image, text, is_grad=False):
    full = latents if extra is None else np.concatenate([latents, extra], -1)
    full = torch.tensor(np.moveaxis(full, -1, 1), requires_grad=is_grad)
    with torch.set_grad_enabled(is_grad):
        out = model(
            full,
            torch.tensor(1000 * sigma),
            torch.tensor(text),
            None if image is None else torch.tensor(image),
        ).sample
    return full, out


def run_ours(params, cfg, latents, sigma, extra, image, text):
    conditions = fantasy.Conditions(extra, image, text)
    conditions = jax.tree.map(jnp.asarray, conditions)
    return fantasy.apply(params, cfg, jnp.asarray(latents), jnp.asarray(sigma), conditions)


@pytest.mark.parametrize(
    ("name", "frames", "rows", "columns"),
    [
        ("image", 3, 4, 6),
        ("image", 1, 2, 2),
        ("image", 7, 6, 10),
        ("text", 2, 6, 4),
        ("text", 5, 14, 2),
        ("text", 1, 2, 18),
    ],
)
def test_the_velocity_is_that_of_diffusers(name, frames, rows, columns):
    model, _, cfg, params = both(name)
    given = inputs(cfg.dit, frames, rows, columns)
    expected = np.moveaxis(run_theirs(model, *given)[1].numpy(), 1, -1)
    found = jax.jit(run_ours, static_argnums=1)(params, cfg, *given)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("name", "sizes"), [("image", (3, 4, 2)), ("text", (2, 2, 6))])
def test_gradients_of_the_input_and_of_all_weights_are_those_of_diffusers(name, sizes):
    model, tensors, cfg, params = both(name)
    given = inputs(cfg.dit, *sizes)
    model.zero_grad()
    full, out = run_theirs(model, *given, is_grad=True)
    out.sin().sum().backward()

    def loss(params, latents):
        return jnp.sin(run_ours(params, cfg, latents, *given[1:])).sum()

    grad, on_input = jax.jit(jax.grad(loss, (0, 1)))(params, given[0])
    expected = np.moveaxis(full.grad.numpy()[:, : cfg.dit.latent_channels], 1, -1)
    np.testing.assert_allclose(on_input, expected, atol=1e-4 * np.abs(expected).max())
    found = table.to_torch(wan_dit.DIFFUSERS, grad)
    assert set(found) == set(tensors)
    for key, parameter in model.named_parameters():
        expected = parameter.grad.numpy()
        largest = max(np.abs(expected).max(), 1e-3)
        np.testing.assert_allclose(found[key], expected, atol=1e-4 * largest, err_msg=key)


@pytest.mark.parametrize("naming", [wan_dit.ORIGINAL, wan_dit.DIFFUSERS], ids=lambda x: x.name)
@pytest.mark.parametrize("name", CONFIGS)
def test_names_go_there_and_back_bit_for_bit(name, naming):
    params = both(name)[3]
    back = table.to_params(naming, table.to_torch(naming, params), params)
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_exported_names_are_exactly_those_of_diffusers():
    model, tensors, _, params = both("image")
    exported = table.to_torch(wan_dit.DIFFUSERS, params)
    model.load_state_dict({key: torch.tensor(value) for key, value in exported.items()})
    for key, value in tensors.items():
        np.testing.assert_array_equal(exported[key], value)
