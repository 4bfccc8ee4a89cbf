"""A picture and speech in, frames out: the public face of a trained system.

    pipeline = Pipeline.load()                                # the weights that ship
    clip = pipeline.generate(Request(picture, speech, "A person talks to the camera."))
    clip.frames                                               # uint8 [f H W 3]

Pictures may have any size, speech any length from 0.1 s: what is longer than the training clips is
made of overlapping windows (long_video.py). The frames last as long as the speech to within half a
frame. Frame 0 is the portrait as the codec shows it.

`generate_batch` makes many clips; the result for a request is the same as alone, except for the
order of floating-point sums. `without` switches branches off, for measurements.

Shapes
  Request.picture, .face_picture   [H W 3] uint8, any size
  Request.speech                   [x] float32, 16 kHz mono
  Clip.frames                      [f height width 3] uint8

Tests: tests/sampling/pipeline_test.py.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from ft_jax.checkpoints import bundle, handover
from ft_jax.config import build
from ft_jax.errors import UsageError
from ft_jax.media.image import Framing
from ft_jax.models import audio, fantasy, system, vae
from ft_jax.models.motion import NEUTRAL
from ft_jax.sampling import long_video, portrait, sampler
from ft_jax.sampling.conditions import Encoders
from ft_jax.sampling.long_video import Plan
from ft_jax.sampling.sampler import Config as SamplerConfig
from ft_jax.typing import Params

SPEECH_RATE = 16_000
BRANCHES = ("audio", "identity", "motion")
NO_OTHER_FACE = "no face found in the identity picture; it is not used"
ROWS_AT_ONCE = 32  # windows whose conditions are held in memory together
Progress = Callable[[int, int], None]
Intensity: TypeAlias = float | int | tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of sampling; configs/sample.py has the values; see `settled`.

    Attributes:
      sampler: Steps, noise levels and guidance.
      negative_prompt: Text of the unconditional branch; "" is the dropped prompt of training.
      hearing: "frame", each latent frame hears its own moment, as after stage 2; or "clip", all
        speech of the window, as stage 1 alone was trained.
      overlap: Latent frames that the windows of a long clip share.
      framing: How pictures are cropped.
      codec: How much of a clip is encoded and decoded at once.
    """

    sampler: SamplerConfig = dataclasses.field(default_factory=SamplerConfig)
    negative_prompt: str = ""
    hearing: audio.Mode = "frame"
    overlap: int = 3
    framing: Framing = dataclasses.field(default_factory=Framing)
    codec: vae.Pieces = dataclasses.field(default_factory=lambda: vae.Pieces(chunk=9))


def settled(made: system.System, given: Config | Mapping[str, Any] | None) -> Config:
    """Settings for a system: what is not given, or None, is what its weights are best sampled with.

    Args:
      made: The system.
      given: Settings by name, as in configs/sample.py; a whole Config stays as it is.

    Raises:
      UsageError: A setting does not exist or has the wrong type.
    """
    if isinstance(given, Config):
        return given
    chosen = dict(given or {})
    sampler = chosen["sampler"] = dict(chosen.get("sampler") or {})
    guidance = sampler["guidance"] = dict(sampler.get("guidance") or {})
    for group, name in ((sampler, "shift"), (guidance, "text"), (guidance, "audio")):
        if group.get(name) is None:
            group[name] = getattr(made.sampling, name)
    return build(Config, chosen)


@dataclasses.dataclass(frozen=True)
class Request:
    """One clip to make.

    Attributes:
      picture: The portrait; the first frame.
      speech: What is said, 16 kHz mono.
      prompt: What is seen and done, in words.
      face_picture: Whose face to keep, if not the portrait's.
      expression: omega_l, how much brows, lids and cheeks move: 0 to 1, 0.5 is neutral. Several
        values are spread evenly over a long clip.
      body: omega_b, how much head and shoulders move; likewise.
      seed: Of the noise; the same request and seed give the same clip.
    """

    picture: UInt8[np.ndarray, "H W 3"]
    speech: Float32[np.ndarray, " x"]
    prompt: str = ""
    face_picture: UInt8[np.ndarray, "_ _ 3"] | None = None
    expression: Intensity = NEUTRAL
    body: Intensity = NEUTRAL
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("expression", "body"):
            values = _values(getattr(self, name))
            if not values or not all(0.0 <= value <= 1.0 for value in values):
                raise UsageError(f"{name}: got {getattr(self, name)}; expected 0 to 1")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"seed: got {self.seed}; expected 0 to 2^63 - 1")
        if self.speech.shape[0] < SPEECH_RATE // 10:
            seconds = self.speech.shape[0] / SPEECH_RATE
            raise UsageError(f"speech: lasts {seconds:.3f} s; expected at least 0.1 s")


