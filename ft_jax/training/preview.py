"""A clip with sound every so many steps, by the pipeline that `generate` uses: WORKDIR/previews.

The denoiser is the run's averaged one, everything else comes from a bundle. It is made in a thread
of its own, where neither the mesh of the run nor its logical axes are set, on one device: the
denoiser must fit beside the state. Of several processes the first one makes it, from weights that
all of them gather, and the others wait for it. A clip that cannot be made is a warning: no run
stops for it.

Tests: tests/training/preview_test.py, tests/processes/train_test.py.
"""

import concurrent.futures
import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from ft_jax.checkpoints import bundle, handover
from ft_jax.config import build
from ft_jax.errors import UsageError
from ft_jax.media import image, sound, video
from ft_jax.models.audio import Mode
from ft_jax.models.system import System
from ft_jax.sampling.pipeline import Pipeline, Request
from ft_jax.typing import Params

ENCODERS = ("codec", "speech", "text", "image", "face", "landmarks")
PATIENCE = 3600  # seconds that other processes wait for a clip
SHOWN_SIDE = 256  # pixels to which the frames of a small model are enlarged


@dataclasses.dataclass(frozen=True)
class Config:
    """What is shown.

    Attributes:
      every: Steps between two clips; 0: none.
      picture: File of a portrait.
      speech: File of a recording.
      prompt: What is seen and done.
      weights: Bundle of the encoders; "": the one that ships.
      hearing: As after stage 1, the "clip", or as after stage 2, the "frame".
    """

    every: int
    picture: str
    speech: str
    prompt: str
    weights: str
    hearing: Mode


class Preview:
    """Shows what a run has learned; see the head of this file."""

    def __init__(self, cfg: Config, system: Mapping[str, Any], workdir: Path) -> None:
        """Reads all inputs, so that what is wrong with them is known before anything is compiled.

        Args:
          cfg: Settings.
          system: Settings of the run's system.
          workdir: Folder of the run.

        Raises:
          UsageError: An input is missing, or the run trains nothing that makes clips.
        """
        self._cfg, self._folder = cfg, workdir / "previews"
        if not cfg.every:
            return
        for name in ("picture", "speech"):
            if not getattr(cfg, name):
                raise UsageError(f"watch.preview.{name}: not given; expected a file")
        self._picture, self._sound = image.read(cfg.picture), sound.read(cfg.speech)
        source = handover.read(cfg.weights or bundle.SHIPPED)
        if jax.process_index():
            return
        settings, self._encoders = handover.assemble(system, [source], ENCODERS)
        self._system = build(System, settings, source.path)

    def due(self, step: int) -> bool:
        """Whether a clip is to be made before `step`."""
        return self._cfg.every > 0 and step > 0 and step % self._cfg.every == 0

    def show(self, params: Params, step: int) -> Path | None:
        """Makes the clip of `step` from the run's parameters and says where it is, if it is.

        To be called by all processes at once.

        Raises:
          UsageError: The run trains no denoiser.
        """
        if "denoiser" not in params:
            raise UsageError("watch.preview.every: this stage makes no clips; expected 0")
        denoiser = jax.tree.map(_on_first_host, params["denoiser"])
        target, failure = self._folder / f"{step:07d}.mp4", None
        if jax.process_index() == 0:
            self._folder.mkdir(exist_ok=True)
            parts = {**self._encoders, "denoiser": denoiser}
            with concurrent.futures.ThreadPoolExecutor(1) as thread:
                failure = thread.submit(self._make, parts, target).exception()
        # Not by waiting in the next step: what devices exchange has to come within seconds.
        everyone = set(range(jax.process_count()))
        multihost.sync_global_processes(f"preview {step}", timeout=PATIENCE, processes=everyone)
        if failure is not None:  # of the device's memory, the disk, the encoder
            logging.warning("no preview at step %d: %s", step, failure)
            return None
        return target

    def _make(self, parts: Mapping[str, Params], target: Path) -> None:
        pipeline = Pipeline(self._system, parts, {"hearing": self._cfg.hearing})
        request = Request(self._picture, self._sound.speech, self._cfg.prompt)
        clip = pipeline.generate(request)
        scale = max(1, SHOWN_SIDE // min(clip.frames.shape[1:3]))
        video.write(target, clip.frames, clip.fps, self._sound.track, scale=scale)


def _on_first_host(leaf: Any) -> Any:
    """The whole array in the first process; nothing in others, which take part in the gathering."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        leaf = multihost_utils.process_allgather(leaf, tiled=True)
    return None if jax.process_index() else jax.device_get(leaf)
