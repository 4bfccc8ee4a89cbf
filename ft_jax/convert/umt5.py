"""UMT5 encoder, original names (models_t5_umt5-xxl-enc-bf16.pth) or Hugging Face's <-> text.py.

Tests: tests/convert/encoders_test.py (released keys), tests/parity/text_parity_test.py,
tests/parity/from_pretrained_test.py (settings).
"""

from typing import Any

from ft_jax.convert import table
from ft_jax.convert.table import Row, Table
from ft_jax.models import text

_ORIGINAL = {
    "attention_norm/scale": "blocks.{n}.norm1.weight",
    "query/kernel": "blocks.{n}.attn.q.weight",
    "key/kernel": "blocks.{n}.attn.k.weight",
    "value/kernel": "blocks.{n}.attn.v.weight",
    "out/kernel": "blocks.{n}.attn.o.weight",
    "distance/table": "blocks.{n}.pos_embedding.embedding.weight",
    "mlp_norm/scale": "blocks.{n}.norm2.weight",
    "gate/kernel": "blocks.{n}.ffn.gate.0.weight",
    "up/kernel": "blocks.{n}.ffn.fc1.weight",
    "down/kernel": "blocks.{n}.ffn.fc2.weight",
}
_HF_ATTENTION = "encoder.block.{n}.layer.0.SelfAttention"
_HF_MLP = "encoder.block.{n}.layer.1.DenseReluDense"
_HUGGING_FACE = {
    "attention_norm/scale": "encoder.block.{n}.layer.0.layer_norm.weight",
    "query/kernel": f"{_HF_ATTENTION}.q.weight",
    "key/kernel": f"{_HF_ATTENTION}.k.weight",
    "value/kernel": f"{_HF_ATTENTION}.v.weight",
    "out/kernel": f"{_HF_ATTENTION}.o.weight",
    "distance/table": f"{_HF_ATTENTION}.relative_attention_bias.weight",
    "mlp_norm/scale": "encoder.block.{n}.layer.1.layer_norm.weight",
    "gate/kernel": f"{_HF_MLP}.wi_0.weight",
    "up/kernel": f"{_HF_MLP}.wi_1.weight",
    "down/kernel": f"{_HF_MLP}.wo.weight",
}


def _table(name: str, layer: dict[str, str], embed: str, norm: str, *ignored: str) -> Table:
    rows = [Row(embed, "embed/table"), Row(norm, "norm/scale")]
    for path, key in layer.items():
        kind = table.LINEAR if path.endswith("kernel") else table.SAME
        rows.append(Row(key, f"layers/{path}", kind))
    return Table(name, tuple(rows), ignored)


ORIGINAL = _table("the UMT5 encoder", _ORIGINAL, "token_embedding.weight", "norm.weight")
HUGGING_FACE = _table(
    "the UMT5 encoder (Hugging Face names)",
    _HUGGING_FACE,
    "shared.weight",
    "encoder.final_layer_norm.weight",
    r"encoder\.embed_tokens\.weight",  # the same tensor as `shared`
)


def settings(cfg: text.Config) -> dict[str, Any]:
    """config.json of Hugging Face's UMT5EncoderModel."""
    return {
        "architectures": ["UMT5EncoderModel"],
        "model_type": "umt5",
        "vocab_size": cfg.rows,
        "d_model": cfg.width,
        "d_kv": cfg.head_width,
        "d_ff": cfg.mlp_width,
        "num_layers": cfg.layers,
        "num_heads": cfg.heads,
        "relative_attention_num_buckets": cfg.buckets,
        "relative_attention_max_distance": cfg.reach,
        "feed_forward_proj": "gated-gelu",
    }
