"""A stage of a few numbers, to test the loop without a network.

The loss pulls a linear map towards a fixed one, with noise drawn from the key, so that a resumed
run differs from an uninterrupted one as soon as step, data or randomness do.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ft_jax.checkpoints.tree import merge
from ft_jax.sharding import mesh
from ft_jax.training import loop, optim, preview, randomness, schedules, watch
from ft_jax.training.stages import Reads

WIDTH = 3
EVERY = loop.Every(log=2, evaluate=4, save=2, keep=3, keep_every=0, best="")
SHOWN = preview.Config(every=0, picture="", speech="", prompt="", weights="", hearing="clip")
WATCH = watch.Config(
    bad_steps=0, hang_seconds=0.0, profile=(0, 0), tensorboard=False, wandb="", preview=SHOWN
)


class Toy:
    """`denoiser/dit` maps, `denoiser/audio` adds; `reads` and `finish` as small as they can be."""

    def __init__(self, system: Mapping[str, Any] | None = None) -> None:
        self.system = dict(
            system or {"denoiser": {"width": WIDTH, "remat": "none"}, "codec": {"width": 1}}
        )
        self.reads = Reads("pixels", ("x",))

    def init(self, key: jax.Array) -> Any:
        kernel = 0.1 * jax.random.normal(key, (WIDTH, WIDTH))
        return {"denoiser": {"dit": {"kernel": kernel}, "audio": {"bias": jnp.zeros(WIDTH)}}}

    def abstract(self) -> Any:
        return jax.eval_shape(self.init, jax.random.key(0))

    def prepare(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"x": batch["x"]}

    def loss(self, trained: Any, frozen: Any, batch: Any, key: jax.Array, train: bool) -> Any:
        params = merge(trained, frozen)["denoiser"]
        x = batch["x"]
        if train:
            x = x + 0.1 * jax.random.normal(randomness.draw(key, "noise"), x.shape)
        y = x @ params["dit"]["kernel"] + params["audio"]["bias"][None]
        return jnp.mean(jnp.square(y - 2.0 * batch["x"] - 1.0)), {"mean": jnp.mean(y)}

    def finish(self, params: Any, batches: Iterator[Any]) -> Mapping[str, Any]:
        return {"seen": next(batches)["id"][0].item()}


class Feed:
    """Batches that are a function of their number; numbers `bad` hold a NaN."""

    def __init__(self, bad: Collection[int] = (), samples: int = 4, codec: str = "") -> None:
        self.bad, self.samples = bad, samples
        self.encoders = {"codec": codec} if codec else {}
        self.opened: list[int] = []

    def train(self, start: int) -> Iterator[dict[str, np.ndarray]]:
        self.opened.append(start)
        number = start
        while True:
            x = np.random.default_rng(number).normal(size=(self.samples, WIDTH)).astype(np.float32)
            if number in self.bad:
                x[0, 0] = np.nan
            ids = np.array([f"record-{number}-{k}" for k in range(self.samples)])
            yield {"id": ids, "x": x}
            number += 1

    def shapes(self) -> list[dict[str, np.ndarray]]:
        """All have one."""
        return []

    def held_out(self) -> list[dict[str, np.ndarray]]:
        return [next(self.train(10_000))]


def settings(**changes: Any) -> loop.Config:
    """A run of eight steps that trains everything."""
    groups = changes.pop("groups", ((".*", 1.0),))
    accumulate = changes.pop("accumulate", 1)
    schedule = schedules.Config("cosine", 1e-2, 2, 1e-4)
    optimizer = optim.Config(groups, schedule, 0.9, 0.99, 1e-8, 0.01, 1.0, accumulate, 0.9)
    values: dict[str, Any] = {
        "stage": "toy",
        "seed": 3,
        "num_steps": 8,
        "init_from": "",
        "init_require": "",
        "frozen_dtype": "",
        "optim": optimizer,
        "mesh": mesh.Config(data=1),
        "every": EVERY,
        "watch": WATCH,
    }
    return loop.Config(**{**values, **changes})
