r"""Stage 1: clip-level audio-visual alignment. The base is frozen, the branches start at zero.

  python -m ft_jax.cli.train --config=configs/stage1_clip.py:mini --workdir=outputs/clip \
      --config.data.path=outputs/records --config.init_from=outputs/base

Ablations: --config.task.identity=False, --config.task.motion=False.
What learns: --config.train=adapter, the branches; lora, those and low-rank changes of the base;
full, everything.
Paper: about 80,000 steps at 1e-4 on 64 accelerators.
"""

from ml_collections import ConfigDict

from configs import base, base_i2v


def get_config(arg: str = "") -> ConfigDict:
    """What differs from the base model's training."""
    c = base_i2v.get_config(arg)
    is_small = arg in base.SMALL
    c.stage = "clip"
    c.num_steps = 4 if arg == "tiny" else (400 if is_small else 80_000)
    c.init_require = "denoiser/dit/.*"
    c.train = "adapter"
    frozen, learns = (("denoiser/dit/.*", rate) for rate in (0.0, 1.0))
    branches = (
        ("denoiser/(audio|identity)/.*", 1.0),
        # How much moves is hardly seen in the error: the mini model has few steps to find it.
        ("denoiser/motion/.*", 3.0 if is_small else 1.0),
    )
    c.optim.groups.adapter = (frozen, *branches)
    c.optim.groups.lora = (frozen, ("denoiser/lora/.*", 1.0), *branches)
    c.optim.groups.full = (learns, *branches)
    c.optim.schedule.kind = "constant"
    if is_small:  # few steps
        c.optim.schedule.rate = 2e-3
        c.task.noise.shift = 5.0  # where what moves is decided
    return c
