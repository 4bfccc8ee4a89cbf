"""The identity branch in a safetensors file of our own <-> `identity/...`.

The authors published no weights for this branch, so the layout is ours, in the style of their
speech branch: what comes before the blocks under `identity_model.`, keys and values of block `n`
where a cross-attention processor would keep them. Pass `{"identity": params["identity"]}`.

    identity_model.queries                    [queries, width]
    identity_model.proj_in.weight, .bias      [width, face], [width]
    identity_model.layers.{m}.                m = 0 .. depth - 1
        norm_query, norm_face, norm_mlp       .weight, .bias [width]
        q_proj, k_proj, v_proj, o_proj        .weight [width, width]
        mlp.0, mlp.2                          .weight [4 width, width], [width, 4 width]
    identity_model.proj_out.weight, .bias     [token, width], [token]
    identity_model.norm.weight, .bias         [token]
    identity_processor.blocks.{n}.cross_attn.processor.
        k_proj, v_proj                        .weight [dit width, token]

Released sizes: queries 16, width 1280, depth 4, face 512, token 2048, dit width 5120, 40 blocks;
135 tensors. Linear kernels are torch's [outputs, inputs]. What shapes do not tell stands in the
file's metadata (`metadata`), as text.

Tests: tests/convert/branches_test.py, tests/parity/torch_addon_parity_test.py.
"""

from ft_jax.convert.table import LINEAR, SAME, Row, Table
from ft_jax.models.identity import Config

_LAYER = "identity_model.layers.{m}"
_PROCESSOR = "identity_processor.blocks.{n}.cross_attn.processor"


def _both(key: str, path: str, kind: str) -> tuple[Row, Row]:
    """Weight and bias of a linear layer ("kernel") or of a norm ("scale")."""
    transform = LINEAR if kind == "kernel" else SAME
    return Row(f"{key}.weight", f"{path}/{kind}", transform), Row(f"{key}.bias", f"{path}/bias")


IDENTITY = Table(
    "FantasyTalking identity branch",
    (
        Row("identity_model.queries", "identity/queries/table"),
        *_both("identity_model.proj_in", "identity/input", "kernel"),
        *(
            row
            for name in ("norm_query", "norm_face", "norm_mlp")
            for row in _both(f"{_LAYER}.{name}", f"identity/qformer_{{m}}/{name}", "scale")
        ),
        *(
            Row(f"{_LAYER}.{theirs}.weight", f"identity/qformer_{{m}}/{ours}/kernel", LINEAR)
            for theirs, ours in (
                ("q_proj", "query"),
                ("k_proj", "key"),
                ("v_proj", "value"),
                ("o_proj", "output"),
                ("mlp.0", "mlp_hidden"),
                ("mlp.2", "mlp_output"),
            )
        ),
        *_both("identity_model.proj_out", "identity/output", "kernel"),
        *_both("identity_model.norm", "identity/norm", "scale"),
        Row(f"{_PROCESSOR}.k_proj.weight", "identity/key/kernel", LINEAR),
        Row(f"{_PROCESSOR}.v_proj.weight", "identity/value/kernel", LINEAR),
    ),
)


def metadata(cfg: Config) -> dict[str, str]:
    """What a reader of the file needs beside the tensors: depth, heads, weight and place."""
    return {
        "identity.depth": str(cfg.depth),
        "identity.heads": str(cfg.heads),
        "identity.weight": str(cfg.weight),
        "identity.projected": str(cfg.projected).lower(),
    }
