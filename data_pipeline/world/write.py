"""Clips to files: mp4 + wav + truth, and the index.

In: a `Clip` and a folder. Out: clips/<id>.mp4 (H.264, AAC), clips/<id>.wav (16 kHz PCM),
clips/<id>.truth.npz, and one line of index.jsonl. The one idea: a clip's files are written beside
and renamed, the truth last, so a clip with a truth file is complete and is never made twice.

Tests: tests/data_pipeline/world/write_test.py.
"""

import json
import os
import wave
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.world import people
from data_pipeline.world.source import FPS, Choice, Clip
from data_pipeline.world.speech import SAMPLE_RATE

LICENCE = "CC0-1.0"  # drawn and synthesised by this project
_CRF = "16"


def paths(clip_id: str) -> dict[str, str]:
    """Paths of a clip's files relative to the corpus folder."""
    return {
        "video": f"clips/{clip_id}.mp4",
        "audio": f"clips/{clip_id}.wav",
        "truth": f"clips/{clip_id}.truth.npz",
    }


def index_row(choice: Choice) -> dict[str, object]:
    """The line of index.jsonl."""
    return {
        "id": choice.id,
        "source": "world",
        "split": choice.split,
        "person": f"world-{choice.person_index:03d}",
        "person_index": choice.person_index,
        "voice": choice.sound.voice,
        "utterance": choice.sound.id,
        "text": choice.sound.text,
        "caption": choice.scene.caption,
        "omega_l": round(choice.omega_l, 6),
        "omega_b": round(choice.omega_b, 6),
        "start": choice.scene.start,
        "frames": choice.frames,
        "fps": FPS,
        "licence": LICENCE,
        "language": "en",
        **paths(choice.id),
    }


def is_complete(out: Path, clip_id: str) -> bool:
    """Whether a clip's files are all there."""
    return all((out / path).is_file() for path in paths(clip_id).values())


def write_clip(out: Path, clip: Clip) -> None:
    """Write a clip's three files; the folder clips/ must exist."""
    names = {kind: out / path for kind, path in paths(clip.id).items()}
    parts = {
        kind: path.with_name(f"part-{os.getpid()}-{path.name}") for kind, path in names.items()
    }
    write_video(parts["video"], clip.frames, clip.audio)
    _write_wav(parts["audio"], clip.audio)
    head_height = 2 * people.person(clip.choice.person_index).head_height
    size = {"size": clip.frames.shape[1], "head_height": head_height}
    meta = json.dumps({**index_row(clip.choice), **size})
    sound = clip.choice.sound
    arrays: dict[str, Any] = {
        "meta": np.array(meta),
        "phoneme_labels": sound.labels,
        "phoneme_stress": sound.stress,
        "phoneme_times": sound.times,
        **clip.truth,
    }
    np.savez_compressed(parts["truth"], **arrays)
    for kind in ("video", "audio", "truth"):  # the truth last: it marks the clip as complete
        parts[kind].rename(names[kind])


def _write_wav(path: Path, audio: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(audio.astype("<i2").tobytes())


def write_video(path: Path, frames: np.ndarray, audio: np.ndarray) -> None:
    """Write H.264 + AAC (48 kHz) at the world's frame rate."""
    import av

    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=int(FPS))
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        video.options = {"crf": _CRF, "preset": "veryfast", "threads": "1"}
        sound = container.add_stream("aac", rate=48_000, layout="mono")
        sound.bit_rate = 96_000
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            for packet in video.encode(frame):
                container.mux(packet)
        for packet in video.encode():
            container.mux(packet)
        wave_frame = av.AudioFrame.from_ndarray(audio[None], format="s16", layout="mono")
        wave_frame.sample_rate = SAMPLE_RATE
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=48_000)
        fifo = av.AudioFifo()
        for piece in [*resampler.resample(wave_frame), *resampler.resample(None)]:
            piece.pts = None
            fifo.write(piece)
        while (piece := fifo.read(1024, partial=True)) is not None:
            for packet in sound.encode(piece):
                container.mux(packet)
        for packet in sound.encode():
            container.mux(packet)


def write_index(out: Path, rows: list[dict[str, object]]) -> None:
    """Merge rows into index.jsonl, ordered by id, in one step."""
    path = out / "index.jsonl"
    merged: dict[str, dict[str, object]] = {}
    if path.is_file():
        merged = {row["id"]: row for row in map(json.loads, path.read_text().splitlines())}
    merged |= {str(row["id"]): row for row in rows}
    part = path.with_name(f"part-{os.getpid()}-index.jsonl")
    part.write_text("".join(json.dumps(merged[key]) + "\n" for key in sorted(merged)))
    part.rename(path)
