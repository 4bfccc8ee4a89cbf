"""Video: what is read from a file is what was written; the file is there complete or not at all."""

from pathlib import Path

import numpy as np
import pytest

from ft_jax.errors import UsageError
from ft_jax.media import image, video
from ft_jax.media.ffmpeg import load


def moving(frames: int, side: int = 32) -> np.ndarray:
    """A soft coloured pattern that shifts."""
    rows, columns = np.mgrid[:side, :side] / side * 2 * np.pi
    waves = np.stack([np.sin(rows), np.cos(columns), np.sin(rows + columns)], -1)
    picture = (127 + 100 * waves).astype(np.uint8)
    return np.stack([np.roll(picture, k // 2, 1) for k in range(frames)])


def speech(seconds: float, channels: int = 1) -> np.ndarray:
    """Noise at 48 kHz."""
    count = round(48_000 * seconds)
    wave = 0.1 * np.random.default_rng(0).standard_normal((channels, count))
    return wave.astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2])
def test_streams_are_what_browsers_play_and_last_as_long_as_they_should(
    tmp_path: Path, channels: int
) -> None:
    video.write(tmp_path / "a.mp4", moving(60), 23, speech(2.625, channels), scale=2)
    with load().open(str(tmp_path / "a.mp4")) as container:
        pictures, sound = container.streams.video[0], container.streams.audio[0]
        context = pictures.codec_context
        assert (context.name, context.pix_fmt, context.width) == ("h264", "yuv420p", 64)
        assert float(pictures.duration * pictures.time_base) == pytest.approx(60 / 23, abs=1e-3)
        assert (sound.codec_context.name, sound.rate, sound.channels) == ("aac", 48_000, channels)
        assert float(sound.duration * sound.time_base) == pytest.approx(2.625, abs=0.005)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays while it loads


@pytest.mark.parametrize("fps", [23, 25, 29.97])
def test_frames_and_rate_come_back(tmp_path: Path, fps: float) -> None:
    frames = moving(11)
    video.write(tmp_path / "a.mp4", frames, fps, scale=4)
    got = video.read(tmp_path / "a.mp4", size=(32, 32))
    assert got.fps == pytest.approx(fps, abs=1e-3)
    assert got.frames.shape == frames.shape
    assert np.abs(got.frames.astype(int) - frames).mean() < 2.5


def test_reading_can_stop_early(tmp_path: Path) -> None:
    video.write(tmp_path / "a.mp4", moving(11), 23)
    assert video.read(tmp_path / "a.mp4", max_frames=4).frames.shape == (4, 32, 32, 3)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_averaging_undoes_enlarging(scale: int) -> None:
    noise = np.random.default_rng(0).integers(60, 190, (2, 16, 16, 3), np.uint8)
    large = video.enlarge(noise, scale)
    assert large.shape == (2, 16 * scale, 16 * scale, 3)
    small = np.stack([image.resize(frame, 16, 16) for frame in large]).astype(int)
    assert np.abs(small - noise).mean() < 1.0 and np.abs(small - noise).max() <= 3


def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("before")
    monkeypatch.setattr(video, "_picture", lambda frame: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        video.write(path, moving(3), 23)
    assert [each.name for each in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_text() == "before"


def test_missing_folders_are_made(tmp_path: Path) -> None:
    video.write(tmp_path / "new" / "deep" / "a.mp4", moving(3), 23)
    assert (tmp_path / "new" / "deep" / "a.mp4").stat().st_size > 0


@pytest.mark.parametrize(("name", "words"), [("a.avi", "expected .mp4"), ("a.mp4", "a folder")])
def test_a_name_that_cannot_be_written_is_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(UsageError, match=words):
        video.write(tmp_path / name, moving(3), 23)


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "truncated", "sound"])
def test_a_video_nobody_can_use_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"{kind}.mp4"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("no video\n" * 100)
    elif kind == "truncated":
        video.write(path, moving(5), 23)
        path.write_bytes(path.read_bytes()[:700])
    elif kind == "sound":
        path = path.with_suffix(".wav")
        import soundfile

        soundfile.write(path, speech(0.2).T, 48_000)
    with pytest.raises(UsageError) as caught:
        video.read(path)
    assert str(caught.value).startswith(f"{path}: ") and "expected" in str(caught.value)
