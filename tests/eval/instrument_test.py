import jax
import numpy as np
import pytest

from ft_jax.errors import UsageError
from ft_jax.eval import instrument
from ft_jax.models import landmarks

NAMES = ("lip_opening", "brow")
CFG = landmarks.Config(
    pixels=16, widths=(8, 16), hidden=8, measures=NAMES, mean=(0.5,) * 6, std=(2.0,) * 6
)


@pytest.fixture(scope="module")
def params():
    return jax.jit(landmarks.init, static_argnums=1)(jax.random.key(0), CFG)


def some_frames(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), np.uint8)


def test_a_clip_is_measured_as_its_frames_are(params):
    frames = some_frames(instrument.BATCH + 3)
    found = instrument.Instrument(CFG, params).measure(frames, believed=0.0)
    last = instrument.Instrument(CFG, params).measure(frames[-1:], believed=0.0)
    np.testing.assert_allclose(found.tracks["brow"][-1:], last.tracks["brow"], atol=1e-5)
    np.testing.assert_allclose(found.boxes[-1:], last.boxes, atol=1e-5)
    assert found.tracks["lip_opening"].std() > 0
    assert set(found.tracks) == set(NAMES) and found.visible.shape == (len(frames),)


def test_frames_without_a_face_are_nan_in_every_track(params):
    measure = instrument.Instrument(CFG, params).measure
    frames = some_frames(9)
    limit = float(np.median(measure(frames, believed=0.0).visible))
    found = measure(frames, believed=limit)
    hidden = found.visible < limit
    assert 0 < hidden.sum() < 9
    for track in (*found.tracks.values(), found.boxes[:, 0]):
        np.testing.assert_array_equal(np.isnan(track), hidden)


def test_frames_of_another_size_and_systems_without_a_network_are_refused(params):
    with pytest.raises(UsageError, match="32 x 32"):
        instrument.Instrument(CFG, params).measure(np.zeros((2, 32, 32, 3), np.uint8))
    with pytest.raises(UsageError, match="landmarks"):
        instrument.Instrument(None, {})
