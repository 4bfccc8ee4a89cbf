"""CLIP visual tower, original names (Wan's .pth) or Hugging Face's <-> ft_jax/models/clip.py.

The denoiser reads the tokens before the last layer: that layer, the norm after it and the
projection are no parameters unless the config has them (`projection` > 0), nor is the text tower of
the original file. As the loaders of others ask for them, they are carried along (`formats.py`): the
original file, 784 tensors, comes back whole.

Tests: tests/convert/encoders_test.py (released keys), tests/parity/clip_parity_test.py,
tests/parity/from_pretrained_test.py (settings).
"""

from typing import Any

from ft_jax.convert import table
from ft_jax.convert.table import Row, Table, Transform
from ft_jax.models.clip import Config


def _patches(size: int) -> Transform:
    """[o 3 p p] <-> [p p 3, o]: our lanes are row, column, colour."""
    return Transform(
        "patches",
        lambda x: x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0]),
        lambda x: x.reshape(size, size, 3, -1).transpose(3, 2, 0, 1),
    )


_TOKEN = Transform("token", lambda x: x[0, 0], lambda x: x[None, None])


def _both(key: str, path: str) -> list[Row]:
    """A linear layer or a norm with a bias, told apart by the path."""
    first = Row(f"{key}.weight", f"{path}/kernel", table.LINEAR)
    if path.endswith("norm"):
        first = Row(f"{key}.weight", f"{path}/scale")
    return [first, Row(f"{key}.bias", f"{path}/bias")]


def _original_layer(key: str, path: str) -> list[Row]:
    rows = _both(f"{key}.norm1", f"{path}/attention_norm")
    rows += _both(f"{key}.norm2", f"{path}/mlp_norm")
    rows += _both(f"{key}.attn.proj", f"{path}/out")
    rows += _both(f"{key}.mlp.0", f"{path}/up") + _both(f"{key}.mlp.2", f"{path}/down")
    for part, name in enumerate(("query", "key", "value")):
        joined, place = f"{key}.attn.to_qkv", (part, 3)
        rows.append(Row(f"{joined}.weight", f"{path}/{name}/kernel", table.LINEAR, place))
        rows.append(Row(f"{joined}.bias", f"{path}/{name}/bias", table.SAME, place))
    return rows


def _hugging_face_layer(key: str, path: str) -> list[Row]:
    rows = _both(f"{key}.layer_norm1", f"{path}/attention_norm")
    rows += _both(f"{key}.layer_norm2", f"{path}/mlp_norm")
    rows += _both(f"{key}.self_attn.out_proj", f"{path}/out")
    rows += _both(f"{key}.mlp.fc1", f"{path}/up") + _both(f"{key}.mlp.fc2", f"{path}/down")
    for letter, name in (("q", "query"), ("k", "key"), ("v", "value")):
        rows += _both(f"{key}.self_attn.{letter}_proj", f"{path}/{name}")
    return rows


def original(cfg: Config) -> Table:
    """models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth."""
    layers, last = "visual.transformer.{n}", f"visual.transformer.{cfg.layers - 1}"
    rows = [
        Row("visual.patch_embedding.weight", "patches/kernel", _patches(cfg.patch)),
        Row("visual.cls_embedding", "class_token/table", _TOKEN),
        Row("visual.pos_embedding", "positions/table", table.LEADING),
        *_both("visual.pre_norm", "pre_norm"),
        *_original_layer(layers, "layers"),
        *_original_layer(last, "last"),
        *_both("visual.post_norm", "post_norm"),
        Row("visual.head", "projection/kernel"),
    ]
    ignored = [r"log_scale", r"textual\..*"]
    if not cfg.projection:
        end = last.replace(".", r"\.")
        ignored += [rf"{end}\..*", r"visual\.post_norm\..*", r"visual\.head"]
    return Table("the CLIP image encoder", tuple(rows), tuple(ignored))


def hugging_face(cfg: Config, prefix: str = "") -> Table:
    """CLIPVisionModel; files of transformers 4 prefix every key with `vision_model.`."""
    layers, last = f"{prefix}encoder.layers.{{n}}", f"{prefix}encoder.layers.{cfg.layers - 1}"
    embeddings = f"{prefix}embeddings"
    rows = [
        Row(f"{embeddings}.patch_embedding.weight", "patches/kernel", _patches(cfg.patch)),
        Row(f"{embeddings}.class_embedding", "class_token/table"),
        Row(f"{embeddings}.position_embedding.weight", "positions/table"),
        *_both(f"{prefix}pre_layrnorm", "pre_norm"),
        *_hugging_face_layer(layers, "layers"),
        *_hugging_face_layer(last, "last"),
        *_both(f"{prefix}post_layernorm", "post_norm"),
        Row("visual_projection.weight", "projection/kernel", table.LINEAR),
    ]
    ignored = [rf"{prefix}embeddings\.position_ids"]
    if not cfg.projection:
        end = last.replace(".", r"\.")
        ignored += [rf"{end}\..*", rf"{prefix}post_layernorm\..*", r"visual_projection\.weight"]
    return Table("the CLIP image encoder (Hugging Face names)", tuple(rows), tuple(ignored))


def settings(cfg: Config) -> dict[str, Any]:
    """config.json of Hugging Face's CLIPVisionModel.

    It counts the last layer, which no tensors may be there for: the denoiser reads the tokens
    before it (`hidden_states[-2]`), and they stay the last but one.
    """
    return {
        "architectures": ["CLIPVisionModelWithProjection" if cfg.projection else "CLIPVisionModel"],
        "model_type": "clip_vision_model",
        "hidden_size": cfg.width,
        "intermediate_size": cfg.mlp_width,
        "num_hidden_layers": cfg.layers,
        "num_attention_heads": cfg.heads,
        "image_size": cfg.pixels,
        "patch_size": cfg.patch,
        "hidden_act": "gelu",
    } | ({"projection_dim": cfg.projection} if cfg.projection else {})
