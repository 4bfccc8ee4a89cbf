"""Video files: frames and their rate out, frames and sound in.

`write` makes an mp4 every browser plays (H.264 yuv420p, AAC 48 kHz, index in front) and whose
pictures can be measured: a frame enlarged by `scale` gives the frame back when it is averaged over
scale x scale pixels, so what is read from the file is what the model made, up to H.264.

Shapes
  read    path -> Video(frames [f H W 3] uint8, fps)
  write   frames [f H W 3] uint8 + sound [c x] float32 at 48 kHz -> file of f / fps seconds

Tests: tests/media/video_test.py.
"""

import dataclasses
import fractions
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from ft_jax.errors import UsageError
from ft_jax.media import ffmpeg, file
from ft_jax.media.image import resize
from ft_jax.media.sound import TRACK_RATE

_EXPECTED = "a video file"
_BT709 = 1  # ffmpeg's number of this colour matrix, primaries and transfer


@dataclasses.dataclass(frozen=True)
class Video:
    """The pictures of a video file."""

    frames: UInt8[np.ndarray, "f H W 3"]
    fps: float


def read(
    path: str | pathlib.Path,
    size: tuple[int, int] | None = None,
    max_frames: int | None = None,
) -> Video:
    """Decodes the frames of a video, upright, resampled to `size` = (height, width) if given.

    Raises:
      UsageError: The file is missing, empty or holds no pictures that can be decoded.
    """
    av = ffmpeg.load()
    path = pathlib.Path(path)
    file.check(path, _EXPECTED)
    frames: list[np.ndarray] = []
    try:
        with ffmpeg.open_file(path) as container:
            stream = container.streams.best("video")
            if stream is None:
                raise UsageError(f"{path}: has no pictures in it; expected {_EXPECTED}")
            # Threads that decode ahead can hang when the stream is left before its end.
            stream.thread_type = "AUTO" if max_frames is None else "NONE"
            for decoded in container.decode(stream):
                picture = decoded.to_ndarray(format="rgb24")
                if decoded.rotation:  # phones store portraits lying on their side
                    picture = np.rot90(picture, decoded.rotation // 90)
                frames.append(resize(np.ascontiguousarray(picture), *size) if size else picture)
                if len(frames) == max_frames:
                    break
            fps = float(stream.average_rate or stream.guessed_rate or 0)
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"{path}: not a video that can be decoded, or cut short; expected {_EXPECTED}"
        ) from None
    if not frames or not fps:
        raise UsageError(f"{path}: holds no frames; expected {_EXPECTED}")
    return Video(np.stack(frames), fps)


def enlarge(frames: UInt8[np.ndarray, "f H W 3"], scale: int) -> UInt8[np.ndarray, "f _ _ 3"]:
    """Makes frames `scale` times as large, smoothly, so that area averaging undoes it.

    Bicubic alone blurs: the average over the pixels of one source pixel differs from it. The
    difference is enlarged and added, a few times over (iterative back-projection).
    """
    import cv2

    if scale == 1:
        return frames
    height, width = frames.shape[1:3]
    large = np.empty((frames.shape[0], height * scale, width * scale, 3), np.uint8)
    for index, frame in enumerate(frames.astype(np.float32)):
        guess, error = np.zeros(large.shape[1:], np.float32), frame
        for _ in range(4):
            up = cv2.resize(error, (width * scale, height * scale), interpolation=cv2.INTER_CUBIC)
            guess = np.clip(guess + up, 0.0, 255.0)
            error = frame - cv2.resize(guess, (width, height), interpolation=cv2.INTER_AREA)
        large[index] = np.rint(guess)
    return large


def write(
    path: str | pathlib.Path,
    frames: UInt8[np.ndarray, "f H W 3"],
    fps: float | int,
    track: Float32[np.ndarray, "c x"] | None = None,
    *,
    scale: int = 1,
    crf: int = 14,
) -> None:
    """Writes frames and sound as an mp4: beside first, then renamed.

    Args:
      path: Ends in .mp4.
      frames: Sides times `scale` must be even (H.264 with halved colour).
      fps: Frames per second.
      track: Sound at 48 kHz, one or two channels, or None. It keeps its length.
      scale: Whole factor by which the frames are enlarged.
      crf: Quality of H.264; smaller is better, 14 is hard to tell from the source.

    Raises:
      UsageError: The file cannot be written there.
    """
    path = pathlib.Path(path)
    file.check_target(path, ".mp4")
    try:
        with file.replacing(path) as beside:
            _mux(beside, enlarge(frames, scale), float(fps), track, crf)
    except OSError as error:  # PyAV's errors are OSErrors too
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None


def _mux(
    path: pathlib.Path, frames: np.ndarray, fps: float, track: np.ndarray | None, crf: int
) -> None:
    with ffmpeg.load().open(str(path), "w", options={"movflags": "faststart"}) as container:
        rate = fractions.Fraction(fps).limit_denominator(1001)
        pictures = container.add_stream("libx264", rate=rate)
        pictures.height, pictures.width = frames.shape[1:3]
        pictures.pix_fmt = "yuv420p"
        pictures.options = {"crf": str(crf), "preset": "medium"}
        context = pictures.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = 1  # video levels, 16..235
        sound = None if track is None else _sound_stream(container, track.shape[0])
        step = max(1, round(rate / 2))  # half a second of each in turn, as players like it
        for start in range(0, len(frames), step):
            for frame in frames[start : start + step]:
                container.mux(pictures.encode(_picture(frame)))
            if sound is not None and track is not None:
                is_last = start + step >= len(frames)
                first = round(start / rate * TRACK_RATE)
                last = track.shape[1] if is_last else round((start + step) / rate * TRACK_RATE)
                if last > first:
                    container.mux(sound.encode(_samples(track[:, first:last], first)))
        for stream in (pictures, sound):
            if stream is not None:
                container.mux(stream.encode(None))


def _sound_stream(container: Any, channels: int) -> Any:
    stream = container.add_stream("aac", rate=TRACK_RATE, layout=_layout(channels))
    stream.bit_rate = 96_000 * channels
    return stream


def _samples(piece: np.ndarray, first: int) -> Any:
    av = ffmpeg.load()
    piece = np.ascontiguousarray(np.clip(piece, -1.0, 1.0), np.float32)
    frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=_layout(len(piece)))
    frame.sample_rate = TRACK_RATE
    frame.pts = first
    frame.time_base = fractions.Fraction(1, TRACK_RATE)
    return frame


def _picture(frame: np.ndarray) -> Any:
    av = ffmpeg.load()
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    picture = picture.reformat(
        format="yuv420p", dst_colorspace=av.video.reformatter.Colorspace.ITU709
    )
    picture.colorspace = picture.color_primaries = picture.color_trc = _BT709
    return picture


def _layout(channels: int) -> str:
    return "mono" if channels == 1 else "stereo"
