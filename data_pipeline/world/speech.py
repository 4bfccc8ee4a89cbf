"""Speech with phoneme timings: the embedded pool, or a larger one from a folder.

In: a split name. Out: `Utterance`s: 16 kHz samples, text, voice, phoneme rows. The one idea: a
clip's sound is an exact cut of an utterance, and its phonemes are the same cut of the rows.

Invariants: rows are contiguous from 0 to the utterance's end; train and heldout share no text,
and the held-out voice is in heldout only.
Tests: tests/data_pipeline/world/speech_test.py.
"""

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from data_pipeline.world import phonemes
from ft_jax.errors import UsageError

SAMPLE_RATE = 16_000
ASSETS = Path(__file__).parent / "assets"
SPLITS = ("train", "heldout")


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One sentence as it was said."""

    id: str
    split: str
    text: str
    voice: str
    samples: Float[np.ndarray, " samples"]  # float32 in [-1, 1], 16 kHz
    labels: Int[np.ndarray, " n"]  # phoneme class of each row
    stress: Int[np.ndarray, " n"]  # 0, 1 secondary, 2 primary
    times: Float[np.ndarray, "n 2"]  # start, end in seconds

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return len(self.samples) / SAMPLE_RATE


def utterances(split: str, pool: Path | None = None) -> tuple[Utterance, ...]:
    """Every utterance of a split, in a fixed order.

    Args:
      split: "train" or "heldout".
      pool: folder written by make_speech.py; None for the embedded one.

    Raises:
      UsageError: for an unknown split or a folder without a pool.
    """
    if split not in SPLITS:
        raise UsageError(f"{split}: unknown split; expected one of {', '.join(SPLITS)}")
    return tuple(u for u in _load(Path(pool) if pool else ASSETS) if u.split == split)


@functools.lru_cache(maxsize=2)
def _load(folder: Path) -> tuple[Utterance, ...]:
    if not (folder / "speech.json").is_file():
        raise UsageError(f"{folder}: no speech pool here; expected speech.json and speech.ogg")
    table = json.loads((folder / "speech.json").read_text())["utterances"]
    sound = _decode(folder / "speech.ogg")
    loaded = []
    for row in table:
        rows = np.array(row["phonemes"], np.float64)
        loaded.append(
            Utterance(
                id=row["id"],
                split=row["split"],
                text=row["text"],
                voice=row["voice"],
                samples=sound[row["start"] : row["start"] + row["samples"]],
                labels=rows[:, 0].astype(np.int16),
                stress=rows[:, 1].astype(np.int16),
                times=rows[:, 2:4],
            )
        )
    return tuple(loaded)


def _decode(path: Path) -> np.ndarray:
    import av

    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    pieces = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            pieces += [part.to_ndarray()[0] for part in resampler.resample(frame)]
        pieces += [part.to_ndarray()[0] for part in resampler.resample(None)]
    return np.concatenate(pieces).astype(np.float32) / 32768


def cut(utterance: Utterance, start: float, seconds: float) -> Utterance:
    """The part of an utterance from `start` on, in whole samples (zeros beyond its end).

    Times are relative to the cut and may reach outside of it: a sound that began before the cut
    keeps its true start, which the delayed motion of the scene needs.
    """
    first = round(start * SAMPLE_RATE)
    count = int(seconds * SAMPLE_RATE + 1e-6)
    samples = np.zeros(count, np.float32)
    piece = utterance.samples[first : first + count]
    samples[: len(piece)] = piece
    return dataclasses.replace(utterance, samples=samples, times=utterance.times - start)


def join(parts: tuple[Utterance, ...], pause: float = 0.12) -> Utterance:
    """Utterances one after the other with short pauses, for clips longer than a sentence."""
    gap = np.zeros(round(pause * SAMPLE_RATE), np.float32)
    samples, labels, stress, times = [], [], [], []
    position = 0.0
    for part in parts:
        samples += [part.samples, gap]
        labels += [part.labels, np.array([phonemes.SILENCE], np.int16)]
        stress += [part.stress, np.array([0], np.int16)]
        end = position + part.seconds
        times += [part.times + position, np.array([[end, end + len(gap) / SAMPLE_RATE]])]
        position = end + len(gap) / SAMPLE_RATE
    return dataclasses.replace(
        parts[0],
        id="+".join(part.id for part in parts),
        text=" ".join(part.text for part in parts),
        samples=np.concatenate(samples),
        labels=np.concatenate(labels),
        stress=np.concatenate(stress),
        times=np.concatenate(times),
    )


def loudness(utterance: Utterance, times: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """How loud the sound is at the given times: 0 silent to about 1, over 60 ms windows."""
    import librosa  # takes seconds

    window, step = int(0.06 * SAMPLE_RATE), SAMPLE_RATE // 1000
    rms = librosa.feature.rms(
        y=utterance.samples, frame_length=window, hop_length=step, pad_mode="constant"
    )[0]
    index = np.clip((times * SAMPLE_RATE).astype(np.int64) // step, 0, len(rms) - 1)
    decibel = librosa.amplitude_to_db(rms[index], ref=1.0, amin=10**-3.5, top_db=None)
    return np.clip((decibel + 45) / 35, 0, 1).astype(np.float32)
