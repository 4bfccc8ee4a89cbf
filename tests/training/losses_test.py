import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.errors import UsageError
from ft_jax.training import losses

SHAPE = (3, 5, 8, 8)
LIP = losses.Lip(0.8, "alone", "region", "whole")


@pytest.fixture
def error():
    return jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, SHAPE), jnp.float32)


def lips(rows: slice, columns: slice) -> jax.Array:
    return jnp.zeros(SHAPE).at[:, :, rows, columns].set(1.0)


def test_the_loss_of_a_region_is_the_mean_over_it(error):
    mask = lips(slice(4, 6), slice(2, 6))
    wanted = np.asarray(error)[:, :, 4:6, 2:6].mean((1, 2, 3))
    np.testing.assert_allclose(losses.region(error, mask), wanted, rtol=1e-6)


def test_a_region_weighs_as_much_as_the_whole_frame(error):
    ratio = losses.region(jnp.ones_like(error), lips(slice(4, 6), slice(2, 6)))
    np.testing.assert_allclose(ratio, losses.whole(jnp.ones_like(error)), rtol=1e-6)


def test_shares_of_cells_weigh_the_mean(error):
    half = 0.5 * lips(slice(4, 6), slice(2, 6))
    whole = lips(slice(4, 6), slice(2, 6))
    np.testing.assert_allclose(losses.region(error, half), losses.region(error, whole), rtol=1e-6)


def test_a_mask_of_one_cell_does_not_explode(error):
    mask = jnp.zeros(SHAPE).at[:, 2, 4, 4].set(1.0)
    floor = 0.01 * 5 * 8 * 8  # cells
    wanted = np.asarray(error)[:, 2, 4, 4] / floor
    np.testing.assert_allclose(losses.region(error, mask), wanted, rtol=1e-6)
    gradient = jax.grad(lambda e: losses.region(e, mask).sum())(error)
    assert float(jnp.abs(gradient).max()) == pytest.approx(1 / floor)


def test_samples_without_a_usable_mask_count_the_whole_frame(error):
    mask = lips(slice(4, 6), slice(2, 6)).at[1].set(0.0)
    chosen = jnp.array([True, True, False])
    each = losses.lip_or_whole(error, mask, chosen, LIP)
    whole, region = losses.whole(error), losses.region(error, mask)
    np.testing.assert_array_equal(each, jnp.array([region[0], whole[1], whole[2]]))
    lip = dataclasses.replace(LIP, without="nothing")
    each = losses.lip_or_whole(error, mask, chosen, lip)
    np.testing.assert_array_equal(each, jnp.array([region[0], 0.0, whole[2]]))


def test_lips_may_be_added_and_may_be_averaged_over_the_frame(error):
    mask = lips(slice(4, 6), slice(2, 6))
    share = 8 / 64  # of the frame that the lips cover
    chosen = jnp.array([True, True, False])
    whole, region = losses.whole(error), losses.region(error, mask)
    wanted = {
        ("alone", "frame"): share * region,
        ("added", "region"): whole + region,
        ("added", "frame"): whole + share * region,
    }
    for (counts, mean_over), values in wanted.items():
        lip = dataclasses.replace(LIP, counts=counts, mean_over=mean_over)
        each = losses.lip_or_whole(error, mask, chosen, lip)
        np.testing.assert_allclose(each, jnp.where(chosen, values, whole), rtol=1e-5)


def test_other_words_for_how_lips_count_are_refused():
    with pytest.raises(UsageError, match=r"lip\.counts: 'twice'; expected alone or added"):
        dataclasses.replace(LIP, counts="twice")


def test_a_weight_without_a_term_is_refused():
    with pytest.raises(ValueError, match="terms"):
        losses.weighted({"one": jnp.zeros(())}, {"one": 1.0, "two": 1.0})


def test_weighted_terms_add_up():
    terms = {"one": jnp.array(2.0), "two": jnp.array(3.0)}
    assert float(losses.weighted(terms, {"one": 0.5, "two": 2.0})) == 7.0


def test_negative_labels_count_for_nothing():
    logits = jnp.asarray(np.random.default_rng(1).normal(size=(2, 4, 5)), jnp.float32)
    labels = jnp.array([[0, 1, -1, -1], [2, -1, -1, 4]])
    log = np.asarray(jax.nn.log_softmax(logits))
    wanted = -np.mean([log[0, 0, 0], log[0, 1, 1], log[1, 0, 2], log[1, 3, 4]])
    assert float(losses.cross_entropy(logits, labels)) == pytest.approx(wanted, rel=1e-6)


def test_the_contrastive_loss_is_least_for_the_right_pairs():
    rows = losses.unit(jnp.asarray(np.random.default_rng(2).normal(size=(6, 8)), jnp.float32))
    right = losses.contrastive(rows, rows, 0.1)
    wrong = losses.contrastive(rows, jnp.roll(rows, 1, axis=0), 0.1)
    assert float(right) < 0.1 < 5.0 < float(wrong)


def test_the_margin_widens_the_angle_to_the_own_centre_alone():
    centres = jnp.eye(3)
    embedding = losses.unit(jnp.array([[1.0, 0.5, 0.2]]))
    plain = losses.margin_logits(embedding, centres, jnp.array([0]), 0.0, 2.0)
    wide = losses.margin_logits(embedding, centres, jnp.array([0]), 0.3, 2.0)
    np.testing.assert_allclose(plain[:, 1:], wide[:, 1:], rtol=1e-6)
    wanted = 2.0 * np.cos(np.arccos(float(plain[0, 0]) / 2.0) + 0.3)
    assert float(wide[0, 0]) == pytest.approx(wanted, rel=1e-5)


def test_movement_is_what_differs_from_the_mean_of_the_known_frames():
    values = jnp.array([[[1.0], [3.0], [99.0]], [[5.0], [5.0], [5.0]]])
    known = jnp.array([[[1], [1], [0]], [[1], [1], [1]]])
    moved = losses.movement(values, known)[..., 0]
    np.testing.assert_allclose(moved, [[-1, 1, 0], [0, 0, 0]])
    nothing = losses.movement(values, jnp.zeros_like(known))
    np.testing.assert_array_equal(nothing, jnp.zeros_like(values))


def test_unknown_values_do_not_enter_a_regression():
    target = jnp.array([[0.0, 100.0], [0.0, 0.0]])
    known = jnp.array([[1.0, 0.0], [1.0, 1.0]])
    predicted = jnp.full((2, 2), 0.5)
    assert float(losses.regression(predicted, target, known)) == pytest.approx(0.125)
