"""The truth of a clip: what annotators of real clips estimate, known here exactly.

In: each frame's `Pose` and the signals. Out: a dictionary of arrays, saved beside the clip. The
one idea: points carry the numbers of the public meshes (478 face points, 33 joints), so what
reads real annotations reads these; points this world does not draw are NaN.

    lip_polygon  [f 20 2]   pixels; outer ring; NaN where the face is not visible
    landmarks    [f 478 2]  pixels; NaN where not visible or not known
    joints       [f 33 3]   pixels, pixels, visibility
    face_box     [f 4]      left, top, right, bottom in pixels; NaN where not visible
    lip_opening  [f]        pixels between the inner lips (also while the face is hidden)
    lip_width    [f]        pixels between the lip corners (also while hidden)
    brow lid cheek          raise -1..1, openness (1 = normal), raise
    head_x head_y           pixels from rest; head_tilt radians; shoulder pixels up
    visible      [f]        bool: the face looks to the camera and nothing covers it

Tests: tests/data_pipeline/world/truth_test.py.
"""

import numpy as np

from data_pipeline.world.anatomy import Eye
from data_pipeline.world.motion import Signals
from data_pipeline.world.portrait import SIZE, Pose

OUTER_LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185,
)  # fmt: skip
INNER_LIPS = (
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191,
)  # fmt: skip
# left to right on the picture: corner, 7 between, corner
_EYES = {
    -1: (
        (33, 246, 161, 160, 159, 158, 157, 173, 133),
        (33, 7, 163, 144, 145, 153, 154, 155, 133),
    ),
    1: (
        (362, 398, 384, 385, 386, 387, 388, 466, 263),
        (362, 382, 381, 380, 374, 373, 390, 249, 263),
    ),
}
_IRISES = {-1: 468, 1: 473}
# outer to inner: upper edge, lower edge
_BROWS = {
    -1: (70, 63, 105, 66, 107, 46, 53, 52, 65, 55),
    1: (300, 293, 334, 296, 336, 276, 283, 282, 295, 285),
}
_NOSE = (1, 48, 278, 6, 197, 2)  # in the order of Face.nose
_CHEEKS = (50, 280)
_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
_TURN_LIMIT = 0.12  # radians of yaw up to which a face counts as visible
_UNCOVERED = 0.82  # share of the cover's way after which the whole face is free
JAW = _OVAL[9:28]  # moves with the mouth
JOINTS = 33
_NOSE_JOINT, _EARS, _MOUTH, _SHOULDERS = 0, (7, 8), (9, 10), (11, 12)

Truth = dict[str, np.ndarray]


def measure(poses: list[Pose], signals: Signals) -> Truth:
    """Gather the truth of all frames."""
    frames = len(poses)
    visible = (np.abs(signals.yaw) < _TURN_LIMIT) & (signals.cover >= _UNCOVERED)
    truth: Truth = {
        "lip_polygon": np.full((frames, 20, 2), np.nan, np.float32),
        "landmarks": np.full((frames, 478, 2), np.nan, np.float32),
        "joints": np.zeros((frames, JOINTS, 3), np.float32),
        "face_box": np.full((frames, 4), np.nan, np.float32),
        "lip_opening": np.array([pose.face.gap for pose in poses], np.float32),
        "lip_width": np.array([pose.face.lip_width for pose in poses], np.float32),
        "brow": signals.brow.astype(np.float32),
        "lid": signals.lid.astype(np.float32),
        "cheek": signals.cheek.astype(np.float32),
        "head_x": signals.head_x.astype(np.float32),
        "head_y": signals.head_y.astype(np.float32),
        "head_tilt": signals.tilt.astype(np.float32),
        "shoulder": signals.shoulder.astype(np.float32),
        "visible": visible,
    }
    for i, pose in enumerate(poses):
        truth["joints"][i] = _joints(pose, bool(visible[i]))
        if visible[i]:
            truth["landmarks"][i] = landmarks(pose)
            truth["lip_polygon"][i] = truth["landmarks"][i][list(OUTER_LIPS)]
            truth["face_box"][i] = _box(truth["landmarks"][i])
    return truth


def landmarks(pose: Pose) -> np.ndarray:
    """The mesh points of one frame in pixels, [478 2]."""
    face, points = pose.face, np.full((478, 2), np.nan)
    points[list(OUTER_LIPS)] = face.outer_lips
    points[list(INNER_LIPS)] = face.inner_lips
    for eye, brow in zip(face.eyes, face.brows, strict=True):
        upper, lower = _EYES[eye.side]
        points[list(upper)] = eye.upper
        points[list(lower)] = eye.lower
        # the corners belong to both edges
        points[[upper[0], upper[-1]]] = (eye.upper[[0, -1]] + eye.lower[[0, -1]]) / 2
        points[_IRISES[eye.side] : _IRISES[eye.side] + 5] = _iris(eye)
        points[list(_BROWS[eye.side])] = brow
    points[list(_NOSE)] = face.nose
    points[list(_CHEEKS)] = face.cheeks
    points[list(_OVAL)] = _oval(face.outline)
    return (points @ pose.head[:, :2].T + pose.head[:, 2]).astype(np.float32)


def _iris(eye: Eye) -> np.ndarray:
    x, y = eye.iris
    reach = 0.5 * eye.half[0]
    return np.array([[x, y], [x + reach, y], [x, y - reach], [x - reach, y], [x, y + reach]])


def _oval(outline: np.ndarray) -> np.ndarray:
    """36 points around the face, from the top clockwise, evenly spaced along the line."""
    closed = np.concatenate([outline, outline[:1]])
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    at = np.arange(len(_OVAL)) / len(_OVAL) * length[-1]
    return np.stack([np.interp(at, length, closed[:, k]) for k in range(2)], axis=1)


def _joints(pose: Pose, visible: bool) -> np.ndarray:
    joints = np.zeros((JOINTS, 3), np.float32)
    face, matrix = pose.face, pose.head
    head = np.array(
        [face.nose[0], face.ears[1], face.ears[0], face.outer_lips[10], face.outer_lips[0]]
    )
    joints[[_NOSE_JOINT, *_EARS, *_MOUTH], :2] = head @ matrix[:, :2].T + matrix[:, 2]
    joints[[_NOSE_JOINT, *_EARS, *_MOUTH], 2] = float(visible)
    joints[list(_SHOULDERS), :2] = pose.shoulders
    joints[list(_SHOULDERS), 2] = 1.0
    return joints


def _box(points: np.ndarray) -> np.ndarray:
    """From a little above the brows to the chin, between the sides of the head."""
    oval = points[list(_OVAL)]
    low, high = oval.min(axis=0), oval.max(axis=0)
    top = low[1] + 0.18 * (high[1] - low[1])  # the hair hides what is above
    return np.clip(np.array([low[0], top, high[0], high[1]]), 0, SIZE)
