from pathlib import Path

import numpy as np
import pytest

from data_pipeline.world import espeak, lexicon, phonemes, speech
from ft_jax.errors import UsageError


def test_embedded_speech_holds_texts_and_one_voice_back() -> None:
    train, held_out = speech.utterances("train"), speech.utterances("heldout")
    assert not {u.text for u in train} & {u.text for u in held_out}
    assert all(not lexicon.is_held_out(u.text) for u in train)
    assert all(lexicon.is_held_out(u.text) for u in held_out)
    voices = {u.voice for u in held_out}
    assert espeak.HELD_OUT_VOICE in voices and len(voices) > 1
    assert espeak.HELD_OUT_VOICE not in {u.voice for u in train}


def test_embedded_speech_is_minutes_long_and_small() -> None:
    seconds = sum(u.seconds for split in speech.SPLITS for u in speech.utterances(split))
    assert 240 < seconds < 600
    assert sum(path.stat().st_size for path in speech.ASSETS.iterdir()) <= 1_500_000


def test_rows_cover_the_utterance_without_gaps() -> None:
    for utterance in speech.utterances("heldout"):
        assert utterance.times[0, 0] == 0
        np.testing.assert_allclose(utterance.times[1:, 0], utterance.times[:-1, 1], atol=2e-4)
        assert abs(utterance.times[-1, 1] - utterance.seconds) < 1e-3


def test_timings_match_the_decoded_sound() -> None:
    # vowels are louder than bilabials and silence, most so when nothing is shifted
    def contrast(shift: float) -> float:
        values: dict[bool, list[float]] = {True: [], False: []}
        for utterance in speech.utterances("train")[:12]:
            middle = utterance.times.mean(axis=1) + shift
            loud = speech.loudness(utterance, middle)
            for label, value in zip(utterance.labels, loud, strict=True):
                if label in phonemes.VOWELS or label in phonemes.BILABIAL or label == 0:
                    values[int(label) in phonemes.VOWELS].append(float(value))
        return float(np.mean(values[True]) - np.mean(values[False]))

    here = contrast(0.0)
    assert here > 0.3
    assert here > contrast(0.05) + 0.1 and here > contrast(-0.05) + 0.1


def test_cut_keeps_sound_and_phonemes_together() -> None:
    whole = speech.utterances("train")[0]
    part = speech.cut(whole, 0.5, 33 / 23)
    assert len(part.samples) == 22_956
    np.testing.assert_array_equal(part.samples, whole.samples[8000 : 8000 + 22_956])
    np.testing.assert_allclose(part.times, whole.times - 0.5)


def test_joined_utterances_keep_their_timings() -> None:
    first, second = speech.utterances("train")[:2]
    both = speech.join((first, second), pause=0.1)
    offset = first.seconds + 0.1
    np.testing.assert_allclose(
        both.times[len(first.labels) + 1 : -1], second.times + offset, atol=1e-9
    )
    start = round(offset * speech.SAMPLE_RATE)
    np.testing.assert_array_equal(both.samples[start : start + len(second.samples)], second.samples)


def test_sentences_repeat_by_seed_and_read_as_english() -> None:
    assert lexicon.sentence(5) == lexicon.sentence(5)
    texts = [lexicon.sentence(seed) for seed in range(300)]
    assert len(set(texts)) > 295
    assert not any(" a a" in text or "{" in text for text in texts)
    assert 0.15 < np.mean([lexicon.is_held_out(text) for text in texts]) < 0.35


def test_unknown_split_and_empty_pool_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="validation"):
        speech.utterances("validation")
    with pytest.raises(UsageError, match=str(tmp_path)):
        speech.utterances("train", tmp_path)
