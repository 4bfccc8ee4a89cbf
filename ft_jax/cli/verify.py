r"""Verifies weights: is everything there, is every number sane, do the networks do their work?

    python -m ft_jax.cli.verify --weights DIR --image face.jpg --audio speech.wav
    python -m ft_jax.cli.verify                        # the model that ships, on a drawn face

Looks at every path, shape and value; runs blocks against diffusers where PyTorch is installed, a
picture through the codec, speech through its encoder, and makes a short clip without guidance by
speech and one with. Prints a table and writes one page (--out). Without --image and --audio a
person and a voice of the drawn world are taken; weights for photographs need real ones.

Where the weights themselves are unsound, nothing is run; a warning (unusual strength) is no fault.
Exit status: 0 all sane, 1 a check failed, 2 wrong input (one line says what), 130 interrupted.
"""

import pathlib
from typing import Any

from absl import flags

from ft_jax.cli import compiled, entry
from ft_jax.errors import UsageError

flags.DEFINE_string("weights", None, "What to verify; default: the shipped model.")
flags.DEFINE_string("image", None, "Picture of a person; default: one of the drawn world.")
flags.DEFINE_string("audio", None, "Recording of speech; default: one of the drawn world.")
flags.DEFINE_string("out", "outputs/verification.md", "The page of results (.md).")
flags.DEFINE_integer("blocks", 2, "Blocks in the step against diffusers.", lower_bound=1)
flags.DEFINE_integer("steps", 30, "Noise levels of the clips.", lower_bound=1)

FAULT_EXIT = 1
TRIALS = "codec, speech encoder, diffusers, clips"


def main(arguments: list[str]) -> int:
    """Reads the inputs, makes the checks, prints the table, writes the page."""
    if arguments:
        raise UsageError(f"{arguments[0]}: not expected here; expected flags only, see --help")
    given = flags.FLAGS
    out = pathlib.Path(given.out)
    from ft_jax.media import file

    file.check_target(out, ".md")
    picture, recording = inputs(given.image, given.audio)
    compiled.keep()
    from ft_jax.checkpoints import bundle, handover
    from ft_jax.config import build
    from ft_jax.eval import findings, soundness
    from ft_jax.models import system

    source = handover.read(given.weights or bundle.SHIPPED)
    made = build(system.System, source.system, source.path)
    system.check(made)
    checks = soundness.shapes(made, source.parts) + soundness.statistics(source.parts)
    if findings.is_sound(checks):
        checks += trials(made, source.parts, picture, recording)
    else:
        checks.append(findings.Check(TRIALS, "skipped", "the weights are not sound"))
    about = {
        "weights": source.path,
        "parameters": f"{soundness.count(source.parts):,}",
        "picture": given.image or "a person of the drawn world",
        "speech": given.audio or "a voice of the drawn world",
    }
    with file.replacing(out) as beside:
        beside.write_text(findings.page(checks, about))
    print(findings.table(checks))
    is_sound = findings.is_sound(checks)
    print(f"{out}: {'sound' if is_sound else 'NOT SOUND'}")
    return 0 if is_sound else FAULT_EXIT


def inputs(image: str | None, audio: str | None) -> tuple[Any, Any]:
    """Picture [H W 3] and speech [x] at 16 kHz, of files or of the drawn world.

    Raises:
      UsageError: A file is not what it should be.
    """
    import numpy as np

    from ft_jax.media import image as pictures
    from ft_jax.media import sound

    if image is None:
        from data_pipeline.world import people, source

        picture = source.render_portrait(people.person(people.indices("heldout")[0]))
    else:
        picture = pictures.read(image)
    if audio is not None:
        return picture, sound.read(audio).speech
    from data_pipeline.world import speech

    return picture, speech.utterances("heldout")[0].samples.astype(np.float32)


def trials(made: Any, parts: Any, picture: Any, recording: Any) -> list[Any]:
    """The checks that run networks; see ft_jax/eval/trial.py."""
    import jax
    import numpy as np

    from ft_jax.eval import trial
    from ft_jax.sampling import portrait
    from ft_jax.sampling.conditions import Encoders
    from ft_jax.sampling.pipeline import Pipeline, Request

    given, denoiser = flags.FLAGS, made.denoiser
    pipeline = Pipeline(made, parts, {"sampler": {"steps": given.steps}})
    sizes = portrait.Sizes(made.height, made.width, made.face.pixels)
    framed = portrait.take(picture, sizes, pipeline.cfg.framing, None).picture
    blocks = min(given.blocks, denoiser.dit.layers)
    checks = trial.against_diffusers(parts["denoiser"], denoiser, blocks)
    # Imported weights are read when they are needed, by whoever runs them.
    small = {name: jax.tree.map(np.asarray, parts[name]) for name in ("codec", "speech")}
    checks.append(trial.codec(small["codec"], made, framed))
    checks.append(trial.speech(Encoders(made, small), recording))
    if denoiser.dit.image_width is None:
        from ft_jax.eval.findings import Check

        return [*checks, Check("clips", "skipped", "a text-to-video model takes no picture")]
    return checks + trial.clips(pipeline, parts, Request(picture, recording))


if __name__ == "__main__":
    entry.run(main)
