"""One block of the 14B model at its real width against diffusers': 300 tokens, 769 keys, float32.

Sums over 5120 and 13824 products round where those of the small models do not. The block has 404
million weights, so each tensor of PyTorch's is let go as soon as ours is made of it: 1.6 GB once,
and a second time for the largest leaf alone.
"""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import torch
from diffusers.models.transformers import transformer_wan
from flax import traverse_util

from ft_jax.convert import table, wan_dit
from ft_jax.models import dit, fantasy
from ft_jax.nn.rope import rope_table

CFG = dit.Config(layers=1, precision="parity")
GRID = (3, 10, 10)  # 300 tokens
IMAGE_TOKENS = 257


def drawn_block() -> transformer_wan.WanTransformerBlock:
    """Weights near what training leaves: every sublayer's output is of the size of its input."""
    with torch.device("meta"):
        block = transformer_wan.WanTransformerBlock(
            CFG.width,
            CFG.mlp_width,
            CFG.heads,
            cross_attn_norm=True,
            added_kv_proj_dim=CFG.width,
        )
    block = block.to_empty(device="cpu").eval()
    with torch.no_grad():
        for key, parameter in block.named_parameters():
            is_scale = "norm" in key and key.endswith("weight")
            width = parameter.shape[-1] if parameter.ndim == 2 else 100
            deviation = width**-0.5
            # Uniform: ten times as fast to draw as normal, and no different to a sum of 5120.
            parameter.uniform_(-deviation * 3**0.5, deviation * 3**0.5).add_(float(is_scale))
    return block


def test_one_block_at_full_width_is_that_of_diffusers():
    torch.manual_seed(0)
    draw = np.random.default_rng(0).standard_normal
    tokens, time, context = (
        draw(shape).astype(np.float32)
        for shape in (
            (1, 300, CFG.width),
            (1, 6, CFG.width),
            (1, IMAGE_TOKENS + CFG.text_tokens, CFG.width),
        )
    )
    block = drawn_block()
    rope = transformer_wan.WanRotaryPosEmbed(CFG.head_width, (1, 1, 1), 1024)
    with torch.no_grad():
        table_of_angles = rope(torch.empty(1, 1, *GRID))
        expected = block(*map(torch.from_numpy, (tokens, context, time)), table_of_angles).numpy()

    tensors = {f"blocks.0.{key}": value.numpy() for key, value in block.state_dict().items()}
    del block
    abstract = fantasy.abstract_params(fantasy.Config(CFG, None, None, None))
    tree = {"dit": {"blocks": abstract["dit"]["blocks"]}}
    leaves = {}
    for entry in table.plan(wan_dit.DIFFUSERS, tree):
        leaf = jnp.asarray(table.leaf(entry, tensors)[0])
        leaves[entry.path.removeprefix("dit/blocks/")] = leaf
        for key in entry.keys:
            del tensors[key]
        gc.collect()
    assert not tensors
    params = traverse_util.unflatten_dict(leaves, sep="/")

    shared = dit.Shared(
        jnp.asarray(time),
        rope_table(*GRID, CFG.head_width),
        dit.Context(
            text=jnp.asarray(context[:, IMAGE_TOKENS:]),
            image=jnp.asarray(context[:, :IMAGE_TOKENS]),
        ),
        (),
    )
    # Theirs runs through frames first, ours through positions.
    order = np.arange(300).reshape(GRID).transpose(1, 2, 0).ravel()
    with jax.default_matmul_precision("highest"):
        found, _ = jax.jit(dit.Block(CFG).apply)(
            {"params": params}, jnp.asarray(tokens[:, order]), shared, dit.Own(None, ())
        )
    expected = expected[:, order]
    assert np.abs(expected - tokens[:, order]).mean() > 0.5
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)
