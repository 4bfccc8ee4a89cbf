import dataclasses

import numpy as np
import pytest

from data_pipeline.world import phonemes, source
from ft_jax.eval.lips import (
    Closures,
    closure_rate,
    closures,
    correlation,
    mouth_area,
    spans_of,
)
from ft_jax.media.image import resize

TIME = np.linspace(0, 6, 33)


def test_correlation_is_numpy_s_on_measured_frames():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 5, 33))
    expected = [np.corrcoef(x, y)[0, 1] for x, y in zip(first, second, strict=True)]
    np.testing.assert_allclose(correlation(first, second), expected, atol=1e-12)


def test_correlation_ignores_scale_and_offset_and_knows_opposites():
    track = np.sin(TIME)
    assert correlation(track, 3 * track + 7) == pytest.approx(1.0)
    assert correlation(track, 7 - 3 * track) == pytest.approx(-1.0)


def test_correlation_is_at_zero_lag():
    track = np.sin(TIME * 4)
    assert correlation(track[4:], track[:-4]) < 0.2


def test_constant_or_mostly_unmeasured_clips_count_as_zero():
    track = np.sin(TIME)
    assert correlation(np.full(33, 0.1), track) == 0
    assert correlation(np.full(33, np.nan), track) == 0
    hidden = track.copy()
    hidden[:20] = np.nan
    assert correlation(hidden, track) == 0
    assert correlation(hidden, track, least=0.2) == pytest.approx(1.0)


def test_few_unmeasured_frames_do_not_matter():
    track = np.sin(TIME)
    hidden = track.copy()
    hidden[3:8] = np.nan
    assert correlation(hidden, 2 * track) == pytest.approx(1.0)


def test_a_sound_counts_as_closed_when_any_of_its_frames_is():
    opening = np.array([1, 1, 0.05, 1, 1, 1, np.nan, np.nan, 1.0])
    spans = np.array([[1, 3], [4, 6], [6, 8], [20, 22]])
    assert closures(opening, spans, closed_below=0.1) == Closures(closed=1, spoken=3)


def test_frames_whose_centre_lies_in_a_sound_hold_it():
    times = np.array([[0.10, 0.30], [0.5, 0.51], [-0.2, -0.1]])
    spans = spans_of(times, fps=10.0, edge=0.0, least=0.12)
    np.testing.assert_array_equal(spans, [[1, 3], [4, 6], [-2, -1]])
    assert spans_of(np.zeros((0, 2)), 23.0).shape == (0, 2)


def test_every_closure_of_the_world_is_found_in_its_true_opening():
    counts = []
    for number in range(20):
        choice = source.choose("heldout", 4, number)
        opening = source.move(choice).opening.astype(float)
        sound = choice.sound
        held = np.isin(sound.labels, sorted(phonemes.BILABIAL))
        spans = spans_of(sound.times[held], source.FPS)
        counts.append(closures(opening, spans, closed_below=0.1))
    rate = closure_rate(counts)
    assert rate.value == 1.0 and sum(count.spoken for count in counts) > 30


def test_closure_rate_weighs_sounds_not_clips():
    rate = closure_rate([Closures(0, 1), Closures(3, 3), Closures(0, 0)])
    assert rate.value == pytest.approx(0.75) and rate.count == 3


def test_mouth_area_follows_the_opening_that_was_drawn():
    found = []
    for number in (0, 3):
        choice = source.choose("heldout", 1, number, 17)
        scene = dataclasses.replace(choice.scene, start="open")
        clip = source.render(dataclasses.replace(choice, scene=scene))
        small = np.stack([resize(frame, 64, 64) for frame in clip.frames])
        area = mouth_area(small, clip.truth["face_box"].astype(float) / source.SIZE)
        found.append(correlation(area, clip.truth["lip_opening"].astype(float)))
    assert np.mean(found) > 0.8 and min(found) > 0.6


def test_mouth_area_is_unknown_without_a_face():
    boxes = np.array([[np.nan] * 4, [0.1, 0.1, 0.9, 0.9]])
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    frames[:] = (66, 18, 26)
    area = mouth_area(frames, boxes)
    assert np.isnan(area[0]) and area[1] == pytest.approx(1.0)
