"""The score of a clip: vectors made by hand, and which pieces of a clip are compared."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.models import lip_sync, syncnet

CFG = syncnet.Config(audio=(4,) * 6, lips=(4,) * 6, hidden=6, width=5)


def walk(length: int, seed: int = 0) -> np.ndarray:
    """Vectors that are all far from each other."""
    return 3 * np.random.default_rng(seed).normal(size=(length, 8)).astype(np.float32)


@pytest.mark.parametrize("late", [-15, -4, 0, 1, 7, 15])
def test_a_known_shift_is_found(late: int):
    whole = walk(200)
    lips, sound = whole[50:130], whole[50 - late : 130 - late]
    found = lip_sync.score(lips, sound + 0.1)
    assert found.offset == late
    missing = abs(late) / 80  # compared with zeros
    zeros = np.linalg.norm(lips[80 - late :] if late > 0 else lips[:-late], axis=-1).sum() / 80
    expected = (1 - missing) * 0.1 * 8**0.5 + zeros
    assert found.distance == pytest.approx(expected, rel=1e-4)
    assert found.confidence > 5


def test_confidence_is_the_median_over_31_shifts_less_the_least():
    # One piece: every shift but the middle one meets zeros.
    lips, sound = np.array([[3.0, 4.0]]), np.array([[3.0, 3.0]])
    found = lip_sync.score(lips, sound)
    assert (found.distance, found.offset) == (pytest.approx(1, abs=1e-5), 0)
    assert found.confidence == pytest.approx(5 - 1, abs=1e-5)


def test_sound_of_another_clip_gives_no_confidence():
    found = lip_sync.score(walk(200), walk(200, seed=1))
    assert found.confidence < 0.6 and found.distance > 9


@pytest.mark.parametrize(
    ("frames", "samples", "count"),
    [(36, 36 * 640, 31), (36, 36 * 640 - 1, 30), (6, 9999, 1), (5, 9999, 0), (0, 0, 0)],
)
def test_pieces_are_five_less_than_frames_or_their_sound(frames: int, samples: int, count: int):
    assert lip_sync.pieces(frames, samples) == count


def test_clips_too_short_for_a_piece_have_no_score():
    crops, speech = np.zeros((5, 224, 224, 3), np.uint8), np.zeros(9999, np.int16)
    assert lip_sync.measure({}, CFG, crops, speech) is None


def test_each_piece_of_lips_is_blue_first_and_meets_the_sound_of_its_time(monkeypatch):
    """19 pieces, more than a batch; the networks say which piece they were given."""
    speech = np.random.default_rng(0).integers(-9000, 9000, 24 * 640).astype(np.int16)
    crops = np.zeros((24, 224, 224, 3), np.uint8)
    crops[..., 0], crops[..., 2] = np.arange(24)[:, None, None], 200
    columns = lip_sync.cepstrum(speech)
    seen, heard = [], []

    def lips(_, cfg, given):
        assert given.shape == (16, 5, 224, 224, 3)
        seen.append(np.asarray(given[:, :, 0, 0]))
        return jnp.asarray(seen[-1][..., 2].mean(1, keepdims=True))

    def sound(_, cfg, given):
        heard.append(np.asarray(given))
        return jnp.zeros((16, 1))

    monkeypatch.setattr(lip_sync, "_lips", lips)
    monkeypatch.setattr(lip_sync, "_sound", sound)
    found = lip_sync.measure({}, CFG, crops, speech)
    pictures, cepstra = (np.concatenate(rows)[:19] for rows in (seen, heard))
    for piece in range(19):
        np.testing.assert_array_equal(pictures[piece, :, 0], 200)
        np.testing.assert_array_equal(pictures[piece, :, 2], np.arange(piece, piece + 5))
        np.testing.assert_array_equal(cepstra[piece], columns[:, 4 * piece : 4 * piece + 20])
    assert found is not None and found.distance == pytest.approx(np.arange(2, 21).mean())


def test_a_clip_is_measured_with_weights_of_any_float_type():
    params = jax.eval_shape(functools.partial(syncnet.init, cfg=CFG), jax.random.key(0))
    draw = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: 0.1 + 0.1 * draw.random(leaf.shape, np.float32), params)
    half = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)
    crops = draw.integers(0, 255, (14, 224, 224, 3)).astype(np.uint8)
    speech = draw.integers(-9000, 9000, 14 * 640).astype(np.int16)
    whole = lip_sync.measure(params, CFG, crops, speech)
    assert whole is not None and np.isfinite([whole.distance, whole.confidence]).all()
    rounded = lip_sync.measure(half, CFG, crops, speech)
    assert rounded is not None and rounded.distance == pytest.approx(whole.distance, rel=0.05)
