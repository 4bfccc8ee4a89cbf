"""The autoencoder against outputs of the reference program on random weights.

`check(directory)` returns (name, largest absolute error, largest error allowed) per comparison.
"""

import functools
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import load_file

from ft_jax.convert import table
from ft_jax.convert.wan_vae import wan_vae
from ft_jax.models import vae

GATE = 1e-5


def check(directory: Path) -> list[tuple[str, float, float]]:
    """Encode and decode of `vae_tiny.safetensors`."""
    tensors = load_file(directory / "vae_tiny.safetensors")
    weights = {key[2:]: value for key, value in tensors.items() if key.startswith("p.")}
    width = weights["encoder.conv1.weight"].shape[0]
    cfg = vae.Config(width=width)
    abstract = jax.eval_shape(functools.partial(vae.init, cfg=cfg), jax.random.key(0))
    params = table.to_params(wan_vae(cfg), weights, abstract, "vae_tiny.safetensors")
    video, latents, encoded, decoded = (
        np.moveaxis(tensors[name], 1, -1) for name in ("x", "z", "enc", "dec")
    )
    with jax.default_matmul_precision("highest"):
        ours = (
            jax.jit(vae.encode, static_argnums=1)(params, cfg, video),
            jax.jit(vae.decode, static_argnums=1)(params, cfg, latents),
        )
    return [
        (name, float(np.abs(np.asarray(mine) - theirs).max()), GATE)
        for name, mine, theirs in zip(
            ("vae encode", "vae decode"), ours, (encoded, decoded), strict=True
        )
    ]
