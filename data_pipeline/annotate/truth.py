"""The truth annotator: what the drawn world wrote beside a clip, as an annotation.

In: the path of <id>.truth.npz. Out: an `Annotation`: the fields every annotator gives, with the
provenance name "world-truth". The one idea: nothing after this step can tell drawn clips from
real ones, except by the provenance written in each record.

Units: positions are fractions of the picture's (width, height); measures as in `MEASURES`.
Points and frames without a visible face are NaN.
Tests: tests/data_pipeline/world/truth_test.py.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from ft_jax.errors import UsageError

PROVENANCE = "world-truth"
VERSION = 1
# name -> unit; "face" is the height of the person's head at rest
MEASURES: dict[str, str] = {
    "lip_opening": "inner lips, fraction of the head's height (20 % is a shout)",
    "lip_width": "between the lip corners, fraction of the head's height",
    "brow": "raise, fraction of the head's height",
    "lid": "openness of the eyes, 1 = normal, 0 = shut",
    "cheek": "raise, fraction of the head's height",
    "head_x": "from rest to the right, fraction of the picture",
    "head_y": "from rest down, fraction of the picture",
    "head_tilt": "clockwise, radians",
    "shoulder": "from rest up, fraction of the picture",
    "visible": "1 = the face is seen and uncovered",
}
_BROW_PIXELS, _CHEEK_PIXELS = 8.5, 5.0  # what a raise of 1 is in the drawing


@dataclasses.dataclass(frozen=True)
class Annotation:
    """All that is known of one clip, frame by frame."""

    provenance: str
    landmarks: Float[np.ndarray, "f 478 2"]
    joints: Float[np.ndarray, "f 33 3"]
    face_box: Float[np.ndarray, "f 4"]  # left, top, right, bottom
    lip_polygon: Float[np.ndarray, "f p 2"]
    measures: Float[np.ndarray, "f m"]  # columns in the order of MEASURES
    phoneme_labels: Int[np.ndarray, " n"]  # class of each row (world/phonemes.py)
    phoneme_times: Float[np.ndarray, "n 2"]  # start, end in seconds from the clip's start
    meta: dict[str, object]  # the clip's line of the index


def annotate(path: Path) -> Annotation:
    """Read a clip's truth.

    Raises:
      UsageError: when the file is missing or no truth file.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; expected the .truth.npz of a drawn clip")
    try:
        with np.load(path, allow_pickle=False) as file:
            truth = {name: file[name] for name in file.files}
        meta = json.loads(str(truth["meta"]))
        size = float(meta["size"])
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UsageError(f"{path}: not a readable truth file ({error})") from error
    height = float(meta["head_height"])
    units = {
        "lip_opening": 1 / height,
        "lip_width": 1 / height,
        "brow": _BROW_PIXELS / height,
        "cheek": _CHEEK_PIXELS / height,
        "head_x": 1 / size,
        "head_y": 1 / size,
        "shoulder": 1 / size,
    }
    columns = [truth[name].astype(np.float32) * units.get(name, 1.0) for name in MEASURES]
    return Annotation(
        provenance=PROVENANCE,
        landmarks=(truth["landmarks"] / size).astype(np.float32),
        joints=(truth["joints"] / [size, size, 1]).astype(np.float32),
        face_box=(truth["face_box"] / size).astype(np.float32),
        lip_polygon=(truth["lip_polygon"] / size).astype(np.float32),
        measures=np.stack(columns, axis=1).astype(np.float32),
        phoneme_labels=truth["phoneme_labels"].astype(np.int16),
        phoneme_times=truth["phoneme_times"].astype(np.float64),
        meta=meta,
    )
