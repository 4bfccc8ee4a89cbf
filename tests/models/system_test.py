"""All sizes of one model family fit each other, or the message says which do not."""

import dataclasses

import pytest

from configs import models
from ft_jax.config import build, to_dict
from ft_jax.errors import UsageError
from ft_jax.models import system


def made(name):
    return build(system.System, models.get_config(name).to_dict())


@pytest.mark.parametrize("name", sorted(models.SYSTEMS))
def test_every_system_fits_and_survives_a_round_trip_as_plain_values(name):
    whole = made(name)
    system.check(whole)
    assert build(system.System, to_dict(whole)) == whole


def test_latents_of_a_clip():
    assert made("mini").latent_shape == (9, 8, 8, 16)
    assert system.latent_shape(made("mini"), 5) == (2, 8, 8, 16)
    with pytest.raises(UsageError, match=r"frames: 6; expected 4n \+ 1"):
        system.latent_shape(made("mini"), 6)


def test_all_misfits_are_named_at_once():
    whole = made("mini")
    broken = dataclasses.replace(
        whole, frames=32, height=60, speech=dataclasses.replace(whole.speech, width=80)
    )
    with pytest.raises(UsageError) as caught:
        system.check(broken)
    for fault in ("speech.width is 80", "height is 60", "frames is 32"):
        assert fault in str(caught.value)
