"""Mel-frequency cepstrum of speech, as the published sync network was fed with it.

What python_speech_features computes with its own settings: pre-emphasis, windows of 25 ms every
10 ms without a taper, power of 512 frequencies, 26 triangles whose corners lie on whole
frequencies, cosine transform of their logarithms, lifter of 22; the first coefficient is replaced
by the logarithm of the window's energy. librosa's `mfcc` has other triangles and another lifter and
cannot give these numbers. Samples are whole numbers of 16 bits: the scale is part of it.

Shapes: speech [x] int16 at 16 kHz -> [13 columns], 100 columns a second.
Source: Davis & Mermelstein (1980); python_speech_features 0.6.
Tests: tests/media/cepstrum_test.py (numbers of that package).
"""

import functools

import numpy as np
from jaxtyping import Float32, Float64, Int16

COEFFICIENTS = 13
RATE = 16_000
STEP = 160  # samples from column to column
_WINDOW, _FREQUENCIES, _BANDS = 400, 512, 26
_EMPHASIS, _LIFTER = 0.97, 22


def cepstrum(speech: Int16[np.ndarray, " x"]) -> Float32[np.ndarray, "13 columns"]:
    """Coefficients of all windows; the last is filled up with silence."""
    from scipy.fft import dct

    samples = speech.astype(np.float64)
    samples[1:] -= _EMPHASIS * samples[:-1].copy()
    columns = 1 + max(0, -(-(len(samples) - _WINDOW) // STEP))
    whole = np.zeros((columns - 1) * STEP + _WINDOW)
    whole[: len(samples)] = samples
    windows = np.lib.stride_tricks.sliding_window_view(whole, _WINDOW)[::STEP]
    power = np.square(np.abs(np.fft.rfft(windows, _FREQUENCIES))) / _FREQUENCIES
    found = np.asarray(dct(_log(_triangles() @ power.T), axis=0, norm="ortho"))[:COEFFICIENTS]
    found *= 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / _LIFTER)[:, None]
    found[0] = _log(power.sum(1))
    return found.astype(np.float32)


def _log(power: np.ndarray) -> np.ndarray:
    """Digital silence counts as the machine epsilon, which has a logarithm."""
    return np.log(np.where(power == 0, np.finfo(np.float64).eps, power))


@functools.cache
def _triangles() -> Float64[np.ndarray, "bands frequencies"]:
    """Weights of the frequencies in each band: corners evenly spaced in mel, then rounded down."""
    mel = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), _BANDS + 2)
    corners = np.floor((_FREQUENCIES + 1) * 700 * (10 ** (mel / 2595) - 1) / RATE)
    place = np.arange(_FREQUENCIES // 2 + 1)
    left, peak, right = (corners[start : start + _BANDS, None] for start in range(3))
    weights = np.where(place < peak, (place - left) / (peak - left), 0.0)
    weights = np.where(place >= peak, (right - place) / (right - peak), weights)
    return np.maximum(weights, 0.0)
