r"""A portrait and speech become a talking clip.

    python -m ft_jax.cli.generate --image face.png --audio speech.wav --out clip.mp4

The picture may be any that Pillow reads, in any size and aspect ratio; the speech any file that
ffmpeg decodes, also a video, of any length. The clip (H.264 and AAC) lasts as long as the speech,
to half a frame. Without --weights it is made by the small model that ships with the package: 64 x
64 pixels, enlarged four times, trained on drawn people.

    --identity other.png                  keep the face of another picture of the person
    --expression 0.9 --body 0.1           lively face, still body
    --expression 0.1,0.9                  livelier and livelier over the clip
    --config.sampler.guidance.audio=6     wider lip movements
    --config=configs/sample.py:fast       a third of the steps

Exit status: 0 done, 2 wrong input (one line says what), 130 interrupted.
"""

import dataclasses
import pathlib
import sys
import time
from typing import Any

from absl import flags

from ft_jax.cli import compiled, entry, progress
from ft_jax.errors import UsageError

flags.DEFINE_string("image", None, "The portrait, the first frame of the clip.")
flags.DEFINE_string("audio", None, "The speech: a sound file, or a video with sound.")
flags.DEFINE_string("out", None, "Where the clip is written (.mp4).")
flags.DEFINE_string("identity", None, "Another picture of the person, to keep the face of.")
flags.DEFINE_string(
    "prompt", "A person talks to the camera.", "What is seen and done; empty for none."
)
flags.DEFINE_string("expression", "0.5", "How much brows, lids and cheeks move, 0 to 1.")
flags.DEFINE_string("body", "0.5", "How much head and shoulders move, 0 to 1.")
flags.DEFINE_integer("seed", 0, "Of everything random; the same seed gives the same clip.")
flags.DEFINE_float("max_seconds", None, "Animate only the beginning of longer speech.")
flags.DEFINE_string(
    "weights", None, "A bundle, folder of weights or run instead of the shipped one."
)
CONFIG = entry.define_config("configs/sample.py")

SHOWN_SIDE = 256  # pixels to which the frames of a small model are enlarged


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What the files hold, checked."""

    picture: Any
    face_picture: Any
    sound: Any
    out: pathlib.Path


def main(arguments: list[str]) -> None:
    """Checks everything a user can get wrong, then loads the model and makes the clip."""
    if arguments:
        raise UsageError(f"{arguments[0]}: not expected here; expected flags only, see --help")
    inputs = read_inputs()
    expression, body = intensity("expression"), intensity("body")
    # JAX takes a second to import: wrong input is reported before.
    compiled.keep()
    from ft_jax.media import video
    from ft_jax.sampling.pipeline import Pipeline, Request

    given = flags.FLAGS
    start = time.monotonic()
    pipeline = Pipeline.load(given.weights, CONFIG.value.to_dict())
    request = Request(
        inputs.picture,
        inputs.sound.speech,
        given.prompt,
        inputs.face_picture,
        expression,
        body,
        given.seed,
    )
    with progress.bar("generating") as report:
        clip = pipeline.generate(request, report)
    scale = max(1, SHOWN_SIDE // min(clip.frames.shape[1:3]))
    video.write(inputs.out, clip.frames, clip.fps, inputs.sound.track, scale=scale)
    for note in clip.notes:
        warn(f"{given.image}: {note}")
    count, height, width = clip.frames.shape[:3]
    parts = f" from {clip.windows} overlapping windows" if clip.windows > 1 else ""
    print(
        f"{inputs.out}: {count / clip.fps:.2f} s, {count} frames of {width * scale} x "
        f"{height * scale} pixels at {clip.fps:g} frames/s{parts}, "
        f"made in {time.monotonic() - start:.0f} s"
    )


def read_inputs() -> Inputs:
    """Reads picture and speech, and sees to it that the clip can be written.

    Raises:
      UsageError: The first thing that is wrong.
    """
    from ft_jax.media import file, image, sound

    given = flags.FLAGS
    paths = {
        "image": pathlib.Path(entry.need("image", "a picture of a person")),
        "audio": pathlib.Path(entry.need("audio", "a sound file with speech")),
    }
    out = pathlib.Path(entry.need("out", "the name of the clip to write, such as clip.mp4"))
    if given.identity:
        paths["identity"] = pathlib.Path(given.identity)
    is_bundle = bool(given.weights) and pathlib.Path(given.weights).suffix == ".safetensors"
    if is_bundle and not file.is_remote(given.weights):  # what others lack is said later
        file.check(pathlib.Path(given.weights), "a bundle of weights (.safetensors)")
    file.check_target(out, ".mp4")
    for name, path in paths.items():
        if path.resolve() == out.resolve():
            raise UsageError(f"{out}: is also --{name}; expected another name for the clip")
    picture = image.read(paths["image"])
    face_picture = image.read(paths["identity"]) if given.identity else None
    speech = sound.read(paths["audio"])
    limit = given.max_seconds
    if limit is not None and limit < sound.MIN_SECONDS:
        raise UsageError(f"--max_seconds={limit}: too short; expected at least {sound.MIN_SECONDS}")
    if limit is not None and speech.seconds > limit:
        warn(
            f"{paths['audio']}: lasts {speech.seconds:.2f} s; only the first {limit:g} s are "
            "animated, because of --max_seconds"
        )
        speech = speech.cut(limit)
    return Inputs(picture, face_picture, speech, out)


def intensity(name: str) -> tuple[float, ...]:
    """The flag's number, or numbers separated by commas.

    Raises:
      UsageError: It holds anything else.
    """
    text = str(flags.FLAGS[name].value)
    try:
        values = tuple(float(value) for value in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0.0 <= value <= 1.0 for value in values):
        raise UsageError(f"--{name}={text}: expected a number from 0 to 1, or several by commas")
    return values


def warn(message: str) -> None:
    """One line on stderr; the clip is made all the same."""
    print(f"ft_jax: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    entry.run(main)
