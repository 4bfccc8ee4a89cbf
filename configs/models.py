"""Sizes of all systems: the mini one that ships, the tiny one of the tests, and the released ones.

A system is everything one model family consists of (ft_jax/models/system.py): denoiser, codec and
the encoders, with the length and size of the clips it was made for.
"""

from ml_collections import ConfigDict

Settings = dict


def get_config(arg: str = "mini") -> ConfigDict:
    """The system called `arg`."""
    if arg not in SYSTEMS:
        raise ValueError(f"size {arg!r}; expected one of {sorted(SYSTEMS)}")
    return ConfigDict(SYSTEMS[arg]())


def mini() -> Settings:
    """64 pixels, 33 frames; trained on two CPU cores, ships with the package."""
    return {
        "denoiser": {
            "dit": _dit(192, 6, 6, 512, text=(64, 160), image=96) | EXACT,
            "audio": _audio(96, 128),
            "identity": _identity(64, 8, 128, 2, 4, 128),
            "motion": _motion(128, 64),
        },
        "codec": _codec(12, 1, (0.0,) * 16, (1.0,) * 16),
        "speech": _speech(48, 96, 3, 4, 256, (32, 8)) | {"phonemes": 9 * 41},
        "text": _text("bytes", 384, 64, 2, (4, 16), 128) | {"projection": 64},
        "image": _image(64, 16, 96, 4, 4, 256) | {"projection": 64},
        "face": _face(48, (16, 32, 48, 64), (1, 1, 1, 1), 64, "group"),
        "landmarks": _landmarks(64, (16, 32, 48, 64), 128),
        "sync": _sync(),
        **_clip(33, 64),
        # Guidance by text makes its pictures harsh and its lips no better (docs/experiments.md).
        "sampling": {"shift": 3.0, "text": 1.0, "audio": 3.0},
    }


def tiny() -> Settings:
    """17 frames of 16 pixels: every part, nothing learned."""
    return {
        "denoiser": {
            "dit": _dit(24, 2, 2, 32, text=(16, 16), image=16) | EXACT | {"frequency_width": 16},
            "audio": _audio(16, 16),
            "identity": _identity(16, 2, 16, 1, 2, 16),
            "motion": _motion(16, 8),
        },
        "codec": _codec(4, 1, (0.0,) * 16, (1.0,) * 16),
        "speech": _speech(8, 16, 1, 2, 16, (4, 2)) | {"phonemes": 9 * 41},
        "text": _text("bytes", 384, 16, 1, (2, 8), 16) | {"projection": 16},
        "image": _image(16, 8, 16, 2, 2, 16) | {"projection": 16},
        "face": _face(16, (8, 8, 8, 8), (1, 1, 1, 1), 16, "group"),
        "landmarks": _landmarks(16, (8, 8), 16),
        "sync": _sync((4, 4, 4, 4, 4, 4), (4, 4, 4, 4, 4, 4), 8, 8),
        **_clip(17, 16),
        "sampling": PUBLISHED,
    }


def wan_14b() -> Settings:
    """Wan2.1 I2V-14B with the released encoders."""
    return _released(_dit(5120, 40, 40, 13824, text=(4096, 512), image=1280))


def wan_t2v_14b() -> Settings:
    """Wan2.1 T2V-14B: no picture."""
    return _released(_dit(5120, 40, 40, 13824, text=(4096, 512), image=None))


def wan_1_3b() -> Settings:
    """Wan2.1 T2V-1.3B: no picture."""
    return _released(_dit(1536, 30, 12, 8960, text=(4096, 512), image=None))


SYSTEMS = {
    "mini": mini,
    "tiny": tiny,
    "wan_1_3b": wan_1_3b,
    "wan_14b": wan_14b,
    "wan_t2v_14b": wan_t2v_14b,
}
PUBLISHED = {"shift": 5.0, "text": 5.0, "audio": 4.5}
"""Noise shift and guidances of the released script; audio as in the paper (the script has 5)."""

EXACT = {"precision": "parity"}
"""Float32 everywhere: the small models train on CPUs, where bfloat16 is slow. Activations are
recomputed even there: a sixth of the memory, and its page faults cost more than the arithmetic."""

# What the landmark network of the drawn world reads: mean and standard deviation over its clips,
# which set the scale of the regression and nothing else.
MEASURES = {
    "lip_opening": (0.0732, 0.0613),
    "lip_width": (0.3737, 0.0257),
    "brow": (0.0, 0.0177),
    "lid": (0.94, 0.215),
    "cheek": (0.0, 0.0085),
    "head_x": (0.0, 0.0116),
    "head_y": (0.0034, 0.0067),
    "head_tilt": (0.0, 0.0237),
    "shoulder": (0.0109, 0.0085),
}
BOX = {
    "left": (0.27, 0.021),
    "top": (0.277, 0.008),
    "right": (0.732, 0.023),
    "bottom": (0.772, 0.014),
}

# Per-channel statistics of the released codec's raw latents.
MEAN = (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508)
MEAN += (0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921)
STD = (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743)
STD += (3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160)


