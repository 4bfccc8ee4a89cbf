"""Settings of a build; they lie beside the data set as config.json.

Tests: tests/data_pipeline/build/build_test.py.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class BuildConfig:
    """What is built from what.

    Attributes:
        kind: "pixels" or "records".
        clips: folder of the clips.
        weights: bundle whose encoders make the records; empty for pixels.
        frames: taken from the start of each clip, 4 n + 1.
        fps: clips of another frame rate are left out.
        height: rows of the model's pixels.
        width: columns of the model's pixels.
        face: side of the face crops, pixels.
        crops: face crops kept per clip at most (pixels).
        shards: files of the data set.
    """

    kind: str
    clips: str
    weights: str = ""
    frames: int = 33
    fps: float = 23.0
    height: int = 64
    width: int = 64
    face: int = 48
    crops: int = 8
    shards: int = 4
