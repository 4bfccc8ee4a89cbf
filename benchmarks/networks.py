"""Our networks against the PyTorch classes on the same weights: seconds, their ratio, memory.

    python -m benchmarks.networks                     prints the table
    python -m benchmarks.networks --write             also into benchmarks/RESULTS.md
    python -m benchmarks.networks --only VAE --repeat 9

How the two are compared: benchmarks/comparison.py. Sizes: heads, taps and proportions of the
released models, widths and depths that two cores can take. benchmarks/attention.py has the
attention alone.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import comparison
from ft_jax.convert import table, umt5, wan_dit, wan_vae
from ft_jax.convert import wav2vec2 as speech_tables
from ft_jax.models import dit, fantasy, text, vae, wav2vec2

TITLE = "Networks against PyTorch"
DIT = dit.Config(
    width=768, layers=2, heads=6, mlp_width=2048, text_width=1024, image_width=320,
    precision="parity",
)  # fmt: skip
GRID, IMAGE_TOKENS = (5, 32, 32), 257  # latents: 1280 tokens; 769 keys with the text
CODEC = vae.Config(width=32)
CLIP, LATENTS = (9, 96, 96), (3, 12, 12)
TEXT = text.Config("bytes", rows=1024, width=1024, layers=4, heads=16, mlp_width=2560)
PROMPT = 256  # tokens
SPEECH = wav2vec2.Config()
SAMPLES = 56_347  # 81 frames at 23 a second


def shared(model: Any, naming: table.Table, abstract: Any) -> tuple[Any, Any]:
    """The model ready to run, and its weights as our parameters."""
    tensors = {key: value.detach().numpy() for key, value in model.state_dict().items()}
    if any("parametrizations" in key for key in tensors):
        tensors = speech_tables.fold(tensors)
    params = table.to_params(naming, tensors, abstract)
    return model.to(comparison.torch_device()).eval(), jax.tree.map(jnp.asarray, params)


def dit_rows() -> Iterator[comparison.Row]:
    """Velocity, and its gradient to the latents and to all weights."""
    import torch
    from diffusers import WanTransformer3DModel

    cfg = fantasy.Config(DIT, None, None, None)
    torch.manual_seed(0)
    model, params = shared(
        WanTransformer3DModel(
            num_attention_heads=DIT.heads,
            attention_head_dim=DIT.head_width,
            in_channels=2 * DIT.latent_channels + dit.MASK_CHANNELS,
            out_channels=DIT.latent_channels,
            text_dim=DIT.text_width,
            ffn_dim=DIT.mlp_width,
            num_layers=DIT.layers,
            image_dim=DIT.image_width,
            added_kv_proj_dim=DIT.width,
        ),
        wan_dit.DIFFUSERS,
        fantasy.abstract_params(cfg),
    )
    latents = comparison.drawn(1, *GRID, DIT.latent_channels)
    extra = comparison.drawn(1, *GRID, DIT.latent_channels + dit.MASK_CHANNELS, seed=1)
    words = comparison.drawn(1, DIT.text_tokens, DIT.text_width, seed=2)
    picture = comparison.drawn(1, IMAGE_TOKENS, DIT.image_width or 0, seed=3)
    given = fantasy.Conditions(*map(jnp.asarray, (extra, picture, words)))
    whole = np.moveaxis(np.concatenate([latents, extra], -1), -1, 1)
    fixed = (
        torch.full((1,), 500.0, device=comparison.torch_device()),
        comparison.tensor(words),
        comparison.tensor(picture),
    )

    def velocity(params: Any, latents: jax.Array) -> jax.Array:
        return fantasy.apply(params, cfg, latents, jnp.full(1, 0.5), given)

    def gradient(params: Any, latents: jax.Array) -> tuple[jax.Array, Any]:
        loss = lambda *x: jnp.square(velocity(*x)).sum()  # noqa: E731
        by_params, by_latents = jax.grad(loss, (0, 1))(params, latents)
        return by_latents, by_params

    def their_gradient() -> Any:
        model.zero_grad()
        x = comparison.tensor(whole).requires_grad_()
        model(x, *fixed).sample.square().sum().backward()
        return x.grad[:, : DIT.latent_channels]

    inputs = params, jnp.asarray(latents)
    forward = comparison.without_gradient(lambda: model(comparison.tensor(whole), *fixed).sample)
    yield comparison.Row("DiT forward", 1.0, velocity, inputs, forward, comparison.last)
    yield comparison.Row(
        "DiT forward and backward", 1.5, gradient, inputs, their_gradient, comparison.last
    )


def vae_rows() -> Iterator[comparison.Row]:
    """A short clip to latents, and latents to a clip."""
    import torch
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    model, params = shared(
        AutoencoderKLWan(base_dim=CODEC.width, z_dim=CODEC.channels, num_res_blocks=CODEC.blocks),
        wan_vae.diffusers_vae(CODEC),
        jax.eval_shape(functools.partial(vae.init, cfg=CODEC), jax.random.key(0)),
    )
    mean, std = np.array(CODEC.mean, np.float32), np.array(CODEC.std, np.float32)
    video = np.clip(comparison.drawn(1, *CLIP, 3), -1, 1)
    latents = comparison.drawn(1, *LATENTS, CODEC.channels)
    pixels, raw = (comparison.tensor(np.moveaxis(x, -1, 1)) for x in (video, latents * std + mean))
    encode = lambda params, x: vae.encode(params, CODEC, x)  # noqa: E731
    # Theirs clips to the range of pixels.
    decode = lambda params, x: jnp.clip(vae.decode(params, CODEC, x), -1, 1)  # noqa: E731
    yield comparison.Row(
        "VAE encode", 1.5, encode, (params, jnp.asarray(video)),
        comparison.without_gradient(lambda: model.encode(pixels).latent_dist.mean),
        lambda x: (comparison.last(x) - mean) / std,
    )  # fmt: skip
    yield comparison.Row(
        "VAE decode", 1.5, decode, (params, jnp.asarray(latents)),
        comparison.without_gradient(lambda: model.decode(raw).sample), comparison.last,
    )  # fmt: skip


def encoder_rows() -> Iterator[comparison.Row]:
    """The speech encoder at its released size, and four wide layers of the text encoder."""
    import torch
    from transformers import UMT5Config, UMT5EncoderModel, Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(0)
    speech, params = shared(
        Wav2Vec2Model(Wav2Vec2Config()),
        speech_tables.WAV2VEC2,
        jax.eval_shape(functools.partial(wav2vec2.init, cfg=SPEECH), jax.random.key(0)),
    )
    wave = comparison.drawn(1, SAMPLES)
    listen = lambda params, x: wav2vec2.encode(params, SPEECH, x)  # noqa: E731
    heard = comparison.without_gradient(lambda: speech(comparison.tensor(wave)).last_hidden_state)
    yield comparison.Row("wav2vec2-base", 1.0, listen, (params, jnp.asarray(wave)), heard)

    reader, params = shared(
        UMT5EncoderModel(
            UMT5Config(
                vocab_size=TEXT.rows,
                d_model=TEXT.width,
                d_kv=TEXT.head_width,
                d_ff=TEXT.mlp_width,
                num_layers=TEXT.layers,
                num_heads=TEXT.heads,
            )
        ),
        umt5.HUGGING_FACE,
        jax.eval_shape(functools.partial(text.init, cfg=TEXT), jax.random.key(0)),
    )
    ids = np.random.default_rng(0).integers(2, TEXT.rows, size=(1, PROMPT)).astype(np.int32)
    mask = jnp.ones(ids.shape, bool)
    read = lambda params, ids: text.encode(params, TEXT, ids, mask)  # noqa: E731
    words = comparison.tensor(ids.astype(np.int64))
    understood = comparison.without_gradient(lambda: reader(words).last_hidden_state)
    yield comparison.Row("UMT5", 1.0, read, (params, jnp.asarray(ids)), understood)


CASES = {
    "DiT": dit_rows,
    "VAE": vae_rows,
    "encoders": encoder_rows,
}


if __name__ == "__main__":
    comparison.main("networks", TITLE, CASES, __doc__ or "")
