"""What the blocks keep for the backward pass, by name; all else is computed once more.

A block is given its input whatever the policy, so that beside what stands here there is always one
residual stream a block. Names are given where the values are made: `act_seq_inputs` and
`act_seq_result` in ft_jax/kernels/dispatch.py, the others in ft_jax/models/dit.py.

The offloaded policies keep the same values but the keys of the context, which are few, and the
block's input as well, in the pinned memory of the host: each block sends them there on its way
forward and has them back on its way back, so that what the device holds hardly grows with the
number of blocks. On a CPU they change nothing.

Tests: tests/models/remat_test.py, tests/models/dit_test.py.
"""

from collections.abc import Callable

import jax

BLOCK_INPUT = "block_input"
"""The residual stream as a block gets it."""

CONTEXT_KEYS = "context_keys"
"""Keys and values of text and image."""

_RESULT, _INPUTS = "act_seq_result", "act_seq_inputs"


def _offloaded(*names: str) -> Callable[..., bool]:
    return jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[CONTEXT_KEYS],
        names_which_can_be_offloaded=[BLOCK_INPUT, *names],
        offload_src="device",
        offload_dst="pinned_host",
    )


REMAT_POLICIES: dict[str, Callable[..., bool] | None] = {
    "none": None,  # keep every activation
    "full": jax.checkpoint_policies.nothing_saveable,
    "matmuls": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    # Result and log-sum-exp of the self-attention, so that its forward kernel runs once, and the
    # few keys of the context, so that weights need not be gathered again for so little work ...
    "attention": jax.checkpoint_policies.save_only_these_names(_RESULT, CONTEXT_KEYS),
    # ... and its queries, keys and values as well, behind the exchange between devices.
    "attention_inputs": jax.checkpoint_policies.save_only_these_names(
        _INPUTS, _RESULT, CONTEXT_KEYS
    ),
    "attention_offloaded": _offloaded(_RESULT),
    "attention_inputs_offloaded": _offloaded(_INPUTS, _RESULT),
}
