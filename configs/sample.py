r"""How clips are made from a trained system: noise levels, guidance, windows, framing.

    python -m ft_jax.cli.generate --image PORTRAIT --audio SPEECH --out clip.mp4 \
        --config.sampler.guidance.audio=6

What is None here is as the weights are best sampled with: `sampling` in configs/models.py.
Read by ft_jax/sampling/pipeline.py (Config).
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(arg: str = "") -> ConfigDict:
    """Settings of sampling; `:fast` takes a third of the steps."""
    if arg not in ("", "fast"):
        raise ValueError(f"variant {arg!r}; expected none or 'fast'")
    c = ConfigDict()

    c.sampler = ConfigDict()
    c.sampler.solver = "euler"  # or "unipc": good with a third of the steps
    c.sampler.steps = 10 if arg == "fast" else 30
    c.sampler.shift = placeholder(float)  # of the noise levels towards noise
    c.sampler.rows_at_once = 8  # windows that go through the network together
    c.sampler.guidance = ConfigDict()
    c.sampler.guidance.text = placeholder(float)  # 1 switches it off; useful range 1-7
    # 1 switches it off; useful range 3-7, higher: wider lips
    c.sampler.guidance.audio = placeholder(float)
    # The unconditional branch exists where the guidance by text is not 1. False: there it does not
    # know the face, nor the intensities (it has neutral ones).
    c.sampler.guidance.identity = True
    c.sampler.guidance.motion = True

    c.negative_prompt = ""  # of the unconditional branch; "" is the dropped prompt of training
    c.hearing = "frame"  # or "clip": all speech of a window for each of its frames (stage 1 alone)
    c.overlap = 3  # latent frames (of 4 frames each) that the windows of a long clip share

    c.framing = ConfigDict()  # of a picture that does not have the model's aspect ratio
    c.framing.smallest_face = 0.35  # share of the height; a face smaller than this
    c.framing.face = 0.5  # is brought to this
    c.framing.center_x = 0.5  # where the face goes, if the picture allows
    c.framing.center_y = 0.5

    c.codec = ConfigDict()
    # Latent frames decoded at a time: memory does not grow with the clip, which takes no longer
    # (10 s of 64 pixels on one core: 337 instead of 599 MB, 1.9 instead of 2.3 s). 0: all.
    c.codec.chunk = 9
    c.codec.tiles = ConfigDict()
    # "average" decodes in tiles as the release does, "blend" as diffusers (sizes 32, strides 24):
    # large pictures in little memory, of slightly other pixels.
    c.codec.tiles.rule = "none"
    c.codec.tiles.size = (30, 52)  # rows and columns of latents (of 8 pixels each)
    c.codec.tiles.stride = (15, 26)
    return c
