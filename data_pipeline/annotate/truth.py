"""The truth annotator: what the drawn world wrote beside a clip, as an `Observation`.

In: the path of <id>.truth.npz and the length of the cut. Out: the observation, under the
annotator's name "world-truth". The one idea: nothing after this step can tell drawn clips from
real ones, except by the name written in each record.

Positions are fractions of the picture's (width, height). Units of the measures:

    lip_opening, lip_width    fractions of the head's height
    brow, cheek               raise, fractions of the head's height
    lid                       1 = normally open, 0 = shut
    head_x, head_y, shoulder  from rest (right, down, up), fractions of the picture
    head_tilt                 radians, clockwise
    visible                   1 = the face looks to the camera and nothing covers it

Invariants: landmarks and boxes are NaN where the face is not visible, and for mesh points that the
world does not draw; lip_opening is known in every frame, it belongs to the speech.
Tests: tests/data_pipeline/world/truth_test.py.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from data_pipeline import schema
from data_pipeline.annotate.observation import Observation
from data_pipeline.world import anatomy, phonemes, truth
from ft_jax.errors import UsageError

ANNOTATOR = "world-truth/1"
_SAMPLE_RATE, _WINDOW, _STRIDE = 16_000, 400, 320  # of the speech encoder, in samples
_EYE_CORNERS = ((33, 133), (362, 263))  # they do not move with the lids
_SHOULDERS = (11, 12)


def annotate(path: Path, frames: int, fps: float) -> Observation:
    """The first `frames` frames of a drawn clip.

    Raises:
      UsageError: when the file is missing, is no truth file, is shorter or of another frame rate.
    """
    arrays, meta = read(path)
    if len(arrays["visible"]) < frames or abs(float(meta["fps"]) - fps) > 1e-6:
        raise UsageError(
            f"{path}: {len(arrays['visible'])} frames at {meta['fps']} frames/s; "
            f"expected at least {frames} at {fps:g}"
        )
    size = float(meta["size"])
    cut = {name: values[:frames] for name, values in arrays.items() if len(values) >= frames}
    samples = int(frames / fps * _SAMPLE_RATE + 1e-6)
    return Observation(
        landmarks=(cut["landmarks"] / size).astype(np.float32),
        outer_lip=truth.OUTER_LIPS,
        inner_lip=truth.INNER_LIPS,
        lips=(*truth.OUTER_LIPS, *truth.INNER_LIPS, *truth.JAW),  # the jaw drops with the lips
        eyes=_EYE_CORNERS,
        joints=(cut["joints"] / np.array([size, size, 1.0])).astype(np.float32),
        shoulders=_SHOULDERS,
        face_box=(cut["face_box"] / size).astype(np.float32),
        visible=cut["visible"].astype(np.float32),
        measures=_measures(cut, size, float(meta["head_height"])),
        phonemes=frame_labels(
            arrays["phoneme_labels"],
            arrays["phoneme_times"],
            (samples - _WINDOW) // _STRIDE + 1,
        ),
        annotator=ANNOTATOR,
    )


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A truth file's arrays (pixels, as in world/truth.py) and its clip's line of the index.

    Raises:
      UsageError: when the file is missing or no truth file.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; expected the .truth.npz of a drawn clip")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays, json.loads(str(arrays.pop("meta")))
    except Exception as error:  # numpy and zipfile raise many kinds for a broken file
        raise UsageError(f"{path}: cannot be read ({error}); expected a truth file") from error


def frame_labels(
    labels: Int[np.ndarray, " n"], times: Float[np.ndarray, "n 2"], count: int
) -> Int[np.ndarray, " a"]:
    """The phoneme at the centre of each of `count` tokens of the speech encoder.

    Token i sees samples 320 i to 320 i + 400.
    """
    centres = (np.arange(count) * _STRIDE + _WINDOW / 2) / _SAMPLE_RATE
    row = np.searchsorted(times[:, 1], centres, side="right")
    inside = (row < len(labels)) & (centres >= times[0, 0])
    found = labels[np.minimum(row, len(labels) - 1)]
    return np.where(inside, found, phonemes.SILENCE).astype(np.int16)


def _measures(cut: dict[str, np.ndarray], size: float, height: float) -> np.ndarray:
    factors = {
        "lip_opening": 1 / height,
        "lip_width": 1 / height,
        "brow": anatomy.BROW_PIXELS / height,
        "cheek": anatomy.CHEEK_PIXELS / height,
        "head_x": 1 / size,
        "head_y": 1 / size,
        "shoulder": 1 / size,
    }
    columns = [cut[name].astype(np.float32) * factors.get(name, 1.0) for name in schema.MEASURES]
    return np.stack(columns, axis=1).astype(np.float32)
