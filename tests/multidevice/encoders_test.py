"""A corpus is encoded alike by one device and by eight."""

from pathlib import Path

import jax
import numpy as np
import pytest

from data_pipeline.annotate import latents
from ft_jax.checkpoints import bundle
from ft_jax.config import to_dict
from tests.data_pipeline.build.records_test import FRAMES, SIDE, parts, system


def batches(sizes: tuple[int, ...]) -> list[tuple]:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.integers(0, 255, shape).astype(np.uint8)

    return [
        (
            draw(size, FRAMES, SIDE, SIDE, 3),
            rng.integers(-9999, 9999, (size, 11826)).astype(np.int16),
            [f"clip {row}" for row in range(size)],
            draw(size, 32, 32, 3),
        )
        for size in sizes
    ]


def test_the_result_does_not_depend_on_the_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bundle.save(tmp_path / "tiny.safetensors", to_dict(system()), parts(0))
    given = batches((2, 1, 2))
    monkeypatch.setattr(latents, "BATCH", 2)
    encoders = latents.Encoders(str(tmp_path / "tiny.safetensors"))
    assert encoders.lanes == 8
    together = encoders.encode(given)

    devices = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    latents._compiled.cache_clear()
    alone = latents.Encoders(str(tmp_path / "tiny.safetensors"))
    assert alone.lanes == 1
    for batch, expected in zip(given, together, strict=True):
        (found,) = alone.encode([batch])
        assert len(found) == len(batch[0])
        for a, b in zip(found, expected, strict=True):
            assert a.keys() == b.keys()
            for name in a:
                np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    latents._compiled.cache_clear()
