"""The three denoiser stages, with the network replaced by a recorder: what it is told, and when."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import stage1_clip, stage2_frame
from ft_jax.cli import train
from ft_jax.models import fantasy
from ft_jax.training import losses, randomness
from ft_jax.training.stages import flow

SAMPLES = 512


def stage(kind: str, **changes: Any) -> flow.Flow:
    c = {"clip": stage1_clip, "base": stage1_clip, "frame": stage2_frame}[kind].get_config("tiny")
    c.stage = kind
    c.task.update(changes)
    return train.prepare(c.to_dict())[1]


def batch(samples: int = SAMPLES) -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    shape = (samples, 5, 2, 2)
    mask = np.zeros(shape, np.uint8)
    mask[:, :, 1, 1] = 255
    return {
        "video_latents": jnp.asarray(rng.normal(size=(*shape, 16)), jnp.bfloat16),
        "condition_latents": jnp.ones((*shape, 16), jnp.bfloat16),
        "image_tokens": jnp.ones((samples, 5, 16), jnp.bfloat16),
        "text_tokens": jnp.ones((samples, 16, 16), jnp.bfloat16),
        "lip_mask": jnp.asarray(mask),
        "audio_features": jnp.ones((samples, 36, 16), jnp.bfloat16),
        "identity": jnp.ones((samples, 16)),
        "expression": jnp.full((samples,), 0.25),
        "body": jnp.full((samples,), 0.75),
    }


@pytest.fixture
def told(monkeypatch) -> list:
    """Calls of the network, which answers with zeros."""
    calls: list = []

    def record(params, cfg, latents, sigma, conditions, windows=None):
        calls.append((latents, sigma, conditions, windows))
        return jnp.zeros_like(latents)

    monkeypatch.setattr(fantasy, "apply", record)
    return calls


def loss(made: flow.Flow, key: jax.Array, train: bool, samples: int = SAMPLES):
    return made.loss({"denoiser": {"dit": 0}}, {}, batch(samples), key, train)


def test_conditions_are_dropped_as_often_as_asked_and_independently():
    conditions = stage("clip").conditions(batch(), randomness.step_key(0, 0), True)
    text = conditions.text_tokens.mean((1, 2))
    kept = np.stack(
        [conditions.image_scale, conditions.audio_scale, text, conditions.identity_scale]
    )
    assert set(np.unique(kept)) == {0.0, 1.0}
    np.testing.assert_allclose(1 - kept.mean(1), 0.1, atol=0.04)  # 3 deviations
    together = np.corrcoef(kept) - np.eye(4)
    assert np.abs(together).max() < 0.15
    # Never dropped: the first frame, and how much is to move.
    assert float(conditions.condition_latents.min()) == 1.0
    assert float(conditions.expression.min()) == 0.25 and float(conditions.body.min()) == 0.75


def test_with_the_picture_go_its_latents_and_their_mask_where_settings_say_so():
    drop = {**stage1_clip.get_config("tiny").task.drop.to_dict(), "image_takes": "picture"}
    made, key = stage("clip", drop=drop), randomness.step_key(0, 0)
    conditions = made.conditions(batch(), key, True)
    mask, latents = np.split(np.asarray(conditions.condition_latents), [4], axis=-1)
    kept = np.asarray(conditions.image_scale)[:, None, None, None]
    assert set(np.unique(kept)) == {0.0, 1.0}
    np.testing.assert_array_equal(latents, np.broadcast_to(kept[..., None], latents.shape))
    np.testing.assert_array_equal(mask[:, 0], np.broadcast_to(kept, mask[:, 0].shape))
    assert not mask[:, 1:].any()
    judged = made.conditions(batch(), key, False).condition_latents
    np.testing.assert_array_equal(judged, np.ones_like(latents))


def test_drops_are_redrawn_every_step_and_reproduced_from_its_number():
    made = stage("clip")
    one, again, other = (
        made.conditions(batch(), randomness.step_key(0, step), True).audio_scale
        for step in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_nothing_is_dropped_when_judging(told):
    made = stage("frame")
    value, metrics = loss(made, randomness.step_key(0, 0), False)
    _, _, conditions, _ = told[0]
    assert float(conditions.image_scale.min()) == float(conditions.identity_scale.min()) == 1.0
    assert float(value) == pytest.approx(float(metrics["whole"]), rel=1e-6)


def test_held_out_the_loss_is_told_at_every_noise_level(monkeypatch):
    monkeypatch.setattr(fantasy, "apply", lambda params, cfg, latents, *rest: latents)
    made, key = stage("clip", levels=(0.25, 1.0)), randomness.step_key(0, 0)
    _, metrics = loss(made, key, False, samples=8)
    clean = batch(8)["video_latents"].astype(jnp.float32)
    noise = jax.random.normal(randomness.draw(key, "noise"), clean.shape)
    for level in (0.25, 1.0):
        answer = (1 - level) * clean + level * noise
        wanted = float(jnp.mean(jnp.square(answer - (noise - clean))))
        assert float(metrics[f"level_{level:g}"]) == pytest.approx(wanted, rel=1e-5)
    assert not [name for name in loss(made, key, True, samples=8)[1] if "level" in name]
    without = loss(stage("clip", levels=()), key, False, samples=8)[1]
    assert not [name for name in without if "level" in name]


def test_clip_hears_everything_frame_hears_windows_base_hears_nothing(told):
    for kind in ("base", "clip", "frame"):
        loss(stage(kind), randomness.step_key(0, 0), True)
    base, clip, frame = told
    assert base[2].audio_features is None and base[2].identity is None and base[3] is None
    assert base[2].expression is None
    assert clip[2].audio_features is not None and clip[3] is None
    assert frame[3].index.shape[0] == 5


def test_the_network_sees_the_path_between_data_and_noise(told):
    key = randomness.step_key(0, 0)
    value, _ = loss(stage("clip"), key, True)
    ((noisy, sigma, _, _),) = told
    clean = batch()["video_latents"].astype(jnp.float32)
    noise = jax.random.normal(randomness.draw(key, "noise"), clean.shape)
    level = sigma[:, None, None, None, None]
    np.testing.assert_allclose(noisy, (1 - level) * clean + level * noise, rtol=1e-5, atol=1e-5)
    wanted = np.square(np.asarray(noise - clean)).mean()  # of an answer of zeros
    assert float(value) == pytest.approx(wanted, rel=1e-4)


def test_most_samples_of_stage_two_count_the_lips_alone(told):
    key = randomness.step_key(0, 0)
    value, _ = loss(stage("frame"), key, True)
    clean = batch()["video_latents"].astype(jnp.float32)
    noise = jax.random.normal(randomness.draw(key, "noise"), clean.shape)
    error = jnp.mean(jnp.square(noise - clean), axis=-1)
    lips_only = randomness.happens(key, "lip", 0.8, SAMPLES)
    assert float(lips_only.mean()) == pytest.approx(0.8, abs=0.06)
    mask = batch()["lip_mask"].astype(jnp.float32) / 255.0
    wanted = jnp.where(lips_only, losses.region(error, mask), losses.whole(error)).mean()
    assert float(value) == pytest.approx(float(wanted), rel=1e-5)
    assert float(value) != pytest.approx(float(losses.whole(error).mean()), rel=1e-3)
    assert len(told) == 1


def test_without_the_lip_mask_stage_two_counts_whole_frames(told):
    value, metrics = loss(stage("frame", lip={"probability": 0.0}), randomness.step_key(0, 0), True)
    assert float(value) == pytest.approx(float(metrics["whole"]), rel=1e-6)
    assert told


def test_a_branch_that_is_switched_off_is_not_told_about(told):
    loss(stage("clip", identity=False, motion=False), randomness.step_key(0, 0), True)
    ((_, _, conditions, _),) = told
    assert conditions.identity is None and conditions.expression is None
    assert conditions.audio_features is not None
