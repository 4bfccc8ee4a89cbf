"""The frozen encoders of a bundle, run on cuts: what the denoiser is trained on.

  video_latents      codec(clip)
  condition_latents  codec([first frame, then zeros])
  image_tokens       image encoder(first frame)
  text_tokens        text encoder(caption), rows of its true length
  audio_features     speech encoder(exactly this cut, normalised over it)
  identity           face encoder(reference crop), unit length
  sync               SyncNet(face crops, sound), where the weights have it; one clip at a time

Weights are used as the bundle holds them (bfloat16), computed in float32, results stored in
bfloat16. Batches are padded to one size, so every encoder is compiled once. Every local device runs
that program on a batch of its own, with all weights.

Invariant: the result of a clip does not depend on the clips encoded beside it, nor on the number of
devices, bit for bit.
Tests: tests/data_pipeline/build/records_test.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data_pipeline.annotate.sync import Followed
from ft_jax.errors import UsageError

LANES = "lanes"  # the axis of the local devices
PARTS = ("codec", "speech", "text", "image", "face")
BATCH = 8  # clips that go through an encoder together, on one device


class Encoders:
    """The encoders of one system; the weights stay behind when it is sent to a worker.

    Args:
        path: of a bundle, a folder of weights or a run.

    Attributes:
        system: configuration of the whole system.
        hashes: part -> fingerprint.
        sync_hash: fingerprint of SyncNet; empty where the weights lack it.

    Raises:
        UsageError: the weights cannot be read or lacks an encoder.
    """

    def __init__(self, path: str) -> None:
        from ft_jax.checkpoints import handover
        from ft_jax.checkpoints.tree import fingerprint
        from ft_jax.config import build, to_dict
        from ft_jax.models.system import System

        source = handover.read(path)
        self.path = path
        self.system = build(System, source.system, path)
        self._params: dict[str, Any] = {name: source.part(name) for name in PARTS}
        self.hashes = {
            name: fingerprint(to_dict(getattr(self.system, name)), params)
            for name, params in self._params.items()
        }
        self.sync_hash = ""
        if self.system.sync is not None and "sync" in source.parts:
            self._sync = source.part("sync")
            self.sync_hash = fingerprint(to_dict(self.system.sync), self._sync)

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in vars(self).items()
            if name in ("path", "system", "hashes", "sync_hash")
        }

    @property
    def widths(self) -> dict[str, int]:
        """The letters of the data set that these encoders fix."""
        system = self.system
        return {
            "c": system.codec.channels,
            "i": system.image.tokens,
            "ci": system.image.width,
            "cs": system.text.width,
            "ca": system.speech.width,
            "ce": system.face.width,
        }

    @property
    def face_size(self) -> int:
        """Pixels of the face crop along each side."""
        return self.system.face.pixels

    def check(self, frames: int, fps: float, height: int, width: int) -> None:
        """Refuses cuts of another length or size than the system's.

        Raises:
            UsageError: names the setting and both values.
        """
        wanted = {"frames": frames, "fps": fps, "height": height, "width": width}
        for name, value in wanted.items():
            made_for = getattr(self.system, name)
            if made_for != value:
                raise UsageError(f"{name}: {value}; the system of {self.path} has {made_for}")

    @property
    def lanes(self) -> int:
        """Batches that are encoded at once: one a local device."""
        import jax

        return jax.local_device_count()

    def encode(
        self, batches: Sequence[tuple[np.ndarray, np.ndarray, Sequence[str], np.ndarray]]
    ) -> list[list[dict[str, np.ndarray]]]:
        """The encoded fields of the clips of up to `lanes` batches, each on a device.

        Args:
            batches: of up to `BATCH` clips: frames at the model's size [b f H W 3], 16 kHz mono of
                the cuts [b x], prompts, crops of the reference faces [b size size 3].
        """
        from ft_jax.models import text

        length = self.system.denoiser.dit.text_tokens
        lanes = []
        for frames, audio, captions, faces in batches:
            ids, mask = text.tokenize(self.system.text, captions, length)
            lanes.append([_pad(values) for values in (frames, audio, ids, mask, faces)])
        lanes += lanes[-1:] * (self.lanes - len(lanes))
        made = self._run(*(np.concatenate(column) for column in zip(*lanes, strict=True)))
        made = {name: np.asarray(value) for name, value in made.items()}
        return [
            [_fields(made, lane * BATCH + row, lanes[lane][3][row]) for row in range(len(batch[0]))]
            for lane, batch in enumerate(batches)
        ]

    def sync(self, face: Followed | None, fps: float) -> tuple[float, int]:
        """Confidence of SyncNet, and by how many frames the sound comes later than the picture.

        (0, 0) where nothing can be said: the face is hardly seen, or the clip too short.

        Args:
            face: as `data_pipeline.annotate.sync.follow` gives it.
            fps: frames per second of the clip, which the offset is counted in.
        """
        from ft_jax.media.face_track import RATE
        from ft_jax.models import lip_sync

        cfg = self.system.sync
        if face is None or cfg is None:
            return 0.0, 0
        found = lip_sync.measure(self._sync_weights, cfg, face.crops, face.speech)
        return (found.confidence, round(found.offset * fps / RATE)) if found else (0.0, 0)

    @functools.cached_property
    def _sync_weights(self) -> Any:
        import jax
        import jax.numpy as jnp

        return jax.tree.map(jnp.asarray, self._sync)

    @functools.cached_property
    def _run(self) -> Callable[..., dict[str, Any]]:
        import jax
        import jax.numpy as jnp

        everywhere = jax.sharding.NamedSharding(_mesh(), jax.sharding.PartitionSpec())
        weights = jax.tree.map(
            lambda leaf: jax.device_put(jnp.asarray(leaf, jnp.float32), everywhere), self._params
        )
        return functools.partial(_compiled(self.system), weights)


@functools.cache
def _compiled(system: Any) -> Callable[..., dict[str, Any]]:
    """(weights, frames, audio, ids, mask, faces) -> encoded fields; compiled once a system."""
    import jax
    import jax.numpy as jnp

    from ft_jax.models import clip, face, text, vae, wav2vec2

    def run(weights, frames, audio, ids, mask, faces):
        video = _scaled(frames)
        still = jnp.zeros_like(video).at[:, 0].set(video[:, 0])
        both = vae.encode(weights["codec"], system.codec, jnp.concatenate([video, still]))
        picture = clip.preprocess(system.image, video[:, 0])
        waveform = wav2vec2.normalise_waveform(audio.astype(jnp.float32) / 32767)
        return {
            "video_latents": both[: len(video)],
            "condition_latents": both[len(video) :],
            "image_tokens": clip.encode(weights["image"], system.image, picture),
            "text_tokens": text.encode(weights["text"], system.text, ids, mask),
            "audio_features": wav2vec2.encode(weights["speech"], system.speech, waveform),
            "identity": face.embed(weights["face"], system.face, _scaled(faces)),
        }

    lane = jax.sharding.PartitionSpec(LANES)
    # Not partitioned by the compiler: each device runs the very program that one alone would run.
    spread = jax.shard_map(
        run,
        mesh=_mesh(),
        in_specs=(jax.sharding.PartitionSpec(), *[lane] * 5),
        out_specs=lane,
        check_vma=False,
    )
    return jax.jit(spread)


def _mesh() -> Any:
    import jax

    return jax.sharding.Mesh(np.array(jax.local_devices()), (LANES,))


def _fields(made: dict[str, np.ndarray], row: int, mask: np.ndarray) -> dict[str, np.ndarray]:
    """Those of one clip, in the types that are stored; text as long as its prompt."""
    import ml_dtypes

    fields = {
        name: values[row].astype(np.float32 if name == "identity" else ml_dtypes.bfloat16)
        for name, values in made.items()
    }
    return fields | {"text_tokens": fields["text_tokens"][: int(mask.sum())]}


def _scaled(pixels: Any) -> Any:
    """0..255 to -1..1."""
    return pixels.astype("float32") / 127.5 - 1


def _pad(values: np.ndarray) -> np.ndarray:
    """Repeats the last row up to BATCH."""
    missing = BATCH - len(values)
    return np.concatenate([values, np.repeat(values[-1:], missing, 0)]) if missing else values
