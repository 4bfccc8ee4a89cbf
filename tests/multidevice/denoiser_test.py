"""One device equals eight: the denoiser and a training step under every way to split them.

The network is small, all its parts are there, with low-rank changes of all its layers, and no
parameter is zero, so that an error anywhere reaches the result.
"""

import functools
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ft_jax.checkpoints.manager import Manager
from ft_jax.checkpoints.tree import flatten, merge
from ft_jax.diffusion import flow
from ft_jax.models import audio, dit, fantasy, identity, lora, motion
from ft_jax.sharding import mesh as meshes
from ft_jax.sharding.constrain import partitioned, shardings
from ft_jax.training import loop, optim, origin, randomness, schedules
from ft_jax.training.stages import Reads
from tests.training.toy import WATCH

WIDTH, HEADS, FRAMES = 32, 4, 17
CONFIG = fantasy.Config(
    dit.Config(
        width=WIDTH,
        layers=2,
        heads=HEADS,
        mlp_width=64,
        latent_channels=4,
        frequency_width=32,
        text_width=16,
        text_tokens=8,
        image_width=16,
        precision="parity",
    ),
    audio.Config(feature_width=16, token_width=32),
    identity.Config(
        embedding_width=16, queries=4, width=32, depth=1, heads=4, token_width=32, weight=0.5
    ),
    motion.Config(width=32, frequency_width=32),
    lora.Config(rank=2, alpha=3.0, targets=".*"),
)
SPLITS = {
    "weights": meshes.Config(data=1, fsdp=8),
    "positions": meshes.Config(data=2, context=4),
    "everything": meshes.Config(data=1, fsdp=2, context=2, tensor=2),
    "weights two ways": meshes.Config(data=1, fsdp=4, tensor=2),
    "weights over positions": meshes.Config(data=2, fsdp=2, context=2, rules="sliced"),
    "whole weights": meshes.Config(data=2, fsdp=2, context=2, rules="replicated"),
}


