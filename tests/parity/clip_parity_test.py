"""The image encoder against transformers' CLIPVisionModel, the resize against PyTorch's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from ft_jax.convert import clip as tables
from ft_jax.convert import table
from ft_jax.models import clip

CFG = clip.Config(pixels=28, patch=7, width=24, layers=3, heads=3, mlp_width=40, projection=12)


@functools.cache
def both():
    torch.manual_seed(0)
    model = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=CFG.width,
            intermediate_size=CFG.mlp_width,
            num_hidden_layers=CFG.layers,
            num_attention_heads=CFG.heads,
            image_size=CFG.pixels,
            patch_size=CFG.patch,
            projection_dim=CFG.projection,
            hidden_act="gelu",
        )
    ).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn(value.shape))
    tensors = {k: v.numpy() for k, v in model.state_dict().items()}
    abstract = jax.eval_shape(functools.partial(clip.init, cfg=CFG), jax.random.key(0))
    prefix = "vision_model." if any(k.startswith("vision_model.") for k in tensors) else ""
    params = table.to_params(tables.hugging_face(CFG, prefix), tensors, abstract)
    return model, jax.tree.map(jnp.asarray, params)


def test_penultimate_tokens_and_projection_equal_transformers():
    model, params = both()
    pixels = np.random.default_rng(0).normal(size=(2, 28, 28, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = model(torch.from_numpy(pixels).permute(0, 3, 1, 2), output_hidden_states=True)
    ours = jax.jit(clip.encode, static_argnums=1)(params, CFG, jnp.asarray(pixels))
    np.testing.assert_allclose(ours, theirs.hidden_states[-2].numpy(), atol=2e-5)
    whole = jax.jit(clip.pooled, static_argnums=1)(params, CFG, jnp.asarray(pixels))
    wanted = torch.nn.functional.normalize(theirs.image_embeds).numpy()
    np.testing.assert_allclose(whole, wanted, atol=2e-5)


@pytest.mark.parametrize("size", [(7, 300), (64, 64), (500, 333), (224, 224)])
def test_squash_equals_torch_bicubic(size):
    picture = np.random.default_rng(0).uniform(-1, 1, size=(1, *size, 3)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(picture).permute(0, 3, 1, 2),
        size=(224, 224),
        mode="bicubic",
        align_corners=False,
    )
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    wanted = ((theirs * 0.5 + 0.5 - mean) / std).permute(0, 2, 3, 1).numpy()
    ours = clip.preprocess(clip.Config(), jnp.asarray(picture))
    np.testing.assert_allclose(ours, wanted, atol=1e-4)
