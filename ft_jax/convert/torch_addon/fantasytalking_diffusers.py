"""FantasyTalking for diffusers: speech, identity and motion added to `WanTransformer3DModel`.

This file stands alone (PyTorch, diffusers and its safetensors are all it imports): copy it beside
your script. The transformer is diffusers' own, unchanged; the branches hang on it by hooks and are
silent outside of `hears`, where it computes what it always did.

    transformer = WanTransformer3DModel.from_pretrained(folder, subfolder="transformer")
    exact(transformer)                      # optional: the original's float64 time embedding
    branches = attach(transformer, "audio.safetensors", "identity.safetensors")
    with branches.hears(audio=features, frames=81, identity=face):
        velocity = transformer(latents, 1000 * sigma, text, image).sample

In a pipeline, put the whole call inside `hears`. Guidance by speech takes three such velocities:

    none + g_text * (text - none) + g_audio * (full - text)

where `full` hears the speech, `text` has `audio=None`, and `none` has the negative prompt too.

Shapes: b samples, a audio tokens, t latent frames, l = t h w video tokens (diffusers counts them
frame by frame), n heads of k lanes. In `clip` mode every video token hears all of the speech, in
`frame` mode (the default, what the released weights were trained for) those of latent frame t hear
the window of frame t. A branch whose keys and values are zero changes no bit of the output.

Files: the released speech branch (`proj_model.`, `audio_processor.`) as published; identity
(`identity_model.`, `identity_processor.`) and motion (`motion_model.`) as ft_jax exports them, with
what shapes do not tell in the file's metadata. Every missing, unexpected and misshapen tensor is
named in one error, and nothing is attached.
"""

import contextlib
import dataclasses
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from safetensors import safe_open
from torch import nn

LATENT_STRIDE = 4  # video frames per latent frame, the first apart
EXTRA_TOKENS = 4  # added to each window of speech on both sides
TEXT_ROWS = 512  # diffusers takes this many rows of the context for text, the rest for the picture
DEFAULTS = {
    "audio.clip": "tokens",  # what clip mode hears: tokens | windows
    "audio.padding": "masked",  # of windows beyond the speech: masked | heard, as keys of zero
    "audio.silence": "muted",  # at scale 0: the term is muted | features of zeros are heard
    "identity.depth": "4",
    "identity.heads": "20",
    "identity.weight": "0.5",
    "identity.projected": "true",  # false: added after the output projection
    "motion.scale": "10.0",
}
"""Settings of the released sizes; the metadata of a file may say otherwise."""


@dataclasses.dataclass
class Windows:
    """Which audio tokens each latent frame hears: positions and which of them count, [t p]."""

    index: torch.Tensor
    mask: torch.Tensor


@dataclasses.dataclass
class Term:
    """Keys and values of all blocks, [b s n k] each, and how they are heard; scale [b]."""

    keys: list[tuple[torch.Tensor, torch.Tensor]]
    scale: torch.Tensor
    windows: Windows | None = None
    projected: bool = True


