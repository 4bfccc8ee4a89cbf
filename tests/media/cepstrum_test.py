"""The cepstrum against numbers that python_speech_features 0.6 gave for the same samples."""

import numpy as np
import pytest

from ft_jax.media.cepstrum import cepstrum

TIME = np.arange(1600) / 16_000
SOUND = np.rint(
    8000 * np.sin(2 * np.pi * (300 + 2000 * TIME) * TIME) + 2000 * np.sin(2 * np.pi * 2917 * TIME)
).astype(np.int16)
# mfcc(SOUND, 16000), columns 0, 4 and the last, a fifth of which is padding.
PUBLISHED = {
    0: (
        20.179553269, 3.849918186, 5.945195584, 41.956568139, -27.223089397, -47.535550372,
        4.289322795, -35.42695709, -40.482316501, 19.913689577, -3.629280034, -11.12788136,
        33.024017543,
    ),
    4: (
        20.377705254, 10.932826869, -16.570548663, 18.177303364, -44.346709468, -51.661992194,
        14.183068947, -11.98097496, -8.617822604, 47.051934808, 8.226486012, -15.579178096,
        13.727180479,
    ),
    8: (
        20.364363103, 13.464798041, -28.011903347, 9.58689985, -45.424833948, -36.630254297,
        37.414523885, 11.85008117, 1.418118236, 35.46131788, -15.053653057, -35.928623391,
        5.019146662,
    ),
}  # fmt: skip


@pytest.mark.parametrize("column", PUBLISHED)
def test_the_columns_are_those_of_the_published_front_end(column: int):
    found = cepstrum(SOUND)
    assert found.shape == (13, 9)
    np.testing.assert_allclose(found[:, column], PUBLISHED[column], rtol=1e-6)


@pytest.mark.parametrize(("samples", "columns"), [(1, 1), (400, 1), (401, 2), (560, 2), (561, 3)])
def test_every_sample_is_in_some_column(samples: int, columns: int):
    assert cepstrum(np.ones(samples, np.int16)).shape == (13, columns)


def test_a_column_depends_on_its_25_ms_and_the_sample_before_them():
    louder = SOUND.copy()
    louder[800] += 900
    moved = np.abs(cepstrum(louder) - cepstrum(SOUND)).max(0) > 0
    # Windows [160 n, 160 n + 400); pre-emphasis carries a sample into the next.
    assert list(np.flatnonzero(moved)) == [3, 4, 5]


def test_silence_is_finite():
    found = cepstrum(np.zeros(1600, np.int16))
    np.testing.assert_allclose(found[0], np.log(np.finfo(float).eps), rtol=1e-6)
    np.testing.assert_allclose(found[1:], 0.0, atol=1e-4)
