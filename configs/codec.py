r"""The video codec on whole clips, after pictures and crops (configs/pictures.py, crops.py).

  python -m ft_jax.cli.train --config=configs/codec.py:mini --workdir=outputs/codec \
      --config.data.path=outputs/pixels --config.init_from=outputs/crops

The released codec is taken as it is (convert); only the mini one is trained here.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "mini") -> ConfigDict:
    """What differs from base."""
    c = base.get_config(arg)
    c.stage = "codec"
    c.num_steps = 4 if arg == "tiny" else 600
    c.task.frames = 5 if arg == "tiny" else 9  # of a sub-clip, 4n + 1
    c.task.crop = 0  # pixels: side of the square that is cut out for training; 0: everything
    c.task.crop_at_face = 0.8  # share of the crops: at mouth or eyes, evenly
    c.task.weights = ConfigDict()
    c.task.weights.pixels = 1.0
    c.task.weights.edges = 0.5  # spatial differences: sharpness without an adversary
    c.task.weights.motion = 1.0  # differences in time
    c.task.weights.mouth = 1.0  # once more, on the mouth area
    c.task.weights.eyes = 1.0  # likewise
    c.task.weights.kl = 3e-4
    c.task.statistics_batches = 1 if arg == "tiny" else 4
    c.data.batch_size = 2 if arg == "tiny" else 4
    c.optim.schedule.rate = 4e-4  # four clips bear no more
    c.optim.schedule.final_rate = 2e-5
    c.optim.weight_decay = 0.0
    return c
