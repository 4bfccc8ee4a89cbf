r"""The video codec on single pictures, from nothing: many different ones in each batch, cheaply.

  python -m ft_jax.cli.train --config=configs/pictures.py:mini --workdir=outputs/pictures \
      --config.data.path=outputs/pixels

Clips come after: configs/crops.py starts from here.
"""

from ml_collections import ConfigDict

from configs import codec


def get_config(arg: str = "mini") -> ConfigDict:
    """What differs from the training on clips."""
    c = codec.get_config(arg)
    c.num_steps = 4 if arg == "tiny" else 4000
    c.task.frames = 1
    c.task.weights.mouth = 0.5
    c.task.weights.eyes = 0.0
    c.data.batch_size = 2 if arg == "tiny" else 16
    c.optim.schedule.kind = "constant"
    c.optim.schedule.rate = 2e-3
    return c
