"""What bfloat16 costs in accuracy, with a residual stream of either type: the shipped denoiser.

    python -m benchmarks.precision            prints the table; --write also into RESULTS.md

One velocity at several noise levels, trained weights and drawn inputs, against float32 throughout.
The largest error stands beside the root mean square, both as a share of the velocity's own.
"""

import argparse
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import results
from ft_jax.checkpoints import bundle
from ft_jax.config import build
from ft_jax.models import fantasy
from ft_jax.models.audio import frame_windows
from ft_jax.models.system import System, latent_shape

TITLE = "Precision"
TOKENS, IMAGE_TOKENS = 60, 17
LEVELS = (0.1, 0.5, 0.9)
RESIDUALS = ("float32", "bfloat16")


def inputs(system: System) -> tuple[jax.Array, jax.Array, fantasy.Conditions]:
    """Latents, noise levels and conditions, drawn; one row a level."""
    cfg, rows = system.denoiser, len(LEVELS)
    assert cfg.audio is not None and cfg.identity is not None and cfg.dit.image_width is not None
    draw = np.random.default_rng(0).standard_normal
    normal = lambda *shape: jnp.asarray(draw((rows, *shape)), jnp.float32)  # noqa: E731
    shape = latent_shape(system, system.frames)
    face = normal(cfg.identity.embedding_width)
    conditions = fantasy.Conditions(
        condition_latents=normal(*shape),
        image_tokens=normal(IMAGE_TOKENS, cfg.dit.image_width),
        text_tokens=normal(8, cfg.dit.text_width),
        audio_features=normal(TOKENS, cfg.audio.feature_width),
        identity=face / jnp.linalg.norm(face, axis=-1, keepdims=True),
        expression=jnp.full(rows, 0.5),
        body=jnp.full(rows, 0.5),
    )
    return normal(*shape), jnp.asarray(LEVELS), conditions


def measured() -> list[list[str]]:
    """Errors of bf16 for each type of the residual stream: [type, root mean square, largest]."""
    settings, params = bundle.load(bundle.SHIPPED)
    system = build(System, settings)
    windows = frame_windows(TOKENS, system.frames)
    given = inputs(system)

    def velocity(**changes: str) -> np.ndarray:
        base = dataclasses.replace(system.denoiser.dit, **changes)
        cfg = dataclasses.replace(system.denoiser, dit=base)
        run = jax.jit(fantasy.apply, static_argnums=1)
        return np.asarray(run(params["denoiser"], cfg, *given, windows))

    exact = velocity(precision="parity")
    rows = []
    for residual in RESIDUALS:
        error = velocity(precision="bf16", residual=residual) - exact
        rms = np.sqrt((error**2).mean() / (exact**2).mean())
        rows.append([residual, f"{rms:.2e}", f"{np.abs(error).max() / np.abs(exact).max():.2e}"])
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", action="store_true", help="also into benchmarks/RESULTS.md")
    args = parser.parse_args()
    header = ["residual stream under bf16", "root mean square error", "largest error"]
    text = results.table(header, measured())
    print(text)
    if args.write:
        kind = jax.devices()[0].device_kind
        results.write(
            TITLE, f"{text}\n\nAgainst float32, of the shipped denoiser's velocity, on {kind}."
        )


if __name__ == "__main__":
    main()
