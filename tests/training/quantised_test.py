"""A base of eight bits under a run: adapters learn, the base stays, a resume finds it again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import stage1_clip
from ft_jax.checkpoints import bundle, handover
from ft_jax.checkpoints.tree import flatten, unflatten
from ft_jax.cli import train
from ft_jax.errors import UsageError
from ft_jax.nn import quantised
from ft_jax.sharding import mesh
from ft_jax.training import loop, origin
from tests.sampling import tiny_system
from tests.training import tiny_records


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_records.write(tmp_path_factory.mktemp("data") / "records")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model without branches."""
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    settings = stage1_clip.get_config("tiny").model.to_dict()
    whole = tiny_system.denoiser_params(tiny_system.system().denoiser)
    bundle.save(path, settings, {"denoiser": {"dit": whole["dit"]}})
    return path


def prepared(**flags: Any) -> tuple[loop.Config, Any, Any, dict[str, Any]]:
    """Run, stage, data and settings at the size of the tests."""
    c = stage1_clip.get_config("tiny")
    c.every.evaluate = 0
    c.update_from_flattened_dict({"train": "adapter", "frozen_dtype": "int8", **flags})
    return *train.prepare(c.to_dict()), c.to_dict()


def plan(run: loop.Config, stage: Any) -> origin.Plan:
    made = mesh.make(run.mesh, jax.devices()[:1])
    return origin.plan(stage, run.optim, run.num_steps, made, run.mesh.rules)


def matrices(leaves: Mapping[str, Any]) -> set[str]:
    return {path for path, leaf in leaves.items() if quantised.is_quantised(leaf)}


def test_adapters_learn_over_a_base_that_stays_and_is_found_again(
    records: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    flags = {"data.path": str(records), "init_from": str(base), "num_steps": 2}
    run, stage, data, settings = prepared(**flags)
    held: list[Any] = []
    place = origin.placed_frozen

    def placed(*given: Any) -> Any:
        held.append(place(*given))
        held.append(jax.device_get(held[0]))
        return held[0]

    with monkeypatch.context() as patch:
        patch.setattr(origin, "placed_frozen", placed)
        feed = train.Records(data, stage.reads, run.seed, tuple(range(data.batch_size)))
        assert loop.train(run, stage, feed, tmp_path, settings).finished
    frozen, before = held
    jax.tree.map(np.testing.assert_array_equal, frozen, before)
    assert len(matrices(flatten(frozen))) == 12
    kinds = {leaf.dtype for leaf in flatten(frozen).values() if not quantised.is_quantised(leaf)}
    assert kinds == {jnp.dtype("bfloat16")}

    lines = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 2 and np.all(np.isfinite(losses))
    made = handover.read(tmp_path)
    learned = {path: leaf for path, leaf in flatten(made.parts).items() if "/audio/" in path}
    changed = [path for path in learned if path.endswith("value/kernel")]
    assert changed and all(np.any(learned[path]) for path in changed)  # zero at first

    # A resume is given the base that the checkpoint names, and makes the same bits of it.
    assert made.base is not None and made.base["path"] == str(base)
    again = flatten(handover.frozen(made.base))
    found = origin.placed_frozen(plan(run, stage), again, run.frozen_dtype)
    jax.tree.map(np.testing.assert_array_equal, found, before)


def test_gradients_are_those_of_the_rounded_base_and_near_those_of_the_base(base: Path):
    run, stage, _, _ = prepared()
    planned = plan(run, stage)
    leaves = flatten(handover.read(base).parts)
    frozen = flatten(origin.placed_frozen(planned, leaves, "int8"))
    small = matrices(frozen)
    rounded = {path: quantised.whole(frozen[path], jnp.float32) for path in small}
    exact = {path: jnp.asarray(leaves[path], jnp.float32) for path in small}
    drawn = tiny_system.random_params(stage.init)  # zeros would hide most of the network
    trained = unflatten({path: flatten(drawn)[path] for path in flatten(planned.state.params)})
    batch = example(stage)

    @jax.jit
    def gradient(frozen: Any) -> Any:
        def loss(params: Any) -> Any:
            return stage.loss(params, frozen, batch, jax.random.key(0), True)[0]

        return jax.grad(loss)(trained)

    found, same, near = (
        gradient(unflatten({**frozen, **changes})) for changes in ({}, rounded, exact)
    )

    def distance(one: Any, other: Any) -> float:
        apart = jax.tree.map(lambda x, y: jnp.sum((x - y) ** 2), one, other)
        size = jax.tree.map(lambda x: jnp.sum(x**2), other)
        total = sum(map(float, jax.tree.leaves(apart))) / sum(map(float, jax.tree.leaves(size)))
        return total**0.5

    assert distance(found, same) < 1e-5
    # To first order every matrix that the gradient passes adds its own relative error.
    tolerance = sum(distance([rounded[path]], [exact[path]]) for path in small)
    assert 1e-3 < distance(found, near) < tolerance < 0.15


def example(stage: Any) -> dict[str, jax.Array]:
    """A batch of two random samples."""
    from ft_jax.plan import program

    shapes = program.record(tiny_system.system(), stage.reads.fields, 2)
    draw = np.random.default_rng(0).standard_normal
    return {name: jnp.asarray(draw(shape), dtype) for name, (shape, dtype) in shapes.items()}


def test_a_type_that_does_not_exist_is_refused():
    with pytest.raises(
        UsageError, match=r"config\.frozen_dtype: got 'int7'; expected one of .+int8"
    ):
        prepared(frozen_dtype="int7")


def test_a_run_without_a_frozen_base_cannot_have_it_in_eight_bits():
    run, stage, _, _ = prepared(train="full")
    with pytest.raises(UsageError, match=r"config\.frozen_dtype: int8, but no matrix .+ is frozen"):
        origin.kept(plan(run, stage), run.frozen_dtype)


def test_the_library_is_missed_before_anything_is_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="qwix: not installed"):
        prepared()
    prepared(frozen_dtype="bfloat16")
