"""One clip -> one record of RECORD: annotations in worker processes, then the frozen encoders.

The identity picture comes from another clip of the same person where there is one, else from a
later frame of the clip: taken from the first frame it would tell the model nothing new.
In: a clip, the build's settings, the bundle of encoders. Out: encoded records; the ranks of the two
intensities are filled in once the whole corpus is known (data_pipeline/build/run.py).
Tests: tests/data_pipeline/build/records_test.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int16, UInt8

from data_pipeline import schema
from data_pipeline.annotate import crop, latents, mask, motion, quality, sync
from data_pipeline.annotate.observation import Observation
from data_pipeline.annotate.observe import observe
from data_pipeline.build.clips import Clip, read_clip, reduce
from data_pipeline.build.config import BuildConfig
from ft_jax.errors import UsageError

ENCODED = {
    "video_latents": "codec",
    "condition_latents": "codec",
    "image_tokens": "image",
    "text_tokens": "text",
    "audio_features": "speech",
    "identity": "face",
}
"""Field -> part of the bundle that makes it."""


@dataclasses.dataclass(frozen=True)
class Annotated:
    """A clip before the encoders.

    Attributes:
        record: every field but the encoded ones; ranks still 0.
        frames: at the model's size.
        face: crop of the reference face.
        followed: the face through the clip, where SyncNet is to look at it.
    """

    record: schema.Record
    frames: UInt8[np.ndarray, "f H W 3"]
    face: UInt8[np.ndarray, "size size 3"]
    followed: sync.Followed | None


@dataclasses.dataclass(frozen=True)
class RecordsJob:
    """The `data_pipeline.build.run.Job` whose records are made by a bundle's encoders."""

    config: BuildConfig
    partners: dict[str, tuple[Clip, ...]]
    encoders: latents.Encoders

    @classmethod
    def of(cls, config: BuildConfig, clips: Sequence[Clip]) -> RecordsJob:
        """The job for these clips.

        Raises:
            UsageError: the bundle cannot be read or was made for other clips.
        """
        if not config.weights:
            raise UsageError("weights: not given; expected the bundle with the encoders")
        encoders = latents.Encoders(config.weights)
        encoders.check(config.frames, config.fps, config.height, config.width)
        return cls(config, _partners(clips), encoders)

    @property
    def widths(self) -> dict[str, int]:
        """The letters that this data set fixes."""
        points = {"points": 478, "joints": 33, "quality": len(schema.QUALITY)}
        return {**self.encoders.widths, **points}

    def annotate(self, clip: Clip) -> Annotated:
        """All that is measured in a clip, and the crop of its reference face."""
        config = self.config
        frames, audio = read_clip(clip, config)
        seen = observe(clip.truth, config.frames, config.fps)
        face, origin = self._reference(clip, frames, seen)
        record = _measured(seen, frames, audio, config)
        record |= {
            "id": clip.record_id,
            "schema": schema.VERSION,
            "source": str(clip.facts.get("source", "clips")),
            "person": clip.person,
            "language": str(clip.facts.get("language", "")),
            "licence": str(clip.facts.get("licence", "")),
            "caption": clip.caption,
            "fps": config.fps,
            "frames": config.frames,
            "height": config.height,
            "width": config.width,
            "provenance": self._provenance(seen.annotator, origin),
        }
        followed = None
        if self.encoders.sync_hash:
            boxes = np.where(seen.visible[:, None] > 0.5, seen.face_box, np.nan)
            followed = sync.follow(frames, boxes, audio, config.fps)
        return Annotated(record, reduce(frames, config.height, config.width), face, followed)

    @property
    def lanes(self) -> int:
        """One a local device."""
        return self.encoders.lanes

    def encode(self, chunks: Sequence[Sequence[Annotated]]) -> list[schema.Record]:
        """Runs the encoders on a chunk a device and encodes the records."""
        made = self.encoders.encode(
            [
                (
                    np.stack([clip.frames for clip in chunk]),
                    np.stack([clip.record["audio"] for clip in chunk]),
                    [clip.record["caption"] for clip in chunk],
                    np.stack([clip.face for clip in chunk]),
                )
                for chunk in chunks
            ]
        )
        return [
            schema.encode(schema.RECORD, clip.record | encoded | self._sync(clip), self.widths)
            for chunk, rows in zip(chunks, made, strict=True)
            for clip, encoded in zip(chunk, rows, strict=True)
        ]

    def _sync(self, clip: Annotated) -> schema.Record:
        """What SyncNet says, where there is one, instead of the correlation."""
        if not self.encoders.sync_hash:
            return {}
        confidence, offset = self.encoders.sync(clip.followed, self.config.fps)
        return {"sync_confidence": confidence, "sync_offset": offset}

    def metadata(self) -> dict[str, Any]:
        """Names, and which weights made the encoded fields."""
        made = {
            "names": {"quality": list(schema.QUALITY)},
            "encoders": dict(self.encoders.hashes),
        }
        # No part of what a model must fit, so it stands beside the encoders.
        return made | ({"sync": self.encoders.sync_hash} if self.encoders.sync_hash else {})

    def _reference(
        self, clip: Clip, frames: np.ndarray, seen: Observation
    ) -> tuple[UInt8[np.ndarray, "size size 3"], str]:
        """The crop of the reference face, and the clip it comes from."""
        size = self.encoders.face_size
        if self.config.reference == "first":
            if crop.uncovered(seen.visible, 1) != [0]:
                raise UsageError("no uncovered face in the first frame")
            return seen.crop(frames, 0, size), clip.record_id
        for partner in self.partners.get(clip.id, ()):
            try:
                other, _ = read_clip(partner, self.config)
                shown = observe(partner.truth, self.config.frames, self.config.fps)
            except UsageError:
                continue
            picks = crop.uncovered(shown.visible, 3)
            if picks:
                return shown.crop(other, picks[len(picks) // 2], size), partner.record_id
        picks = [pick for pick in crop.uncovered(seen.visible, len(frames)) if pick > 0]
        if not picks:
            raise UsageError("no uncovered face")
        return seen.crop(frames, picks[len(picks) // 2], size), clip.record_id

    def _provenance(self, annotator: str, origin: str) -> str:
        measured = ("landmarks", "joints", "face_box", "lip_mask", "face_mask")
        fields: dict[str, Any] = dict.fromkeys(measured, annotator)
        fields |= dict.fromkeys(("expression_raw", "body_raw"), f"variance/1 of {annotator}")
        synced: Any = f"{sync.NAME}/1"
        if self.encoders.sync_hash:
            synced = {"part": "sync", "weights": self.encoders.sync_hash}
        fields |= dict.fromkeys(("sync_confidence", "sync_offset"), synced)
        fields["quality"] = f"quality/1, detection of {annotator}"
        for name, part in ENCODED.items():
            fields[name] = {"part": part, "weights": self.encoders.hashes[part]}
        fields["identity"]["reference"] = origin
        return json.dumps(fields, sort_keys=True)


def _measured(
    seen: Observation,
    frames: UInt8[np.ndarray, "f H W 3"],
    audio: Int16[np.ndarray, " x"],
    config: BuildConfig,
) -> schema.Record:
    """Fields that follow from the observation, the pictures and the sound."""
    size = np.array([frames.shape[2], frames.shape[1]], np.float64)
    pixels = np.concatenate([seen.joints[..., :2] * size, seen.joints[..., 2:]], -1)
    silent = () if config.lips_count else seen.lips
    expression = motion.expression_raw(
        seen.landmarks * size, silent, seen.eyes, head=config.head_counts
    )
    body = motion.body_raw(pixels, seen.shoulders)
    if not np.isfinite(expression):
        raise UsageError(f"face seen in fewer than {motion.LEAST_FRAMES} frames")
    if not np.isfinite(body):
        raise UsageError(f"shoulders seen in fewer than {motion.LEAST_FRAMES} frames")
    opening = np.where(seen.visible > 0.5, seen.measures[:, 0], np.nan)
    confidence, offset = sync.lip_audio_correlation(opening, audio, config.fps)
    face = mask.hulls(seen.landmarks, config.height, config.width)
    return {
        "audio": audio,
        "lip_mask": mask.latent_mask(_lip_shares(seen, config), config.masks),
        "face_mask": mask.latent_mask(face, config.masks),
        "landmarks": seen.landmarks.astype(np.float16),
        "joints": seen.joints.astype(np.float16),
        "face_box": seen.face_box.astype(np.float16),
        "expression_raw": expression,
        "body_raw": body,
        "expression": 0.0,
        "body": 0.0,
        "sync_confidence": confidence,
        "sync_offset": offset,
        "quality": quality.measure(frames, seen.face_box, seen.visible, seen.phonemes),
    }


def _lip_shares(seen: Observation, config: BuildConfig) -> Float32[np.ndarray, "f H W"]:
    """Share of each pixel that counts as lips."""
    size = config.height, config.width
    outer, inner = (seen.landmarks[:, list(lip)] for lip in (seen.outer_lip, seen.inner_lip))
    if config.lip_region == "lower_face":
        eyes = seen.landmarks[:, [point for eye in seen.eyes for point in eye], 1].mean(1)
        return mask.hulls(mask.below(seen.landmarks, (eyes + outer[..., 1].min(1)) / 2), *size)
    if config.lip_region == "inner":
        return mask.region(inner, *size)
    return mask.region(outer, *size, dilation=mask.DILATION)


def _partners(clips: Sequence[Clip], tries: int = 3) -> dict[str, tuple[Clip, ...]]:
    """For each clip a few others of the same person, chosen by the clip's id alone."""
    of_person: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.person:
            of_person.setdefault(clip.person, []).append(clip)
    chosen = {}
    for group in of_person.values():
        for place, clip in enumerate(group):
            others = group[place + 1 :] + group[:place]
            first = int(hashlib.sha256(clip.id.encode()).hexdigest(), 16) % max(len(others), 1)
            chosen[clip.id] = tuple((others[first:] + others[:first])[:tries])
    return chosen
