"""Which parameters learn, how fast, and the optimizer that moves them.

Groups are (regex, multiplier of the learning rate): the first pattern that matches a whole path
decides, 0 freezes, and every parameter must match one, so that a new module is never frozen or
trained by accident. Frozen parameters are not given to the optimizer at all: no state, no update.
`Groups` are the choices a command line has, by name.

Tests: tests/training/optim_test.py.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import optax

from ft_jax.checkpoints.tree import flatten, unflatten
from ft_jax.errors import UsageError
from ft_jax.training import schedules
from ft_jax.typing import Params

Group = tuple[str, float]
"""(regex of whole paths, multiplier of the learning rate)."""

DECAYED = ("kernel", "table", "down", "up")
"""Names of the leaves that weight decay pulls on: matrices, not biases or scales."""


@dataclasses.dataclass(frozen=True)
class Config:
    """AdamW with groups."""

    groups: tuple[Group, ...]  # (regex of paths, multiplier); first match wins
    schedule: schedules.Config
    b1: float
    b2: float
    eps: float
    weight_decay: float
    clip_norm: float  # of the global gradient norm
    accumulate: int  # micro-batches per step; must divide the batch
    ema: float  # largest decay of the moving average of the weights; 0 keeps none


@dataclasses.dataclass(frozen=True)
class Groups:
    """What learns, by the setting `train`; () where a stage cannot be trained so.

    Attributes:
      full: everything.
      lora: low-rank changes of the base, and the branches.
      adapter: the branches alone.
    """

    full: tuple[Group, ...]
    lora: tuple[Group, ...] = ()
    adapter: tuple[Group, ...] = ()

    def named(self, name: str) -> tuple[Group, ...]:
        """The groups called `name`.

        Raises:
          UsageError: The stage has none of this name.
        """
        known = {key: groups for key, groups in vars(self).items() if groups}
        if name not in known:
            raise UsageError(
                f"config.train: got {name!r}; expected {' or '.join(known)} for this stage"
            )
        return known[name]


def without(
    groups: Iterable[Group], paths: Iterable[str], others: Iterable[str]
) -> tuple[Group, ...]:
    """`groups` less those that only parameters which are switched off would belong to.

    Args:
      groups: (regex, multiplier).
      paths: Of the parameters there are.
      others: Of all that the system could have.
    """
    paths, others = tuple(paths), tuple(others)

    def stays(pattern: str) -> bool:
        matches = re.compile(pattern).fullmatch
        return any(map(matches, paths)) or not any(map(matches, others))

    return tuple(group for group in groups if stays(group[0]))


def multipliers(groups: Iterable[Group], paths: Iterable[str]) -> dict[str, float]:
    """The learning-rate multiplier of every path.

    Raises:
      UsageError: A path matches no group, or a group matches no path.
    """
    groups = tuple(groups)
    found: dict[str, float] = {}
    used: set[str] = set()
    for path in paths:
        match = next(((p, m) for p, m in groups if re.fullmatch(p, path)), None)
        if match is None:
            raise UsageError(f"optim.groups: {path} matches none; expected a group for every path")
        found[path] = match[1]
        used.add(match[0])
    if idle := [pattern for pattern, _ in groups if pattern not in used]:
        raise UsageError(f"optim.groups: {idle[0]!r} matches nothing; expected a parameter's path")
    return found


def make(cfg: Config, num_steps: int, rates: Mapping[str, float]) -> optax.GradientTransformation:
    """The optimizer of the trained tree; `rates` is {path: multiplier} of its leaves."""
    steps = [] if cfg.clip_norm == 0 else [optax.clip_by_global_norm(cfg.clip_norm)]
    steps.append(optax.scale_by_adam(b1=cfg.b1, b2=cfg.b2, eps=cfg.eps))
    if cfg.weight_decay:
        steps.append(optax.add_decayed_weights(cfg.weight_decay, mask=_decayed))
    if any(rate != 1.0 for rate in rates.values()):
        steps.append(_scale_by_path(rates))
    steps.append(optax.scale_by_learning_rate(schedules.make(cfg.schedule, num_steps)))
    return optax.chain(*steps)


def _decayed(params: Params) -> Any:
    leaves = {path: path.rsplit("/", 1)[-1] in DECAYED for path in flatten(params)}
    return unflatten(leaves)


def _scale_by_path(rates: Mapping[str, float]) -> optax.GradientTransformation:
    def update(updates: Any, params: Any = None) -> Any:
        del params
        scaled = {path: leaf * rates[path] for path, leaf in flatten(updates).items()}
        return unflatten(scaled)

    return optax.stateless(update)
