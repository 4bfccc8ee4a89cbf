"""A data set, a frozen base and the training command, in as many processes as asked for."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import soundfile
from PIL import Image

from configs import stage1_clip
from data_pipeline import schema
from data_pipeline.build import dataset
from ft_jax.checkpoints import bundle, weights
from ft_jax.checkpoints.tree import flatten
from ft_jax.cli import train
from ft_jax.config import to_dict
from ft_jax.lazy import Lazy
from ft_jax.media.file import place
from tests.sampling import tiny_system

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = {"c": 16, "i": 5, "ci": 16, "cs": 16, "ca": 16, "ce": 16} | {
    "points": 3, "joints": 2, "quality": 5
}  # fmt: skip
FLAGS = ("--config=configs/stage1_clip.py:tiny", "--config.data.batch_size=8",
         "--config.every.evaluate=0", "--config.every.save=0",
         "--config.model.denoiser.dit.layers=1", "--config.task.identity=False",
         "--config.task.motion=False")  # fmt: skip
SECONDS = 240  # after which a process that waits for another is ended


def record(number: int, corpus: str, side: int) -> schema.Record:
    """A record of 17 frames and `side` x `side` latents, all numbers random."""
    rng = np.random.default_rng(number)

    def random(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(ml_dtypes.bfloat16)

    mask = rng.integers(0, 255, (5, side, side)).astype(np.uint8)
    return {
        "id": f"{corpus}/{number}/0", "schema": 1, "source": corpus, "person": "p",
        "language": "en", "licence": "none", "fps": 23.0, "frames": 17, "height": 8 * side,
        "width": 8 * side, "video_latents": random(5, side, side, 16),
        "condition_latents": random(5, side, side, 16), "image_tokens": random(5, 16),
        "text_tokens": random(3, 16), "caption": "c", "audio_features": random(37, 16),
        "audio": np.zeros(30, np.int16), "lip_mask": mask, "face_mask": mask,
        "landmarks": np.zeros((17, 3, 2), np.float16), "joints": np.zeros((17, 2, 3), np.float16),
        "face_box": np.zeros((17, 4), np.float16), "identity": np.ones(16, np.float32) / 4,
        "expression_raw": 1.0, "body_raw": 1.0, "expression": number / 16, "body": 0.5,
        "sync_confidence": 0.5, "sync_offset": 0, "quality": np.zeros(5, np.float32),
        "provenance": "{}",
    }  # fmt: skip


def data_set(folder: Path, corpus: str, count: int, side: int = 4) -> Path:
    """A data set of `count` such records."""
    table = schema.RECORD
    rows = [schema.encode(table, record(n, corpus, side), WIDTHS) for n in range(count)]
    metadata = {
        "kind": table.name, "schema": schema.VERSION, "widths": WIDTHS, "encoders": {},
        "count": count, "fps": 23.0, "frames": 17, "height": 8 * side, "width": 8 * side,
    }  # fmt: skip
    dataset.write(folder / corpus, table, rows, {"metadata": metadata}, count, 1)
    return folder / corpus


def base(folder: Path) -> Path:
    """Weights of the frozen base, as imported ones lie on disk."""
    settings = stage1_clip.get_config("tiny").to_dict()
    settings["model"]["denoiser"]["dit"]["layers"] = 1
    stage = train.prepare(settings)[1]
    rng = np.random.default_rng(0)
    leaves = {
        path: rng.normal(0, 0.2, leaf.shape).astype(np.float32)
        for path, leaf in flatten(jax.eval_shape(stage.init, jax.random.key(0))).items()
        if path.startswith("denoiser/dit/")
    }
    lazy = {path: Lazy(x.shape, x.dtype, lambda x=x: x) for path, x in leaves.items()}
    weights.save(folder / "base", stage.system, lazy)
    return folder / "base"


def preview(folder: Path) -> tuple[str, ...]:
    """Flags for a clip at every step, of a picture and a third of a second of noise."""
    made, draw = tiny_system.system(), np.random.default_rng(0)
    parts = {name: x for name, x in tiny_system.params(made).items() if name != "denoiser"}
    bundle.save(folder / "encoders.safetensors", to_dict(made), parts)
    Image.fromarray(draw.integers(0, 255, (40, 50, 3), np.uint8)).save(folder / "face.png")
    soundfile.write(folder / "speech.wav", 0.1 * draw.standard_normal(5000), 16_000)
    files = {"weights": "encoders.safetensors", "picture": "face.png", "speech": "speech.wav"}
    flags = (f"--config.watch.preview.{name}={folder / file}" for name, file in files.items())
    return "--config.watch.preview.every=1", *flags


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def run(workdir: Path | str, count: int, flags: Sequence[str], slurm: bool = False) -> list[Any]:
    """Runs the command in `count` processes and returns the lines of its log.

    Every process ends before this returns, however it ends.
    """
    port, children = free_port(), []
    try:
        for index in range(count):
            command = [sys.executable, "-m", "ft_jax.cli.train", *FLAGS, f"--workdir={workdir}"]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            if slurm:
                environment |= {
                    "SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "localhost",
                    "SLURM_NTASKS": str(count), "SLURM_PROCID": str(index),
                    "SLURM_LOCALID": str(index), "SLURM_STEP_NUM_NODES": "1",
                    "JAX_COORDINATOR_PORT": str(port),
                }  # fmt: skip
            else:
                command.append(f"--processes=localhost:{port},{count},{index}")
            children.append(
                subprocess.Popen(
                    [*command, *flags], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
                )
            )
        said = [child.communicate(timeout=SECONDS)[1] for child in children]
        # TensorStore tells by what it signs in to a bucket.
        said = [re.sub(r"(?m)^.*google_auth_provider.*\n", "", text) for text in said]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert [child.returncode for child in children] == [0] * count, "\n".join(said)
    assert [bool(text) for text in said] == [index == 0 for index in range(count)], said
    return [json.loads(line) for line in (place(workdir) / "log.jsonl").read_text().splitlines()]


def losses(lines: Sequence[Any]) -> list[float]:
    """One number a step."""
    return [line["loss"] for line in lines if "loss" in line]
