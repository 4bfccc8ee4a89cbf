"""The clips behind the measured claims: held-out cases, arms of generated clips, measurements.

In: a folder of the drawn world (held-out split) and a bundle. Out: mp4 files, one per arm and case,
written the way the generate command writes them, and what the instrument measured in their decoded
frames. An arm is what is done to every case: whose speech, which intensities, which branches.

Everything is kept on disk under a folder named after the weights and settings, so a run that was
stopped goes on, and other weights never meet clips of these.

Tests: tests/examples/demo_numbers_test.py.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from data_pipeline.world import phonemes
from ft_jax.errors import UsageError
from ft_jax.eval import lips
from ft_jax.eval.instrument import Instrument, Measured
from ft_jax.media import file, sound, video
from ft_jax.models import vae
from ft_jax.sampling.pipeline import Pipeline, Request

CHUNK = 16  # clips between two visits to the disk
SCALE = 4  # of the written files, as the generate command does


@dataclasses.dataclass(frozen=True)
class Case:
    """One drawn clip: a face, what it says, and the truth."""

    id: str
    person: str
    start: str  # open, turned, covered
    caption: str
    video: Path
    sound: Path
    opening: Float[np.ndarray, " f"]  # true, pixels
    visible: np.ndarray  # bool [f]
    spans: np.ndarray  # [s 2] frames of each m, b, p

    def portrait(self) -> UInt8[np.ndarray, "H W 3"]:
        """The first frame, at the size it was drawn."""
        return video.read(self.video).frames[0]


def read_cases(folder: Path) -> list[Case]:
    """All clips of a world folder, by id.

    Raises:
      UsageError: There is no index.
    """
    index = folder / "index.jsonl"
    if not index.is_file():
        raise UsageError(f"{index}: no such file; expected a folder of data_pipeline.world")
    rows = sorted(map(json.loads, index.read_text().splitlines()), key=lambda row: row["id"])
    return [_case(folder, row) for row in rows]


def _case(folder: Path, row: dict[str, Any]) -> Case:
    with np.load(folder / row["truth"], allow_pickle=False) as truth:
        held = np.isin(truth["phoneme_labels"], sorted(phonemes.BILABIAL))
        return Case(
            id=row["id"],
            person=row["person"],
            start=row["start"],
            caption=row["caption"],
            video=folder / row["video"],
            sound=folder / row["audio"],
            opening=truth["lip_opening"].astype(np.float64),
            visible=truth["visible"],
            spans=lips.spans_of(truth["phoneme_times"][held].astype(np.float64), row["fps"]),
        )


@dataclasses.dataclass(frozen=True)
class Arm:
    """What is done to every case.

    Attributes:
      name: Of its folder.
      without: Branches that are switched off.
      expression: omega_l.
      body: omega_b.
      speech: Case -> case whose speech is heard; None: its own.
      face: Case -> case whose first frame shows the face to keep; None: the portrait's own.
    """

    name: str
    without: tuple[str, ...] = ()
    expression: float = 0.5
    body: float = 0.5
    speech: Callable[[Case], Case] | None = None
    face: Callable[[Case], Case] | None = None


class Gallery:
    """Makes and measures clips, each once.

    Args:
      folder: Where clips lie; one folder per arm.
      pipeline: The system.
      instrument: Looks at the clips.
      seed: Of the noise; case number k has seed + k.
    """

    def __init__(self, folder: Path, pipeline: Pipeline, instrument: Instrument, seed: int) -> None:
        self.folder, self.pipeline, self.instrument = folder, pipeline, instrument
        self.seed = seed

    def path(self, arm: str, case: Case) -> Path:
        """Where the clip of an arm and a case lies."""
        return self.folder / arm / f"{case.id}.mp4"

    def generate(self, arm: Arm, cases: Sequence[Case]) -> None:
        """Writes the clips of an arm that are not there yet."""
        todo = [(k, case) for k, case in enumerate(cases) if not self._has(arm.name, case)]
        if not todo:
            return
        pipeline = self.pipeline.without(*arm.without) if arm.without else self.pipeline
        with _bar(arm.name, len(cases), len(cases) - len(todo)) as bar:
            for start in range(0, len(todo), CHUNK):
                chunk = todo[start : start + CHUNK]
                sounds = [sound.read((arm.speech or _self)(case).sound) for _, case in chunk]
                requests = [
                    Request(
                        picture=case.portrait(),
                        speech=heard.speech,
                        prompt=case.caption,
                        face_picture=arm.face(case).portrait() if arm.face else None,
                        expression=arm.expression,
                        body=arm.body,
                        seed=self.seed + k,
                    )
                    for (k, case), heard in zip(chunk, sounds, strict=True)
                ]
                done = bar.n
                clips = pipeline.generate_batch(requests, _share(bar, done, len(chunk)))
                for (_, case), clip, heard in zip(chunk, clips, sounds, strict=True):
                    self._write(arm.name, case, clip.frames, clip.fps, heard)
                bar.update(done + len(chunk) - bar.n)

    def reconstruct(self, cases: Sequence[Case], params: Any) -> None:
        """Writes the arm `codec`: every case through the codec and back.

        Args:
          cases: Drawn clips.
          params: Of the codec.
        """
        import jax

        system = self.pipeline.system
        there_and_back = jax.jit(
            lambda params, x: vae.decode(params, system.codec, vae.encode(params, system.codec, x))
        )
        exact = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
        todo = [case for case in cases if not self._has("codec", case)]
        if not todo:
            return
        with _bar("codec", len(cases), len(cases) - len(todo)) as bar:
            for case in todo:
                true = self.frames("true", case)[: system.frames]
                seen = np.asarray(there_and_back(exact, true[None] / np.float32(127.5) - 1.0))[0]
                frames = np.rint((seen.clip(-1, 1) + 1) * 127.5).astype(np.uint8)
                self._write("codec", case, frames, system.fps, sound.read(case.sound))
                bar.update()

    def frames(self, arm: str, case: Case) -> UInt8[np.ndarray, "f H W 3"]:
        """Decoded frames of a clip at the system's size; arm "true" is the drawn clip."""
        system = self.pipeline.system
        path = case.video if arm == "true" else self.path(arm, case)
        return video.read(path, size=(system.height, system.width)).frames

    def measured(self, arm: str, cases: Sequence[Case]) -> list[Measured]:
        """What the instrument sees in each clip of an arm, kept beside the clips."""
        found = []
        with _bar(f"{arm}: measured", len(cases), 0, is_short=True) as bar:
            for case in cases:
                kept = self.folder / "measured" / arm / f"{case.id}.npz"
                if not kept.is_file():
                    _keep(kept, self.instrument.measure(self.frames(arm, case)))
                found.append(_kept(kept))
                bar.update()
        return found

    def _has(self, arm: str, case: Case) -> bool:
        return self.path(arm, case).is_file()

    def _write(
        self, arm: str, case: Case, frames: np.ndarray, fps: float, heard: sound.Sound
    ) -> None:
        path = self.path(arm, case)
        path.parent.mkdir(parents=True, exist_ok=True)
        video.write(path, frames, fps, heard.track, scale=SCALE)


