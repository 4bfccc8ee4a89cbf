"""Our denoiser as PyTorch runs it: parameters in, the same velocity out of diffusers' transformer.

The base, with its low-rank changes merged into it, goes through the table of diffusers' names into
`WanTransformer3DModel`, the branches through theirs into one safetensors file, which the file that
ships with every export (torch_addon/) reads back and hangs on it: what a user of an export has,
made and run in one place.

    counterpart = build(params, cfg)
    velocity(counterpart, latents, sigma, conditions, mode, frames)      as fantasy.apply

Arrays are ours, [b t h w c]; everything runs in float32. PyTorch and diffusers are imported here
and needed only for this; see tests/parity/torch_addon_parity_test.py.
"""

import contextlib
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array, Float
from safetensors.numpy import save_file

from ft_jax.convert import fantasytalking, identity, motion, table, wan_dit
from ft_jax.models import dit, fantasy, lora
from ft_jax.models.audio import Mode
from ft_jax.typing import Params


@dataclasses.dataclass(frozen=True)
class Counterpart:
    """diffusers' transformer, and the branches that hang on it (None: there are none)."""

    cfg: fantasy.Config
    transformer: Any
    branches: Any


def branch_tensors(params: Params, cfg: fantasy.Config) -> tuple[dict[str, Any], dict[str, str]]:
    """Tensors and metadata of one file that holds every branch of the model."""
    tensors, metadata = {}, {}
    for name, naming, module in (
        ("audio", fantasytalking.OFFICIAL, fantasytalking),
        ("identity", identity.IDENTITY, identity),
        ("motion", motion.MOTION, motion),
    ):
        if (own := getattr(cfg, name)) is not None:
            tensors |= table.to_torch(naming, {name: params[name]})
            metadata |= module.metadata(own)
    return tensors, metadata


def build(params: Params, cfg: fantasy.Config) -> Counterpart:
    """The whole denoiser in PyTorch.

    Args:
      params: As `fantasy.init`; a branch that the config has must be there.
      cfg: Sizes; precision is float32 whatever it says.
    """
    import torch

    from ft_jax.convert.torch_addon import fantasytalking_diffusers as addon

    if cfg.lora is not None:
        params = lora.merged(cfg.lora, params)
    transformer = _transformer(cfg.dit)
    tensors = table.to_torch(wan_dit.DIFFUSERS, {"dit": params["dit"]})
    transformer.load_state_dict(
        {key: torch.tensor(np.asarray(value, np.float32)) for key, value in tensors.items()}
    )
    addon.exact(transformer, cfg.dit.text_tokens)
    tensors, metadata = branch_tensors(params, cfg)
    if not tensors:
        return Counterpart(cfg, transformer, None)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "branches.safetensors"
        save_file(tensors, file, {"format": "pt", **metadata})
        return Counterpart(cfg, transformer, addon.attach(transformer, file))


def _transformer(cfg: dit.Config) -> Any:
    from diffusers import WanTransformer3DModel

    made: Any = WanTransformer3DModel.from_config(wan_dit.diffusers_settings(cfg))
    return made.eval()


def velocity(
    counterpart: Counterpart,
    latents: Float[Array | np.ndarray, "b t h w c"],
    sigma: Float[Array | np.ndarray, " b"],
    conditions: fantasy.Conditions,
    mode: Mode,
    frames: int,
) -> Float[np.ndarray, "b t h w c"]:
    """What `fantasy.apply` gives, computed by PyTorch; arguments as `forward` takes them."""
    import torch

    with torch.no_grad():
        out = forward(counterpart, latents, sigma, conditions, mode, frames)
    return np.moveaxis(out.numpy(), 1, -1)


def forward(
    counterpart: Counterpart,
    latents: Float[Array | np.ndarray, "b t h w c"],
    sigma: Float[Array | np.ndarray, " b"],
    conditions: fantasy.Conditions,
    mode: Mode,
    frames: int,
) -> Any:
    """The velocity as a tensor of PyTorch [b c t h w], which may be differentiated.

    Args:
      counterpart: From `build`.
      latents: Noisy.
      sigma: Noise level of each sample.
      conditions: As there; text of at most the model's rows.
      mode: "clip" or "frame".
      frames: Video frames, 4n + 1.
    """
    import torch

    cfg, given = counterpart.cfg, conditions
    tensor = lambda x: torch.tensor(np.asarray(x, np.float32))  # noqa: E731
    full, image, text = tensor(latents), None, tensor(given.text_tokens)
    if given.condition_latents is not None:
        is_bare = given.condition_latents.shape[-1] == latents.shape[-1]
        condition = dit.with_mask(given.condition_latents) if is_bare else given.condition_latents
        full = torch.cat([full, tensor(condition)], -1)
    if given.image_tokens is not None:
        image = tensor(given.image_tokens)
        if given.image_scale is not None:
            image = image * tensor(given.image_scale)[:, None, None]
    text = torch.nn.functional.pad(text, (0, 0, 0, cfg.dit.text_tokens - text.shape[1]))
    with contextlib.ExitStack() as stack:
        if counterpart.branches is not None:
            heard: dict[str, Any] = {name: tensor(x) for name, x in _heard(cfg, given).items()}
            if cfg.motion is not None and given.expression is not None and given.body is not None:
                heard["motion"] = (tensor(given.expression), tensor(given.body))
            stack.enter_context(counterpart.branches.hears(frames=frames, mode=mode, **heard))
        out = counterpart.transformer(full.movedim(-1, 1), 1000 * tensor(sigma), text, image)
    return out.sample


def _heard(cfg: fantasy.Config, given: fantasy.Conditions) -> dict[str, Array]:
    """What speech and identity branch are told, by the names of the add-on."""
    found = {}
    if cfg.audio is not None and given.audio_features is not None:
        found |= {"audio": given.audio_features, "audio_scale": given.audio_scale}
    if cfg.identity is not None and given.identity is not None:
        found |= {"identity": given.identity, "identity_scale": given.identity_scale}
    return {name: x for name, x in found.items() if x is not None}
