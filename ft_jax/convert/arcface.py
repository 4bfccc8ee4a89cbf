"""InsightFace IResNet state dict (torch) <-> ft_jax/models/face.py with `norm="batch"`.

Tests: tests/convert/encoders_test.py, tests/parity/face_parity_test.py.
"""

from ft_jax.convert import table
from ft_jax.convert.table import Row, Table, Transform
from ft_jax.models.face import Config


def _flat(side: int) -> Transform:
    """The last linear layer: torch flattens (channel, row, column), we (row, column, channel)."""
    return Transform(
        "flat",
        lambda x: (
            x.reshape(x.shape[0], -1, side, side).transpose(2, 3, 1, 0).reshape(-1, x.shape[0])
        ),
        lambda x: (
            x.reshape(side, side, -1, x.shape[1]).transpose(3, 2, 0, 1).reshape(x.shape[1], -1)
        ),
    )


def _norm(key: str, path: str) -> list[Row]:
    names = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
    return [Row(f"{key}.{theirs}", f"{path}/{ours}") for theirs, ours in names.items()]


def _block(key: str, path: str) -> list[Row]:
    rows = [Row(f"{key}.prelu.weight", f"{path}/prelu/slope")]
    for number in (1, 2, 3):
        rows += _norm(f"{key}.bn{number}", f"{path}/norm_{number}")
    for number in (1, 2):
        rows.append(Row(f"{key}.conv{number}.weight", f"{path}/conv_{number}/kernel", table.CONV2D))
    shortcut = Row(f"{key}.downsample.0.weight", f"{path}/shortcut/kernel", table.CONV2D)
    return [*rows, shortcut, *_norm(f"{key}.downsample.1", f"{path}/shortcut_norm")]


def arcface(cfg: Config) -> Table:
    """The table of an encoder of these sizes; no row of it fits one with other norms."""
    if cfg.norm != "batch":
        return Table("the ArcFace encoder", ())
    rows = [
        Row("conv1.weight", "stem/kernel", table.CONV2D),
        *_norm("bn1", "stem_norm"),
        Row("prelu.weight", "prelu/slope"),
        *_norm("bn2", "norm"),
        Row("fc.weight", "out/kernel", _flat(cfg.pixels // 2 ** len(cfg.widths))),
        Row("fc.bias", "out/bias"),
        *_norm("features", "out_norm"),
    ]
    for level, blocks in enumerate(cfg.blocks):
        for block in range(blocks):
            rows += _block(f"layer{level + 1}.{block}", f"level_{level}_block_{block}")
    return Table("the ArcFace encoder", tuple(rows), (r".*num_batches_tracked",))
