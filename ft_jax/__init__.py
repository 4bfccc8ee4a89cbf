"""FantasyTalking (arXiv 2504.04842) in JAX and Flax: a portrait and speech become a talking clip.

From a program:

    from ft_jax import Pipeline, Request
    from ft_jax.media import image, sound, video

    heard = sound.read("speech.wav")
    clip = Pipeline.load().generate(Request(image.read("face.png"), heard.speech))
    video.write("clip.mp4", clip.frames, clip.fps, heard.track, scale=4)

From the command line: `python -m ft_jax.cli.generate --help`.
"""

import typing

if typing.TYPE_CHECKING:
    from ft_jax.sampling.pipeline import Clip as Clip
    from ft_jax.sampling.pipeline import Config as Config
    from ft_jax.sampling.pipeline import Pipeline as Pipeline
    from ft_jax.sampling.pipeline import Request as Request

__all__ = ["Clip", "Config", "Pipeline", "Request"]


def __getattr__(name: str) -> typing.Any:
    # Late, so that commands can check their input before JAX is imported.
    if name in __all__:
        from ft_jax.sampling import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
