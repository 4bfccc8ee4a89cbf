r"""Published weights in, and back out.

  python -m ft_jax.cli.convert import --config=configs/models.py:wan_14b --out=weights/wan \
      Wan2.1-I2V-14B-720P fantasytalking_model.ckpt wav2vec2-base-960h glintr100.onnx
  python -m ft_jax.cli.convert export --weights=weights/wan --format=fantasytalking \
      --out=fantasytalking_model.ckpt

import   Arguments are files and folders: original Wan, diffusers, ComfyUI (also fp8 with scales),
         Hugging Face wav2vec2 or HuBERT, FantasyTalking, ArcFace (torch or ONNX), LoRA under
         ComfyUI's names (rank, alpha and layers are the file's), and weights that were imported
         before (a folder or bundle, whose parts are taken over as they are, with their settings).
         What a file is, is read from its keys. The result is one folder that every command takes as
         weights. Parts may be missing: the branches of the denoiser that are, are switched off.
export   --weights is such a folder, a bundle or a run. A whole DiT is written with its LoRA merged
         into it (its file has no place for one); lora_comfyui writes the LoRA alone. CLIP is
         written with what its file held and nothing here reads (last layer, text tower), where it
         came from a file of the same format.

Numbers keep their type unless --dtype says otherwise; fp8 becomes bfloat16. A file that does not
hold exactly what the sizes of --config need is refused, and nothing is written.

Tests: tests/cli/convert_test.py.
"""

import logging
import math
import pathlib
from collections.abc import Iterator
from typing import Any

from absl import flags

from ft_jax.cli import entry

_CONFIG = entry.define_config("configs/models.py:wan_14b")
_OUT = flags.DEFINE_string("out", None, "File or folder to write; must not exist.")
_WEIGHTS = flags.DEFINE_string("weights", None, "export: the folder, bundle or run to read.")
_FORMAT = flags.DEFINE_string("format", None, "export: the published format to write.")
_DTYPE = flags.DEFINE_enum(
    "dtype", None, ["float32", "bfloat16", "float16"], "Type of all numbers; default: as they are."
)
_SHARD_GB = flags.DEFINE_float("shard_gb", 9.5, "export: size of one file of a sharded folder.")


def main(arguments: list[str]) -> None:
    """Which way, then the work of ft_jax.convert."""
    from ft_jax.errors import UsageError

    # Orbax writes a traceback of its own when a disk is full, beside the error that says so.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    way, sources = (arguments[0], arguments[1:]) if arguments else ("no command", [])
    if way == "import":
        import_weights(sources)
    elif way == "export":
        if sources:
            raise UsageError(f"{sources[0]}: not expected here; expected flags only, see --help")
        export_weights()
    else:
        raise UsageError(f"{way}: unknown; expected import or export")


def import_weights(sources: list[str]) -> None:
    """Files and folders -> one folder of weights.

    Raises:
      UsageError: A source cannot be used, or two of them hold the same part.
    """
    from ft_jax.checkpoints import weights
    from ft_jax.config import build, to_dict
    from ft_jax.errors import UsageError
    from ft_jax.models import system as systems

    out = pathlib.Path(entry.need("out", "a folder to write"))
    if not sources:
        raise UsageError("ft_jax.cli.convert: no weights; expected files or folders to import")
    weights.check_target(out)
    system = _with_low_rank(sources, build(systems.System, _CONFIG.value.to_dict()))
    systems.check(system)
    settings, leaves = to_dict(system), dict[str, Any]()
    origin: dict[str, str] = {}
    for name, part, found, own in _found(sources, system):
        if part in origin:
            raise UsageError(f"{name}: holds {part}, as {origin[part]} does; expected one of them")
        origin[part] = name
        leaves |= found
        if own is not None:
            root, _, branch = part.partition("/")
            place, key = (settings[root], branch) if branch else (settings, root)
            place[key] = own
    for branch in ("audio", "identity", "motion", "lora"):
        if f"denoiser/{branch}" not in origin:
            settings["denoiser"][branch] = None
    systems.check(build(systems.System, settings))
    weights.save(out, settings, leaves)
    size = sum(leaf.dtype.itemsize * math.prod(leaf.shape) for leaf in leaves.values())
    print(f"{out}: {', '.join(sorted(origin))}; {len(leaves)} arrays, {size / 1e9:.2f} GB")


