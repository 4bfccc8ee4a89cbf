"""Low-rank changes of the base model under the names that ComfyUI gives them <-> `lora/...`.

    diffusion_model.blocks.0.self_attn.q.lora_A.weight   [rank inputs]    down
    diffusion_model.blocks.0.self_attn.q.lora_B.weight   [outputs rank]   up
    diffusion_model.blocks.0.self_attn.q.alpha           []               what is added is scaled by
                                                                          alpha / rank

The Wan nodes of ComfyUI and Kijai and diffusers' `load_lora_weights` read these names. A file
without `alpha` means a scale of 1, there and here. Rank, alpha and targets are settings here and
tensors there: `adopted` reads them from a file, `alphas` are those tensors.

Tests: tests/convert/lora_test.py, tests/convert/formats_test.py, tests/parity/lora_parity_test.py.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ft_jax.convert import wan_dit
from ft_jax.convert.table import LINEAR, Row, Table, flatten
from ft_jax.models.lora import Config
from ft_jax.models.system import System

DOWN, UP = "lora_A.weight", "lora_B.weight"
_KEY = re.compile(rf"(?:.*\.)?blocks\.\d+\.(.+)\.{re.escape(DOWN)}")
# {key of a linear layer of a block: our path}; block numbers stay {n}.
_LAYERS = {
    row.key.removesuffix(".weight"): row.path.removeprefix("dit/").removesuffix("/kernel")
    for row in wan_dit.ORIGINAL.rows
    if row.transform is LINEAR and row.path.startswith("dit/blocks/")
}


def _rows() -> tuple[Row, ...]:
    rows = []
    for key, path in _LAYERS.items():
        rows.append(Row(f"{key}.{DOWN}", f"lora/{path}/down", LINEAR))
        rows.append(Row(f"{key}.{UP}", f"lora/{path}/up", LINEAR))
        rows.append(Row(f"{key}.alpha", f"lora/{path}/alpha"))
    return tuple(rows)


COMFYUI = Table("LoRA of a Wan DiT, ComfyUI names", _rows())


def alphas(system: System, tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """{path: alpha of every block}: the tensors that stand beside the layers of `tree`."""
    cfg = system.denoiser.lora
    return {
        f"{path.removesuffix('/down')}/alpha": np.full(leaf.shape[0], cfg.alpha, np.float32)
        for path, leaf in flatten(tree).items()
        if cfg is not None and path.endswith("/down")
    }


def with_alphas(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
    """A file's tensors; an alpha that it does not have is the rank: a scale of 1."""
    missing = {
        alpha: np.asarray(tensor.shape[0], np.float32)
        for key, tensor in tensors.items()
        if key.endswith(DOWN) and (alpha := f"{key.removesuffix(DOWN)}alpha") not in tensors
    }
    return {**tensors, **missing}


def adopted(system: System, tensors: Mapping[str, Any]) -> System:
    """`system` with the rank, alpha and targets of a file of low-rank changes; else as it is."""
    names = {key: found[1] for key in tensors if (found := _KEY.fullmatch(key))}
    layers = {key.partition("{n}.")[2]: path for key, path in _LAYERS.items()}
    known = sorted({layers[name] for name in names.values() if name in layers})
    if not known:
        return system
    whole = with_alphas(tensors)
    first = next(key for key, name in names.items() if name in layers)
    alpha = float(np.asarray(whole[f"{first.removesuffix(DOWN)}alpha"]).reshape(-1)[0])
    cfg = Config(int(tensors[first].shape[0]), alpha, "|".join(known))
    return dataclasses.replace(system, denoiser=dataclasses.replace(system.denoiser, lora=cfg))


def metadata(cfg: Config) -> dict[str, str]:
    """Rank and alpha for the metadata of a file of ours; ranks and tensors say the same."""
    return {"lora.rank": str(cfg.rank), "lora.alpha": str(cfg.alpha)}
