"""What the stages do around their networks; the networks are traced in tests/configs_test.py."""

import dataclasses
import importlib
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.cli import train
from ft_jax.errors import UsageError
from ft_jax.models import face, landmarks, vae, wav2vec2
from ft_jax.training import randomness, stages
from ft_jax.training.stages import codec, picture, speech

KEY = randomness.step_key(0, 0)


def stage(name: str, size: str = "tiny") -> Any:
    return train.prepare(importlib.import_module(f"configs.{name}").get_config(size).to_dict())[1]


def pictures(samples: int = 3, side: int = 16) -> jax.Array:
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.uniform(-1, 1, (samples, side, side, 3)), jnp.float32)


def test_every_kind_can_be_found_and_an_unknown_one_is_refused():
    assert all(stages.kind(name).Config for name in stages.KINDS)
    with pytest.raises(UsageError, match="stage: got 'lips'; expected one of"):
        stages.kind("lips")


def test_the_mouth_lies_low_in_the_face_box_and_the_eyes_high():
    box = jnp.array([[[0.25, 0.0, 0.75, 1.0], [-1.0, -1.0, -1.0, -1.0]]])
    area = np.asarray(codec.area_of(box, codec.MOUTH, (20, 20)))
    rows, columns = np.nonzero(area[0, 0])
    assert (rows.min(), rows.max()) == (11, 18) and (columns.min(), columns.max()) == (7, 12)
    assert area[0, 1].sum() == 0  # no face
    eyes = np.asarray(codec.area_of(box, codec.EYES, (20, 20)))
    rows, columns = np.nonzero(eyes[0, 0])
    assert (rows.min(), rows.max()) == (0, 8) and (columns.min(), columns.max()) == (6, 13)
    assert not np.any(eyes * area) and eyes[0, 1].sum() == 0


def test_changes_over_time_and_space_are_told_apart():
    true = jnp.zeros((1, 3, 4, 4, 3))
    brighter = true + 1.0
    assert float(codec.sum_of_change(brighter, true, (1, 2, 3))) == 0.0
    blinking = true.at[:, 1].set(1.0)
    assert float(codec.sum_of_change(blinking, true, (1,))) == 1.0
    assert float(codec.sum_of_change(blinking, true, (2, 3))) == 0.0
    assert float(codec.sum_of_change(true[:, :1], true[:, :1], (1,))) == 0.0


