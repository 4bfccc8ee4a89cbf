"""Stage `codec`: the causal video autoencoder learns to reproduce clips.

Trained on pictures first (sub-clips of one frame: many different ones in a batch) and then on short
sub-clips of 4n + 1 frames (the network is causal and convolutional in time, so it carries over to
whole clips at a fraction of the cost): first cut to squares that mostly lie on mouth or eyes, for
what is small and quick is what a latent of four frames forgets first, then whole. It starts as a
codec of pictures that repeats what it sees: `still` keeps a clip without motion as it is.

No adversary and no perceptual network: L1 on pixels, on their spatial edges and on their change
from frame to frame, once more on mouth and eyes, which are small on the picture and large in the
method, and a little KL so that the latents have a scale the denoiser can live with. At the end
`finish` measures that scale per channel.

Batch: frames uint8 [b f H W 3], face_box [b f 4] (left, top, right, bottom as shares; NaN: none).
Tests: tests/training/stages_test.py.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from ft_jax.checkpoints.tree import flatten, merge, unflatten
from ft_jax.config import to_dict
from ft_jax.models import vae
from ft_jax.training import losses, randomness
from ft_jax.training.stages import Reads, Stage, picture
from ft_jax.typing import Params

MOUTH = (0.2, 0.55, 0.8, 0.95)
"""Left, top, right and bottom of where a mouth is, as shares of the face box."""
EYES = (0.05, -0.05, 0.95, 0.45)
"""The same of eyes and brows."""


@dataclasses.dataclass(frozen=True)
class Weights:
    """How much each term counts; a difference of 1 is half the range of a pixel."""

    pixels: float
    edges: float
    motion: float
    mouth: float
    eyes: float
    kl: float


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the stage."""

    frames: int  # of a sub-clip, 4n + 1
    crop: int  # pixels: side of the square that a training sub-clip is cut to; 0 leaves it whole
    crop_at_face: float  # share of the squares that lie on mouth or eyes; the others lie anywhere
    weights: Weights
    statistics_batches: int  # over which `finish` measures the latents