def _with_low_rank(sources: list[str], system: Any) -> Any:
    """The system with the low-rank changes (LoRA) of a published file, and their settings."""
    from ft_jax.checkpoints import bundle, weights
    from ft_jax.convert import folder, lora

    for source in sources:
        if not weights.is_weights(source) and not bundle.is_bundle(source):
            for published in folder.open_all(source):
                system = lora.adopted(system, published.tensors)
    return system


def _found(
    sources: list[str], system: Any
) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any] | None]]:
    """(file, part, {path: leaf}, settings of the part if it brings any) of all in the sources."""
    import numpy as np

    from ft_jax.checkpoints import bundle, weights
    from ft_jax.convert import folder, formats

    dtype = np.dtype(_DTYPE.value) if _DTYPE.value else None
    for source in sources:
        if weights.is_weights(source) or bundle.is_bundle(source):
            for part, (found, own) in _taken_over(source, dtype).items():
                yield source, part, found, own
            continue
        for published in folder.open_all(source):
            fmt, found = formats.leaves(published, system, dtype)
            yield str(published.path), fmt.part, found, None


def _taken_over(source: str, dtype: Any) -> dict[str, tuple[dict[str, Any], Any]]:
    """The parts of weights that were imported before: {part: ({path: leaf}, settings or None)}."""
    from ft_jax.checkpoints import handover
    from ft_jax.checkpoints.tree import flatten
    from ft_jax.config import build, to_dict
    from ft_jax.lazy import cast
    from ft_jax.models.system import REST, System

    read = handover.read(source)
    made = to_dict(build(System, read.system, source))
    parts: dict[str, tuple[dict[str, Any], Any]] = {}
    for path, leaf in flatten(read.parts).items():
        root, branch, *_ = path.split("/")
        part, own = root, made.get(root)
        if root in ("denoiser", REST):
            part, own = f"{root}/{branch}", own and own[branch]
        parts.setdefault(part, ({}, own))[0][path] = cast(leaf, dtype or leaf.dtype)
    return parts


def export_weights() -> None:
    """A folder of weights, a bundle or a run -> one published format."""
    import numpy as np

    from ft_jax.checkpoints import handover
    from ft_jax.checkpoints.tree import flatten, unflatten
    from ft_jax.config import build
    from ft_jax.convert import export, formats
    from ft_jax.lazy import cast
    from ft_jax.models.system import System

    fmt = formats.named(entry.need("format", f"one of {', '.join(formats.FORMATS)}"))
    out = pathlib.Path(entry.need("out", "a file or folder to write"))
    export.check_target(fmt, out)
    source = handover.read(entry.need("weights", "a folder of weights, a bundle or a run"))
    params = flatten(source.parts)
    if _DTYPE.value:
        params = {path: cast(leaf, np.dtype(_DTYPE.value)) for path, leaf in params.items()}
    system = build(System, source.system, source.path)
    tree = unflatten(params)
    written = export.write(fmt, system, tree, out, round(_SHARD_GB.value * 1e9))
    merged = ", LoRA merged" * (fmt.part == "denoiser/dit" and system.denoiser.lora is not None)
    print(f"{out}: {fmt.name}, {len(written)} file{'s' * (len(written) != 1)}{merged}")
    if fmt.carried and not formats.carried(fmt, tree):
        print(
            f"{out}: without the tensors that nothing here reads, as the weights did not come from "
            f"a file of {fmt.name}; PyTorch needs strict=False"
        )


if __name__ == "__main__":
    entry.run(main)
