"""The model that comes with the package: whole, small, trained, and of the sizes in configs/."""

import jax
import numpy as np
from flax.core import meta

from configs import models
from ft_jax.checkpoints import bundle
from ft_jax.checkpoints.tree import flatten
from ft_jax.config import build
from ft_jax.models import fantasy
from ft_jax.models.system import System, check

STAGE_1 = bundle.SHIPPED.with_name(f"{bundle.SHIPPED.stem}_stage1.safetensors")
BRANCHES = {"audio", "identity", "motion"}
LARGEST = 25e6  # bytes of everything together


def _shapes(params):
    return {path: leaf.shape for path, leaf in flatten(params).items()}


def test_every_part_is_there_and_all_are_small():
    settings, parts = bundle.load(bundle.SHIPPED)
    system = build(System, settings)
    check(system)
    assert set(parts) == {"denoiser", "codec", "speech", "text", "image", "face", "landmarks"}
    assert sum(path.stat().st_size for path in bundle.SHIPPED.parent.iterdir()) <= LARGEST
    for part in parts.values():
        for path, leaf in flatten(part).items():
            assert np.isfinite(leaf.astype(np.float32)).all(), path


def test_the_denoiser_has_the_sizes_of_the_settings_and_its_branches_are_trained():
    wanted = build(System, models.get_config("mini"))
    settings, parts = bundle.load(bundle.SHIPPED)
    assert build(System, settings).sampling == wanted.sampling
    expected = _shapes(meta.unbox(fantasy.abstract_params(wanted.denoiser)))
    assert _shapes(parts["denoiser"]) == expected
    earlier = bundle.load(STAGE_1)[1]["denoiser"]
    assert set(earlier) == BRANCHES
    assert _shapes(earlier) == {k: v for k, v in expected.items() if k.split("/")[0] in BRANCHES}
    for tree in (parts["denoiser"], earlier):
        for path in ("audio/key", "audio/value", "identity/key", "identity/value"):
            branch, name = path.split("/")
            assert np.any(jax.tree.leaves(tree[branch][name])[0]), path  # they began at zero