class Codec(Stage):
    """See the head of this file."""

    Config = Config

    def __init__(self, cfg: Config, system: Any) -> None:
        """Takes the codec's sizes from `system`."""
        self.cfg, self._model, self._clip_frames = cfg, system.codec, system.frames
        self.system = to_dict(system)
        self.reads = Reads("pixels", ("frames", "face_box"), frames=cfg.frames)

    def init(self, key: Key[Array, ""]) -> Params:
        """{codec: parameters}; a clip without motion is coded as its picture."""
        return {"codec": still(vae.init(key, self._model))}

    def prepare(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Frames and face boxes; a missing box becomes an empty one."""
        boxes = np.nan_to_num(batch["face_box"].astype(np.float32), nan=-1.0)
        return {"frames": batch["frames"], "face_box": boxes}

    def loss(
        self,
        trained: Params,
        frozen: Params,
        batch: dict[str, jax.Array],
        key: Key[Array, ""],
        train: bool,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Weighted sum of the terms; held out, latents are the mean of their distribution."""
        params = merge(trained, frozen)["codec"]
        video = picture.to_float(batch["frames"])
        size = (video.shape[2], video.shape[3])
        mouth, eyes = (area_of(batch["face_box"], part, size) for part in (MOUTH, EYES))
        if train and self.cfg.crop:
            video, mouth, eyes = self._cut(randomness.draw(key, "crop"), video, mouth, eyes)
        mean, logvar = vae.encode_distribution(params, self._model, video)
        latents = mean
        if train:
            noise = jax.random.normal(randomness.draw(key, "latent"), mean.shape)
            latents = mean + jnp.exp(0.5 * logvar) * noise
        made = vae.decode(params, self._model, vae.normalise(self._model, latents))
        error = jnp.abs(made - video)
        terms = {
            "pixels": jnp.mean(error),
            "edges": sum_of_change(made, video, axes=(2, 3)),
            "motion": sum_of_change(made, video, axes=(1,)),
            "mouth": mean_in(error, mouth),
            "eyes": mean_in(error, eyes),
            "kl": 0.5 * jnp.mean(jnp.square(mean) + jnp.exp(logvar) - 1.0 - logvar),
        }
        squared = jnp.mean(jnp.square(jnp.clip(made, -1, 1) - video))
        metrics = {**terms, "psnr": 10.0 * jnp.log10(4.0 / jnp.maximum(squared, 1e-10))}
        return losses.weighted(terms, dataclasses.asdict(self.cfg.weights)), metrics

    def _cut(
        self,
        key: Key[Array, ""],
        video: Float[Array, "b f H W 3"],
        mouth: Float[Array, "b f H W"],
        eyes: Float[Array, "b f H W"],
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The same square of a sub-clip and of its areas: at its mouth, at its eyes or anywhere."""
        side = self.cfg.crop
        anywhere, jitter, chosen, which = jax.random.split(key, 4)
        count, most = video.shape[0], jnp.asarray([video.shape[2:4]]) - side
        random = jax.random.uniform(anywhere, (count, 2)) * most
        is_mouth = jax.random.bernoulli(which, 0.5, (count, 1, 1, 1))
        centre, known = centre_of(jnp.where(is_mouth, mouth, eyes))
        shift = jax.random.uniform(jitter, (count, 2), minval=-side / 4, maxval=side / 4)
        at_face = jax.random.uniform(chosen, (count,)) < self.cfg.crop_at_face
        start = jnp.where((known & at_face)[:, None], centre - side / 2 + shift, random)
        corner = jnp.clip(jnp.round(start), 0, most).astype(jnp.int32)

        def cut(clip: jax.Array, corner: jax.Array) -> jax.Array:
            begin = (0, corner[0], corner[1], *(0,) * (clip.ndim - 3))
            return jax.lax.dynamic_slice(clip, begin, (clip.shape[0], side, side, *clip.shape[3:]))

        video, mouth, eyes = (jax.vmap(cut)(each, corner) for each in (video, mouth, eyes))
        return video, mouth, eyes

    def finish(self, params: Params, batches: Iterator[dict[str, np.ndarray]]) -> Mapping[str, Any]:
        """Mean and standard deviation of every latent channel over whole clips."""
        encode = jax.jit(lambda video: vae.encode_distribution(params["codec"], self._model, video))
        sums = np.zeros((2, self._model.channels))
        weight = 0.0
        for batch in itertools.islice(batches, self.cfg.statistics_batches):
            mean = np.asarray(encode(picture.to_float(jnp.asarray(batch["frames"])))[0], np.float64)
            for values, share in self._shares(mean):
                sums += share * np.stack(
                    [values.mean((0, 1, 2, 3)), (values**2).mean((0, 1, 2, 3))]
                )
                weight += share
        average, square = sums / weight
        deviation = np.sqrt(np.maximum(square - average**2, 1e-12))
        return {"codec": {"mean": average.tolist(), "std": deviation.tolist()}}

    def _shares(self, latents: np.ndarray) -> list[tuple[np.ndarray, float]]:
        """Latent frame 0 (a picture) and the later ones, by their share in a whole clip."""
        later = (self._clip_frames - 1) // self._model.time_factor
        parts = [(latents[:, :1], 1.0), (latents[:, 1:], float(later))]
        return [(values, share) for values, share in parts if values.shape[1]]


def still(params: Params) -> Params:
    """The same network with kernels over time that code a clip without motion as its picture.

    3x3x3 kernels keep their last tap, widened to the variance of all three. The linear layers that
    halve the frames pass the last of them on and add a random map (their own random taps) of its
    change, so that from the first step the latents hold something of every frame; those that double
    the frames repeat each.
    """

    def changed(path: str, leaf: jax.Array) -> jax.Array:
        if leaf.ndim == 5 and leaf.shape[0] == 3:
            return leaf.at[:2].set(0.0).at[2].multiply(3.0**0.5)
        if path.endswith("time/kernel"):
            width = leaf.shape[0] // 3
            repeats = leaf.shape[1] // width
            present = jnp.tile(jnp.eye(width, dtype=leaf.dtype), (1, repeats))
            change = leaf[-width:] if repeats == 1 else jnp.zeros_like(present)
            return jnp.concatenate([jnp.zeros_like(present), -change, present + change])
        return leaf

    return unflatten({path: changed(path, leaf) for path, leaf in flatten(params).items()})


def sum_of_change(
    made: Float[Array, "b f H W 3"], true: Float[Array, "b f H W 3"], axes: tuple[int, ...]
) -> Float[Array, ""]:
    """Mean absolute error of the differences between neighbours, summed over `axes`."""
    error = made - true
    changes = [jnp.diff(error, axis=axis) for axis in axes if error.shape[axis] > 1]
    return sum((jnp.mean(jnp.abs(change)) for change in changes), jnp.zeros(()))


def area_of(
    box: Float[Array, "b f 4"], part: tuple[float, float, float, float], size: tuple[int, int]
) -> Float[Array, "b f H W"]:
    """1 in the `part` of each face box (MOUTH, EYES), 0 elsewhere and without a box."""
    left, top, right, bottom = (box[..., k, None] for k in range(4))
    rows, columns = (((jnp.arange(n) + 0.5) / n)[None, None] for n in size)
    wide, high = right - left, bottom - top
    inside_rows = (rows > top + part[1] * high) & (rows < top + part[3] * high)
    inside_columns = (columns > left + part[0] * wide) & (columns < left + part[2] * wide)
    return (inside_rows[..., :, None] & inside_columns[..., None, :]).astype(jnp.float32)


def mean_in(error: Float[Array, "b f H W 3"], area: Float[Array, "b f H W"]) -> Float[Array, ""]:
    """Mean error over an area of all frames; 0 without one."""
    inside = jnp.sum(error * area[..., None])
    return inside / jnp.maximum(jnp.sum(area) * error.shape[-1], 1.0)


def centre_of(area: Float[Array, "b f H W"]) -> tuple[Float[Array, "b 2"], Bool[Array, " b"]]:
    """Row and column of the centre of each clip's area over all frames, and whether it has one."""
    total = jnp.sum(area, axis=(1, 2, 3))
    rows = jnp.sum(area, axis=(1, 3)) @ (jnp.arange(area.shape[2]) + 0.5)
    columns = jnp.sum(area, axis=(1, 2)) @ (jnp.arange(area.shape[3]) + 0.5)
    centre = jnp.stack([rows, columns], axis=-1) / jnp.maximum(total, 1.0)[:, None]
    return centre, total > 0