@dataclasses.dataclass(frozen=True)
class Clip:
    """What was made; `notes` is what the user should know, one sentence each."""

    frames: UInt8[np.ndarray, "f H W 3"]
    fps: float
    windows: int
    notes: tuple[str, ...] = ()


class Pipeline:
    """A system with its weights, ready to make clips."""

    def __init__(
        self,
        config: system.System,
        params: Mapping[str, Params],
        cfg: Config | Mapping[str, Any] | None = None,
    ) -> None:
        """Takes the parts of a bundle; weights are used in float32 where the system says so.

        Args:
          config: Of the parts.
          params: Their weights.
          cfg: Settings of sampling; see `settled` for what may be left out.

        Raises:
          UsageError: A part is missing, parts do not fit each other, or a setting is wrong.
        """
        system.check(config)
        _check_parts(config, params, "weights")
        exact = config.denoiser.dit.precision == "parity"
        self.system, self.cfg = config, settled(config, cfg)

        def taken(x: Any) -> jax.Array:
            is_cast = exact and jnp.issubdtype(x.dtype, jnp.floating)  # not whole numbers, in int8
            return jnp.asarray(x, jnp.float32 if is_cast else None)

        self._params = {
            name: jax.tree.map(taken, part) for name, part in params.items() if name != system.REST
        }
        self._encoders = Encoders(config, self._params, self.cfg.codec)
        self._look = self._encoders.look()

    @classmethod
    def load(
        cls,
        path: str | pathlib.Path | None = None,
        cfg: Config | Mapping[str, Any] | None = None,
    ) -> "Pipeline":
        """Reads a bundle, imported weights or a run; without a path, the bundle that ships.

        Raises:
          UsageError: The file or folder is missing or holds no weights.
        """
        source = handover.read(path or bundle.SHIPPED)
        made = build(system.System, source.system, source.path)
        _check_parts(made, source.parts, source.path)
        return cls(made, source.parts, cfg)

    def without(self, *branches: str) -> "Pipeline":
        """The same system with branches ("audio", "identity", "motion") switched off."""
        unknown = [name for name in branches if name not in BRANCHES]
        if unknown:
            raise UsageError(f"{unknown[0]}: no such branch; expected one of {BRANCHES}")
        denoiser = dataclasses.replace(self.system.denoiser, **dict.fromkeys(branches))
        reduced = dataclasses.replace(self.system, denoiser=denoiser)
        return Pipeline(reduced, self._params, self.cfg)

    def generate(self, request: Request, progress: Progress | None = None) -> Clip:
        """Makes one clip.

        Args:
          request: What to make.
          progress: Called with (steps done, steps in all).
        """
        return self.generate_batch([request], progress)[0]

    def generate_batch(
        self, requests: Sequence[Request], progress: Progress | None = None
    ) -> list[Clip]:
        """Makes many clips, in the order of the requests; those of one length go together."""
        plans = [self._plan(request) for request in requests]
        groups: dict[int, list[int]] = {}
        for index, plan in enumerate(plans):
            groups.setdefault(plan.latents, []).append(index)
        batches = []
        for members in groups.values():
            size = max(1, ROWS_AT_ONCE // len(plans[members[0]].ids))
            batches += [members[i : i + size] for i in range(0, len(members), size)]
        clips: dict[int, Clip] = {}
        steps = self.cfg.sampler.steps
        for number, members in enumerate(batches):
            report = None
            if progress is not None:
                report = _offset(progress, number * steps, len(batches) * steps)
            made = self._make([requests[i] for i in members], [plans[i] for i in members], report)
            clips.update(zip(members, made, strict=True))
        return [clips[index] for index in range(len(requests))]

    def _plan(self, request: Request) -> Plan:
        frames = long_video.frame_count(request.speech.shape[0] / SPEECH_RATE, self.system.fps)
        return long_video.plan(frames, self.system.latent_shape[0], self.cfg.overlap)

    def _make(
        self, requests: list[Request], plans: list[Plan], progress: Progress | None
    ) -> list[Clip]:
        """Requests whose plans have the same windows."""
        latents, height, width, channels = self.system.latent_shape
        windows, t = plans[0].ids.shape
        count = windows * t
        # Frames of different clips have different numbers; noise is drawn by a clip's own.
        ids = np.concatenate([plan.ids + k * count for k, plan in enumerate(plans)])
        noise = np.concatenate(
            [
                long_video.frame_noise(request.seed, plan.ids, (height, width, channels))
                for request, plan in zip(requests, plans, strict=True)
            ]
        )
        portraits, conditions = self._conditions(requests, plans)
        negative = self._encoders.prompts([self.cfg.negative_prompt])
        heard, branch = conditions.audio_features, self.system.denoiser.audio
        made = sampler.sample(
            self._params["denoiser"],
            self.system.denoiser,
            self.cfg.sampler,
            sampler.Request(
                noise=noise,
                conditions=conditions,
                negative_text=np.repeat(negative, len(noise), axis=0),
                windows=None
                if heard is None or branch is None
                else audio.windows(branch, self.cfg.hearing, heard.shape[1], self.system.frames),
                overlap=None if windows == 1 else _overlap(ids, plans),
            ),
            progress,
        )
        rows = np.asarray(made).reshape(len(requests), windows, latents, height, width, channels)
        first = np.asarray(conditions.condition_latents)[::windows, 0]
        order = plans[0].order
        whole = rows[:, order[:, 0], order[:, 1]]
        whole[:, 0] = first  # what the network was told of frame 0 is exact
        frames = self._encoders.decode(whole)
        return [
            Clip(video[: plan.frames], self.system.fps, windows, taken.notes)
            for video, plan, taken in zip(frames, plans, portraits, strict=True)
        ]

    def _conditions(
        self, requests: list[Request], plans: list[Plan]
    ) -> tuple[list[portrait.Portrait], fantasy.Conditions]:
        """One row for every window of every request."""
        made, encoders, model = self.system, self._encoders, self.system.denoiser
        windows = len(plans[0].ids)
        portraits = [self._portrait(request) for request in requests]

        def each(rows: np.ndarray) -> np.ndarray:
            return np.repeat(rows, windows, axis=0)

        latents, tokens = encoders.pictures(np.stack([taken.picture for taken in portraits]))
        given: dict[str, np.ndarray] = {
            "condition_latents": each(latents),
            "image_tokens": each(tokens),
            "text_tokens": each(encoders.prompts([request.prompt for request in requests])),
        }
        if model.dit.image_width is None:
            raise UsageError("weights: a text-to-video model; expected one that takes a picture")
        if model.audio is not None:
            samples = int(made.frames / made.fps * SPEECH_RATE)
            cuts = [
                long_video.normalise(
                    long_video.cut_speech(
                        request.speech, plan.starts, samples, made.fps, SPEECH_RATE
                    )
                )
                for request, plan in zip(requests, plans, strict=True)
            ]
            given["audio_features"] = encoders.speech(np.concatenate(cuts))
        if model.identity is not None:
            blank = np.zeros((made.face.pixels, made.face.pixels, 3), np.uint8)
            crops = [blank if taken.face is None else taken.face for taken in portraits]
            given["identity"] = each(encoders.faces(np.stack(crops)))
            known = [float(taken.face is not None) for taken in portraits]
            given["identity_scale"] = each(np.array(known, np.float32))
        if model.motion is not None:
            for name in ("expression", "body"):
                values = [_values(getattr(request, name)) for request in requests]
                spread = [long_video.spread(each, windows) for each in values]
                given[name] = np.concatenate(spread)
        return portraits, fantasy.Conditions(
            **{"audio_features": None, **{key: jnp.asarray(x) for key, x in given.items()}}
        )

    def _portrait(self, request: Request) -> portrait.Portrait:
        made = self.system
        sizes = portrait.Sizes(made.height, made.width, made.face.pixels)
        taken = portrait.take(request.picture, sizes, self.cfg.framing, self._look)
        if request.face_picture is None:
            return taken
        other = portrait.take(request.face_picture, sizes, self.cfg.framing, self._look)
        if other.face is None:
            return dataclasses.replace(taken, notes=(*taken.notes, NO_OTHER_FACE))
        return dataclasses.replace(other, picture=taken.picture)


def _check_parts(made: system.System, params: Mapping[str, Params], origin: str) -> None:
    needed = ["denoiser", "codec", "text", "image"]
    needed += ["speech"] * (made.denoiser.audio is not None)
    needed += ["face"] * (made.denoiser.identity is not None)
    if missing := [name for name in needed if name not in params]:
        raise UsageError(f"{origin}: no part {missing[0]!r}; expected {', '.join(needed)}")


def _overlap(ids: np.ndarray, plans: list[Plan]) -> sampler.Overlap:
    _, numbers = np.unique(ids, return_inverse=True)
    weights = np.concatenate([plan.weights for plan in plans])
    return sampler.Overlap(numbers.reshape(ids.shape), weights)


def _values(given: Intensity) -> tuple[float, ...]:
    return given if isinstance(given, tuple) else (float(given),)


def _offset(progress: Progress, done: int, total: int) -> Progress:
    return lambda steps, _: progress(done + steps, total)
