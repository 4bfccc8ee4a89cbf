import numpy as np
import pytest

from data_pipeline.annotate import sync

FPS, FRAMES = 23.0, 33


def rhythm(frames: int, seed: int = 0) -> np.ndarray:
    """Syllables: a smooth random curve between 0 and 1."""
    rng = np.random.default_rng(seed)
    return np.convolve(rng.uniform(size=frames + 4), np.ones(3) / 3, "same")[2:-2]


def speech(envelope: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    edges = np.rint(np.arange(len(envelope) + 1) / FPS * 16_000).astype(int)
    loud = np.repeat(envelope, np.diff(edges))
    return np.rint(8000 * loud * rng.normal(size=len(loud)).clip(-3, 3)).astype(np.int16)


@pytest.mark.parametrize("shift", [-4, -1, 0, 2, 5])
def test_offset_is_by_how_much_the_sound_is_late(shift: int) -> None:
    curve = rhythm(FRAMES + 20)
    lips = curve[10 : 10 + FRAMES]
    heard = curve[10 - shift : 10 - shift + FRAMES]
    confidence, offset = sync.lip_audio_correlation(lips, speech(heard), FPS)
    assert offset == shift
    assert confidence > 0.9


def test_other_sound_correlates_less() -> None:
    own, other = speech(rhythm(FRAMES)), speech(rhythm(FRAMES, seed=5))
    matched, _ = sync.lip_audio_correlation(rhythm(FRAMES), own, FPS)
    swapped, _ = sync.lip_audio_correlation(rhythm(FRAMES), other, FPS)
    assert matched > 0.9 > 0.75 > swapped


def test_hidden_frames_do_not_count() -> None:
    lips = rhythm(FRAMES)
    lips[:8] = np.nan
    confidence, offset = sync.lip_audio_correlation(lips, speech(rhythm(FRAMES)), FPS)
    assert confidence > 0.9 and offset == 0


@pytest.mark.parametrize("lips", [np.zeros(FRAMES), np.full(FRAMES, np.nan)])
def test_nothing_to_compare_is_zero(lips: np.ndarray) -> None:
    assert sync.lip_audio_correlation(lips, speech(rhythm(FRAMES)), FPS) == (0.0, 0)
    quiet = np.zeros(int(FRAMES / FPS * 16_000), np.int16)
    assert sync.lip_audio_correlation(rhythm(FRAMES), quiet, FPS) == (0.0, 0)
