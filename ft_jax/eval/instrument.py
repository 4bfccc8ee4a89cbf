"""The measuring instrument: decoded frames of any number of clips in, tracks of measures out.

The landmark network of the drawn world looks at one frame at a time and never saw a generated one.
A frame in which it does not see a face is NaN in every track. Frames go through the network in
batches of one size, so it is compiled once.

Shapes: frames [f H W 3] uint8 at the system's size; tracks {name: [f]}; boxes [f 4].
Tests: tests/eval/instrument_test.py.
"""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from ft_jax.errors import UsageError
from ft_jax.models import landmarks
from ft_jax.typing import Params

BATCH = 66  # frames; two clips of the training length


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured in one clip.

    Attributes:
      tracks: Name of the measure -> its value in every frame, in the units of the data set.
      boxes: Left, top, right, bottom of the face / (width, height).
      visible: Probability that the face can be seen.
    """

    tracks: Mapping[str, Float[np.ndarray, " f"]]
    boxes: Float[np.ndarray, "f 4"]
    visible: Float[np.ndarray, " f"]


class Instrument:
    """The network with its weights, ready to look at clips.

    Args:
      cfg: Of the landmark network; None where the system has none.
      params: Its weights, of any float type.

    Raises:
      UsageError: The system has no landmark network.
    """

    def __init__(self, cfg: landmarks.Config | None, params: Params) -> None:
        if cfg is None:
            raise UsageError("landmarks: not part of this system; expected one made for the world")
        self.cfg = cfg
        self._params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), dict(params))

    def measure(self, frames: UInt8[np.ndarray, "f H W 3"], believed: float = 0.5) -> Measured:
        """Measures every frame of a clip.

        Args:
          frames: Of the size that the network was made for.
          believed: Probability from which a face counts as seen.

        Raises:
          UsageError: The frames have another size.
        """
        if frames.shape[1:3] != (self.cfg.pixels, self.cfg.pixels):
            raise UsageError(
                f"frames: are {frames.shape[1]} x {frames.shape[2]} pixels; "
                f"expected {self.cfg.pixels} x {self.cfg.pixels}"
            )
        fill = -len(frames) % BATCH
        padded = np.concatenate([frames, np.repeat(frames[-1:], fill, axis=0)])
        pieces = [
            jax.device_get(_measure(self._params, self.cfg, piece))
            for piece in np.split(padded, len(padded) // BATCH)
        ]
        whole = jax.tree.map(
            lambda *leaves: np.concatenate(leaves)[: len(frames)].astype(np.float64), *pieces
        )
        seen = whole.visible >= believed
        values = np.where(seen[:, None], whole.values, np.nan)
        return Measured(
            tracks=dict(zip(self.cfg.measures, values.T, strict=True)),
            boxes=np.where(seen[:, None], whole.box, np.nan),
            visible=whole.visible,
        )


@functools.partial(jax.jit, static_argnames="cfg")
def _measure(params: Params, cfg: landmarks.Config, frames: jax.Array) -> landmarks.Measures:
    return landmarks.measure(params, cfg, frames.astype(jnp.float32) / 127.5 - 1.0)
