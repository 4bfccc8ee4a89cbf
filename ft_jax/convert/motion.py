"""The motion-intensity network in a safetensors file of our own <-> `motion/...`.

The authors published no weights for it, so the layout is ours, in the style of their speech branch.
Pass `{"motion": params["motion"]}`.

    motion_model.expression.0, .2     .weight [width, sinusoid], [width, width]; .bias [width]
    motion_model.body.0, .2           likewise
    motion_model.norm                 .weight, .bias [2 width]
    motion_model.residual.0, .2       .weight [2 width, 2 width]; .bias [2 width]
    motion_model.proj_out             .weight [out, width]; .bias [out]

`out` is the DiT's width where the result is added to the time embedding, six times that where it is
added to the modulation. Released sizes: width 1024, sinusoid 256, DiT width 5120; 16 tensors.
Linear kernels are torch's [outputs, inputs]. The scale of the sinusoid stands in the file's
metadata (`metadata`), as text.

Tests: tests/convert/branches_test.py, tests/parity/torch_addon_parity_test.py.
"""

from ft_jax.convert.table import LINEAR, Row, Table
from ft_jax.models.motion import Config

_LINEAR = {
    "expression.0": "expression_hidden",
    "expression.2": "expression_output",
    "body.0": "body_hidden",
    "body.2": "body_output",
    "residual.0": "residual_hidden",
    "residual.2": "residual_output",
    "proj_out": "output",
}

MOTION = Table(
    "FantasyTalking motion-intensity network",
    (
        *(
            row
            for theirs, ours in _LINEAR.items()
            for row in (
                Row(f"motion_model.{theirs}.weight", f"motion/{ours}/kernel", LINEAR),
                Row(f"motion_model.{theirs}.bias", f"motion/{ours}/bias"),
            )
        ),
        Row("motion_model.norm.weight", "motion/norm/scale"),
        Row("motion_model.norm.bias", "motion/norm/bias"),
    ),
)


def metadata(cfg: Config) -> dict[str, str]:
    """What a reader of the file needs beside the tensors."""
    return {"motion.scale": str(cfg.scale)}
