"""Which mesh axis a logical axis goes to: one named table per strategy, one for what is not read.

Every name of `axes.py` stands in every table, replicated ones with None, so that an axis without a
decision is a test failure (tests/sharding/rules_test.py).
"""

from collections.abc import Mapping

Rules = tuple[tuple[str, str | tuple[str, ...] | None], ...]

_REPLICATED: Rules = (
    ("layers", None),
    ("norm", None),
    ("spatial", None),
    ("conv_in", None),
    ("act_head_dim", None),
    ("act_context", None),
)

FSDP: Rules = (
    ("embed", "fsdp"),
    ("heads", "tensor"),
    ("mlp", "tensor"),
    ("context_embed", "fsdp"),
    ("vocab", "tensor"),
    ("conv_out", "fsdp"),
    ("act_batch", ("data", "fsdp")),
    ("act_seq", "context"),
    ("act_rows", "context"),
    ("act_embed", None),
    ("act_heads", "tensor"),
    ("act_mlp", "tensor"),
    *_REPLICATED,
)
"""Weights split over fsdp x tensor, samples over data x fsdp, spatial positions over context."""

SLICED: Rules = tuple(
    (name, ("fsdp", "context") if axes == "fsdp" else axes) for name, axes in FSDP
)
"""The same with weights split over context as well: less memory, wider gathers (for v5e)."""

REPLICATED: Rules = (
    ("embed", None),
    ("heads", None),
    ("mlp", None),
    ("context_embed", None),
    ("vocab", None),
    ("conv_out", None),
    ("act_batch", ("data", "fsdp")),
    ("act_seq", "context"),
    ("act_rows", "context"),
    ("act_embed", None),
    ("act_heads", None),
    ("act_mlp", None),
    *_REPLICATED,
)
"""Whole weights on every device: no base weight ever moves (adapter training where they fit)."""

SPREAD: Rules = tuple(
    (name, "fsdp" if name in ("embed", "context_embed") else axes) for name, axes in REPLICATED
)
"""For what no forward pass reads beside whole weights: split over fsdp."""

STORAGE = frozenset({"fsdp", "context"})
"""The axes over which parameters are only stored in slices: they are gathered to be read."""

TABLES: Mapping[str, Rules] = {"fsdp": FSDP, "sliced": SLICED, "replicated": REPLICATED}
STATES: Mapping[str, Rules] = {**TABLES, "replicated": SPREAD}
"""By the same names: tables of the optimizer's moments and of the moving average."""