def inputs(samples: int = 8) -> tuple[jax.Array, jax.Array, fantasy.Conditions]:
    """Clean latents [b t h w c], levels [b] and conditions, all different in every sample."""
    draw = np.random.default_rng(1).standard_normal
    floats = functools.partial(np.asarray, dtype=np.float32)
    latents = floats(draw((samples, 5, 4, 4, 4)))
    conditions = fantasy.Conditions(
        condition_latents=floats(draw(latents.shape)),
        image_tokens=floats(draw((samples, 3, 16))),
        text_tokens=floats(draw((samples, 8, 16))),
        audio_features=floats(draw((samples, 37, 16))),
        identity=floats(draw((samples, 16))),
        expression=floats(np.linspace(0, 1, samples)),
        body=floats(np.linspace(1, 0, samples)),
        image_scale=floats([0, 1] * (samples // 2)),
        audio_scale=floats([1, 1, 0, 1] * (samples // 4)),
        identity_scale=floats([1, 0, 1, 1] * (samples // 4)),
    )
    return jax.device_put((latents, floats(np.linspace(0.05, 0.95, samples)), conditions))


def parameters(key: jax.Array) -> Any:
    """Every leaf random or at least uneven, the zero kernels of the branches too."""

    def uneven(leaf: jax.Array) -> jax.Array:
        return leaf + 0.3 * jnp.sin(jnp.arange(leaf.size) ** 2 % 97).reshape(leaf.shape)

    return jax.tree.map(uneven, fantasy.init(CONFIG, key))


def windows(mode: str) -> Any:
    return jax.device_put(audio.frame_windows(37, FRAMES)) if mode == "frame" else None


def by_samples(tree: Any, mesh: Mesh) -> Any:
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(("data", "fsdp"))))


def is_split(leaf: jax.Array) -> bool:
    return leaf.addressable_shards[0].data.size < leaf.size


@pytest.mark.parametrize(
    ("split", "mode"), [*((name, "frame") for name in SPLITS), ("everything", "clip")]
)
def test_the_velocity_is_the_same_on_eight_devices(split: str, mode: str):
    params, arguments = jax.jit(parameters)(jax.random.key(0)), inputs()

    def apply(params: Any, *arguments: Any) -> jax.Array:
        return fantasy.apply(params, CONFIG, *arguments, windows(mode))

    expected = jax.jit(apply)(params, *arguments)

    cfg = SPLITS[split]
    mesh = meshes.make(cfg)
    where = shardings(fantasy.abstract_params(CONFIG), mesh, cfg.rules)
    placed = jax.device_put(params, where)
    with partitioned(mesh, cfg.rules):
        found = jax.jit(apply)(placed, *by_samples(arguments, mesh))

    assert len(found.sharding.device_set) == 8
    assert any(map(is_split, jax.tree.leaves(placed))) == (
        cfg.rules != "replicated" and cfg.fsdp * cfg.tensor > 1
    )
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=1e-5)


def test_low_rank_matrices_are_split_as_their_kernels_are_and_never_over_the_rank():
    cfg = SPLITS["weights two ways"]
    where = shardings(fantasy.abstract_params(CONFIG), meshes.make(cfg), cfg.rules)
    layer = where["lora"]["blocks"]["self_attention"]["output"]
    assert layer["down"].spec == PartitionSpec(None, "tensor", None)
    assert layer["up"].spec == PartitionSpec(None, None, "fsdp")


class Flow:
    """A stage that trains the branches on a frozen base with the plain flow loss."""

    system: Mapping[str, Any] = {}
    reads = Reads("records", ())

    def init(self, key: jax.Array) -> Any:
        """As the package initialises, but nothing is zero."""
        return {"denoiser": parameters(key)}

    def abstract(self) -> Any:
        """With the logical axes, which the optimizer's moments inherit."""
        return {"denoiser": fantasy.abstract_params(CONFIG)}

    def prepare(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The arrays, as they come."""
        return {name: value for name, value in batch.items() if name != "id"}

    def loss(self, trained: Any, frozen: Any, batch: Any, key: jax.Array, train: bool) -> Any:
        """Mean square error of the velocity; the noise is drawn on the devices."""
        del train
        params = merge(trained, frozen)["denoiser"]
        given = dict(batch)
        latents, sigma = given.pop("latents"), given.pop("sigma")
        noise = jax.random.normal(randomness.draw(key, "noise"), latents.shape)
        noisy = flow.interpolate(latents, noise, sigma)
        conditions = fantasy.Conditions(**given)
        velocity = fantasy.apply(params, CONFIG, noisy, sigma, conditions, windows("frame"))
        return ((velocity - flow.velocity(latents, noise)) ** 2).mean(), {}

    def finish(self, params: Any, batches: Any) -> Mapping[str, Any]:
        """Nothing to add."""
        del params, batches
        return {}


class Feed:
    """The same eight samples again and again."""

    encoders: Mapping[str, str] = {}

    def train(self, start: int) -> Iterator[dict[str, np.ndarray]]:
        """Batches from number `start` on."""
        del start
        latents, sigma, conditions = inputs()
        arrays = {"latents": latents, "sigma": sigma, **vars(conditions)}
        batch = {name: np.asarray(value) for name, value in arrays.items()}
        while True:
            yield {"id": np.array([f"sample-{number}" for number in range(len(sigma))]), **batch}

    def shapes(self) -> list[dict[str, np.ndarray]]:
        """All have one."""
        return []

    def held_out(self) -> list[dict[str, np.ndarray]]:
        """None."""
        return []


def trained(mesh: meshes.Config, workdir: Path) -> tuple[dict[str, np.ndarray], list[float]]:
    """What two steps of the training loop on `mesh` leave in its checkpoint, and the losses."""
    settings = optim.Config(
        groups=((".*/dit/.*", 1e-3), (".*", 1.0)),
        schedule=schedules.Config(kind="constant", rate=1e-2, final_rate=1e-2, warmup_steps=0),
        b1=0.9,
        b2=0.999,
        eps=1e-3,  # above the rounding of gradients, whose sign alone would else decide
        weight_decay=0.01,
        clip_norm=1.0,
        accumulate=1,
        ema=0.99,
    )
    run = loop.Config(
        stage="clip",
        seed=3,
        num_steps=2,
        init_from="",
        init_require="",
        frozen_dtype="",
        optim=settings,
        mesh=mesh,
        every=loop.Every(log=1, evaluate=0, save=0, keep=1, keep_every=0, best=""),
        watch=WATCH,
    )
    stage: Any = Flow()
    assert loop.train(run, stage, Feed(), workdir, {}).finished
    manager = Manager(workdir)
    try:
        saved = manager.restore()
    finally:
        manager.close()
    assert saved is not None
    lines = map(json.loads, (workdir / "log.jsonl").read_text().splitlines())
    return flatten(saved.trees), [line["loss"] for line in lines if "loss" in line]


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The reference: the same run on a mesh of one device."""
    with pytest.MonkeyPatch.context() as patch:
        one = jax.devices()[:1]
        patch.setattr(jax, "devices", lambda: one)
        return trained(meshes.Config(), tmp_path_factory.mktemp("one"))


@pytest.mark.parametrize("split", ["everything", "whole weights"])
def test_training_is_the_same_on_eight_devices(split: str, on_one_device: Any, tmp_path: Path):
    expected, expected_losses = on_one_device
    found, losses = trained(SPLITS[split], tmp_path)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    assert found.keys() == expected.keys()
    for path, leaf in found.items():
        np.testing.assert_allclose(leaf, expected[path], atol=2e-5, rtol=1e-4, err_msg=path)


def test_optimizer_moments_and_averages_are_split_like_their_parameters():
    cfg, settings = SPLITS["everything"], schedules.Config("constant", 1e-2, 0, 1e-2)
    groups = ((".*/dit/.*", 0.0), (".*", 1.0))
    adam = optim.Config(groups, settings, 0.9, 0.999, 1e-8, 0.01, 1.0, 1, 0.99)
    stage: Any = Flow()
    state = origin.plan(stage, adam, 2, meshes.make(cfg), cfg.rules).state
    where = [leaf.sharding for leaf in jax.tree.leaves(state.params)]
    assert any(not sharding.is_fully_replicated for sharding in where)
    assert [leaf.sharding for leaf in jax.tree.leaves(state.ema)] == where
    moments = next(filter(has_moments, jax.tree.leaves(state.opt_state, is_leaf=has_moments)))
    assert [leaf.sharding for leaf in jax.tree.leaves(moments.mu)] == where
    assert [leaf.sharding for leaf in jax.tree.leaves(moments.nu)] == where


def test_what_no_forward_pass_reads_is_spread_where_weights_are_whole():
    cfg = meshes.Config(data=2, fsdp=4, rules="replicated")
    settings = schedules.Config("constant", 1e-2, 0, 1e-2)
    groups = ((".*/dit/.*", 0.0), (".*", 1.0))
    adam = optim.Config(groups, settings, 0.9, 0.999, 1e-8, 0.01, 1.0, 1, 0.99)
    stage: Any = Flow()
    planned = origin.plan(stage, adam, 2, meshes.make(cfg), cfg.rules)
    whole = [*jax.tree.leaves(planned.state.params), *planned.frozen.values()]
    assert all(leaf.sharding.is_fully_replicated for leaf in whole)
    moments = next(
        filter(has_moments, jax.tree.leaves(planned.state.opt_state, is_leaf=has_moments))
    )
    for kept in (planned.state.ema, moments.mu, moments.nu):
        sizes = [
            (x.size, math.prod(x.sharding.shard_shape(x.shape))) for x in jax.tree.leaves(kept)
        ]
        assert sum(here for _, here in sizes) < 0.5 * sum(size for size, _ in sizes)
        assert any(here == size for size, here in sizes)  # what does not divide stays whole


def has_moments(part: Any) -> bool:
    return hasattr(part, "mu")
