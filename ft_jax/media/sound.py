"""Sound: any file ffmpeg decodes in, speech for the model and a track for the clip out.

One decoding gives both: `speech` is what the speech encoder hears (16 kHz, mono, float), `track`
is what is muxed beside the frames (48 kHz, one or two channels). Files that say how long they are
are held to it, so that half a download is refused and not animated halfway.

Shapes
  Sound.speech  [x] float32 at 16,000 Hz, about -1..1
  Sound.track   [c x] float32 at 48,000 Hz, c = 1 or 2

Tests: tests/media/sound_test.py.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float32

from ft_jax.errors import UsageError
from ft_jax.media import ffmpeg, file

SPEECH_RATE = 16_000
TRACK_RATE = 48_000
MIN_SECONDS = 0.1
MAX_SECONDS = 1800.0
SILENCE_DB = -60.0
_EXPECTED = "a sound file (wav, mp3, m4a, flac, ogg) or a video with sound"


@dataclasses.dataclass(frozen=True)
class Sound:
    """A recording, twice: as the model hears it and as the clip plays it."""

    speech: Float32[np.ndarray, " x"]
    track: Float32[np.ndarray, "c _"]

    @property
    def seconds(self) -> float:
        """How long the recording lasts."""
        return self.speech.shape[0] / SPEECH_RATE

    def cut(self, seconds: float) -> "Sound":
        """The first `seconds` of it."""
        return Sound(
            self.speech[: round(seconds * SPEECH_RATE)],
            self.track[:, : round(seconds * TRACK_RATE)],
        )


def read(path: str | pathlib.Path) -> Sound:
    """Decodes the sound of a file.

    Raises:
      UsageError: The file is missing, empty, without sound, not decodable, cut short, silent
        (peak below -60 dBFS), shorter than 0.1 s or longer than half an hour.
    """
    path = pathlib.Path(path)
    file.check(path, _EXPECTED)
    _check_header(path)
    samples, rate = _decode(path)
    seconds = samples.shape[1] / rate
    if seconds < MIN_SECONDS:
        raise UsageError(f"{path}: lasts {seconds:.3f} s; expected at least {MIN_SECONDS} s")
    mono = samples.mean(axis=0)
    peak = float(np.abs(mono).max())
    if 20.0 * np.log10(max(peak, 1e-9)) < SILENCE_DB:
        raise UsageError(f"{path}: is silent; expected speech that peaks above {SILENCE_DB:g} dBFS")
    return Sound(
        speech=resample(mono, rate, SPEECH_RATE),
        track=np.stack([resample(channel, rate, TRACK_RATE) for channel in samples]),
    )


def resample(
    samples: Float32[np.ndarray, " x"], rate: int, wanted: int
) -> Float32[np.ndarray, " _"]:
    """Changes the sampling rate; the result lasts as long to within one sample."""
    import soxr

    if rate == wanted:
        return samples.astype(np.float32)
    return soxr.resample(samples, rate, wanted).astype(np.float32)


def _decode(path: pathlib.Path) -> tuple[np.ndarray, int]:
    """All samples of the best sound stream, [c x] float32 with c = 1 or 2, and their rate."""
    av = ffmpeg.load()
    try:
        with ffmpeg.open_file(path) as container:
            stream = container.streams.best("audio")
            if stream is None:
                raise UsageError(f"{path}: has no sound in it; expected {_EXPECTED}")
            declared = _declared_seconds(path, container, stream)
            if declared is not None and declared > MAX_SECONDS:
                raise UsageError(f"{path}: lasts {declared:,.0f} s; expected {_at_most()}")
            samples, rate = _samples(path, container, stream)
    except (av.FFmpegError, ValueError, EOFError, MemoryError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"{path}: not sound that can be decoded, or cut short; expected {_EXPECTED}"
        ) from None
    decoded = samples.shape[1] / rate
    if declared is not None and declared - decoded > max(0.1, 0.03 * declared):
        raise _cut_short(path, f"{decoded:.2f} s of {declared:.2f} s are there")
    if declared is not None and 0.0 < decoded - declared < 0.1:
        samples = samples[:, : round(declared * rate)]  # the rest fills the encoder's last frame
    return samples, rate


def _samples(path: pathlib.Path, container: Any, stream: Any) -> tuple[np.ndarray, int]:
    av = ffmpeg.load()
    rate = stream.rate
    layout = "mono" if stream.channels == 1 else "stereo"
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
    pieces: list[np.ndarray] = []
    total = 0
    for packet in container.demux(stream):
        try:
            frames = [out for frame in packet.decode() for out in resampler.resample(frame)]
        except av.InvalidDataError:
            continue  # a damaged packet; what is missing in the end is judged by the length
        pieces += [frame.to_ndarray() for frame in frames]
        total += sum(frame.samples for frame in frames)
        if total > MAX_SECONDS * rate:
            raise UsageError(f"{path}: is too long; expected {_at_most()}")
    pieces += [frame.to_ndarray() for frame in resampler.resample(None)]
    if not pieces:
        raise UsageError(f"{path}: holds no sound that can be decoded; expected {_EXPECTED}")
    samples = np.concatenate(pieces, axis=1)
    return np.nan_to_num(samples).astype(np.float32), rate


def _declared_seconds(path: pathlib.Path, container: Any, stream: Any) -> float | None:
    """How long the file says the sound is, where that is more than ffmpeg's guess."""
    name = container.format.name
    if name == "aac" or (name == "mp3" and not _has_frame_count(path)):
        return None  # estimated from the first frame's bit rate
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    is_only_stream = len(container.streams) == 1
    if container.duration is not None and is_only_stream:
        return container.duration / 1e6
    return None


def _has_frame_count(path: pathlib.Path) -> bool:
    with path.open("rb") as opened:
        head = opened.read(10)
        if head[:3] == b"ID3":  # a tag of any size (it may hold a picture) comes first
            shifts = zip(head[6:10], (21, 14, 7, 0), strict=True)
            opened.seek(10 + sum((byte & 127) << shift for byte, shift in shifts))
        head = opened.read(4096)
    return any(mark in head for mark in (b"Xing", b"Info", b"VBRI"))


def _check_header(path: pathlib.Path) -> None:
    """Refuses wav and ogg files that end early: ffmpeg plays what is there without a word."""
    size = path.stat().st_size
    with path.open("rb") as opened:
        head = opened.read(12)
        opened.seek(max(0, size - 131_072))
        tail = opened.read()
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        declared = int.from_bytes(head[4:8], "little") + 8
        is_known = 8 < declared < 0x7FFFF000  # writers that cannot seek put in a huge number
        if is_known and size < 0.98 * declared:
            raise _cut_short(path, f"{size:,} of {declared:,} bytes are there")
    if head[:4] == b"OggS":
        _check_last_page(path, tail)


def _check_last_page(path: pathlib.Path, tail: bytes) -> None:
    start = tail.rfind(b"OggS")
    page = tail[start:] if start >= 0 else b""
    is_last = len(page) >= 27 and bool(page[5] & 4)
    segments = page[27 : 27 + page[26]] if is_last else b""
    if not is_last or len(page) < 27 + len(segments) + sum(segments):
        raise _cut_short(path, "its last page is missing")


def _cut_short(path: pathlib.Path, what: str) -> UsageError:
    return UsageError(f"{path}: the sound is cut short ({what}); expected a complete file")


def _at_most() -> str:
    return f"at most {MAX_SECONDS / 60:.0f} minutes"
