"""Sound: every container gives the same speech, and a half download is not animated halfway."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ft_jax.errors import UsageError
from ft_jax.media import sound, video
from ft_jax.media.ffmpeg import load


def tone(seconds: float, rate: int = 16_000, channels: int = 1) -> np.ndarray:
    """A rising tone with some noise, [x c]."""
    time = np.arange(round(seconds * rate)) / rate
    wave = 0.5 * np.sin(2 * np.pi * (200 + 100 * time) * time)
    wave += 0.05 * np.random.default_rng(0).standard_normal(wave.shape)
    return np.repeat(wave[:, None], channels, 1).astype(np.float32)


def encode(path: Path, samples: np.ndarray, rate: int, codec: str) -> Path:
    """Writes [x c] with one of ffmpeg's encoders, Vorbis with libsndfile's."""
    if codec == "vorbis":
        soundfile.write(path, samples, rate, format="OGG", subtype="VORBIS")
        return path
    av = load()
    layout = "mono" if samples.shape[1] == 1 else "stereo"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples.T), format="fltp", layout=layout
        )
        frame.sample_rate, frame.pts = rate, 0
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


FORMATS = [
    ("a.wav", "pcm_s16le", 44_100, 2),
    ("a.mp3", "libmp3lame", 44_100, 2),
    ("a.m4a", "aac", 48_000, 2),
    ("a.flac", "flac", 44_100, 1),
    ("a.ogg", "vorbis", 44_100, 2),
    ("a.opus", "libopus", 48_000, 1),
]


@pytest.mark.parametrize(("name", "codec", "rate", "channels"), FORMATS)
def test_every_format_gives_the_same_speech(
    tmp_path: Path, name: str, codec: str, rate: int, channels: int
) -> None:
    got = sound.read(encode(tmp_path / name, tone(1.5, rate, channels), rate, codec))
    assert got.seconds == pytest.approx(1.5, abs=0.03)
    assert got.track.shape == (channels, pytest.approx(72_000, abs=1500))
    assert got.speech.dtype == got.track.dtype == np.float32
    count = min(got.speech.size, 22_000)
    wanted = tone(1.5)[:count, 0]
    shifts = [
        np.corrcoef(wanted[1000:-1000], np.roll(got.speech[:count], -shift)[1000:-1000])[0, 1]
        for shift in range(-20, 21)
    ]
    assert max(shifts) > 0.97  # lossy codecs move the start by a few samples


@pytest.mark.parametrize(("name", "codec", "rate", "channels"), FORMATS)
def test_a_file_that_is_cut_short_is_refused(
    tmp_path: Path, name: str, codec: str, rate: int, channels: int
) -> None:
    path = encode(tmp_path / name, tone(3, rate, channels), rate, codec)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(UsageError, match="cut short") as caught:
        sound.read(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_the_sound_of_a_video_is_read(tmp_path: Path) -> None:
    frames = np.zeros((23, 32, 32, 3), np.uint8)
    track = tone(1.0, 48_000).T
    video.write(tmp_path / "a.mp4", frames, 23, track)
    assert sound.read(tmp_path / "a.mp4").seconds == pytest.approx(1.0, abs=0.03)


def test_channels_are_averaged(tmp_path: Path) -> None:
    both = tone(0.5, 16_000, 2)
    both[:, 1] *= 0.5
    soundfile.write(tmp_path / "a.wav", both, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(sound.read(tmp_path / "a.wav").speech, both.mean(1), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no such file"),
        ("empty", "empty"),
        ("text", "not sound that can be decoded"),
        ("picture", "has no sound"),
        ("silent", "is silent; expected"),
        ("quiet", "is silent; expected"),
        ("short", "lasts 0.050 s; expected at least 0.1 s"),
        ("no_samples", "expected"),
    ],
)
def test_sound_nobody_can_use_is_named_with_what_was_expected(
    tmp_path: Path, kind: str, words: str
) -> None:
    path = tmp_path / f"{kind}.wav"
    samples = {
        "silent": np.zeros((16_000, 1)),
        "quiet": 0.0009 * np.sign(tone(1.0)),
        "short": tone(0.05),
        "no_samples": np.zeros((0, 1)),
    }.get(kind)
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("this is no sound\n" * 20)
    elif kind == "picture":
        video.write(tmp_path / "a.mp4", np.zeros((5, 32, 32, 3), np.uint8), 23)
        path = tmp_path / "a.mp4"
    elif samples is not None:
        soundfile.write(path, samples, 16_000, subtype="FLOAT")
    with pytest.raises(UsageError) as caught:
        sound.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert words in message and "expected" in message and "\n" not in message


def test_cutting_keeps_both_versions_equally_long() -> None:
    whole = sound.Sound(np.zeros(32_000, np.float32), np.zeros((2, 96_000), np.float32))
    part = whole.cut(0.7)
    assert (part.seconds, part.track.shape) == (0.7, (2, 33_600))
