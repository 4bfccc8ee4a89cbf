"""How fast this machine is: seconds of a training step, a denoising step and the codec.

    make bench                                    the mini model
    python benchmarks/speed.py --size tiny

Random weights: speed does not depend on them. Compilation is timed apart; of the repetitions the
median counts.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, from anywhere

import jax
import jax.numpy as jnp

from benchmarks import timing
from configs import models
from ft_jax.config import build
from ft_jax.models import audio, fantasy, vae
from ft_jax.models.system import System, latent_shape

SAMPLES = 16  # of a training step


def timed(name: str, function: Callable[..., Any], *arguments: Any, repeat: int) -> None:
    """Prints how long `function` takes to compile and to run."""
    run, compiling = timing.compiled(function, *arguments)
    seconds = timing.medians({name: run}, repeat)[name]
    print(f"{name:<40} {seconds:9.3f} s   (compiled in {compiling:.1f} s)", flush=True)


def conditions(system: System, samples: int) -> fantasy.Conditions:
    """Zeros of the right shapes."""
    cfg = system.denoiser
    tokens = audio_tokens(system)
    rows = {
        "condition_latents": latent_shape(system, system.frames),
        "image_tokens": (17, cfg.dit.image_width),
        "text_tokens": (cfg.dit.text_tokens, cfg.dit.text_width),
        "audio_features": (tokens, cfg.audio.feature_width if cfg.audio else 0),
        "identity": (cfg.identity.embedding_width if cfg.identity else 0,),
        "expression": (),
        "body": (),
    }
    return fantasy.Conditions(**{name: jnp.ones((samples, *row)) for name, row in rows.items()})


def audio_tokens(system: System) -> int:
    """Tokens that the speech encoder makes of a clip."""
    return (round(system.frames * 16_000 / system.fps) - 400) // 320 + 1


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", default="mini", help="a system of configs/models.py")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    system = build(System, models.get_config(args.size))
    cfg, shape = system.denoiser, latent_shape(system, system.frames)
    key = jax.random.key(0)
    params = jax.jit(lambda key: fantasy.init(cfg, key))(key)
    windows = jax.device_put(audio.frame_windows(audio_tokens(system), system.frames))

    def velocity(params: Any, latents: jax.Array, given: fantasy.Conditions) -> jax.Array:
        return fantasy.apply(params, cfg, latents, jnp.full(len(latents), 0.5), given, windows)

    def loss(trained: Any, frozen: Any, latents: jax.Array, given: Any) -> jax.Array:
        return (velocity({**frozen, **trained}, latents, given) ** 2).mean()

    def inputs(samples: int) -> tuple[jax.Array, fantasy.Conditions]:
        return jax.random.normal(key, (samples, *shape)), conditions(system, samples)

    frozen = {"dit": params["dit"]}
    trained = {name: tree for name, tree in params.items() if name != "dit"}
    print(f"{args.size} on {jax.devices()[0].device_kind}, {len(jax.devices())} device(s)")
    repeat = args.repeat
    timed("denoising step, three branches", velocity, params, *inputs(3), repeat=repeat)
    step = jax.grad(loss)
    timed(f"gradient, {SAMPLES} samples", step, trained, frozen, *inputs(SAMPLES), repeat=repeat)
    codec = jax.jit(lambda key: vae.init(key, system.codec))(key)
    decode = lambda params, latents: vae.decode(params, system.codec, latents)  # noqa: E731
    timed(f"codec: {system.frames} frames decoded", decode, codec, inputs(1)[0], repeat=repeat)


if __name__ == "__main__":
    main()