def test_the_statistics_of_the_latents_are_those_of_whole_clips(monkeypatch):
    made = stage("codec")  # clips of 17 frames: one picture and four later latent frames
    rng = np.random.default_rng(0)
    first = rng.normal(3.0, 1.0, (64, 1, 2, 2, 16))
    later = rng.normal(-1.0, 0.5, (64, 1, 2, 2, 16))
    latents = jnp.asarray(np.concatenate([first, later], 1), jnp.float32)
    monkeypatch.setattr(vae, "encode_distribution", lambda *_: (latents, latents))
    batches = itertools.repeat({"frames": np.zeros((64, 5, 16, 16, 3), np.uint8)})
    changes = made.finish({"codec": {}}, batches)["codec"]
    whole = np.concatenate([first, *[later] * 4], 1)
    np.testing.assert_allclose(changes["mean"], whole.mean((0, 1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(changes["std"], whole.std((0, 1, 2, 3)), rtol=1e-4)


def test_a_fresh_codec_sees_pictures_and_repeats_them():
    made = stage("codec")
    params = jax.jit(made.init)(KEY)["codec"]
    still = jnp.broadcast_to(pictures(1)[:, None], (1, 5, 16, 16, 3))

    def rebuilt(video: jax.Array) -> tuple[jax.Array, jax.Array]:
        latents, _ = vae.encode_distribution(params, made._model, video)
        return latents, vae.decode(params, made._model, latents)

    latents, video = jax.jit(rebuilt)(still)
    np.testing.assert_allclose(latents[:, 1], latents[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(video, video[:, :1].repeat(5, 1), rtol=1e-4, atol=1e-5)
    assert float(video.std()) > 0.01
    for frame in range(1, 5):  # the later latent holds something of all four
        changed, _ = jax.jit(rebuilt)(still.at[:, frame].multiply(0.5))
        assert float(jnp.abs(changed[:, 1] - latents[:, 1]).max()) > 0.01, frame


def test_crops_lie_on_mouth_or_eyes_and_stay_inside():
    made = stage("codec")
    made.cfg = dataclasses.replace(made.cfg, crop=8, crop_at_face=1.0)
    rows, columns = jnp.meshgrid(jnp.arange(32.0), jnp.arange(32.0), indexing="ij")
    place = jnp.broadcast_to(jnp.stack([rows, columns, rows], -1), (80, 2, 32, 32, 3))
    mouth = jnp.zeros((80, 2, 32, 32)).at[:40, :, 20:22, 16:20].set(1.0)
    eyes = jnp.zeros((80, 2, 32, 32)).at[:40, :, 8:10, 16:20].set(1.0)
    cut, lips, lids = (np.asarray(x) for x in made._cut(KEY, place, mouth, eyes))
    assert cut.shape == (80, 2, 8, 8, 3) and lips.shape == lids.shape == (80, 2, 8, 8)
    np.testing.assert_array_equal(np.diff(cut[..., 0], axis=2), 1.0)  # a piece of the picture
    np.testing.assert_array_equal(np.diff(cut[..., 1], axis=3), 1.0)
    corners = cut[:, 0, 0, 0, :2]
    distances = [np.abs(corners[:40] - (row - 4, 18 - 4)).max(1) for row in (21, 9)]
    at_mouth, at_eyes = (distance <= 2 + 0.5 for distance in distances)
    assert np.all(at_mouth ^ at_eyes) and 10 < at_mouth.sum() < 30
    assert np.all(lips[:40].any((1, 2, 3)) == at_mouth)  # areas are cut with the pictures
    assert np.all(lids[:40].any((1, 2, 3)) == at_eyes)
    assert len(np.unique(corners[:40], axis=0)) > 6
    spread = corners[40:]  # without a face: anywhere
    assert spread.min() >= 0 and spread.max() <= 24 and np.all(np.ptp(spread, axis=0) > 12)
    made.cfg = dataclasses.replace(made.cfg, crop_at_face=0.0)
    anywhere = np.asarray(made._cut(KEY, place, mouth, eyes)[0])[:40, 0, 0, 0, :2]
    assert np.all(np.ptp(anywhere, axis=0) > 12)


def test_a_missing_face_box_becomes_an_empty_one():
    boxes = np.array([[[np.nan] * 4, [0.1, 0.2, 0.3, 0.4]]], np.float16)
    given = {"frames": np.zeros((1, 2, 16, 16, 3), np.uint8), "face_box": boxes}
    made = stage("codec").prepare(given)["face_box"]
    np.testing.assert_array_equal(made[0, 0], [-1.0] * 4)
    assert made[0, 1, 3] == pytest.approx(0.4, abs=1e-3)


def test_classes_beyond_the_model_are_refused():
    sound = np.zeros((1, 800), np.int16)
    with pytest.raises(UsageError, match=r"phonemes: 41 for each of .* highest class"):
        stage("speech").prepare({"audio": sound, "phonemes": np.array([[41]], np.int16)})
    with pytest.raises(UsageError, match="persons: 2048; expected more than the highest number"):
        stage("face").prepare({"faces": sound, "person_index": np.array([3000])})
    with pytest.raises(UsageError, match="measures: 9; expected 7"):
        measures = {"measures": np.zeros((1, 2, 8)), "face_box": np.zeros((1, 2, 4))}
        stage("landmarks").prepare(measures)


def test_speech_is_varied_in_training_and_heard_as_it_is_when_judged(monkeypatch):
    heard: list = []

    def encode(params, cfg, wave):
        heard.append(wave)
        return jnp.zeros((wave.shape[0], 2, 4))

    monkeypatch.setattr(wav2vec2, "encode", encode)
    monkeypatch.setattr(wav2vec2, "phoneme_logits", lambda *_: jnp.zeros((2, 2, 9 * 41)))
    rng = np.random.default_rng(0)
    audio = jnp.asarray(rng.normal(0, 3000, (2, 800)), jnp.int16)
    batch = {"audio": audio, "phonemes": jnp.array([[1, 5], [2, 0]])}
    for train_it in (True, False, False):
        stage("speech").loss({"speech": {"x": 0}}, {}, batch, KEY, train_it)
    np.testing.assert_array_equal(heard[1], heard[2])
    assert float(jnp.abs(heard[0] - heard[1]).max()) > 0.1
    for wave in heard:  # loudness never matters
        np.testing.assert_allclose(wave.std(1), 1.0, rtol=1e-3)


def test_every_row_is_asked_for_the_phonemes_around_it():
    found = speech.around(jnp.array([[5, 6, 7, 8]]), (-2, 0, 1))
    np.testing.assert_array_equal(found[0], [[-1, 5, 6], [-1, 6, 7], [5, 7, 8], [6, 8, -1]])


def test_a_caption_becomes_tokens_of_the_denoisers_length():
    given = {"frames": np.zeros((1, 2, 16, 16, 3), np.uint8), "caption": np.array(["A hat."])}
    made = stage("alignment").prepare(given)
    assert made["ids"].shape == (1, 16) and made["mask"].sum() == 7


def test_people_held_out_are_told_apart_without_centres(monkeypatch):
    crops = jnp.zeros((4, 2, 16, 16, 3), jnp.uint8)
    vectors = jnp.repeat(jnp.eye(4, 16), 2, axis=0)
    monkeypatch.setattr(face, "embed", lambda *_: vectors)
    batch = {"faces": crops, "person": jnp.array([900, 901, 902, 903])}
    value, metrics = stage("face").loss({"face": {"x": 0}}, {}, batch, KEY, False)
    assert float(value) < 0.01 and float(metrics["accuracy"]) == 1.0


def test_frames_without_a_visible_face_teach_visibility_alone(monkeypatch):
    made = stage("landmarks")
    model = made._model
    raw = jnp.full((4, model.outputs), 3.0)
    monkeypatch.setattr(landmarks, "outputs", lambda *_: raw)
    measures = np.zeros((2, 17, 10), np.float32)
    measures[0, :, -1] = 1.0
    boxes = np.full((2, 17, 4), np.nan, np.float16)
    boxes[0] = 0.5
    frames = np.zeros((2, 17, 16, 16, 3), np.uint8)
    batch = made.prepare({"frames": frames, "measures": measures, "face_box": boxes})
    assert batch["known"][0].all() and not batch["known"][1].any()
    arrays = {name: jnp.asarray(x) for name, x in batch.items()}
    value, metrics = made.loss({"landmarks": {"x": 0}}, {}, arrays, KEY, False)
    target = -np.array(model.mean) / np.array(model.std)
    target[9:] += 0.5 / np.array(model.std)[9:]
    error = np.abs(3.0 - target)
    fit = np.where(error < 1, 0.5 * error**2, error - 0.5).mean()
    seen = np.mean([np.log1p(np.exp(-3.0)), np.log1p(np.exp(3.0))])
    assert float(value) == pytest.approx(fit + seen, rel=1e-3)
    assert float(metrics["visible"]) == pytest.approx(seen, rel=1e-5)


def test_a_reader_blind_to_movement_is_charged_for_it(monkeypatch):
    made = stage("landmarks")
    model, rng = made._model, np.random.default_rng(0)
    values = jnp.asarray(rng.normal(0, 1, (8, 13)), jnp.float32)  # 4 clips of 2 frames
    batch = {
        "frames": jnp.zeros((4, 2, 16, 16, 3), jnp.uint8),
        "values": values.reshape(4, 2, 13),
        "known": jnp.ones((4, 2, 13)),
        "visible": jnp.ones((4, 2, 1)),
    }
    monkeypatch.setattr(picture, "some_frames", lambda x, key, count: x)
    target = np.asarray(landmarks.standardise(model, values[:, :9], values[:, 9:]))
    steady = target.reshape(4, 2, 13).mean(1, keepdims=True).repeat(2, 1).reshape(8, 13)
    for raw, unexplained in ((target, 0.0), (steady, 1.0), (2 * target - steady, 1.0)):
        outputs = jnp.asarray(np.concatenate([raw, np.full((8, 1), 9.0)], 1))
        monkeypatch.setattr(landmarks, "outputs", lambda *_, outputs=outputs: outputs)
        _, metrics = made.loss({"landmarks": {"x": 0}}, {}, batch, KEY, False)
        for name in ("brow", "lid"):
            assert float(metrics[f"movement_{name}"]) == pytest.approx(unexplained, abs=1e-4)


def test_the_same_key_chooses_the_same_frames_of_everything():
    index = jnp.tile(jnp.arange(9)[None, :, None], (3, 1, 2))
    clips = jnp.broadcast_to(index[..., None, None], (3, 9, 2, 4, 5))
    one, other = (picture.some_frames(x, KEY, 4) for x in (index, clips))
    assert one.shape == (3, 4, 2) and other.shape == (3, 4, 2, 4, 5)
    np.testing.assert_array_equal(one, other[..., 0, 0])
    assert len(np.unique(np.asarray(one[..., 0]), axis=0)) == 3  # each clip its own


def test_changes_of_a_picture_stay_small_and_differ_between_samples():
    flat = jnp.full((4, 16, 16, 3), 0.25)
    made = picture.jitter(flat, KEY, 0.1, 0.0)
    assert float(jnp.abs(made - flat).max()) <= 0.125 + 1e-6
    assert len(np.unique(np.asarray(made[:, 0, 0, 0]))) == 4
    np.testing.assert_array_equal(picture.jitter(flat, KEY, 0.0, 0.0), flat)
    assert float(jnp.abs(picture.jitter(4 * flat, KEY, 0.5, 0.5)).max()) <= 1.0


def test_softening_keeps_the_mean_of_a_flat_picture_and_lowers_contrast():
    flat = jnp.full((2, 8, 8, 3), 0.25)
    np.testing.assert_allclose(picture.soften(flat, KEY), flat, rtol=1e-5)
    given = pictures(2)
    assert float(picture.soften(given, KEY).std()) < float(given.std())


def test_a_shift_moves_whole_pictures_by_few_pixels():
    given = pictures(8)
    moved = np.asarray(picture.shift(given, KEY, 2))
    margins = ((0, 0), (2, 2), (2, 2), (0, 0))
    wide = np.pad(np.asarray(given), margins, mode="edge")
    found = set()
    for sample in range(8):
        places = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if np.array_equal(moved[sample], wide[sample, row : row + 16, column : column + 16])
        ]
        assert len(places) == 1
        found.update(places)
    assert len(found) > 3
