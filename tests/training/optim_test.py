import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.checkpoints.tree import flatten, unflatten
from ft_jax.errors import UsageError
from ft_jax.training import optim, schedules

PATHS = ("a/dit/kernel", "a/audio/kernel", "a/audio/bias")


def config(**changes):
    values = {"b1": 0.9, "b2": 0.99, "eps": 1e-8, "weight_decay": 0.0, "clip_norm": 0.0}
    values |= {"accumulate": 1, "ema": 0.0, "groups": ((".*", 1.0),)}
    values |= {"schedule": schedules.Config("constant", 0.1, 0, 0.0)}
    return optim.Config(**(values | changes))


def updates(cfg: optim.Config, rates: dict[str, float], gradient: float = 1.0):
    params = unflatten({path: jnp.full((2,), 2.0) for path in rates})
    made = optim.make(cfg, 10, rates)
    gradients = jax.tree.map(lambda x: jnp.full_like(x, gradient), params)
    moved, _ = made.update(gradients, made.init(params), params)
    return {path: float(leaf[0]) for path, leaf in flatten(moved).items()}


def test_the_first_pattern_that_matches_decides():
    groups = (("a/dit/.*", 0.0), (".*/bias", 0.5), (".*", 1.0))
    assert list(optim.multipliers(groups, PATHS).values()) == [0.0, 1.0, 0.5]


def test_a_parameter_that_no_group_covers_is_refused():
    with pytest.raises(UsageError, match="a/audio/bias matches none"):
        optim.multipliers(((".*/kernel", 1.0),), PATHS)


def test_a_pattern_must_match_the_whole_path():
    with pytest.raises(UsageError, match="matches none"):
        optim.multipliers((("a/dit", 0.0), ("a/audio.*", 1.0)), PATHS)


def test_a_group_without_a_parameter_is_refused():
    with pytest.raises(UsageError, match=r"'identity/\.\*' matches nothing"):
        optim.multipliers((("identity/.*", 0.0), (".*", 1.0)), PATHS)


def test_groups_of_what_is_switched_off_are_left_out_and_misspelt_ones_stay():
    groups = (("a/dit/.*", 0.0), ("a/motion/.*", 3.0), ("a/moton/.*", 3.0), ("a/audio/.*", 1.0))
    left = optim.without(groups, PATHS, (*PATHS, "a/motion/kernel"))
    assert left == (groups[0], *groups[2:])


def test_groups_are_chosen_by_name():
    groups = optim.Groups(full=((".*", 1.0),), lora=((".*/lora", 1.0), (".*", 0.0)))
    assert groups.named("lora")[0] == (".*/lora", 1.0)
    with pytest.raises(UsageError, match=r"config\.train: got 'adapter'; expected full or lora"):
        groups.named("adapter")


def test_weight_decay_pulls_on_low_rank_matrices_too():
    moved = updates(config(weight_decay=0.5), {"a/down": 1.0, "a/up": 1.0})
    assert moved["a/down"] == moved["a/up"] == pytest.approx(-0.1 - 0.1 * 0.5 * 2.0, rel=1e-4)


def test_multipliers_scale_the_update():
    moved = updates(config(), {"a/kernel": 1.0, "a/bias": 0.25})
    assert moved["a/kernel"] == pytest.approx(-0.1, rel=1e-4)
    assert moved["a/bias"] == pytest.approx(-0.025, rel=1e-4)


def test_weight_decay_pulls_on_matrices_alone():
    moved = updates(config(weight_decay=0.5), {"a/kernel": 1.0, "a/bias": 1.0, "a/scale": 1.0})
    assert moved["a/kernel"] == pytest.approx(-0.1 - 0.1 * 0.5 * 2.0, rel=1e-4)
    assert moved["a/bias"] == moved["a/scale"] == pytest.approx(-0.1, rel=1e-4)


def test_large_gradients_are_clipped_by_their_common_norm():
    cfg = config(clip_norm=1.0, eps=1.0)  # a large eps shows the size of the gradient
    small = updates(cfg, {"a/kernel": 1.0}, gradient=1.0)["a/kernel"]
    large = updates(cfg, {"a/kernel": 1.0}, gradient=1000.0)["a/kernel"]
    assert large == pytest.approx(small, rel=1e-4)
    assert large == pytest.approx(-0.1 * (0.5**0.5) / (0.5**0.5 + 1), rel=1e-4)


@pytest.mark.parametrize(("kind", "last"), [("constant", 0.1), ("cosine", 0.001)])
def test_schedules_warm_up_and_end_where_they_should(kind, last):
    schedule = schedules.make(schedules.Config(kind, 0.1, 10, 0.001), 100)
    values = np.array([schedule(step) for step in range(101)])
    np.testing.assert_allclose(values[:11], np.linspace(0.0, 0.1, 11), rtol=1e-5)
    assert values[100] == pytest.approx(last, rel=1e-4)
    assert (np.diff(values[10:]) <= 1e-9).all()


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(UsageError, match="warmup_steps: 11; expected 0 to num_steps, 10"):
        schedules.make(schedules.Config("constant", 0.1, 11, 0.0), 10)
