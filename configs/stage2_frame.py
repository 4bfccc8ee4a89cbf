r"""Stage 2: frame-level lip alignment, from the averaged weights of stage 1.

  python -m ft_jax.cli.train --config=configs/stage2_frame.py:mini --workdir=outputs/frame \
      --config.data.path=outputs/records --config.init_from=outputs/clip

Ablations: --config.task.lip.probability=0 (no lip mask); frame level only: init_from the base and
--config.init_require='denoiser/dit/.*'; branches as in stage 1. What learns: as in stage 1, whose
low-rank changes (lora) go on learning.
Paper: about 20,000 steps at 1e-4, lips alone with probability 0.8.
"""

from ml_collections import ConfigDict

from configs import base, stage1_clip


def get_config(arg: str = "") -> ConfigDict:
    """What differs from stage 1."""
    c = stage1_clip.get_config(arg)
    is_small = arg in base.SMALL
    c.stage = "frame"
    c.num_steps = 4 if arg == "tiny" else (2600 if is_small else 20_000)
    c.init_require = ".*"  # all of stage 1
    c.watch.preview.hearing = "frame"
    c.task.lip.probability = 0.8  # paper: 1 - eta
    c.optim.schedule.kind = "cosine"
    if is_small:
        c.task.noise.shift = 3.0  # as it is sampled
    return c