def sinusoid(x: torch.Tensor, width: int) -> torch.Tensor:
    """[cos, sin] of x * 10000^(-i / (width / 2)), [b] -> [b width], built in float64."""
    steps = torch.arange(width // 2, dtype=torch.float64, device=x.device)
    angle = x.double()[:, None] * 10000.0 ** (-steps / (width // 2))
    return torch.cat([angle.cos(), angle.sin()], -1).float()


class ExactTimesteps(nn.Module):
    """The time sinusoid as the original Wan builds it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, timestep: torch.Tensor) -> torch.Tensor:
        """[b] -> [b width]."""
        return sinusoid(timestep, self.width)


class FewTextRows(WanAttnProcessor):
    """Cross-attention for models of fewer than `TEXT_ROWS` text rows: fills up, and masks those."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: Any = None,
    ) -> torch.Tensor:
        """Diffusers' own cross-attention on the context filled up with rows nobody attends to."""
        assert encoder_hidden_states is not None
        context = F.pad(encoder_hidden_states, (0, 0, 0, TEXT_ROWS - self.rows))
        kept = torch.arange(TEXT_ROWS, device=context.device) < self.rows
        return super().__call__(attn, hidden_states, context, kept[None, None, None], rotary_emb)


def exact(transformer: WanTransformer3DModel, text_rows: int = TEXT_ROWS) -> None:
    """Makes diffusers' transformer compute what the original and ft_jax compute.

    Its time sinusoid is built in float32, which moves the output by 2e-5, and it counts on
    `TEXT_ROWS` rows of text; `text_rows` is the model's own number (small models have fewer).
    """
    parts: Any = transformer
    parts.condition_embedder.timesteps_proj = ExactTimesteps(parts.config.freq_dim)
    if text_rows != TEXT_ROWS:
        for block in parts.blocks:
            block.attn2.set_processor(FewTextRows(text_rows))


def frame_windows(tokens: int, frames: int, is_padding_heard: bool = False) -> Windows:
    """The audio tokens of each latent frame, truncated as in the released program.

    Args:
        tokens: of the whole clip, a.
        frames: video frames, 4n + 1.
        is_padding_heard: places beyond the speech are keys of zero instead of masked.
    """
    if frames < 1 or (frames - 1) % LATENT_STRIDE or tokens < 1:
        raise ValueError(f"{tokens} audio tokens, {frames} frames: expected 1 and 4n + 1 at least")
    per_frame = tokens / frames
    half = int(per_frame * LATENT_STRIDE / 2)
    starts = []
    for latent in range(1, (frames - 1) // LATENT_STRIDE + 1):
        first, last = (per_frame * (LATENT_STRIDE * (latent - back) + 1) for back in (1, 0))
        starts.append(int((first + last) / 2) - 1 - half)
    starts.insert(0, starts[0] - 2 * half if starts else -half)
    width = 2 * half + 1 + 2 * EXTRA_TOKENS
    index = torch.tensor(starts)[:, None] - EXTRA_TOKENS + torch.arange(width)
    mask = (index >= 0) & (index < tokens)
    if is_padding_heard:  # a place beyond the last token holds zeros
        return Windows(index.where(mask, torch.tensor(tokens)), torch.ones_like(mask))
    return Windows(index.where(mask, torch.tensor(0)), mask)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, windows: Windows | None
) -> torch.Tensor:
    """Attention of video tokens [b l n k] over all keys [b s n k], or those of their frame."""
    shape, mask = query.shape, None
    if windows is not None:
        index, kept = windows.index.to(query.device), windows.mask.to(query.device)
        frames, length = index.shape
        query = query.reshape(shape[0] * frames, -1, *shape[2:])
        key, value = (
            F.pad(x, (0, 0, 0, 0, 0, 1))[:, index].reshape(-1, length, *shape[2:])
            for x in (key, value)
        )
        mask = kept.repeat(shape[0], 1)[:, None, None]
    out = F.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), mask
    )
    return out.transpose(1, 2).reshape(shape)


def add(total: torch.Tensor, query: torch.Tensor, term: Term, block: int) -> torch.Tensor:
    """Adds scale * attention to the first rows of `total` [b l d], as many as the term has."""
    key, value = term.keys[block]
    rows, heads = key.shape[0], key.shape[2]
    out = attend(query[:rows].unflatten(2, (heads, -1)), key, value, term.windows).flatten(2)
    out = out * term.scale.to(out)[:, None, None]
    return torch.cat([total[:rows] + out.to(total), total[rows:]])


