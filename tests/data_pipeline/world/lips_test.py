import dataclasses

import numpy as np
import pytest

from data_pipeline.world import lips, phonemes, speech
from data_pipeline.world.motion import FPS, frame_times
from data_pipeline.world.speech import Utterance


def said(*rows: tuple[str, int, float]) -> Utterance:
    """An utterance of (phoneme, stress, seconds)."""
    ends = np.cumsum([seconds for _, _, seconds in rows])
    return Utterance(
        id="u",
        split="train",
        text="",
        voice="",
        samples=np.zeros(int(ends[-1] * speech.SAMPLE_RATE), np.float32),
        labels=np.array([phonemes.INDEX[name] for name, _, _ in rows], np.int16),
        stress=np.array([stress for _, stress, _ in rows], np.int16),
        times=np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1),
    )


def opening_of(vowel: str) -> float:
    sound = said(("sil", 0, 0.3), (vowel, 2, 0.3), ("sil", 0, 0.3))
    return float(lips.curves(sound, np.array([0.375]))[0][0])


def test_every_bilabial_meets_a_closed_frame_wherever_the_clip_is_cut() -> None:
    times = frame_times(33)
    count = 0
    for number, utterance in enumerate(speech.utterances("heldout")[:20]):
        part = speech.cut(utterance, 0.31 + 0.013 * number, 33 / FPS)
        opening, _ = lips.curves(part, times)
        for begin, end in lips.closed_spans(part, phonemes.BILABIAL):
            if begin < 0 or end > 33 / FPS:
                continue
            count += 1
            inside = (times >= begin) & (times <= end)
            assert inside.any() and (opening[inside] == 0).all()
    assert count > 40


@pytest.mark.parametrize("bilabial", ["m", "b", "p"])
def test_even_a_short_bilabial_between_open_vowels_closes(bilabial: str) -> None:
    sound = said(("aa", 2, 0.2), (bilabial, 0, 0.02), ("aa", 2, 0.2))
    opening, _ = lips.curves(sound, np.linspace(0.19, 0.23, 5))
    assert (opening == 0).all()
    assert lips.curves(sound, np.array([0.1, 0.32]))[0].min() > 0.7


def test_vowels_open_in_degrees() -> None:
    assert opening_of("aa") > opening_of("ah") > opening_of("ih") > opening_of("uw") > 0.1


def test_rounding_narrows_and_spreading_widens() -> None:
    for vowel, sign in (("uw", -1), ("iy", 1)):
        sound = said(("sil", 0, 0.3), (vowel, 2, 0.4), ("sil", 0, 0.3))
        assert sign * float(lips.curves(sound, np.array([0.5]))[1][0]) > 0.6


def test_lips_do_not_depend_on_where_the_clip_was_cut() -> None:
    utterance = speech.utterances("train")[1]
    times = frame_times(17)
    early = lips.curves(speech.cut(utterance, 0.4, 2.0), times + 0.3)
    late = lips.curves(speech.cut(utterance, 0.7, 2.0), times)
    for one, other in zip(early, late, strict=True):
        np.testing.assert_allclose(one, other, atol=0.02)


def test_silence_closes_the_lips() -> None:
    utterance = speech.utterances("train")[0]
    mute = dataclasses.replace(utterance, labels=np.zeros_like(utterance.labels))
    assert lips.curves(mute, frame_times(33))[0].max() == 0
