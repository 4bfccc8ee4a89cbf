"""One signature for every attention in the project.

Tests: tests/kernels/attention_test.py (masks, empty rows, agreement with PyTorch).
"""

import functools

import jax
from jaxtyping import Array, Bool, Float

from ft_jax.kernels import cpu, reference


def attention(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b s n k"],
    v: Float[Array, "b s n k"],
    mask: Bool[Array, "b s"] | Bool[Array, "b #n #l s"] | None = None,
    scale: float | None = None,
) -> Float[Array, "b l n k"]:
    """softmax(q k^T * scale) v over the keys that `mask` keeps.

    Args:
      q: Queries.
      k: Keys.
      v: Values, one a key.
      mask: True keeps a key: one row a sample [b s], or one a head and query. A query whose keys
        are all masked gives 0.
      scale: Default 1 / sqrt(k).
    """
    if mask is not None and mask.ndim == 2:
        mask = mask[:, None, None, :]
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    # Decided when the program is lowered, for the platform it is lowered for.
    return jax.lax.platform_dependent(
        q,
        k,
        v,
        mask,
        cpu=functools.partial(cpu.attention, scale=factor),
        default=functools.partial(reference.attention, scale=factor),
    )
