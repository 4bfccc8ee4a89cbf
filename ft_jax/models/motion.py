"""Motion intensities: two numbers in, an addition to the time embedding out.

omega_l (expression: brows, lids, cheeks) and omega_b (body: head and shoulders) lie in [0, 1];
0.5 is the median of the corpus. Each goes through its own MLP; both are joined, passed through one
residual layer that mixes them, averaged, and projected by a matrix that starts at zero. The result
is added to the time embedding, before the projection to the six modulation vectors; or, where the
settings say so, to these.

  expression, body  [b]
  returns           [b d], or [b 6d]

Source: FantasyTalking sec. 3.4 and Fig. 2 (sizes and encoding are ours: the paper does not say).
Tests: tests/models/motion_test.py.
"""

import dataclasses
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ft_jax.nn.embed import timestep_sinusoid
from ft_jax.nn.linear import Linear
from ft_jax.nn.norm import LayerNorm

NEUTRAL = 0.5  # the intensity of the median clip


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the motion network, and where its result goes.

    Attributes:
      width: Of its layers.
      frequency_width: Of the sinusoid.
      scale: Intensity -> argument of the sinusoid; neighbours must stay alike.
      adds_to: The "time" embedding; or the "modulation" vectors that are projected from it, so that
        the head of the DiT does not hear of it.
    """

    width: int = 1024
    frequency_width: int = 256
    scale: float = 10.0
    adds_to: Literal["time", "modulation"] = "time"


class MotionNetwork(nn.Module):
    """See the head of this file."""

    cfg: Config
    width: int  # of the DiT

    @nn.compact
    def __call__(
        self, expression: Float[Array, " b"], body: Float[Array, " b"]
    ) -> Float[Array, "b _"]:
        """Float32, as the rest of the time path."""
        cfg = self.cfg
        parts = [
            self._mlp(intensity, name)
            for name, intensity in (("expression", expression), ("body", body))
        ]
        both = jnp.concatenate(parts, axis=-1)
        x = LayerNorm(2 * cfg.width, 1e-5, name="norm")(both)
        x = Linear(2 * cfg.width, 2 * cfg.width, ("embed", "mlp"), name="residual_hidden")(x)
        x = Linear(2 * cfg.width, 2 * cfg.width, ("mlp", "embed"), name="residual_output")(
            jax.nn.silu(x)
        )
        pooled = (both + x).reshape(-1, 2, cfg.width).mean(axis=1)
        width = self.width if cfg.adds_to == "time" else 6 * self.width
        return Linear(cfg.width, width, ("mlp", "embed"), initial="zeros", name="output")(pooled)

    def _mlp(self, intensity: jax.Array, name: str) -> jax.Array:
        cfg = self.cfg
        x = timestep_sinusoid(intensity.astype(jnp.float32) * cfg.scale, cfg.frequency_width)
        x = Linear(cfg.frequency_width, cfg.width, name=f"{name}_hidden")(x)
        return Linear(cfg.width, cfg.width, ("mlp", "embed"), name=f"{name}_output")(jax.nn.silu(x))
