"""Every shipped training config at every size: builds strictly, and traces whole without memory."""

import dataclasses
import difflib
import functools
import importlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from configs import models
from data_pipeline import schema
from ft_jax.checkpoints.tree import flatten
from ft_jax.cli import train
from ft_jax.config import build
from ft_jax.errors import UsageError
from ft_jax.models import system as systems
from ft_jax.models import wav2vec2
from ft_jax.sharding import mesh as meshes
from ft_jax.training import origin, step
from tests import shardings

BRANCHES = ("stage1_clip", "stage2_frame")
DENOISERS = ("base_i2v", *BRANCHES)
CASES = [(name, size) for name in shardings.ENCODERS for size in ("mini", "tiny")]
CASES += [(name, size) for name in DENOISERS for size in ("mini", "tiny", "wan_1_3b", "wan_14b")]
# Every ablation of the paper and every choice of what learns: one flag.
FLAGS = {
    "without identity": ("stage2_frame", {"task.identity": False}),
    "without motion": ("stage2_frame", {"task.motion": False}),
    "without lip mask": ("stage2_frame", {"task.lip.probability": 0.0}),
    "clip level only": ("stage2_frame", {"stage": "clip"}),
    "frame level only": ("stage2_frame", {"init_require": "denoiser/dit/.*"}),
    "low-rank base": ("base_i2v", {"train": "lora"}),
    **{
        f"{train} in {name}": (name, {"train": train})
        for train in ("lora", "full")
        for name in BRANCHES
    },
}


def settings(name: str, size: str, flags: Mapping[str, Any] | None = None) -> ConfigDict:
    c = importlib.import_module(f"configs.{name}").get_config(size)
    c.update_from_flattened_dict(flags or {})
    return c


def shapes(system: systems.System, samples: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """What `prepare` of any stage gives for a batch of this system."""
    frames, side = system.frames, system.height
    t, h, w, c = systems.latent_shape(system, frames)
    sound = round(frames / system.fps * 16_000)
    tokens = wav2vec2.feature_length(sound)
    dit = system.denoiser.dit
    half, single, whole = jnp.bfloat16, jnp.float32, jnp.int32
    rows = {
        "frames": ((frames, side, side, 3), jnp.uint8),
        "face_box": ((frames, 4), single),
        "audio": ((sound,), jnp.int16),
        "phonemes": ((tokens,), whole),
        "ids": ((dit.text_tokens,), whole),
        "mask": ((dit.text_tokens,), bool),
        "faces": ((2, system.face.pixels, system.face.pixels, 3), jnp.uint8),
        "person": ((), whole),
        "values": ((frames, 13), single),
        "known": ((frames, 13), single),
        "visible": ((frames, 1), single),
        "video_latents": ((t, h, w, c), half),
        "condition_latents": ((t, h, w, c), half),
        "image_tokens": ((system.image.tokens, system.image.width), half),
        "text_tokens": ((dit.text_tokens, dit.text_width), half),
        "lip_mask": ((t, h, w), jnp.uint8),
        "audio_features": ((tokens, system.speech.width), half),
        "identity": ((system.face.width,), single),
        "expression": ((), single),
        "body": ((), single),
    }
    return {name: ((samples, *shape), dtype) for name, (shape, dtype) in rows.items()}


PREPARED = {
    "codec": ("frames", "face_box"),
    "speech": ("audio", "phonemes"),
    "alignment": ("frames", "ids", "mask"),
    "face": ("faces", "person"),
    "landmarks": ("frames", "values", "known", "visible"),
}


@pytest.mark.parametrize(("name", "size"), CASES)
def test_the_whole_training_step_of_every_config_traces_under_eval_shape(name, size):
    traced(settings(name, size))


@pytest.mark.parametrize("case", FLAGS)
def test_every_ablation_and_choice_of_what_learns_is_one_flag(case):
    name, flags = FLAGS[case]
    traced(settings(name, "tiny", flags))


def traced(c: ConfigDict) -> None:
    """Traces initialisation and one training step."""
    run, stage, _ = train.prepare(c.to_dict())
    planned = origin.plan(stage, run.optim, run.num_steps, meshes.make(run.mesh), run.mesh.rules)
    system = build(systems.System, c.model.to_dict())
    known = shapes(system, 2)
    if c.stage == "codec":
        known["frames"] = ((2, c.task.frames, *known["frames"][0][2:]), jnp.uint8)
        known["face_box"] = ((2, c.task.frames, 4), jnp.float32)
    names = PREPARED.get(c.stage, stage.reads.fields)
    batch = {name: jax.ShapeDtypeStruct(*known[name]) for name in names}
    update = functools.partial(
        step.train_step,
        stage=stage,
        optimizer=planned.optimizer,
        seed=run.seed,
        accumulate=1,
        ema=run.optim.ema,
    )
    state, metrics = jax.eval_shape(update, planned.state, frozen_of(planned, run), batch)
    before = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), planned.state)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) == before
    assert metrics["loss"].shape == ()


def frozen_of(planned: origin.Plan, run: Any) -> Any:
    from ft_jax.checkpoints.tree import unflatten

    dtype = jnp.dtype(run.frozen_dtype)
    leaves = {path: jax.ShapeDtypeStruct(x.shape, dtype) for path, x in planned.frozen.items()}
    return unflatten(leaves)


def test_every_array_of_every_config_lives_where_it_is_written_down():
    expected, found = shardings.FILE.read_text().splitlines(), shardings.text().splitlines()
    changes = difflib.unified_diff(expected, found, "tests/shardings.txt", "now", n=1, lineterm="")
    again = "If that is meant: JAX_PLATFORMS=cpu python -m tests.shardings"
    if expected != found:
        pytest.fail("\n".join([*changes, again]), pytrace=False)


