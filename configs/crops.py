r"""The video codec on crops of clips, mostly of mouth or eyes: a quarter of the pixels.

  python -m ft_jax.cli.train --config=configs/crops.py:mini --workdir=outputs/crops \
      --config.data.path=outputs/pixels --config.init_from=outputs/pictures

Here the codec learns time. Whole clips come after: configs/codec.py starts from here.
"""

from ml_collections import ConfigDict

from configs import codec


def get_config(arg: str = "mini") -> ConfigDict:
    """What differs from the training on whole clips."""
    c = codec.get_config(arg)
    c.num_steps = 4 if arg == "tiny" else 4500
    c.task.crop = 8 if arg == "tiny" else 32
    c.data.batch_size = 2 if arg == "tiny" else 8
    c.optim.schedule.rate = 1.5e-3
    return c
