"""Windows of a long clip: they cover it, they overlap, and each hears its own piece of speech."""

import itertools

import numpy as np
import pytest

from ft_jax.errors import UsageError
from ft_jax.sampling import long_video

LENGTHS = [1, 2, 16, 17, 32, 33, 34, 36, 37, 38, 53, 54, 100, 231, 1000]


@pytest.mark.parametrize("frames", LENGTHS)
@pytest.mark.parametrize("overlap", [0, 3, 7])
def test_windows_cover_the_clip_and_share_at_least_the_overlap(frames: int, overlap: int) -> None:
    plan = long_video.plan(frames, 9, overlap)
    covered = 4 * (plan.latents - 1) + 1
    assert covered >= frames
    assert covered - frames < 4 or plan.latents == 9
    assert set(range(plan.latents)) <= set(plan.ids.reshape(-1).tolist())
    for before, after in itertools.pairwise(plan.ids):
        assert len(set(before.tolist()) & set(after.tolist())) >= overlap


@pytest.mark.parametrize("frames", LENGTHS)
def test_a_window_is_in_order_and_its_first_frame_is_its_own(frames: int) -> None:
    plan = long_video.plan(frames, 9, 3)
    firsts = plan.ids[:, 0]
    assert firsts[0] == 0
    assert (firsts[1:] >= plan.latents).all() and len(set(firsts.tolist())) == len(firsts)
    assert (np.diff(plan.ids[:, 1:], axis=1) == 1).all()
    # A window's sound begins where the frame before its second latent frame stands.
    assert plan.starts == tuple(4 * (int(row[1]) - 1) for row in plan.ids)


@pytest.mark.parametrize("frames", LENGTHS)
def test_every_latent_frame_of_the_clip_is_found_again(frames: int) -> None:
    plan = long_video.plan(frames, 9, 3)
    found = plan.ids[plan.order[:, 0], plan.order[:, 1]]
    np.testing.assert_array_equal(found, np.arange(plan.latents))


def test_a_clip_of_the_training_length_is_one_window() -> None:
    for frames in (1, 20, 33):
        plan = long_video.plan(frames, 9, 3)
        assert plan.ids.tolist() == [list(range(9))]
        assert plan.frames == frames


def test_a_window_weighs_less_towards_its_ends() -> None:
    weights = long_video.plan(100, 9, 3).weights[1, 1:]
    np.testing.assert_allclose(weights, [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25])
    assert (weights > 0).all()


@pytest.mark.parametrize("overlap", [-1, 8, 9])
def test_an_overlap_that_leaves_nothing_new_is_refused(overlap: int) -> None:
    with pytest.raises(UsageError, match="overlap"):
        long_video.plan(100, 9, overlap)


@pytest.mark.parametrize("fps", [16.0, 23.0, 25.0, 29.97])
@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.43, 3.14159, 61.7])
def test_frames_last_as_long_as_speech_to_half_a_frame(fps: float, seconds: float) -> None:
    count = long_video.frame_count(seconds, fps)
    assert abs(count / fps - seconds) <= 0.5 / fps + 1e-9


def test_every_window_hears_its_own_piece_and_silence_behind_the_end() -> None:
    speech = np.arange(1, 40_001, dtype=np.float32)
    cuts = long_video.cut_speech(speech, (0, 20, 36), 22_956, 23.0, 16_000)
    assert cuts.shape == (3, 22_956)
    assert cuts[0, 0] == 1
    assert cuts[1, 0] == round(20 / 23 * 16_000) + 1
    first = round(36 / 23 * 16_000)
    assert cuts[2, 40_000 - first - 1] == 40_000
    assert (cuts[2, 40_000 - first :] == 0).all()


def test_cuts_are_normalised_alone_but_a_pause_stays_quiet() -> None:
    noise = np.random.default_rng(0).standard_normal((3, 5000)).astype(np.float32)
    cuts = noise * np.array([[1.0], [0.5], [0.001]], np.float32) + 0.3
    made = long_video.normalise(cuts)
    np.testing.assert_allclose(made.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(made[:2].std(1), 1, rtol=1e-3)
    assert made[2].std() < 0.05


def test_a_single_cut_is_normalised_as_training_did() -> None:
    import jax.numpy as jnp

    from ft_jax.models import wav2vec2

    cut = 0.2 * np.random.default_rng(0).standard_normal((1, 4000)).astype(np.float32) + 0.05
    wanted = wav2vec2.normalise_waveform(jnp.asarray(cut))
    np.testing.assert_allclose(long_video.normalise(cut), wanted, rtol=1e-5, atol=1e-6)


def test_values_are_spread_over_the_windows() -> None:
    np.testing.assert_allclose(long_video.spread((0.2,), 3), [0.2, 0.2, 0.2])
    np.testing.assert_allclose(long_video.spread((0.0, 1.0), 5), [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(long_video.spread((0.2, 0.9), 1), [0.2])


def test_noise_belongs_to_seed_and_frame() -> None:
    short, long = (
        long_video.frame_noise(3, long_video.plan(frames, 9, 3).ids, (2, 2, 4))
        for frames in (33, 60)
    )
    np.testing.assert_array_equal(short[0], long[0])
    np.testing.assert_array_equal(long[0, 6:], long[1, 1:4])  # copies of one frame
    assert np.abs(long[0, 0] - long[1, 0]).max() > 0.1
    other = long_video.frame_noise(4, long_video.plan(33, 9, 3).ids, (2, 2, 4))
    assert np.abs(short - other).max() > 0.1
    assert abs(float(long.std()) - 1) < 0.05
