import numpy as np
import pytest

from data_pipeline import schema
from data_pipeline.annotate import quality

BOX = np.tile(np.array([0.25, 0.25, 0.75, 0.75], np.float32), (5, 1))
SEEN = np.array([1, 1, 0.8, 1, 1], np.float32)
SPOKEN = np.array([0, 0, 3, 4])


def named(frames: np.ndarray, box: np.ndarray = BOX) -> dict[str, float]:
    values = quality.measure(frames, box, SEEN, SPOKEN)
    assert values.dtype == np.float32
    return dict(zip(schema.QUALITY, values.tolist(), strict=True))


def noise(low: int, high: int) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, (5, 64, 64, 3)).astype(np.uint8)


def test_each_number_says_what_its_name_says() -> None:
    found = named(np.full((5, 64, 64, 3), 51, np.uint8))
    assert found["detection"] == pytest.approx(0.8)
    assert found["brightness"] == pytest.approx(0.2, abs=1e-3)
    assert found["sharpness"] == pytest.approx(0, abs=1e-6)
    assert found["speech_share"] == 0.5
    assert found["text_area"] == 0


def test_blur_lowers_sharpness() -> None:
    import cv2

    sharp = noise(0, 256)
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 2) for frame in sharp])
    assert named(blurred)["sharpness"] < 0.1 * named(sharp)["sharpness"]


def test_sharpness_is_that_of_the_face() -> None:
    frames = noise(0, 256)
    frames[:, 16:48, 16:48] = 100
    assert named(frames)["sharpness"] == pytest.approx(0, abs=1e-6)
    assert named(frames, np.full((5, 4), np.nan, np.float32))["sharpness"] > 0.1
