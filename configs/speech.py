r"""The mini speech encoder, on phonemes.

  python -m ft_jax.cli.train --config=configs/speech.py:mini --workdir=outputs/speech \
      --config.data.path=outputs/pixels

The released encoder (wav2vec2-base) is taken as it is (convert).
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "mini") -> ConfigDict:
    """What differs from base."""
    c = base.get_config(arg)
    c.stage = "speech"
    c.num_steps = 4 if arg == "tiny" else 3000
    c.task.tilt = 0.7
    c.task.noise = 0.3
    c.task.smoothing = 0.05
    c.task.closed = (1, 2, 3)  # p, b, m
    # A latent frame hears a set of 17 rows in no order (ft_jax/models/audio.py): where in it a
    # sound lies can only come from rows that know their surroundings (docs/experiments.md).
    c.task.offsets = (-12, -9, -6, -3, 0, 3, 6, 9, 12)  # of 20 ms
    c.optim.weight_decay = 5e-2
    return c