class Projector(nn.Module):
    """Features of the speech encoder -> audio tokens, float32."""

    def __init__(self, features: int, tokens: int) -> None:
        super().__init__()
        self.proj = nn.Linear(features, tokens, bias=False)
        self.norm = nn.LayerNorm(tokens)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[b a ca] -> [b a c]."""
        return self.norm(self.proj(features.float()))


class QFormerLayer(nn.Module):
    """Queries attend to the face and to themselves, then a network of four widths."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_query, self.norm_face = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm_mlp = nn.LayerNorm(width)
        linear = functools.partial(nn.Linear, bias=False)
        self.q_proj, self.k_proj = linear(width, width), linear(width, width)
        self.v_proj, self.o_proj = linear(width, width), linear(width, width)
        self.mlp = nn.Sequential(linear(width, 4 * width), nn.GELU(), linear(4 * width, width))

    def forward(self, queries: torch.Tensor, face: torch.Tensor) -> torch.Tensor:
        """[b e d], [b 1 d] -> [b e d]."""
        x = self.norm_query(queries)
        context = torch.cat([self.norm_face(face), x], 1)
        split = lambda y: y.unflatten(2, (self.heads, -1))  # noqa: E731
        query, key, value = self.q_proj(x), self.k_proj(context), self.v_proj(context)
        out = attend(split(query), split(key), split(value), None)
        queries = queries + self.o_proj(out.flatten(2))
        return queries + self.mlp(self.norm_mlp(queries))


class QFormer(nn.Module):
    """A face embedding of unit length -> identity tokens, float32."""

    def __init__(self, face: int, queries: int, width: int, tokens: int, depth: int, heads: int):
        super().__init__()
        self.queries = nn.Parameter(torch.empty(queries, width))
        self.proj_in = nn.Linear(face, width)
        self.layers = nn.ModuleList(QFormerLayer(width, heads) for _ in range(depth))
        self.proj_out = nn.Linear(width, tokens)
        self.norm = nn.LayerNorm(tokens)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """[b ce] -> [b e c]."""
        face = self.proj_in(embedding.float() * embedding.shape[-1] ** 0.5)[:, None]
        queries = self.queries.expand(len(face), -1, -1)
        for layer in self.layers:
            queries = layer(queries, face)
        return self.norm(self.proj_out(queries))


class Motion(nn.Module):
    """Intensities of expression and body in [0, 1], 0.5 the median -> offset, float32."""

    def __init__(self, width: int, frequencies: int, out: int, scale: float) -> None:
        super().__init__()
        mlp = lambda inputs, w: nn.Sequential(nn.Linear(inputs, w), nn.SiLU(), nn.Linear(w, w))  # noqa: E731
        self.expression, self.body = mlp(frequencies, width), mlp(frequencies, width)
        self.norm, self.residual = nn.LayerNorm(2 * width), mlp(2 * width, 2 * width)
        self.proj_out = nn.Linear(width, out)
        self.frequencies, self.scale = frequencies, scale

    def forward(self, expression: torch.Tensor, body: torch.Tensor) -> torch.Tensor:
        """[b], [b] -> [b d], or [b 6d] where the weights add to the modulation."""
        expression, body = (
            sinusoid(x.float() * self.scale, self.frequencies) for x in (expression, body)
        )
        both = torch.cat([self.expression(expression), self.body(body)], -1)
        x = both + self.residual(self.norm(both))
        return self.proj_out(x.unflatten(-1, (2, -1)).mean(1))


