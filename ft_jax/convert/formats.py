"""Every published weight format: one line each, and what is done with such a line.

A format is a table, what it is a part of, a prefix of keys, and the kind of file. Files are told
apart by their keys alone: the naming that has most of a file's keys is what the file looks like.

    recognise(weights, system)        the Format, and the tensors without its prefix
    leaves(weights, system, dtype)    {path: Lazy} of one part of the system
    tensors(fmt, system, params)      what export writes: layout of the file, and its tensors

Nothing is read before all keys, shapes and types are right. To add a format, add its line to
`FORMATS`; import, export and their tests then know it.

Tests: tests/convert/formats_test.py (there and back in every format), tests/cli/convert_test.py.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import ml_dtypes
import numpy as np

from ft_jax.convert import (
    arcface,
    clip,
    fantasytalking,
    identity,
    lora,
    motion,
    syncnet,
    table,
    umt5,
    wan_dit,
    wan_vae,
    wav2vec2,
)
from ft_jax.convert.folder import Weights
from ft_jax.convert.safetensors_file import Layout
from ft_jax.convert.table import Table, Tree
from ft_jax.errors import UsageError
from ft_jax.lazy import Lazy, cast
from ft_jax.models import lora as low_rank
from ft_jax.models import system as systems
from ft_jax.models.system import System

Shapes = Mapping[str, tuple[int, ...]]
FLOATS = tuple(map(np.dtype, (np.float32, ml_dtypes.bfloat16, np.float16)))


@dataclasses.dataclass(frozen=True)
class Format:
    """One published form of one part of a system.

    Attributes:
        name: for --format.
        part: of the system; "denoiser/dit" is one branch of the denoiser.
        table: for a system's sizes.
        kind: "folder" is safetensors in shards with an index, "file" one such file, "torch" a file
            of PyTorch.
        stem: name of the files in a folder.
        prefixes: what may stand before every key; the first is written.
        groups: dictionaries within a torch file, by the first word of the keys.
        joined: changes tensors on the way in.
        apart: undoes `joined`, one tensor at a time.
        sizes: says in words what a file holds, from its shapes.
        metadata: settings that shapes do not tell, for the header of a safetensors file.
        settings: config.json of a folder, by which PyTorch's libraries build the model.
        told: settings that the file keeps as tensors: further leaves {path: array} of the tree.
        carried: tensors that the table ignores are kept beside the parts and written again, as
            programs that load the file ask for them.
    """

    name: str
    part: str
    table: Callable[[System], Table]
    kind: Literal["folder", "file", "torch"]
    stem: str = "model"
    prefixes: tuple[str, ...] = ("",)
    groups: tuple[str, ...] = ()
    joined: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda tensors: tensors
    apart: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda tensors: tensors
    sizes: Callable[[Shapes], str] = lambda shapes: ""
    metadata: Callable[[System], Mapping[str, str]] = lambda system: {}
    settings: Callable[[System], Mapping[str, Any]] | None = None
    told: Callable[[System, Tree], Mapping[str, np.ndarray]] = lambda system, tree: {}
    carried: bool = False


def _dit_sizes(shapes: Shapes) -> str:
    width, channels = shapes.get("patch_embedding.weight", (0, 0))[:2]
    blocks = {key.split(".")[1] for key in shapes if key.startswith("blocks.")}
    # Noise alone, or noise, picture and mask.
    purpose = "text to video" if channels <= 16 else "image to video"
    return f"a Wan DiT for {purpose}, {len(blocks)} blocks of width {width}"


def _audio_sizes(shapes: Shapes) -> str:
    widths = {shape[0] for key, shape in shapes.items() if ".v_proj." in key}
    blocks = sum(".v_proj." in key for key in shapes)
    return f"a speech branch of {blocks} blocks of width {' or '.join(map(str, sorted(widths)))}"


def _face_sizes(shapes: Shapes) -> str:
    layers = [
        len({key.split(".")[1] for key in shapes if key.startswith(f"layer{level}.")})
        for level in range(1, 5)
    ]
    return f"an ArcFace encoder of {', '.join(map(str, layers))} blocks"


def _apart(spelling: int) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    def split(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        if wav2vec2.POSITION not in tensors:
            return tensors
        return wav2vec2.unfold(tensors, spelling)

    return split


def _settings(
    branch: str, tell: Callable[[Any], Mapping[str, str]]
) -> Callable[[System], Mapping[str, str]]:
    return lambda system: tell(getattr(system.denoiser, branch))


_DIT = functools.partial(
    Format, part="denoiser/dit", stem="diffusion_pytorch_model", sizes=_dit_sizes
)
_AUDIO = functools.partial(
    Format,
    part="denoiser/audio",
    sizes=_audio_sizes,
    metadata=_settings("audio", fantasytalking.metadata),
)
_SPEECH = functools.partial(
    Format,
    part="speech",
    table=lambda system: wav2vec2.WAV2VEC2,
    kind="folder",
    prefixes=("", "wav2vec2.", "hubert."),
    joined=wav2vec2.fold,
    settings=lambda system: wav2vec2.settings(system.speech),
)
_LISTED = (
    _DIT(
        "wan",
        table=lambda system: wan_dit.ORIGINAL,
        kind="folder",
        settings=lambda system: wan_dit.settings(system.denoiser.dit),
    ),
    _DIT(
        "wan_comfyui",
        table=lambda system: wan_dit.ORIGINAL,
        kind="file",
        prefixes=("model.diffusion_model.", "diffusion_model."),
    ),
    _DIT(
        "wan_diffusers",
        table=lambda system: wan_dit.DIFFUSERS,
        kind="folder",
        settings=lambda system: wan_dit.diffusers_settings(system.denoiser.dit),
    ),
    _AUDIO(
        "fantasytalking",
        table=lambda system: fantasytalking.OFFICIAL,
        kind="torch",
        groups=("proj_model", "audio_processor"),
    ),
    _AUDIO("fantasytalking_safetensors", table=lambda system: fantasytalking.OFFICIAL, kind="file"),
    _AUDIO("fantasytalking_comfyui", table=lambda system: fantasytalking.COMFYUI, kind="file"),
    Format(
        "identity",
        "denoiser/identity",
        lambda system: identity.IDENTITY,
        "file",
        metadata=_settings("identity", identity.metadata),
    ),
    Format(
        "motion",
        "denoiser/motion",
        lambda system: motion.MOTION,
        "file",
        metadata=_settings("motion", motion.metadata),
    ),
    Format(
        "lora_comfyui",
        "denoiser/lora",
        lambda system: lora.COMFYUI,
        "file",
        prefixes=("diffusion_model.", ""),
        joined=lora.with_alphas,
        metadata=_settings("lora", lora.metadata),
        told=lora.alphas,
    ),
    Format("vae", "codec", lambda system: wan_vae.wan_vae(system.codec), "torch"),
    Format(
        "vae_comfyui",
        "codec",
        lambda system: wan_vae.wan_vae(system.codec),
        "file",
        prefixes=("model.",),
    ),
    Format(
        "vae_diffusers",
        "codec",
        lambda system: wan_vae.diffusers_vae(system.codec),
        "folder",
        stem="diffusion_pytorch_model",
        settings=lambda system: wan_vae.diffusers_settings(system.codec),
    ),
    Format("umt5", "text", lambda system: umt5.ORIGINAL, "torch"),
    Format(
        "umt5_hf",
        "text",
        lambda system: umt5.HUGGING_FACE,
        "folder",
        settings=lambda system: umt5.settings(system.text),
    ),
    Format("clip", "image", lambda system: clip.original(system.image), "torch", carried=True),
    Format(
        "clip_hf",
        "image",
        lambda system: clip.hugging_face(system.image),
        "folder",
        prefixes=("", "vision_model."),
        settings=lambda system: clip.settings(system.image),
        carried=True,
    ),
    _SPEECH("wav2vec2", apart=_apart(0)),
    _SPEECH("wav2vec2_weight_g", apart=_apart(1)),
    Format(
        "arcface",
        "face",
        lambda system: arcface.arcface(system.face),
        "torch",
        prefixes=("", "module."),
        sizes=_face_sizes,
    ),
    Format("syncnet", "sync", lambda system: syncnet.SYNCNET, "torch"),
)
FORMATS: dict[str, Format] = {fmt.name: fmt for fmt in _LISTED}


def named(name: str) -> Format:
    """The format called `name`.

    Raises:
        UsageError: there is none.
    """
    if name not in FORMATS:
        raise UsageError(f"--format={name}: unknown; expected one of {', '.join(FORMATS)}")
    return FORMATS[name]


def abstract(system: System, part: str) -> Mapping[str, Any]:
    """Shapes of one part, as its tables take them: a branch of the denoiser under its own name."""
    root, _, branch = part.partition("/")
    whole = systems.abstract(system, root)
    if not branch:
        return whole
    return {branch: whole[branch]} if branch in whole else {}


def _plan(fmt: Format, system: System, tree: Mapping[str, Any]) -> list[table.Entry]:
    try:
        return table.plan(fmt.table(system), tree)
    except ValueError as fault:  # a system that was never published: other norms, other heads
        raise UsageError(
            f"config.{fmt.part.replace('/', '.')}: has no form in {fmt.name} "
            f"({str(fault).partition(',')[0]}); expected a network of the published kind"
        ) from None


def recognise(weights: Weights, system: System) -> tuple[Format, dict[str, Lazy]]:
    """What a file looks like, and its tensors by the keys of the format's table.

    Raises:
        UsageError: like nothing known.
    """
    best: tuple[int, Format, str] | None = None
    for fmt in FORMATS.values():
        expected = _expected(fmt, system)
        for prefix in fmt.prefixes:
            found = sum(prefix + key in weights.tensors for key in expected)
            if found and (best is None or found > best[0]):
                best = found, fmt, prefix
    if best is None or 2 * best[0] < min(len(_expected(best[1], system)), len(weights.tensors)):
        first = ", ".join(list(weights.tensors)[:3])
        raise UsageError(
            f"{weights.path}: looks like no known format ({len(weights.tensors)} tensors: {first}"
            f"...); expected one of {', '.join(FORMATS)}"
        )
    _, fmt, prefix = best
    return fmt, {key.removeprefix(prefix): tensor for key, tensor in weights.tensors.items()}


@functools.lru_cache(maxsize=64)
def _expected(fmt: Format, system: System) -> frozenset[str]:
    """Keys of a format as far as its table knows the system."""
    tree = abstract(system, fmt.part)
    known = {row.path for row in fmt.table(system).rows}
    kept = {path: leaf for path, leaf in table.flatten(tree).items() if path in known}
    shapes = table.shapes(fmt.table(system), kept)
    if wav2vec2.POSITION in shapes:
        return frozenset(shapes) - {wav2vec2.POSITION}
    return frozenset(shapes)


def leaves(
    weights: Weights, system: System, dtype: np.dtype[Any] | None
) -> tuple[Format, dict[str, Lazy]]:
    """One part of a system out of published weights.

    Args:
        weights: as found.
        system: sizes that the weights must have.
        dtype: of all leaves; None keeps what the file has.

    Returns:
        What the file was recognised as, and {path within the system: leaf}.

    Raises:
        UsageError: keys, shapes or types are not those of the system; all of them are listed.
    """
    fmt, found = recognise(weights, system)
    tree = abstract(system, fmt.part)
    if not tree:
        raise UsageError(f"{weights.path}: looks like {fmt.name}, which the system has no part for")
    told = fmt.told(system, tree)
    tree = _with(tree, told)
    entries = _plan(fmt, system, tree)
    held = dict(fmt.joined(found))
    shapes = {key: tuple(tensor.shape) for key, tensor in held.items()}
    wanted = fmt.sizes({key: entry.shape for entry in entries for key in entry.keys})
    if (given := fmt.sizes(shapes)) != wanted:
        raise UsageError(f"{weights.path}: holds {given}; expected {wanted}")
    table.check(fmt.table(system), shapes, tree, str(weights.path))
    result = {}
    for entry, (path, leaf) in zip(entries, table.flatten(tree).items(), strict=True):
        if path in told:
            _check_told(weights, entry, held, told[path])
            continue
        kinds = {np.dtype(held[key].dtype) for key in entry.keys}
        _check_types(weights, entry, held, kinds, dtype)
        root = "denoiser" if fmt.part.startswith("denoiser/") else fmt.part
        read = functools.partial(_leaf, entry, held, dtype)
        result[f"{root}/{path}"] = Lazy(tuple(leaf.shape), dtype or kinds.pop(), read)
    if fmt.carried:
        result |= _rest(fmt, held, {key for entry in entries for key in entry.keys}, dtype)
    return fmt, result


def _rest(
    fmt: Format, held: Mapping[str, Any], read: set[str], dtype: np.dtype[Any] | None
) -> dict[str, Lazy]:
    """Floats of a file that no part is made of, by paths of their own."""
    return {
        f"{systems.REST}/{fmt.name}/{key.replace('.', '/')}": cast(tensor, dtype or tensor.dtype)
        for key, tensor in held.items()
        if key not in read and np.dtype(tensor.dtype) in FLOATS
    }


def carried(fmt: Format, params: Mapping[str, Any]) -> dict[str, Any]:
    """{key: tensor} of what came in a file of this format and no network reads."""
    rest = params.get(systems.REST, {}).get(fmt.name, {})
    return {path.replace("/", "."): leaf for path, leaf in table.flatten(rest).items()}


def _with(tree: Tree, told: Mapping[str, np.ndarray]) -> Tree:
    return table.unflatten({**table.flatten(tree), **told}) if told else tree


def _check_told(
    weights: Weights, entry: table.Entry, held: Mapping[str, Any], wanted: np.ndarray
) -> None:
    for key, value in zip(entry.keys, wanted, strict=True):
        if (given := float(np.asarray(held[key]))) != value:
            raise UsageError(
                f"{weights.path}: {key} is {given:g}; expected {value:g}, as elsewhere"
            )


def _leaf(entry: table.Entry, held: Mapping[str, Any], dtype: np.dtype[Any] | None) -> np.ndarray:
    if dtype is None:
        return table.leaf(entry, held)
    return table.leaf(entry, {key: cast(held[key], dtype) for key in entry.keys})


def _check_types(
    weights: Weights,
    entry: table.Entry,
    held: Mapping[str, Any],
    kinds: set[np.dtype[Any]],
    dtype: np.dtype[Any] | None,
) -> None:
    for key in entry.keys:
        if np.dtype(held[key].dtype) not in FLOATS:
            raise UsageError(
                f"{weights.path}: {key} is {held[key].dtype}; expected one of "
                f"{', '.join(kind.name for kind in FLOATS)}"
            )
    if dtype is None and len(kinds) > 1:
        names = " and ".join(sorted(kind.name for kind in kinds))
        raise UsageError(
            f"{weights.path}: {entry.keys[0]} and its like in other blocks are {names}; expected "
            f"one type, or --dtype"
        )


def tensors(
    fmt: Format, system: System, params: Mapping[str, Any]
) -> tuple[Layout, Iterator[tuple[str, np.ndarray]]]:
    """One part of a system in a published form.

    Args:
        fmt: the form.
        system: sizes of the parameters.
        params: {part: parameters}, lazy or not. A whole DiT is written with its low-rank changes
            merged.

    Returns:
        {key: (shape, type)} of all tensors, and the tensors one after the other.

    Raises:
        UsageError: the weights lack the part, or it has no such form.
    """
    root, _, branch = fmt.part.partition("/")
    tree = params.get(root, {})
    if fmt.part == "denoiser/dit" and tree and system.denoiser.lora is not None:
        # The file has no place for low-rank changes, and without them it is another model.
        tree = low_rank.merged(system.denoiser.lora, tree)
    tree = {branch: tree[branch]} if branch in tree else {} if branch else tree
    if not tree:
        raise UsageError(f"--format={fmt.name}: the weights have no part {fmt.part}")
    tree = _with(tree, fmt.told(system, tree))
    entries = _plan(fmt, system, tree)
    held, prefix, layout = table.flatten(tree), fmt.prefixes[0], {}
    for entry in entries:
        dtype = np.dtype(held[entry.path].dtype)
        for key in entry.keys:
            nothing = np.broadcast_to(np.zeros((), dtype), entry.shape)
            for name, tensor in fmt.apart({key: nothing}).items():
                layout[prefix + name] = tuple(tensor.shape), np.dtype(tensor.dtype)
    rest = carried(fmt, params)
    for key, tensor in rest.items():
        layout[prefix + key] = tuple(tensor.shape), np.dtype(tensor.dtype)

    def stream() -> Iterator[tuple[str, np.ndarray]]:
        for key, tensor in table.stream_torch(fmt.table(system), tree):
            for name, piece in fmt.apart({key: tensor}).items():
                yield prefix + name, piece
        for key, tensor in rest.items():
            yield prefix + key, np.asarray(tensor)

    return layout, stream()
