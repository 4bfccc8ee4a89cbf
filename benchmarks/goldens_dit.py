"""The denoiser against outputs of the official code: DiT, speech branch, windows, noise levels.

`check(directory)` reads `dit_tiny.safetensors` (parameters `p.*` under original names, inputs
`in.*`, outputs `out.*`, all [batch, channel, frame, row, column]) and returns one line per
comparison. The references are too large for the repository; `make goldens DIR=...` runs this.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ft_jax.convert import fantasytalking, table, wan_dit
from ft_jax.diffusion import flow
from ft_jax.models import audio, dit, fantasy

Line = tuple[str, float, float]
FRAMES = 17  # 5 latent frames
AUDIO = audio.Config(feature_width=48, token_width=32)
CONFIG = fantasy.Config(
    dit=dit.Config(
        width=256,
        layers=3,
        heads=2,
        mlp_width=384,
        text_width=64,
        precision="parity",
    ),
    audio=AUDIO,
    identity=None,
    motion=None,
)
SIGMA_ANCHORS = {
    # steps, first level, index -> 1000 sigma, from the official schedulers
    (30, 1.0): {0: 1000.0, 1: 993.1506, 2: 985.9154, 15: 833.3333, 25: 500.0, 29: 147.0588},
    (40, 0.999): {0: 999.7998, 39: 113.5330},
}


def check(directory: str | Path) -> list[Line]:
    """Compares with the references in `directory`.

    Returns:
      (name, largest absolute error, gate) of each comparison.
    """
    golden = _read(Path(directory) / "dit_tiny.safetensors")
    params = _params(golden)
    with jax.default_matmul_precision("highest"):
        return [*_denoiser(golden, params), *_windows(golden, params), *_sigmas()]


def _read(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


def _params(golden: dict[str, np.ndarray]) -> dict[str, Any]:
    tensors = {key[2:]: value for key, value in golden.items() if key.startswith("p.")}
    speech = {
        key if key.startswith("proj_model") else f"audio_processor.{key}": tensors.pop(key)
        for key in list(tensors)
        if key.startswith("proj_model") or ".processor." in key
    }
    abstract = fantasy.abstract_params(CONFIG)
    base = table.to_params(wan_dit.ORIGINAL, tensors, {"dit": abstract["dit"]})
    branch = table.to_params(fantasytalking.OFFICIAL, speech, {"audio": abstract["audio"]})
    return base | branch


def _denoiser(golden: dict[str, np.ndarray], params: dict[str, Any]) -> list[Line]:
    last = lambda x: jnp.asarray(np.moveaxis(x, 1, -1))  # noqa: E731
    latents = last(golden["in.x"])
    conditions = fantasy.Conditions(
        condition_latents=last(golden["in.y"]),  # with a mask of its own, of random numbers
        image_tokens=jnp.asarray(golden["in.clip"]),
        text_tokens=jnp.asarray(golden["in.ctx"])[None],
    )
    heard = dataclasses.replace(conditions, audio_features=jnp.asarray(golden["in.audio"]))
    windows = audio.frame_windows(golden["in.audio"].shape[1], FRAMES)
    run = jax.jit(lambda *given: fantasy.apply(params, CONFIG, *given))
    sigma = _sigma_of(golden["in.t"])
    silent = run(latents, sigma, conditions)
    return [
        ("DiT without speech", _error(silent, last(golden["out.noaudio"])), 1e-5),
        ("DiT without speech, diffusers", _error(silent, last(golden["out.diffusers"])), 5e-5),
        (
            "DiT with speech",
            _error(run(latents, sigma, heard, windows), last(golden["out.audio"])),
            1e-5,
        ),
    ]


def _sigma_of(timestep: np.ndarray) -> jax.Array:
    """The float32 whose product with 1000 is the reference's timestep, which is no round number."""
    timestep = timestep.astype(np.float32)
    near = (timestep.astype(np.float64) / 1000).astype(np.float32)
    around = [np.nextafter(near, np.float32(side)) for side in (0, 1)] + [near]
    return jnp.asarray(min(around, key=lambda s: float(abs(np.float32(1000) * s - timestep)[0])))


def _windows(golden: dict[str, np.ndarray], params: dict[str, Any]) -> list[Line]:
    base = CONFIG.dit
    branch: Any = audio.AudioBranch(AUDIO, base.layers, base.heads, base.width, base.dtype)
    features = jnp.asarray(golden["in.audio"])
    tokens: Any = branch.apply({"params": params["audio"]}, features, method="project")
    windows = audio.frame_windows(features.shape[1], FRAMES)
    counts = windows.mask.sum(1)
    errors = []
    for frame, (index, mask) in enumerate(zip(windows.index, windows.mask, strict=True)):
        reference = golden["audio_split"][0, frame, : mask.sum()]
        errors.append(_error(tokens[0, index[mask]], reference))
    return [
        ("audio windows, valid tokens", _error(counts, golden["audio_lens"]), 0.0),
        ("audio windows, their tokens", max(errors), 1e-5),
    ]


def _sigmas() -> list[Line]:
    lines = []
    for (steps, start), anchors in SIGMA_ANCHORS.items():
        levels = 1000 * flow.sigma_table(steps, start=start)
        error = max(abs(float(levels[index]) - value) for index, value in anchors.items())
        lines.append((f"noise levels, {steps} steps from {start}", error, 1e-4))
    return lines


def _error(ours: Any, reference: Any) -> float:
    return float(np.abs(np.asarray(ours) - np.asarray(reference)).max())
