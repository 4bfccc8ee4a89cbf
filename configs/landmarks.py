r"""The measuring instrument of the drawn world.

python -m ft_jax.cli.train --config=configs/landmarks.py:mini --workdir=outputs/landmarks \
      --config.data.path=outputs/pixels
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "mini") -> ConfigDict:
    """What differs from base."""
    c = base.get_config(arg)
    c.stage = "landmarks"
    c.num_steps = 4 if arg == "tiny" else 5000
    c.task.frames = 2 if arg == "tiny" else 8  # random ones of each clip
    c.task.visible_weight = 1.0
    c.task.movement_weight = 1.0
    c.task.colour = 0.1
    c.task.noise = 0.1
    c.data.batch_size = 2 if arg == "tiny" else 8
    return c
