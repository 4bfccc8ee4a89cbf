r"""The image-to-video model that everything else is built on: picture and text, no speech.

  python -m ft_jax.cli.train --config=configs/base_i2v.py:mini --workdir=outputs/base \
      --config.data.path=outputs/records

Only the mini one is trained here; larger ones start from released weights by init_from.
What learns: --config.train=full, or lora: low-rank changes of a frozen base (--config.lora.rank).
"""

from ml_collections import ConfigDict

from configs import base

# Those that published LoRAs of Wan change: regex of the linear layers of a block.
LAYERS = "blocks/((self|cross)_attention/(query|key|value|output)|mlp/(hidden|output))"


def get_config(arg: str = "mini") -> ConfigDict:
    """What differs from base; the settings of all three denoiser stages stand here."""
    c = base.get_config(arg)
    is_small = arg in base.SMALL
    c.stage = "base"
    c.num_steps = 4 if arg == "tiny" else (6000 if is_small else 100_000)
    c.optim.groups.lora = (("denoiser/dit/.*", 0.0), ("denoiser/lora/.*", 1.0))
    c.lora = ConfigDict()  # of the base's blocks, where train is lora
    c.lora.rank = 4 if is_small else 32
    c.lora.alpha = 4.0 if is_small else 32.0  # what is added is scaled by alpha / rank
    c.lora.targets = LAYERS
    c.task.noise = ConfigDict()  # levels that training draws
    c.task.noise.sampling = "uniform"  # over the shifted grid; or logit_normal
    c.task.noise.shift = 2.0 if is_small else 5.0  # towards noise; small pictures need less
    c.task.noise.mean = 0.0  # of logit_normal
    c.task.noise.deviation = 1.0
    c.task.noise.weighting = "none"  # or bell
    c.task.drop = ConfigDict()  # probabilities, per sample and independent (paper: 0.1 each)
    c.task.drop.image = 0.1
    c.task.drop.image_takes = "tokens"  # or "picture": condition latents and their mask as well
    c.task.drop.audio = 0.1
    c.task.drop.text = 0.1
    c.task.drop.identity = 0.1
    c.task.lip = ConfigDict()
    c.task.lip.probability = 0.0  # of a sample whose lips count
    c.task.lip.counts = "alone"  # or "added" to the whole frame
    c.task.lip.mean_over = "region"  # or the whole "frame": lips then weigh next to nothing
    c.task.lip.without = "whole"  # a clip without a usable mask: the whole frame, or "nothing"
    c.task.levels = (0.1, 0.3, 0.5, 0.7, 0.9)  # noise levels the held-out loss is told at as well
    c.task.identity = True  # False: the branch does not exist
    c.task.motion = True
    return c
