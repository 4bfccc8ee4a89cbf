"""Do these weights work? Each network is run once, on one picture and one recording.

    against_diffusers   one block, and one guided step of three branches, in JAX and in PyTorch
    codec               a picture there and back
    speech              features of speech: finite, moving, unlike those of silence
    clips               a clip without guidance by speech and one with: do they differ, which lips
                        follow the sound?

Lips need an instrument. Systems of the drawn world bring a landmark network, and lip opening is
held against loudness. Without one nothing here sees lips: measured instead is how much the lower
third of the face moves from frame to frame, which speech moves too. One short clip tells no more
than its margin, so nothing is asked of either correlation, only that speech changes the clip.

Tests: tests/eval/trial_test.py.
"""

import dataclasses
import functools
import importlib.util
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, UInt8

from ft_jax.checkpoints.tree import flatten, unflatten
from ft_jax.convert import counterpart
from ft_jax.diffusion.guidance import combine_stacked
from ft_jax.eval import clip, lips
from ft_jax.eval.findings import Check
from ft_jax.eval.instrument import Instrument
from ft_jax.media.face_detection import find_face
from ft_jax.models import audio, fantasy, vae
from ft_jax.models.system import System
from ft_jax.sampling import long_video
from ft_jax.sampling.conditions import Encoders
from ft_jax.sampling.pipeline import SPEECH_RATE, Clip, Pipeline, Request
from ft_jax.sampling.sampler import Config as SamplerConfig
from ft_jax.typing import Params

AGREEMENT = 3e-5  # of the largest value: what an export may differ by
LEAST_PSNR = 20.0  # dB, of a picture through the codec; the shipped one has 28
LEAST_SHARE = 0.05  # of the features' strength that must move, and that must differ from silence
LEAST_CHANGE = 0.05  # grey levels that speech changes on average
GUIDANCES = (0.0, 5.0)  # by speech: none, and the released script's
_FRAMES, _TOKENS, _SIDE = 9, 20, 4  # of the comparison with diffusers: video, speech, latent rows
_BLOCKS = re.compile(r"(dit|lora)/blocks/|(audio|identity)/(key|value)/")


def first_blocks(params: Params, cfg: fantasy.Config, blocks: int) -> tuple[Params, fantasy.Config]:
    """The denoiser with its first blocks only, in float32."""
    kept = {}
    for path, leaf in flatten(params).items():
        whole = np.asarray(leaf)
        kept[path] = (whole[:blocks] if _BLOCKS.match(path) else whole).astype(np.float32)
    base = dataclasses.replace(cfg.dit, layers=blocks, precision="parity", remat="none")
    return unflatten(kept), dataclasses.replace(cfg, dit=base)


def against_diffusers(params: Params, cfg: fantasy.Config, blocks: int) -> list[Check]:
    """One block, and one step of the first `blocks`, each on three guidance branches."""
    names = ("one block against diffusers", f"three-branch step, {blocks} blocks, diffusers")
    for library in ("torch", "diffusers"):
        if importlib.util.find_spec(library) is None:
            return [Check(name, "skipped", f"{library} is not installed") for name in names]
    return [
        _compared(name, *first_blocks(params, cfg, count))
        for name, count in zip(names, (1, blocks), strict=True)
    ]


def _compared(name: str, params: Params, cfg: fantasy.Config) -> Check:
    draw = np.random.default_rng(0).standard_normal
    normal = lambda *shape: jnp.asarray(draw(shape), jnp.float32)  # noqa: E731
    base, latents = cfg.dit, (3, _SIDE, _SIDE, cfg.dit.latent_channels)
    is_image = base.image_width is not None
    given = fantasy.Conditions(
        condition_latents=normal(1, *latents) if is_image else None,
        image_tokens=normal(1, 5, base.image_width) if is_image else None,
        text_tokens=normal(1, 4, base.text_width),
        audio_features=normal(1, _TOKENS, cfg.audio.feature_width) if cfg.audio else None,
        identity=normal(1, cfg.identity.embedding_width) * 0.05 if cfg.identity else None,
        expression=jnp.array([0.2]),
        body=jnp.array([0.8]),
    )
    silence = cfg.audio.silence if cfg.audio else "muted"
    given = fantasy.for_guidance(given, normal(1, 4, base.text_width), silence=silence)
    noise, sigma = jnp.repeat(normal(1, *latents), 3, axis=0), jnp.full(3, 0.8)
    windows = audio.windows(cfg.audio, "frame", _TOKENS, _FRAMES) if cfg.audio else None
    ours = _apply(params, cfg, noise, sigma, given, windows)
    built = counterpart.build(params, cfg)
    theirs = counterpart.velocity(built, noise, sigma, given, "frame", _FRAMES)
    error, largest = float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())
    guidance = SamplerConfig().guidance
    steps = [noise[:1] - 0.1 * combine_stacked(jnp.asarray(x), guidance) for x in (ours, theirs)]
    moved = float(jnp.abs(steps[0] - steps[1]).max())
    is_same = bool(np.isfinite(error)) and error <= AGREEMENT * max(largest, 1.0)
    finding = f"differs by {error:.1e} of {largest:.3g}, after the step by {moved:.1e}"
    return Check(name, "sound" if is_same else "fault", finding)


@functools.partial(jax.jit, static_argnames="cfg")
def _apply(params: Params, cfg: fantasy.Config, *given: Any) -> jax.Array:
    return fantasy.apply(params, cfg, *given)


