"""Random records of the sizes of `tiny` in configs/models.py, for every denoiser stage."""

from pathlib import Path

import ml_dtypes
import numpy as np

from configs import models
from data_pipeline import schema
from data_pipeline.build import dataset
from ft_jax.config import build
from ft_jax.models import system as systems
from ft_jax.models import wav2vec2

COUNT = 4


def write(folder: Path) -> Path:
    """Writes `COUNT` records into a new `folder`."""
    made = build(systems.System, models.get_config("tiny"))
    t, h, w, c = systems.latent_shape(made, made.frames)
    tokens = wav2vec2.feature_length(round(made.frames / made.fps * 16_000))
    dit = made.denoiser.dit
    widths = {"c": c, "i": made.image.tokens, "ci": made.image.width, "cs": dit.text_width}
    widths |= {"ca": made.speech.width, "ce": made.face.width}
    widths |= {"points": 3, "joints": 2, "quality": 5}

    def record(number: int) -> schema.Record:
        rng = np.random.default_rng(number)

        def random(*shape: int) -> np.ndarray:
            return rng.normal(size=shape).astype(ml_dtypes.bfloat16)

        return {
            "id": f"a/{number}/0", "schema": 1, "source": "a", "person": "p", "language": "en",
            "licence": "none", "fps": made.fps, "frames": made.frames, "height": made.height,
            "width": made.width, "video_latents": random(t, h, w, c),
            "condition_latents": random(t, h, w, c),
            "image_tokens": random(made.image.tokens, made.image.width),
            "text_tokens": random(3, dit.text_width), "caption": "c",
            "audio_features": random(tokens, made.speech.width), "audio": np.zeros(30, np.int16),
            "lip_mask": np.full((t, h, w), 255, np.uint8),
            "face_mask": np.zeros((t, h, w), np.uint8),
            "landmarks": np.zeros((made.frames, 3, 2), np.float16),
            "joints": np.zeros((made.frames, 2, 3), np.float16),
            "face_box": np.zeros((made.frames, 4), np.float16),
            "identity": random(made.face.width).astype(np.float32),
            "expression_raw": 1.0, "body_raw": 1.0, "expression": number / COUNT, "body": 0.5,
            "sync_confidence": 0.5, "sync_offset": 0, "quality": np.zeros(5, np.float32),
            "provenance": "{}",
        }  # fmt: skip

    rows = [schema.encode(schema.RECORD, record(number), widths) for number in range(COUNT)]
    metadata = {"kind": schema.RECORD.name, "schema": schema.VERSION, "widths": widths}
    metadata["encoders"] = {"codec": "abc"}
    dataset.write(folder, schema.RECORD, rows, {"metadata": metadata}, COUNT, 1)
    return folder
