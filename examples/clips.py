"""The clips of the demo: generated through the package's API, measured in their decoded frames.

In: a held-out face and speech drawn by the world, and weights. Out: mp4 files with a still each,
and one JSON file that says of every clip what was asked and what is seen: the lip opening in every
frame beside the opening this speech has and its loudness, and how much the clip moves.

Tests: tests/examples/demo_test.py.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.annotate import truth as world_truth
from ft_jax.checkpoints import handover
from ft_jax.config import build
from ft_jax.errors import UsageError
from ft_jax.eval import clip as scoring
from ft_jax.eval.instrument import Instrument
from ft_jax.media import sound, video
from ft_jax.models.system import System
from ft_jax.sampling.pipeline import Clip, Pipeline, Request

SHOWN = 256  # pixels of a side on the page, at least
LEVELS = (0.0, 1.0)  # of each intensity, beside the neutral 0.5


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What to make.

    Attributes:
      out: Folder of the demo; clips go to out/clips.
      weights: A bundle.
      stage_1: Branches as stage 1 left them, to compare with; None or missing: no such clip.
      names: Which clips; empty for all.
      index: Name of the JSON file.
    """

    out: Path
    weights: Path
    stage_1: Path | None
    names: tuple[str, ...] = ()
    index: str = "clips.json"


@dataclasses.dataclass(frozen=True)
class Wanted:
    """One clip: its name, whose speech, which intensities, with which branches."""

    name: str
    spoken: Path  # wav; the truth lies beside it
    expression: float = 0.5
    body: float = 0.5
    is_stage_1: bool = False


def wanted(recipe: Recipe) -> list[Wanted]:
    """The clips of a recipe."""
    own, other, *_ = _spoken(recipe.out / "heldout" / "face")
    (longer,) = _spoken(recipe.out / "heldout" / "long")
    found = [Wanted("own", own), Wanted("other", other)]
    for level in LEVELS:
        found.append(Wanted(f"expression_{level:g}", own, expression=level))
        found.append(Wanted(f"body_{level:g}", own, body=level))
    if recipe.stage_1 and recipe.stage_1.is_file():
        found.append(Wanted("stage_1", own, is_stage_1=True))
    found.append(Wanted("long", longer))
    if recipe.names:
        found = [dataclasses.replace(found[0], name=name) for name in recipe.names]
    return found


def make(recipe: Recipe, report: Callable[[float], None]) -> None:
    """Generates, writes and measures the clips; the JSON file comes last."""
    todo = wanted(recipe)
    portrait, caption = _portrait(recipe.out)
    source = handover.read(recipe.weights)
    system = build(System, source.system, source.path)
    pipeline = Pipeline(system, source.parts)
    stage_1 = _with_stage_1(recipe, system, source.parts)
    rows: dict[str, Any] = {}
    for number, each in enumerate(todo):  # one by one: all short clips share one compilation
        used = stage_1 if each.is_stage_1 and stage_1 else pipeline
        heard = sound.read(each.spoken)
        request = Request(
            portrait, heard.speech, caption, expression=each.expression, body=each.body
        )
        clip = used.generate(request, _part(report, number / len(todo), 0.98 / len(todo)))
        rows[each.name] = _written(recipe.out, each, clip, heard)
    seen = _measured(recipe.out, system, source.parts, todo)
    rows = {name: {**row, **seen.get(name, {})} for name, row in rows.items()}
    target = recipe.out / recipe.index
    beside = target.with_suffix(".partial")
    beside.write_text(json.dumps({"caption": caption, "clips": rows}, indent=1))
    os.replace(beside, target)


def _part(
    report: Callable[[float], None], first: float, share: float
) -> Callable[[int, int], None]:
    return lambda done, total: report(first + share * done / total)


def _spoken(folder: Path) -> list[Path]:
    rows = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
    rows.sort(key=lambda row: row["start"] != "open")  # the one that the portrait is from first
    return [folder / row["audio"] for row in rows]


def _portrait(out: Path) -> tuple[np.ndarray, str]:
    """The first frame of the first clip that begins with the face shown, and its caption."""
    from PIL import Image

    folder = out / "heldout" / "face"
    rows = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
    shown = next((row for row in rows if row["start"] == "open"), None)
    if shown is None:
        raise UsageError(f"{folder}: no clip begins with the face shown; expected one")
    frame = video.read(folder / shown["video"]).frames[0]
    place = out / "clips" / "portrait.png"
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(frame).save(place)
    return frame, shown["caption"]


def _with_stage_1(recipe: Recipe, system: System, parts: Mapping[str, Any]) -> Pipeline | None:
    """The same system with the branches that stage 1 left, if they are known."""
    if not recipe.stage_1 or not recipe.stage_1.is_file():
        return None
    denoiser = {**parts["denoiser"], **handover.read(recipe.stage_1).part("denoiser")}
    return Pipeline(system, {**parts, "denoiser": denoiser}, {"hearing": "clip"})


def _written(out: Path, asked: Wanted, clip: Clip, heard: sound.Sound) -> dict[str, Any]:
    """Writes a clip and a still of it; gives what is known without looking."""
    from PIL import Image

    path = out / "clips" / f"{asked.name}.mp4"
    scale = max(1, SHOWN // min(clip.frames.shape[1:3]))
    video.write(path, clip.frames, clip.fps, heard.track, scale=scale)
    middle = len(clip.frames) // 2  # the first frame is the portrait in all of them
    still = video.enlarge(clip.frames[middle : middle + 1], scale)[0]
    Image.fromarray(still).save(path.with_suffix(".png"))
    return {
        "file": f"clips/{path.name}",
        "still": f"clips/{asked.name}.png",
        "frames": len(clip.frames),
        "fps": clip.fps,
        "windows": clip.windows,
        "expression_asked": asked.expression,
        "body_asked": asked.body,
    }


def _measured(
    out: Path, system: System, parts: Mapping[str, Any], asked: Sequence[Wanted]
) -> dict[str, dict[str, Any]]:
    """What the instrument sees in each written clip; nothing where the system has none."""
    if system.landmarks is None or "landmarks" not in parts:
        return {}
    instrument = Instrument(system.landmarks, parts["landmarks"])
    rows = {}
    for each in asked:
        seen = video.read(out / "clips" / f"{each.name}.mp4", size=(system.height, system.width))
        found = instrument.measure(seen.frames)
        speech = sound.read(each.spoken).speech
        loud = scoring.loudness(speech, sound.SPEECH_RATE, len(seen.frames), seen.fps)
        arrays, meta = world_truth.read(each.spoken.with_suffix(".truth.npz"))
        opening = arrays["lip_opening"].astype(np.float64) / float(str(meta["head_height"]))
        known = scoring.Truth(opening, np.zeros((0, 2), int))
        rows[each.name] = {
            "track": _plain(found.tracks["lip_opening"]),
            "speech_track": _plain(opening),
            "loudness": _plain(loud),
            "scores": scoring.scores(found, seen.fps, loud, known),
        }
    return rows


def _plain(values: np.ndarray) -> list[float | None]:
    return [round(float(value), 5) if np.isfinite(value) else None for value in values]
