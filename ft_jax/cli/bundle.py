r"""Puts trained parts together into one file: the form in which a system is shipped and run.

  python -m ft_jax.cli.bundle --config=configs/models.py:mini --out=outputs/encoders.safetensors \
      outputs/codec outputs/speech outputs/alignment outputs/face outputs/landmarks

Arguments are folders of runs (their newest checkpoint; RUN/checkpoints/STEP or RUN/checkpoints/best
another one) and other bundles; a part that several of them have comes from the last. Weights are
moving averages, stored as bfloat16. Nothing in the file is ever executed. --keep writes some of the
parameters only, such as 'denoiser/(audio|identity|motion)/.*'.

Tests: tests/checkpoints/handover_test.py.
"""

import re

from absl import flags

from ft_jax.cli import entry

_CONFIG = entry.define_config("configs/models.py:mini")
_KEEP = flags.DEFINE_string("keep", ".*", "Regex: the paths of the parameters to write.")
_OUT = flags.DEFINE_string("out", None, "File to write (.safetensors).")


def main(arguments: list[str]) -> None:
    """Flags, then the work of ft_jax.checkpoints."""
    from ft_jax.checkpoints import bundle, handover
    from ft_jax.checkpoints.tree import fingerprint, split
    from ft_jax.config import build, to_dict
    from ft_jax.errors import UsageError
    from ft_jax.models import system as systems

    out = entry.need("out", "a file to write")
    if not arguments:
        raise UsageError("ft_jax.cli.bundle: no parts; expected folders of runs or bundles")
    sources = [handover.read(path) for path in arguments]
    names = ("denoiser", "codec", "speech", "text", "image", "face", "landmarks")
    settings, parts = handover.assemble(_CONFIG.value.to_dict(), sources, names)
    system = build(systems.System, settings, out)
    systems.check(system)
    encoders = {
        name: fingerprint(to_dict(getattr(system, name)), parts[name])
        for name in names[1:]
        if name in parts
    }
    for source in sources:
        handover.check_encoders(source, encoders, out)
    kept, _ = split(parts, lambda path: re.fullmatch(_KEEP.value, path) is not None)
    if not kept:
        raise UsageError(
            f"--keep: {_KEEP.value!r} matches no parameter; expected a pattern of whole paths"
        )
    bundle.save(out, to_dict(system), kept)
    print(f"{out}: {', '.join(sorted(kept))}")


if __name__ == "__main__":
    entry.run(main)
