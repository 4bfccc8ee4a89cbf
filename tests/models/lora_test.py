"""The low-rank change: nothing at first, where it should be, the same when it is merged."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from ft_jax.checkpoints.tree import flatten
from ft_jax.errors import UsageError
from ft_jax.models import fantasy, lora
from ft_jax.models.audio import frame_windows
from tests.models import small

LORA = lora.Config(3, 4.5, "blocks/(self|cross)_attention/(query|output)|blocks/mlp/hidden")
CONFIG = dataclasses.replace(small.CONFIG, lora=LORA)
BASE = fantasy.Config(dataclasses.replace(small.DIT, layers=1), None, None, None)
WINDOWS = frame_windows(small.TOKENS, small.FRAMES)
TARGETS = ("cross_attention/output", "cross_attention/query", "mlp/hidden")
TARGETS += ("self_attention/output", "self_attention/query")


@functools.cache
def made(cfg: fantasy.Config):
    """Parameters as training starts with them."""
    return jax.jit(lambda: fantasy.init(cfg, jax.random.key(0)))()


@functools.cache
def fresh():
    """The matrices alone."""
    dit = fantasy.abstract_params(small.CONFIG)["dit"]
    return meta.unbox(lora.init(LORA, dit, jax.random.key(0)))


def test_a_fresh_change_leaves_the_model_bit_for_bit():
    latents, sigma, conditions = small.inputs()
    cfg = dataclasses.replace(BASE, lora=LORA)
    params = {"dit": small.params(BASE)["dit"], "lora": made(cfg)["lora"]}
    # Each operation on its own: in a larger program the compiler fuses, and rounds, differently.
    with jax.disable_jit():
        without = fantasy.apply({"dit": params["dit"]}, BASE, latents, sigma, conditions)
        found = fantasy.apply(params, cfg, latents, sigma, conditions)
    np.testing.assert_array_equal(found, without)


def test_the_rest_of_the_tree_and_its_draws_do_not_know_of_the_change():
    changed, plain = flatten(made(dataclasses.replace(BASE, lora=LORA))), flatten(made(BASE))
    rest = {path: leaf for path, leaf in changed.items() if not path.startswith("lora/")}
    assert len(changed) > len(rest) and rest.keys() == plain.keys()
    for path, leaf in plain.items():
        np.testing.assert_array_equal(rest[path], leaf, err_msg=path)


def test_only_the_targets_have_matrices_of_the_rank():
    shapes = {path: leaf.shape for path, leaf in flatten(fresh()).items()}
    assert list(shapes) == [f"blocks/{name}/{leaf}" for name in TARGETS for leaf in ("down", "up")]
    assert shapes["blocks/mlp/hidden/down"] == (2, 24, 3)
    assert shapes["blocks/mlp/hidden/up"] == (2, 3, 32)


def test_matrices_lie_where_their_kernel_does():
    boxed = flatten(fantasy.abstract_params(CONFIG)["lora"])
    assert boxed["blocks/self_attention/output/down"].names == ("layers", "heads", None)
    assert boxed["blocks/self_attention/output/up"].names == ("layers", None, "embed")


def test_a_layers_draw_does_not_depend_on_the_other_targets():
    dit = fantasy.abstract_params(CONFIG)["dit"]
    one = dataclasses.replace(LORA, targets="blocks/mlp/hidden")
    alone = meta.unbox(lora.init(one, dit, jax.random.key(0)))
    down = alone["blocks"]["mlp"]["hidden"]["down"]
    np.testing.assert_array_equal(down, fresh()["blocks"]["mlp"]["hidden"]["down"])
    assert float(jnp.std(down)) == pytest.approx(24**-0.5, rel=0.2)


@pytest.mark.parametrize("changes", [{}, {"scan": False}, {"remat": "full"}], ids=str)
def test_the_merged_model_computes_the_same(changes):
    cfg = dataclasses.replace(CONFIG, dit=dataclasses.replace(small.DIT, **changes))
    params, given = small.params(CONFIG), small.inputs()
    plain = jax.tree.map(jnp.asarray, lora.merged(LORA, params))
    assert "lora" not in plain
    whole = small.apply(plain, small.CONFIG, *given, WINDOWS)
    np.testing.assert_allclose(small.apply(params, cfg, *given, WINDOWS), whole, atol=1e-5)
    bare = small.apply(small.params(CONFIG) | {"dit": params["dit"]}, small.CONFIG, *given, WINDOWS)
    assert np.abs(bare - whole).max() > 0.1


def test_merging_keeps_types_and_reads_kernels_when_they_are_asked_for():
    params = jax.tree.map(lambda x: np.asarray(x).astype(jnp.bfloat16), small.params(CONFIG))
    kernel = lora.merged(LORA, params)["dit"]["blocks"]["mlp"]["hidden"]["kernel"]
    own, change = params["dit"]["blocks"]["mlp"]["hidden"]["kernel"], params["lora"]["blocks"]
    down, up = (change["mlp"]["hidden"][name].astype(np.float32) for name in ("down", "up"))
    wanted = own.astype(np.float32) + 1.5 * np.matmul(down, up)
    assert kernel.dtype == own.dtype and not isinstance(kernel, np.ndarray)
    np.testing.assert_array_equal(np.asarray(kernel), wanted.astype(jnp.bfloat16))


def test_cached_keys_are_changed_too():
    cfg = dataclasses.replace(CONFIG, lora=dataclasses.replace(LORA, targets=".*"))
    params, (latents, sigma, conditions) = small.params(cfg), small.inputs()

    @functools.partial(jax.jit, static_argnums=1)
    def cached(params, cfg):
        prepared = fantasy.prepare(params, cfg, conditions, WINDOWS)
        return fantasy.denoise(params, cfg, latents, sigma, prepared)

    whole = small.apply(params, cfg, latents, sigma, conditions, WINDOWS)
    np.testing.assert_allclose(cached(params, cfg), whole, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rank": 0}, r"lora\.rank: 0; expected at least 1"),
        ({"alpha": 0.0}, r"lora\.alpha: 0\.0; expected a positive number"),
        ({"targets": "("}, r"lora\.targets: '\(' \(.+\); expected a regular expression"),
    ],
)
def test_wrong_settings_are_refused(changes, said):
    with pytest.raises(UsageError, match=said):
        dataclasses.replace(LORA, **changes)


def test_targets_outside_of_the_blocks_are_refused():
    cfg = dataclasses.replace(LORA, targets="head/output")
    with pytest.raises(UsageError, match=r"'head/output' matches none; expected some of blocks/"):
        lora.init(cfg, fantasy.abstract_params(small.CONFIG)["dit"], jax.random.key(0))


def test_settings_without_their_parameters_are_refused():
    with pytest.raises(UsageError, match="denoiser/lora: no parameters"):
        fantasy.apply(small.params(), CONFIG, *small.inputs())
