"""Our own files of the identity branch and the motion network: every tensor named, none lost."""

import math

import jax
import numpy as np
import pytest

from configs import models
from ft_jax.config import build
from ft_jax.convert import identity, motion, table
from ft_jax.models import fantasy
from tests.models import small

TABLES = {"identity": identity.IDENTITY, "motion": motion.MOTION}
RELEASED = {
    # tensors, parameters, some keys with their shapes
    "identity": (
        135, 920_839_424,
        {
            "identity_model.queries": (16, 1280),
            "identity_model.proj_in.weight": (1280, 512),
            "identity_model.layers.3.mlp.0.weight": (5120, 1280),
            "identity_model.layers.3.norm_face.bias": (1280,),
            "identity_model.proj_out.weight": (2048, 1280),
            "identity_processor.blocks.39.cross_attn.processor.k_proj.weight": (5120, 2048),
        },
    ),
    "motion": (
        16, 16_270_336,
        {
            "motion_model.expression.0.weight": (1024, 256),
            "motion_model.body.2.bias": (1024,),
            "motion_model.residual.2.weight": (2048, 2048),
            "motion_model.proj_out.weight": (5120, 1024),
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_released_sizes_are_named_as_documented(name):
    cfg = build(fantasy.Config, models.get_config("wan_14b").denoiser)
    shapes = table.shapes(TABLES[name], {name: fantasy.abstract_params(cfg)[name]})
    tensors, parameters, some = RELEASED[name]
    assert len(shapes) == tensors
    assert sum(math.prod(shape) for shape in shapes.values()) == parameters
    assert {key: shapes[key] for key in some} == some


@pytest.mark.parametrize("name", TABLES)
def test_there_and_back_gives_every_bit_again(name):
    tree = {name: small.params()[name]}
    tensors = table.to_torch(TABLES[name], tree)
    back = table.to_params(
        TABLES[name], tensors, {name: fantasy.abstract_params(small.CONFIG)[name]}
    )
    jax.tree.map(np.testing.assert_array_equal, back, tree)
