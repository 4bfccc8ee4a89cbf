import jax
import jax.numpy as jnp
import pytest

from ft_jax.training import flops

X, W, V = jnp.ones((4, 8)), jnp.ones((8, 16)), jnp.ones((16, 2))
FIRST, SECOND = 2 * 4 * 8 * 16, 2 * 4 * 16 * 2


def test_a_matrix_counts_once_a_gradient_once_for_each_factor_that_it_flows_through():
    def both(trained, frozen, x):
        return jnp.sum(jnp.tanh(x @ trained) @ frozen)

    assert flops.of_step(both, W, V, X) == 2 * FIRST + 2 * SECOND

    def last(trained, frozen, x):
        return jnp.sum(jnp.tanh(x @ frozen) @ trained)

    assert flops.of_step(last, V, W, X) == FIRST + 2 * SECOND

    def all_trained(trained, x):
        return jnp.sum(jnp.tanh(x @ trained[0]) @ trained[1])

    assert flops.of_step(all_trained, (W, V), X) == 2 * FIRST + 3 * SECOND


def test_attention_behind_something_trained_counts_three_times():
    def loss(trained, x):
        y = x * trained
        return jnp.sum(jax.nn.softmax(y @ y.T) @ y)

    assert flops.of_step(loss, jnp.ones(()), X) == 3 * 2 * (2 * 4 * 4 * 8)


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, lambda f: f])
def test_loops_count_by_their_length_and_what_is_computed_twice_counts_once(wrap):
    def loss(trained, x):
        turn = wrap(lambda carry, w: (jnp.tanh(carry @ w), None))
        return jnp.sum(jax.lax.scan(turn, x, trained)[0])

    # The input of the first turn needs no gradient, but a turn is counted for all.
    assert flops.of_step(loss, jnp.ones((5, 8, 8)), X) == 5 * 3 * (2 * 4 * 8 * 8)


def test_a_part_counts_once_for_each_device_that_has_one():
    mesh = jax.sharding.AbstractMesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, whole = jax.P("data"), jax.P()

    def loss(trained, x):
        parts = jax.shard_map(jnp.matmul, mesh=mesh, in_specs=(rows, whole), out_specs=rows)
        return jnp.sum(parts(x, trained))

    assert flops.of_step(loss, W, X) == 2 * FIRST


def test_a_branch_counts_by_the_dearest():
    def loss(trained, x):
        y = jax.lax.cond(x[0, 0] > 0, lambda a: a @ trained, lambda a: a[:, :1] @ trained[:1], x)
        return jnp.sum(y)

    assert flops.of_step(loss, W, X) == 2 * FIRST


def test_of_kernels_that_are_chosen_by_platform_the_leanest_counts():
    def padded(x, w):
        return (jnp.pad(x, ((0, 4), (0, 0))) @ w)[:4]

    def loss(trained, x):
        return jnp.sum(jax.lax.platform_dependent(x, trained, tpu=padded, default=jnp.matmul))

    assert flops.of_step(loss, W, X) == 2 * FIRST


def test_a_convolution_counts_its_window_and_channels():
    def loss(trained, x):
        return jnp.sum(jax.lax.conv(x, trained, (1, 1), "SAME"))

    image, kernel = jnp.ones((1, 3, 8, 8)), jnp.ones((5, 3, 3, 3))
    assert flops.of_step(loss, kernel, image) == 2 * (2 * 5 * 8 * 8 * 3 * 3 * 3)


def test_what_a_gradient_is_stopped_before_counts_once():
    def loss(trained, frozen, x):
        return jnp.sum(jax.lax.stop_gradient(x @ trained) @ frozen) + jnp.sum(trained)

    assert flops.of_step(loss, W, V, X) == 2 * FIRST + SECOND


def test_devices_are_known_by_the_start_of_their_kind():
    assert flops.peak("NVIDIA H200 NVL") == flops.peak("NVIDIA H200") == 989e12
    assert flops.peak("TPU v5 lite") == 197e12 and flops.peak("TPU v5p") == 459e12
    assert flops.peak("cpu") is None
