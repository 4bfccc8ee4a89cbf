"""Settings of a build; they lie beside the data set as config.json.

Tests: tests/data_pipeline/build/build_test.py.
"""

import dataclasses
from typing import Literal

from data_pipeline.annotate.mask import Resampling
from data_pipeline.build.statistics import Scale

LipRegion = Literal["outer", "inner", "lower_face"]
RECORDS_ONLY = ("reference", "lip_region", "masks", "lips_count", "head_counts", "omega")
"""Settings that pixels do not depend on."""


@dataclasses.dataclass(frozen=True)
class BuildConfig:
    """What is built from what.

    Attributes:
        kind: "pixels" or "records".
        clips: folder of the clips.
        weights: bundle, or folder of imported weights, whose encoders make the records; empty
            for pixels.
        frames: taken from the start of each clip, 4 n + 1.
        fps: clips of another frame rate are left out.
        height: rows of the model's pixels.
        width: columns of the model's pixels.
        face: side of the face crops, pixels.
        crops: face crops kept per clip at most (pixels).
        shards: files of the data set.
        reference: the identity picture comes from "another" clip of the person or frame of the
            clip; or from the "first" frame.
        lip_region: what lip_mask covers: the "outer" lip and a tenth of its height around it, the
            "inner" mouth, or the "lower_face".
        masks: how pixels become latent cells: mean over the "groups" of frames that the causal
            codec makes a latent frame of; or "trilinear" interpolation, the paper's word.
        lips_count: whether lips and jaw belong to the expression intensity.
        head_counts: whether the head's own motion does.
        omega: how a variance becomes an intensity in 0-1, see statistics.SCALES.
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
    reference: Literal["another", "first"] = "another"
    lip_region: LipRegion = "outer"
    masks: Resampling = "groups"
    lips_count: bool = False
    head_counts: bool = False
    omega: Scale = "rank"
