r"""The mini face encoder, on who is who.

  python -m ft_jax.cli.train --config=configs/face.py:mini --workdir=outputs/face \
      --config.data.path=outputs/pixels

The released encoder (ArcFace IResNet) is taken as it is (convert).
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "mini") -> ConfigDict:
    """What differs from base."""
    c = base.get_config(arg)
    c.stage = "face"
    c.num_steps = 4 if arg == "tiny" else 1200
    c.task.persons = 2048
    c.task.crops = 2  # of each clip
    c.task.margin = 0.3
    c.task.scale = 16.0
    c.task.shift = 2
    c.task.colour = 0.1
    c.task.noise = 0.1
    c.data.batch_size = 2 if arg == "tiny" else 32
    return c