def _released(dit: Settings) -> Settings:
    return {
        "denoiser": {
            "dit": dit,
            "audio": _audio(768, 2048),
            "identity": _identity(512, 16, 1280, 4, 20, 2048),
            "motion": _motion(1024, 256),
        },
        "codec": _codec(96, 2, MEAN, STD),
        "speech": _speech(512, 768, 12, 12, 3072, (128, 16)),
        "text": _text("google/umt5-xxl", 256384, 4096, 24, (64, 64), 10240),
        "image": _image(224, 14, 1280, 32, 16, 5120),
        "face": _face(112, (64, 128, 256, 512), (3, 13, 30, 3), 512, "batch"),
        "landmarks": None,
        "sync": _sync(),
        **_clip(81, 512),
        "sampling": PUBLISHED,
    }


def _dit(
    width: int, layers: int, heads: int, mlp: int, text: tuple[int, int], image: int | None
) -> Settings:
    return {
        "width": width,
        "layers": layers,
        "heads": heads,
        "mlp_width": mlp,
        "latent_channels": 16,
        "patch": (1, 2, 2),
        "frequency_width": 256,
        "text_width": text[0],
        "text_tokens": text[1],
        "image_width": image,
        "eps": 1e-6,
        "precision": "bf16",
        "residual": "float32",
        "scan": True,
        "remat": "full",
    }


def _audio(features: int, token: int) -> Settings:
    return {
        "feature_width": features,
        "token_width": token,
        "clip": "tokens",  # what clip mode hears: each token, or the "windows" of all frames
        "padding": "masked",  # of windows beyond the speech, or "heard" as zero keys
        "silence": "muted",  # no speech: the term times 0, or features of "zeros"
    }


def _identity(
    embedding: int, queries: int, width: int, depth: int, heads: int, token: int
) -> Settings:
    return {
        "embedding_width": embedding,
        "queries": queries,
        "width": width,
        "depth": depth,
        "heads": heads,
        "token_width": token,
        "weight": 0.5,  # lambda of the identity term (paper: 0.5; the audio term has 1)
        "projected": True,  # False: added after the output projection of the cross-attention
    }


def _motion(width: int, frequencies: int) -> Settings:
    return {
        "width": width,
        "frequency_width": frequencies,
        "scale": 10.0,
        "adds_to": "time",  # the time embedding; or the "modulation" projected from it
    }


def _codec(width: int, blocks: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Settings:
    return {
        "width": width,
        "multipliers": (1, 2, 4, 4),
        "blocks": blocks,
        "channels": 16,
        "time": (False, True, True),
        "mean": mean,
        "std": std,
    }


def _speech(
    channels: int, width: int, layers: int, heads: int, mlp: int, position: tuple[int, int]
) -> Settings:
    return {
        "channels": channels,
        "width": width,
        "layers": layers,
        "heads": heads,
        "mlp_width": mlp,
        "position_kernel": position[0],
        "position_groups": position[1],
        # Outputs of the head that only the small encoder is trained with: phonemes at each of the
        # offsets of configs/speech.py.
        "phonemes": 0,
    }


def _text(
    tokenizer: str, rows: int, width: int, layers: int, heads: tuple[int, int], mlp: int
) -> Settings:
    return {
        "tokenizer": tokenizer,  # "bytes", or the folder of a tokenizer
        "rows": rows,
        "width": width,
        "layers": layers,
        "heads": heads[0],
        "head_width": heads[1],
        "mlp_width": mlp,
        "buckets": 32,
        "reach": 128,
        "projection": 0,  # width in which the small encoders are compared
    }


def _image(pixels: int, patch: int, width: int, layers: int, heads: int, mlp: int) -> Settings:
    return {
        "pixels": pixels,
        "patch": patch,
        "width": width,
        "layers": layers,
        "heads": heads,
        "mlp_width": mlp,
        "projection": 0,
    }


def _face(
    pixels: int, widths: tuple[int, ...], blocks: tuple[int, ...], width: int, norm: str
) -> Settings:
    return {"pixels": pixels, "widths": widths, "blocks": blocks, "width": width, "norm": norm}


def _landmarks(pixels: int, widths: tuple[int, ...], hidden: int) -> Settings:
    return {
        "pixels": pixels,
        "widths": widths,
        "hidden": hidden,
        "measures": tuple(MEASURES),
        "mean": tuple(row[0] for row in (MEASURES | BOX).values()),
        "std": tuple(row[1] for row in (MEASURES | BOX).values()),
    }


def _sync(
    audio: tuple[int, ...] = (64, 192, 384, 256, 256, 512),
    lips: tuple[int, ...] = (96, 256, 256, 256, 256, 512),
    hidden: int = 512,
    width: int = 1024,
) -> Settings:
    """The published SyncNet, in every family: it measures, and no part depends on it."""
    return {"audio": audio, "lips": lips, "hidden": hidden, "width": width}


def _clip(frames: int, side: int) -> Settings:
    return {"frames": frames, "fps": 23.0, "height": side, "width": side}