def _self(case: Case) -> Case:
    return case


def _keep(path: Path, found: Measured) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with file.replacing(path) as beside:
        names = np.array(list(found.tracks))
        values = np.stack(list(found.tracks.values()), -1)
        np.savez(beside, boxes=found.boxes, visible=found.visible, names=names, values=values)


def _kept(path: Path) -> Measured:
    with np.load(path, allow_pickle=False) as arrays:
        tracks = dict(zip(arrays["names"].tolist(), arrays["values"].T, strict=True))
        return Measured(tracks, arrays["boxes"], arrays["visible"])


def _bar(name: str, total: int, done: int, is_short: bool = False) -> Any:
    from tqdm import tqdm

    form = "{desc:<22}{percentage:3.0f}%|{bar}| {n:.1f}/{total} clips [{elapsed}<{remaining}]"
    return tqdm(total=total, initial=done, desc=name, bar_format=form, leave=not is_short)


def _share(bar: Any, done: float, clips: int) -> Callable[[int, int], None]:
    """Moves a bar of clips along with the steps of a batch; the last step leaves a little."""
    return lambda step, steps: bar.update(done + 0.98 * clips * step / steps - bar.n)


def digest(*parts: Any) -> str:
    """A short name for settings and files: paths count by their content."""
    found = hashlib.sha256()
    for part in parts:
        is_file = isinstance(part, Path) and part.is_file()
        found.update(part.read_bytes() if is_file else repr(part).encode())
    return found.hexdigest()[:12]
