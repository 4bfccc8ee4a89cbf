import dataclasses

import numpy as np
import pytest

from data_pipeline.world import motion, people, phonemes, source
from data_pipeline.world.motion import FPS

FACE = ("brow", "lid", "cheek")
BODY = ("head_x", "head_y", "tilt", "shoulder")


def moved(number: int, omega_l: float, omega_b: float, start: str = "open") -> motion.Signals:
    choice = source.choose("train", 3, number)
    scene = dataclasses.replace(choice.scene, start=start)
    return source.move(dataclasses.replace(choice, omega_l=omega_l, omega_b=omega_b, scene=scene))


def strength(signals: motion.Signals, names: tuple[str, ...]) -> float:
    return float(np.sqrt(sum(np.var(getattr(signals, name)) for name in names)))


@pytest.mark.parametrize("group", ["face", "body"])
def test_an_intensity_scales_its_group_and_nothing_else(group: str) -> None:
    names, others = (FACE, BODY) if group == "face" else (BODY, FACE)
    for number in range(8):
        omegas = [(value, 0.5) if group == "face" else (0.5, value) for value in (0.1, 1.0)]
        low, high = (moved(number, *pair) for pair in omegas)
        assert strength(high, names) > 4 * strength(low, names)
        for name in (*others, "opening", "width", "scene_x", "object_swing", "cover"):
            np.testing.assert_array_equal(getattr(low, name), getattr(high, name))


def test_intensity_orders_clips_by_their_motion() -> None:
    body = [strength(moved(n, 0.5, n / 20), BODY) for n in range(21)]
    ranks = np.argsort(np.argsort(body))
    assert np.corrcoef(ranks, np.arange(21))[0, 1] > 0.95


def test_nods_and_shoulders_follow_stress_by_a_third_to_six_tenths_of_a_second() -> None:
    sound = dataclasses.replace(
        source.choose("train", 3, 0).sound,
        labels=np.array([0, phonemes.INDEX["aa"], 0], np.int16),
        stress=np.array([0, 2, 0], np.int16),
        times=np.array([[0.0, 0.2], [0.2, 0.4], [0.4, 1.7]]),
    )
    still = np.random.default_rng(0)
    for index in range(10):
        person = people.person(index)
        times = motion.frame_times(33)
        for delay in (person.nod_delay, person.shoulder_delay):
            bump = motion._echo(sound, times, delay, 0.1)
            assert 0.2 + 0.3 < times[bump.argmax()] + 0.5 / FPS
            assert times[bump.argmax()] - 0.5 / FPS < 0.2 + 0.6
        signals = motion.signals(sound, person, (0.0, 1.0), "open", 33, still)
        assert signals.shoulder.argmax() == pytest.approx(
            (0.2 + person.shoulder_delay) * FPS, abs=1
        )


def test_louder_speech_sways_more() -> None:
    choice = source.choose("train", 3, 0)
    quiet = dataclasses.replace(choice.sound, samples=choice.sound.samples * 0)
    sways = [
        np.abs(source.move(dataclasses.replace(choice, sound=sound)).scene_x).max()
        for sound in (choice.sound, quiet)
    ]
    assert sways[0] > 2 * sways[1]


@pytest.mark.parametrize("start", ["turned", "covered"])
@pytest.mark.parametrize("frames", [17, 33, 97])
def test_the_face_is_away_first_and_shown_from_the_half_on(start: str, frames: int) -> None:
    for seed in range(20):
        yaw, cover = motion._reveal(start, frames, np.random.default_rng(seed))
        away = np.abs(yaw) if start == "turned" else 1 - cover
        assert (away[: max(frames // 8, 1)] > 0.9).all()
        assert (away[frames // 2 :] == 0).all()
        assert (np.diff(away) <= 1e-9).all()
