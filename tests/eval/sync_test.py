"""SyncNet's numbers of a clip: which face, which sound, and what stands for a face that is lost."""

import numpy as np
import pytest

from ft_jax.errors import UsageError
from ft_jax.eval import sync
from ft_jax.media.face_detection import Face
from ft_jax.models import lip_sync, syncnet

CFG = syncnet.Config(audio=(4,) * 6, lips=(4,) * 6, hidden=6, width=5)
SPEECH = np.linspace(-1.5, 1.5, 32_000, dtype=np.float32)


def frames(count: int, hidden: int = 0) -> np.ndarray:
    """Each says its number; 255 where the face is hidden."""
    pixels = np.zeros((count, 200, 300, 3), np.uint8)
    pixels[:] = np.arange(count)[:, None, None, None]
    pixels[:hidden] = 255
    return pixels


@pytest.fixture
def compared(monkeypatch) -> list:
    """What the networks are given, for a face wherever a frame is not white."""
    given = []

    def measure(params, cfg, crops, speech):
        given.append((params, cfg, crops, speech))
        return lip_sync.Score(7.5, 3.25, -2)

    def find_face(frame):
        return None if frame[0, 0, 0] == 255 else Face((100.0, 60.0, 160.0, 120.0), 0.9)

    monkeypatch.setattr(sync.lip_sync, "measure", measure)
    monkeypatch.setattr(sync, "find_face", find_face)
    return given


def test_a_clip_has_the_three_numbers_under_their_names(compared):
    found = sync.Listener(CFG, {"x": np.ones(1)}).scores(frames(46, hidden=23), 23.0, SPEECH)
    assert found == {"lse_d": 7.5, "lse_c": 3.25, "sync_offset": -2.0}
    assert set(found) == set(sync.MEANINGS)
    ((params, cfg, crops, speech),) = compared
    assert cfg == CFG and list(params) == ["x"]
    # The face appears after a second: 25 crops, and the sound from there on.
    assert crops.shape == (25, 224, 224, 3) and crops[0, 100, 100, 0] == 23
    np.testing.assert_array_equal(
        speech, np.rint(np.clip(SPEECH[16_000:], -1, 1) * 32767).astype(np.int16)
    )


def test_without_a_face_there_is_no_confidence_and_no_distance(compared):
    listener = sync.Listener(CFG, {})
    assert listener.scores(frames(46, hidden=46), 23.0, SPEECH) == {"lse_c": 0.0}
    assert not compared


def test_a_clip_too_short_to_compare_has_neither(compared, monkeypatch):
    monkeypatch.setattr(sync.lip_sync, "measure", lambda *_: None)
    assert sync.Listener(CFG, {}).scores(frames(46), 23.0, SPEECH) == {"lse_c": 0.0}


def test_a_system_without_syncnet_is_refused():
    with pytest.raises(UsageError, match="sync: not part of this system"):
        sync.Listener(None, {})
