import dataclasses

import cv2
import numpy as np
import pytest

from data_pipeline.world import anatomy, lips, motion, paint, people, source, truth
from ft_jax.errors import UsageError


@pytest.fixture(scope="module")
def clip() -> source.Clip:
    return source.clip("heldout", 0, 0, 17)


def with_start(start: str, number: int = 0, person: int | None = None) -> source.Choice:
    choice = source.choose("heldout", 5, number, 17)
    scene = dataclasses.replace(choice.scene, start=start)
    if person is not None:
        choice = dataclasses.replace(choice, person_index=person)
    return dataclasses.replace(choice, scene=scene)


def test_a_clip_is_a_pure_function_of_its_number(clip: source.Clip) -> None:
    source.clip("train", 9, 9, 17)
    again = source.clip("heldout", 0, 0, 17)
    np.testing.assert_array_equal(clip.frames, again.frames)
    np.testing.assert_array_equal(clip.audio, again.audio)
    for name, values in clip.truth.items():
        np.testing.assert_array_equal(values, again.truth[name])
    assert (source.clip("heldout", 0, 1, 17).frames != clip.frames).any()


def test_shapes_and_lengths(clip: source.Clip) -> None:
    assert clip.frames.shape == (17, 256, 256, 3) and clip.frames.dtype == np.uint8
    assert clip.audio.shape == (int(17 / 23 * 16_000),) and clip.audio.dtype == np.int16
    assert {len(values) for values in clip.truth.values()} == {17}


def test_people_and_speech_come_from_their_split() -> None:
    for number in range(40):
        train = source.choose("train", 1, number)
        held_out = source.choose("heldout", 1, number)
        assert train.person_index in people.indices("train")
        assert held_out.person_index in people.indices("heldout")
        assert (train.sound.split, held_out.sound.split) == ("train", "heldout")


def test_speech_fills_the_clip() -> None:
    loud = [
        np.mean(np.abs(source.choose("train", 2, number).sound.samples) > 0.005)
        for number in range(40)
    ]
    assert min(loud) > 0.35 and np.mean(loud) > 0.6


def test_lip_truth_is_what_the_speech_asks_for(clip: source.Clip) -> None:
    person = people.person(clip.choice.person_index)
    opening, _ = lips.curves(clip.choice.sound, motion.frame_times(17))
    pixels = opening * anatomy.MAX_GAP * person.mouth_half / 28
    np.testing.assert_allclose(clip.truth["lip_opening"], pixels, atol=1e-4)


def test_long_clips_join_sentences() -> None:
    choice = source.choose("heldout", 0, 0, 293)
    assert len(choice.sound.samples) == int(293 / 23 * 16_000)
    assert "+" in choice.sound.id


def test_the_picture_shows_the_true_opening() -> None:
    # red inside of the mouth, teeth or tongue: what is between the inner lips is not lip-coloured
    choice = with_start("open", 2)
    clip = source.render(choice)
    shown = []
    for frame, points in zip(clip.frames, clip.truth["landmarks"], strict=True):
        x, upper = points[13]
        lower = points[14][1]
        column = frame[int(upper) - 14 : int(lower) + 20, int(x) - 2 : int(x) + 3].mean(axis=1)
        shown.append((column.max(axis=1) < 110).sum() + (column.min(axis=1) > 215).sum())
    assert np.corrcoef(shown, clip.truth["lip_opening"])[0, 1] > 0.8


def test_landmarks_lie_on_what_is_drawn() -> None:
    clip = source.render(with_start("open", 2))
    person = people.person(clip.choice.person_index)
    for frame, points in zip(clip.frames, clip.truth["landmarks"], strict=True):
        polygon = np.round(points[list(truth.OUTER_LIPS)]).astype(np.int32)
        mask = np.zeros(frame.shape[:2], np.uint8)
        cv2.fillPoly(mask, [polygon], (1,))
        ring = cv2.dilate(mask, np.ones((9, 9), np.uint8)) - cv2.dilate(mask, np.ones((5, 5)))
        skin = np.array(person.skin, np.float32)
        inside = np.abs(frame[mask > 0] - skin).mean()
        around = np.abs(frame[ring > 0] - skin).mean()
        assert inside > 1.5 * around


@pytest.mark.parametrize("start", ["covered", "turned"])
def test_the_first_frame_does_not_show_the_face(start: str) -> None:
    # the same head with another face (eyes, brows, nose, mouth) gives the same first frame
    choice = with_start(start)
    person = people.person(choice.person_index)
    other = dataclasses.replace(
        person, eye=(1, 2, 3), brow=(9, 9, 9), eye_gap=24.0, lips=(9, 9, 9), nose_width=9.0
    )
    signals = source.move(choice)
    pictures = [source.Studio(who, choice.scene).frame(signals, 0)[0] for who in (person, other)]
    np.testing.assert_array_equal(*pictures)
    last = [source.Studio(who, choice.scene).frame(signals, 16)[0] for who in (person, other)]
    assert (last[0] != last[1]).any()


def test_a_cover_hides_who_it_is() -> None:
    pictures = []
    for person in (241, 250):
        choice = with_start("covered", 0, person)
        studio = source.Studio(people.person(person), choice.scene)
        pictures.append(studio.frame(source.move(choice), 0)[0][24:210, 60:196])
    np.testing.assert_array_equal(*pictures)


def test_a_tenth_of_a_pixel_shows() -> None:
    pictures = []
    for x in (20.0, 20.1):
        canvas = paint.Canvas(np.zeros((40, 40, 3), np.uint8))
        canvas.fill(paint.ellipse(x, 20.0, 10, 10), (255, 255, 255))
        pictures.append(canvas.pixels.astype(np.float32))
    columns = np.arange(40) + 0.5
    centers = [(p[..., 0].sum(axis=0) * columns).sum() / p[..., 0].sum() for p in pictures]
    assert centers[0] == pytest.approx(20.0, abs=0.1)
    assert 0.03 < centers[1] - centers[0] < 0.2


def test_portraits_show_a_closed_mouth_and_depend_on_person_and_place() -> None:
    person = people.person(240)
    one, same = source.render_portrait(person, 1), source.render_portrait(person, 1)
    np.testing.assert_array_equal(one, same)
    assert (one != source.render_portrait(person, 2)).any()
    assert (one != source.render_portrait(people.person(241), 1)).any()


@pytest.mark.parametrize("frames", [1, 18, 32])
def test_wrong_lengths_are_refused(frames: int) -> None:
    with pytest.raises(UsageError, match=f"frames {frames}"):
        source.choose("train", 0, 0, frames)