def codec(params: Params, system: System, picture: UInt8[np.ndarray, "H W 3"]) -> Check:
    """A picture of the system's size as a clip of one frame, encoded and decoded."""
    video = jnp.asarray(picture, jnp.float32)[None, None] / 127.5 - 1.0
    found = np.asarray(_round_trip(params, system.codec, video))
    error = np.square(np.clip(found, -1.0, 1.0) - np.asarray(video)).mean()
    psnr = float(10 * np.log10(4.0 / max(error, 1e-12)))
    verdict = "sound" if psnr >= LEAST_PSNR else "fault"
    return Check(
        "codec: a picture there and back",
        verdict,
        f"PSNR {psnr:.1f} dB; expected at least {LEAST_PSNR:g}",
    )


@functools.partial(jax.jit, static_argnames="cfg")
def _round_trip(params: Params, cfg: vae.Config, video: jax.Array) -> jax.Array:
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    return vae.decode(params, cfg, vae.encode(params, cfg, video))


def speech(encoders: Encoders, recording: Float32[np.ndarray, " x"]) -> Check:
    """Features of one clip's length of speech, beside those of silence."""
    system = encoders.system
    samples = int(system.frames / system.fps * SPEECH_RATE)
    cut = long_video.cut_speech(recording, (0,), samples, system.fps, SPEECH_RATE)
    features = encoders.speech(long_video.normalise(cut))[0]
    silence = encoders.speech(np.zeros_like(cut))[0]
    strength = max(float(np.sqrt(np.square(features).mean())), 1e-12)
    moving = float(features.std(axis=0).mean()) / strength
    unlike = float(np.sqrt(np.square(features - silence).mean())) / strength
    is_finite = bool(np.isfinite(features).all() and np.isfinite(silence).all())
    is_sane = is_finite and moving >= LEAST_SHARE and unlike >= LEAST_SHARE
    return Check(
        "speech encoder",
        "sound" if is_sane else "fault",
        f"{len(features)} tokens, {'finite' if is_finite else 'NOT FINITE'}; of their strength "
        f"{moving:.2f} moves, {unlike:.2f} differs from silence; expected {LEAST_SHARE:g}",
    )


def clips(pipeline: Pipeline, parts: Mapping[str, Params], request: Request) -> list[Check]:
    """One clip per guidance by speech, all else the same: how its lips follow, and what changed."""
    system, checks, made = pipeline.system, [], []
    seconds = system.frames / system.fps
    request = dataclasses.replace(request, speech=request.speech[: round(seconds * SPEECH_RATE)])
    instrument = None
    if system.landmarks is not None and "landmarks" in parts:
        instrument = Instrument(system.landmarks, parts["landmarks"])
    for strength in GUIDANCES:
        sampler = pipeline.cfg.sampler
        guidance = dataclasses.replace(sampler.guidance, audio=strength)
        sampler = dataclasses.replace(sampler, guidance=guidance)
        cfg = dataclasses.replace(pipeline.cfg, sampler=sampler)
        made.append(Pipeline(system, parts, cfg).generate(request))
        finding = _lips(made[-1], request.speech, instrument)
        checks.append(Check(f"clip at audio guidance {strength:g}", "note", finding))
    differ = float(np.abs(made[1].frames.astype(np.float64) - made[0].frames).mean())
    verdict, finding = "sound", f"moves pixels by {differ:.2f} of 255 on average"
    if differ < LEAST_CHANGE:
        verdict, finding = "fault", f"{finding}; expected at least {LEAST_CHANGE:g}"
        if _is_deaf(parts["denoiser"]):
            verdict, finding = "note", "nothing: the speech branch is zero or not there"
    return [*checks, Check("what guidance by speech does", verdict, finding)]


def _lips(made: Clip, recording: np.ndarray, instrument: Instrument | None) -> str:
    """How far the mouth of one clip follows its sound, with what this many frames can tell."""
    loud = clip.loudness(recording, SPEECH_RATE, len(made.frames), made.fps)
    margin = f"+- {1.96 / max(len(made.frames) - 3, 1) ** 0.5:.2f} at best"
    if instrument is None:
        r = lips.correlation(mouth_motion(made.frames), loud[1:])
        return (
            f"motion of the lower face against loudness, r = {r:.2f} {margin}; there is no "
            "landmark network, so lips themselves are not measured"
        )
    opening = instrument.measure(made.frames).tracks["lip_opening"]
    return (
        f"lip opening against loudness, r = {lips.correlation(opening, loud):.2f} {margin}; a face "
        f"is seen in {np.isfinite(opening).mean():.0%} of {len(opening)} frames"
    )


def _is_deaf(denoiser: Params) -> bool:
    return "audio" not in denoiser or not np.asarray(denoiser["audio"]["value"]["kernel"]).any()


def mouth_motion(frames: UInt8[np.ndarray, "f H W 3"]) -> Float[np.ndarray, " _"]:
    """Mean change from frame to frame in the lower third of the face, or of the picture's middle.

    Returns one value less than there are frames.
    """
    height, width = frames.shape[1:3]
    face = find_face(frames[0])
    left, top, right, bottom = (
        (0.25 * width, 0.0, 0.75 * width, float(height)) if face is None else face.box
    )
    rows = slice(int(bottom - (bottom - top) / 3), int(bottom))
    region = frames[:, rows, int(left) : int(right)].astype(np.float64)
    return np.abs(np.diff(region, axis=0)).mean((1, 2, 3))
