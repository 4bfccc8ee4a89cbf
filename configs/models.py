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
            "dit": _dit(192, 6, 6, 512, text=(64, 64), image=96) | EXACT,
            "audio": {"feature_width": 96, "token_width": 128},
            "identity": _identity(64, 8, 128, 2, 4, 128),
            "motion": {"width": 128, "frequency_width": 64, "scale": 100.0},
        },
        "codec": _codec(12, 1, (0.0,) * 16, (1.0,) * 16),
        **_clip(33, 64),
    }


def tiny() -> Settings:
    """17 frames of 16 pixels: every part, nothing learned."""
    return {
        "denoiser": {
            "dit": _dit(24, 2, 2, 32, text=(8, 8), image=16) | EXACT | {"frequency_width": 16},
            "audio": {"feature_width": 16, "token_width": 16},
            "identity": _identity(16, 2, 16, 1, 2, 16),
            "motion": {"width": 16, "frequency_width": 8, "scale": 100.0},
        },
        "codec": _codec(4, 1, (0.0,) * 16, (1.0,) * 16),
        **_clip(17, 16),
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
EXACT = {"precision": "parity", "remat": "none"}
"""Float32 everywhere: the small models train on CPUs, where bfloat16 is slow."""

# Per-channel statistics of the released codec's raw latents.
MEAN = (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508)
MEAN += (0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921)
STD = (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743)
STD += (3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160)


def _released(dit: Settings) -> Settings:
    return {
        "denoiser": {
            "dit": dit,
            "audio": {"feature_width": 768, "token_width": 2048},
            "identity": _identity(512, 16, 1280, 4, 20, 2048),
            "motion": {"width": 1024, "frequency_width": 256, "scale": 100.0},
        },
        "codec": _codec(96, 2, MEAN, STD),
        **_clip(81, 512),
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
    }


def _codec(
    width: int, blocks: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Settings:
    return {
        "width": width,
        "multipliers": (1, 2, 4, 4),
        "blocks": blocks,
        "channels": 16,
        "time": (False, True, True),
        "mean": mean,
        "std": std,
    }


def _clip(frames: int, side: int) -> Settings:
    return {"frames": frames, "fps": 23.0, "height": side, "width": side}