@pytest.mark.parametrize("name", BRANCHES)
def test_the_branches_train_over_a_frozen_base_that_carries_no_state(name):
    run, stage, _ = train.prepare(settings(name, "wan_14b").to_dict())
    planned = origin.plan(stage, run.optim, run.num_steps, meshes.make(run.mesh), run.mesh.rules)
    assert all(path.startswith("denoiser/dit/") for path in planned.frozen)
    trained = flatten(planned.state.params)
    assert {path.split("/")[1] for path in trained} == {"audio", "identity", "motion"}
    frozen = sum(leaf.size for leaf in planned.frozen.values())
    learned = sum(leaf.size for leaf in trained.values())
    held = sum(leaf.size for leaf in jax.tree.leaves(planned.state))
    # Weights, their average and two moments; the rest are counters.
    assert frozen == 16_394_878_784 and 4 * learned <= held < 4 * learned + 100


def learning(name: str, size: str, **flags: Any) -> dict[str, int]:
    """{second word of a path: parameters that learn}."""
    run, stage, _ = train.prepare(settings(name, size, flags).to_dict())
    planned = origin.plan(stage, run.optim, run.num_steps, meshes.make(run.mesh), run.mesh.rules)
    sizes: dict[str, int] = {}
    for path, leaf in flatten(planned.state.params).items():
        assert leaf.dtype == jnp.float32  # the masters, whatever the network computes in
        part = path.split("/")[1]
        sizes[part] = sizes.get(part, 0) + leaf.size
    return sizes


@pytest.mark.parametrize("name", BRANCHES)
def test_one_word_says_what_learns(name):
    branches = learning(name, "wan_14b")
    assert set(branches) == {"audio", "identity", "motion"}
    # 40 blocks of 8 square layers and 2 of the feed-forward network, rank 32.
    low_rank = 40 * 32 * (8 * (5120 + 5120) + 2 * (5120 + 13824))
    assert learning(name, "wan_14b", train="lora") == {**branches, "lora": low_rank}
    assert learning(name, "wan_14b", train="full") == {**branches, "dit": 16_394_878_784}


def test_low_rank_changes_are_set_by_flags():
    flags: Mapping[str, Any] = {"lora.rank": 2, "lora.targets": "blocks/mlp/hidden"}
    sizes = learning("stage1_clip", "tiny", train="lora", **flags)
    assert sizes["lora"] == 2 * 2 * (24 + 32)
    assert "lora" not in learning("stage1_clip", "tiny", **flags)


def test_training_that_a_stage_does_not_have_is_refused():
    expected = r"config\.train: got 'adapter'; expected full or lora for this stage"
    with pytest.raises(UsageError, match=expected):
        train.prepare(settings("base_i2v", "tiny", {"train": "adapter"}).to_dict())


def test_the_papers_numbers_are_the_defaults():
    one, two = settings("stage1_clip", ""), settings("stage2_frame", "")
    assert (one.num_steps, two.num_steps) == (80_000, 20_000)
    assert one.optim.schedule.rate == two.optim.schedule.rate == 1e-4
    assert one.optim.schedule.kind == "constant" and two.optim.schedule.kind == "cosine"
    drop = one.task.drop.to_dict()
    assert drop.pop("image_takes") == "tokens"  # the first frame's latents stay
    assert set(drop.values()) == {0.1}
    assert (one.task.lip.probability, two.task.lip.probability) == (0.0, 0.8)
    assert one.model.denoiser.identity.weight == 0.5
    assert one.model == settings("stage1_clip", "wan_14b").model


@pytest.mark.parametrize("size", sorted(models.SYSTEMS))
def test_the_parts_of_every_system_fit_each_other(size):
    systems.check(build(systems.System, models.get_config(size).to_dict()))


def test_the_mini_system_measures_what_the_data_has():
    names = models.get_config("mini").landmarks.measures
    assert names == schema.MEASURES[:-1]


@pytest.mark.parametrize("size", ["mini", ""])
def test_a_key_that_nobody_reads_is_refused_in_every_group(size):
    whole = settings("stage2_frame", size).to_dict()
    for path in groups(whole):
        changed = settings("stage2_frame", size).to_dict()
        functools.reduce(lambda group, key: group[key], path, changed)["nonsense"] = 1
        with pytest.raises(UsageError, match=r"nonsense: unknown key"):
            train.prepare(changed)


@pytest.mark.parametrize("name", ["stage2_frame", "codec", "speech", "alignment", "face"])
def test_a_key_that_is_left_out_is_missed(name):
    task = settings(name, "mini").task.to_dict()
    for key in task:
        changed = settings(name, "mini").to_dict()
        del changed["task"][key]
        with pytest.raises(UsageError, match=f"config.task.{key}: missing"):
            train.prepare(changed)


def groups(tree: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    for key, value in tree.items():
        if isinstance(value, dict):
            found += groups(value, (*path, key))
    return found


def test_switched_off_branches_leave_no_parameters():
    c = settings("stage1_clip", "mini")
    c.task.identity = False
    c.task.motion = False
    _, stage, _ = train.prepare(c.to_dict())
    assert set(stage.abstract()["denoiser"]) == {"dit", "audio"}
    assert stage.system["denoiser"]["identity"] is None
    fields = {field.name for field in dataclasses.fields(stage.cfg)}
    assert {"identity", "motion", "lip"} <= fields
    assert not {"identity", "expression", "body"} & set(stage.reads.fields)
