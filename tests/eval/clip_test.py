import numpy as np
import pytest

from ft_jax.eval.clip import MEANINGS, Truth, loudness, scores
from ft_jax.eval.instrument import Measured

FRAMES, FPS = 23, 23.0
WAVE = 0.1 + 0.1 * np.sin(np.arange(FRAMES))
NAMES = ("lip_opening", "brow", "cheek", "lid", "head_x", "head_y", "shoulder")


def measured(track: np.ndarray) -> Measured:
    tracks = {name: track for name in NAMES}
    return Measured(tracks, np.zeros((FRAMES, 4)), np.ones(FRAMES))


def test_loudness_of_each_frame_follows_the_sound():
    rate = 16_000
    steps = np.repeat([0.0, 0.01, 0.1, 1.0], 4000).astype(np.float32)
    found = loudness(steps * np.tile([1, -1], 8000).astype(np.float32), rate, 8, 8.0)
    np.testing.assert_allclose(found, [0, 0, 0.2, 0.2, 0.6, 0.6, 1, 1], atol=1e-6)


def test_sound_that_ends_early_is_silent_behind_its_end():
    found = loudness(np.ones(8000, np.float32), 16_000, 8, 8.0)
    np.testing.assert_allclose(found, [1] * 4 + [0] * 4)


def test_a_clip_that_follows_its_speech_scores_so():
    truth = Truth(3 * WAVE, np.array([[0, 2], [4, 6]]))
    found = scores(measured(WAVE), FPS, WAVE, truth)
    assert set(found) == set(MEANINGS)
    assert found["lips_truth"] == pytest.approx(1) == found["lips_loudness"]
    assert found["closure"] == 0.5 and found["measured"] == 1
    assert found["expression"] > 0 and found["body_jerk"] > 0


def test_what_is_not_known_is_left_out_and_what_is_not_seen_scores_zero():
    found = scores(measured(np.full(FRAMES, np.nan)), FPS, WAVE)
    assert "lips_truth" not in found and "closure" not in found
    assert set(found.values()) == {0.0}
