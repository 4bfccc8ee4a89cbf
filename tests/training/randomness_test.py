import jax
import numpy as np
import pytest

from ft_jax.training import randomness


def bits(key: jax.Array) -> tuple[int, ...]:
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_every_step_and_purpose_has_its_own_key():
    keys = {
        bits(randomness.draw(randomness.step_key(seed, step), purpose))
        for seed in (0, 1)
        for step in (0, 1, 2)
        for purpose in randomness.PURPOSES
    }
    assert len(keys) == 2 * 3 * len(randomness.PURPOSES)


def test_a_key_depends_on_seed_step_and_purpose_alone():
    def make() -> tuple[int, ...]:
        return bits(randomness.draw(randomness.step_key(7, 11), "noise"))

    first = make()
    jax.random.normal(randomness.step_key(7, 10))
    assert make() == first


def test_an_unknown_purpose_is_refused():
    with pytest.raises(ValueError, match="purpose 'lips'"):
        randomness.draw(randomness.step_key(0, 0), "lips")


def test_purposes_keep_their_numbers():
    # Old runs draw by them: append, never insert.
    first = ("init", "noise", "sigma", "drop_image", "drop_audio", "drop_text", "drop_identity")
    assert randomness.PURPOSES[:7] == first


def test_what_happens_does_so_as_often_as_asked():
    drawn = randomness.happens(randomness.step_key(0, 0), "lip", 0.8, 20_000)
    assert abs(float(drawn.mean()) - 0.8) < 0.01
