r"""The mini image and text encoders, on which caption belongs to which picture.

  python -m ft_jax.cli.train --config=configs/alignment.py:mini --workdir=outputs/alignment \
      --config.data.path=outputs/pixels

The released encoders (CLIP ViT-H, UMT5-XXL) are taken as they are (convert).
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "mini") -> ConfigDict:
    """What differs from base."""
    c = base.get_config(arg)
    c.stage = "alignment"
    c.num_steps = 4 if arg == "tiny" else 1000
    c.task.temperature = 0.07
    c.task.colour = 0.05  # small: captions name colours
    c.task.noise = 0.05
    c.data.batch_size = 2 if arg == "tiny" else 48  # the others in a batch are the wrong answers
    c.optim.weight_decay = 5e-2
    return c
