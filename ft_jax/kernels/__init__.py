"""Attention behind one signature; the implementation is picked by platform."""

from ft_jax.kernels.dispatch import attention as attention