class Processors(nn.Module):
    """Keys and values of every block; named as the released speech branch names them."""

    def __init__(self, blocks: int, tokens: int, width: int) -> None:
        super().__init__()

        def processor() -> nn.ModuleDict:
            linear = functools.partial(nn.Linear, tokens, width, bias=False)
            both = nn.ModuleDict({"k_proj": linear(), "v_proj": linear()})
            return nn.ModuleDict({"cross_attn": nn.ModuleDict({"processor": both})})

        self.blocks = nn.ModuleList(processor() for _ in range(blocks))

    def forward(self, tokens: torch.Tensor, heads: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """[b s c] -> for each block keys and values [b s n k], in the type of the weights."""
        found = []
        for block in self.blocks:
            both: Any = block.get_submodule("cross_attn.processor")
            tokens = tokens.to(both.k_proj.weight.dtype)
            key, value = both.k_proj(tokens), both.v_proj(tokens)
            found.append((key.unflatten(2, (heads, -1)), value.unflatten(2, (heads, -1))))
        return found


class Branches(nn.Module):
    """The branches that the files hold, hung on a transformer; made by `attach`."""

    def __init__(
        self, shapes: dict[str, torch.Size], settings: dict[str, str], cfg: Any, blocks: int
    ) -> None:
        super().__init__()
        self.settings, self.heads = settings, cfg.num_attention_heads
        width = self.heads * cfg.attention_head_dim
        size = lambda key, axis: shapes[key][axis] if key in shapes else 1  # noqa: E731
        kinds = {key.split(".")[0] for key in shapes}
        if kinds & {"proj_model", "audio_processor"}:
            tokens = size("proj_model.proj.weight", 0)
            self.proj_model = Projector(size("proj_model.proj.weight", -1), tokens)
            self.audio_processor = Processors(blocks, tokens, width)
        if kinds & {"identity_model", "identity_processor"}:
            tokens, queries = size("identity_model.proj_out.weight", 0), "identity_model.queries"
            self.identity_model = QFormer(
                size("identity_model.proj_in.weight", -1),
                size(queries, 0),
                size(queries, -1),
                tokens,
                int(settings["identity.depth"]),
                int(settings["identity.heads"]),
            )
            self.identity_processor = Processors(blocks, tokens, width)
        if "motion_model" in kinds:
            out = 6 * width if size("motion_model.proj_out.bias", 0) == 6 * width else width
            self.motion_model = Motion(
                size("motion_model.expression.2.bias", 0),
                size("motion_model.expression.0.weight", -1),
                out,
                float(settings["motion.scale"]),
            )
        self._terms: tuple[Term, ...] = ()
        self._offset: torch.Tensor | None = None
        self._queries: dict[int, torch.Tensor] = {}

    @contextlib.contextmanager
    def hears(
        self,
        audio: torch.Tensor | None = None,
        frames: int | None = None,
        mode: Literal["clip", "frame"] = "frame",
        audio_scale: torch.Tensor | float = 1.0,
        identity: torch.Tensor | None = None,
        identity_scale: torch.Tensor | float = 1.0,
        motion: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> Iterator[None]:
        """What the transformer hears inside of the `with`; None: the branch is not computed.

        Args:
            audio: last hidden state of wav2vec2, [b a ca]. It, and `identity`, may have fewer rows
                than the batch: the first rows hear it.
            frames: video frames, 4n + 1; needed in frame mode.
            mode: "frame", or "clip".
            audio_scale: one number, or one a sample [b]; 0 is silence.
            identity: face embedding of unit length, [b ce].
            identity_scale: likewise; 0 drops the face.
            motion: intensities of expression and body in [0, 1], [b] each, one row a sample.
        """
        terms = []
        if audio is not None:
            terms.append(self._audio(audio, frames, mode, audio_scale))
        if identity is not None:
            keys = self.identity_processor(self.identity_model(identity), self.heads)
            scale = _per_row(identity_scale, identity) * float(self.settings["identity.weight"])
            is_projected = self.settings["identity.projected"] == "true"
            terms.append(Term(keys, scale, projected=is_projected))
        self._terms = tuple(terms)
        self._offset = None if motion is None else self.motion_model(*motion)
        try:
            yield
        finally:
            self._terms, self._offset = (), None
            self._queries.clear()

    def _audio(
        self, audio: torch.Tensor, frames: int | None, mode: str, scale: torch.Tensor | float
    ) -> Term:
        scale, windows = _per_row(scale, audio), None
        if self.settings["audio.silence"] == "zeros":
            audio, scale = audio * scale[:, None, None], torch.ones_like(scale)
        if mode == "frame" or self.settings["audio.clip"] == "windows":
            if frames is None:
                raise ValueError("frames: None; expected the number of video frames")
            windows = frame_windows(
                audio.shape[1], frames, self.settings["audio.padding"] == "heard"
            )
            if mode == "clip":  # the windows of all frames side by side, for every frame
                index, mask = windows.index.reshape(1, -1), windows.mask.reshape(1, -1)
                windows = Windows(index, mask)
        return Term(self.audio_processor(self.proj_model(audio), self.heads), scale, windows)

    def hang_on(self, transformer: WanTransformer3DModel) -> None:
        """Registers the hooks: queries are read, terms added, the time embedding is moved."""
        parts: Any = transformer
        for number, block in enumerate(parts.blocks):
            norm, out = block.attn2.norm_q, block.attn2.to_out[0]
            norm.register_forward_hook(functools.partial(self._keep, number))
            out.register_forward_pre_hook(functools.partial(self._before, number))
            out.register_forward_hook(functools.partial(self._after, number))
        embedder = parts.condition_embedder
        width = parts.config.num_attention_heads * parts.config.attention_head_dim
        for module, size in ((embedder.time_embedder, width), (embedder.time_proj, 6 * width)):
            module.register_forward_hook(functools.partial(self._move, size))

    def _keep(self, block: int, _module: nn.Module, _inputs: Any, query: torch.Tensor) -> None:
        if self._terms:
            self._queries[block] = query

    def _before(self, block: int, _module: nn.Module, inputs: tuple[torch.Tensor]) -> Any:
        return (self._sum(inputs[0], block, True),)

    def _after(self, block: int, _module: nn.Module, _inputs: Any, out: torch.Tensor) -> Any:
        return self._sum(out, block, False)

    def _sum(self, total: torch.Tensor, block: int, is_before: bool) -> torch.Tensor:
        for term in self._terms:
            if term.projected == is_before:
                total = add(total, self._queries[block], term, block)
        return total

    def _move(self, width: int, _module: nn.Module, _inputs: Any, out: torch.Tensor) -> Any:
        if self._offset is None or self._offset.shape[-1] != width:
            return out
        return out + self._offset.to(out)


def _per_row(scale: torch.Tensor | float, like: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(scale, dtype=torch.float32, device=like.device).expand(len(like))


def attach(transformer: WanTransformer3DModel, *files: str | Path) -> Branches:
    """Hangs the branches that the safetensors files hold on the transformer.

    Projector, Q-Former and motion network stay in float32, as they were trained; keys and values
    take the transformer's type. Which branches there are is decided by what the files hold.

    Raises:
        ValueError: tensors are missing, unexpected or misshapen; all of them are listed.
    """
    tensors, settings = {}, dict(DEFAULTS)
    for file in files:
        with safe_open(str(file), framework="pt") as opened:
            tensors |= {key: opened.get_tensor(key) for key in opened.keys()}
            said = opened.metadata() or {}
            settings |= {key: value for key, value in said.items() if key in DEFAULTS}
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    parts: Any = transformer
    with torch.device("meta"):
        branches = Branches(shapes, settings, transformer.config, len(parts.blocks))
    expected = {key: tensor.shape for key, tensor in branches.state_dict().items()}
    faults = {
        "missing": [key for key in expected if key not in shapes],
        "unexpected": [key for key in shapes if key not in expected],
    }
    if not any(faults.values()):  # sizes are read from the tensors, so all must be there
        faults["of another shape"] = [
            f"{key} {list(shapes[key])} instead of {list(shape)}"
            for key, shape in expected.items()
            if shapes[key] != shape
        ]
    if any(faults.values()) or not tensors:
        said = (f"{len(keys)} {what}: {', '.join(keys)}" for what, keys in faults.items() if keys)
        names = ", ".join(map(str, files))
        raise ValueError(f"{names}: does not hold FantasyTalking branches; " + "; ".join(said))
    for key, tensor in tensors.items():
        is_key_or_value = re.match(r"\w+_processor\.", key)
        dtype = transformer.dtype if is_key_or_value else torch.float32
        tensors[key] = tensor.to(transformer.device, dtype)
    branches.load_state_dict(tensors, assign=True)
    branches.hang_on(transformer)
    return branches.requires_grad_(False)
