"""One signature for every attention, one operation with one backward pass for every platform.

The kernel is chosen when the program is lowered, for the platform it is lowered for:

  cpu    cpu.py
  tpu    splash.py, where there is more than one tile of scores
  cuda   cudnn.py, where it takes the type and the width of the heads
  else   reference.py; also on TPUs and GPUs, if there is a mask for each head or query, or if
         queries, keys and values are not of one type

Residuals are the arguments, the result and the log-sum-exp on all of them. Were the choice made
below the differentiation, every platform would carry the residuals of all others, the scores of the
reference among them.

Devices are no matter here: under a mesh, call this through ft_jax/nn/attention.py.

Tests: tests/kernels/attention_test.py (masks, empty rows, agreement with PyTorch),
tests/kernels/dispatch_test.py (which kernel is in the program; no scores in it).
"""

import functools
from types import ModuleType
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float

from ft_jax.kernels import cpu, cudnn, reference
from ft_jax.kernels.reference import Gradients

ONE_TILE = 256  # queries and keys up to which a TPU needs no kernel: their scores are one tile


def attention(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b s n k"],
    v: Float[Array, "b s n k"],
    mask: Bool[Array, "b s"] | Bool[Array, "b #n #l s"] | None = None,
    scale: float | None = None,
    name: str = "",
) -> Float[Array, "b l n k"]:
    """softmax(q k^T * scale) v over the keys that `mask` keeps.

    Args:
      q: Queries.
      k: Keys.
      v: Values, one a key.
      mask: True keeps a key: one row a sample [b s], or one a head and query (the fused kernels
        leave those to the reference). A query whose keys are all masked gives 0.
      scale: Default 1 / sqrt(k).
      name: Under which a remat policy finds what the backward pass needs: `NAME_inputs` are q, k
        and v, `NAME_result` the result and its log-sum-exp. Both must be kept, or the backward
        pass runs the forward kernel once more.
    """
    if mask is not None and mask.ndim == 2:
        mask = mask[:, None, None, :]
    return _attention(q, k, v, mask, q.shape[-1] ** -0.5 if scale is None else scale, name)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attention(q: Array, k: Array, v: Array, mask: Array | None, scale: float, name: str) -> Array:
    del name
    return _by_platform("attention", (q, k, v, mask), scale, ())


def _forward(
    q: Array, k: Array, v: Array, mask: Array | None, scale: float, name: str
) -> tuple[Array, tuple[Any, ...]]:
    q, k, v = checkpoint_name((q, k, v), f"{name}_inputs")
    saved = checkpoint_name(_by_platform("forward", (q, k, v, mask), scale, ()), f"{name}_result")
    return saved[0], (q, k, v, mask, saved)


def _backward(
    scale: float, name: str, residuals: tuple[Any, ...], grad: Array
) -> tuple[Array, Array, Array, None]:
    del name
    *inputs, saved = residuals
    grads: Gradients = _by_platform("backward", tuple(inputs), scale, (saved, grad))
    return (*grads, None)


_attention.defvjp(_forward, _backward)


def _by_platform(name: str, inputs: tuple[Any, ...], scale: float, given: tuple[Any, ...]) -> Any:
    """The function `name` of the kernel that the platform and these inputs call for."""

    def of(kernel: ModuleType) -> Any:
        function = getattr(kernel, name)
        return lambda inputs, given: function(*inputs, scale, *given)

    q, k, v, mask = inputs
    tpu = cuda = default = of(reference)
    is_plain = q.dtype == k.dtype == v.dtype and (mask is None or mask.shape[1:3] == (1, 1))
    if is_plain and max(q.shape[1], k.shape[1]) > ONE_TILE:
        # Here, because it takes a second to load and is needed by no program of small attentions.
        from ft_jax.kernels import splash

        tpu = of(splash)
    if is_plain and cudnn.takes(q):
        cuda = of(cudnn)
    return jax.lax.platform_dependent(
        inputs, given, cpu=of(cpu), tpu=tpu, cuda=cuda, default=default
    )
