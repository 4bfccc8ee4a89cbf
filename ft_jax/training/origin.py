"""Where a run's weights come from: its own checkpoint, else `init_from`, else chance.

Everything is planned on abstract arrays first (which parameters, which are trained, where each one
lives), so that a wrong setting is known before memory is spent; frozen parameters are then loaded
in `frozen_dtype` and never become part of the training state. Of lazy weights each process reads
what its own devices hold. Under "int8" the matrices of the blocks are quantised on the devices that
hold them (ft_jax/nn/quantised.py), each time the run starts: the base it names stays what it was.

Tests: tests/training/loop_test.py, learns_test.py, quantised_test.py, tests/multidevice.
"""

import dataclasses
import logging
import re
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.core import meta
from jax.sharding import Mesh

from ft_jax.checkpoints import handover
from ft_jax.checkpoints.manager import Manager
from ft_jax.checkpoints.tree import flatten, unflatten
from ft_jax.errors import UsageError
from ft_jax.nn import quantised
from ft_jax.sharding.constrain import shardings
from ft_jax.training import compiler, optim, randomness
from ft_jax.training.stages import Stage
from ft_jax.training.state import TrainState, create
from ft_jax.typing import Params

LOW_RANK = "denoiser/lora/"  # of a denoiser, ft_jax/models/lora.py
FrozenType = Literal["", "bfloat16", "float32", "int8"]
"""What frozen parameters are kept in: "" as they are stored, "int8" MATRICES, the rest bfloat16."""

MATRICES = re.compile("denoiser/dit/blocks/.+/kernel")
"""Nearly all of a base model; read by layers that know of quantised ones."""

EXECUTION = ("precision", "residual", "scan", "remat")
"""Settings of a network that change how it is computed, not what it is."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run before any memory is spent.

    Attributes:
      optimizer: Of the trained parameters.
      state: Abstract TrainState with shardings.
      frozen: {path: abstract array with sharding} of the frozen parameters.
      rates: {path: learning-rate multiplier} of every parameter.
    """

    optimizer: optax.GradientTransformation
    state: TrainState
    frozen: Mapping[str, jax.ShapeDtypeStruct]
    rates: Mapping[str, float]


def plan(stage: Stage, cfg: optim.Config, num_steps: int, mesh: Mesh, rules: str) -> Plan:
    """What `stage` trains under `cfg`, on abstract arrays.

    Raises:
      UsageError: The groups do not cover the parameters, or nothing is trained.
    """
    boxed = flatten(stage.abstract())
    rates = optim.multipliers(cfg.groups, boxed)
    trained = {path: leaf for path, leaf in boxed.items() if rates[path] > 0}
    if not trained:
        raise UsageError("optim.groups: every parameter is frozen; expected one that is trained")
    kept = {path: rates[path] for path in trained}
    optimizer = optim.make(cfg, num_steps, kept)
    state = jax.eval_shape(lambda p: create(p, optimizer, cfg.ema), unflatten(trained))
    frozen = {path: leaf for path, leaf in boxed.items() if path not in trained}
    # Moments and average of adapters are three times their size, and no forward pass reads them.
    spread = _placed(state, mesh, rules, is_read=False)
    placed = spread.replace(params=_placed(state.params, mesh, rules))
    return Plan(optimizer, placed, _placed(frozen, mesh, rules), rates)


def restored(
    manager: Manager, planned: Plan, stage: Stage, name: str, seed: int
) -> tuple[TrainState, int, Mapping[str, Any] | None] | None:
    """The newest checkpoint of the run's own folder: state, batches consumed, base; or None.

    Raises:
      UsageError: The checkpoint belongs to a run of another stage, another model or another seed.
    """
    parts = {path.partition("/")[0] for path in planned.rates}

    def check(meta: Mapping[str, Any]) -> None:
        if meta["stage"] != name or _sizes(meta["system"], parts) != _sizes(stage.system, parts):
            raise UsageError(
                f"{manager.directory}: holds a run of stage {meta['stage']!r}, or of another "
                f"model; expected one of stage {name!r} and this model, or another --workdir"
            )
        if (found := meta.get("seed", seed)) != seed:  # its data come in another order
            raise UsageError(
                f"{manager.directory}: holds another run, of seed {found}; expected "
                f"--config.seed={found}, or another --workdir"
            )

    saved = manager.restore(trees(planned.state), check)
    if saved is None:
        return None
    rest = saved.trees["rest"]
    state = TrainState(
        rest["step"], saved.trees["params"], rest["opt_state"], saved.trees.get("ema")
    )
    return state, saved.meta["batches"], saved.meta["base"]


def started(
    planned: Plan, stage: Stage, source: handover.Source | None, require: str, seed: int, ema: float
) -> tuple[TrainState, dict[str, Any], Mapping[str, Any] | None]:
    """State before step 0, frozen leaves, and the note of where they come from.

    Raises:
      UsageError: `source` lacks a frozen parameter or one that `require` names.
    """
    trained = flatten(planned.state.params)
    _check_low_rank(planned, stage, source)
    found = handover.fill({**trained, **planned.frozen}, source, require)
    if missing := sorted(set(planned.frozen) - set(found)):
        raise UsageError(
            f"config.init_from: no weights for the frozen {missing[0]} ({len(missing)} missing); "
            f"expected a run or bundle that has them"
        )
    fresh = [path for path in trained if path not in found]
    leaves = _initialised(stage, {path: trained[path] for path in fresh}, seed)
    for path in trained:
        if path in found:
            leaves[path] = _put(found[path], trained[path], trained[path].dtype)
    logging.info("%d parameters taken over, %d initialised", len(found), len(fresh))
    frozen = {path: found[path] for path in planned.frozen}
    base = handover.describe(source, sorted(frozen)) if source and frozen else None
    where = jax.tree.map(lambda leaf: leaf.sharding, planned.state)
    make = jax.jit(lambda p: create(p, planned.optimizer, ema), out_shardings=where)
    return make(unflatten(leaves)), frozen, base


def _check_low_rank(planned: Plan, stage: Stage, source: handover.Source | None) -> None:
    """Refuses a base whose low-rank changes the run would lose, or scale in another way."""
    leaves = flatten(source.parts) if source else {}
    changes = [path for path in leaves if path.startswith(LOW_RANK)]
    is_denoiser = any(path.startswith("denoiser/") for path in planned.rates)
    if source is None or not changes or not is_denoiser:
        return
    made, own = (system["denoiser"].get("lora") for system in (source.system, stage.system))
    made = {name: made[name] for name in ("rank", "alpha")}
    if own is None or made != {name: own[name] for name in made}:
        settings = " ".join(f"--config.lora.{name}={value}" for name, value in made.items())
        raise UsageError(
            f"config.init_from: {source.path} has low-rank changes (LoRA); expected "
            f"--config.train=lora {settings}, or weights that they are merged into"
        )
    if lost := [path for path in changes if path not in planned.rates]:
        raise UsageError(
            f"config.lora.targets: leave out {lost[0]}, which {source.path} has; expected its "
            f"targets {source.system['denoiser']['lora']['targets']!r} among them"
        )


def kept(planned: Plan, dtype: FrozenType) -> dict[str, Any]:
    """{path: abstract array or QArray with sharding} of the frozen parameters as the step has them.

    Args:
      planned: The run.
      dtype: What they are kept in.

    Raises:
      UsageError: int8 is asked for where no matrix of the blocks is frozen.
    """
    if dtype == "int8" and not any(map(MATRICES.fullmatch, planned.frozen)):
        raise UsageError(
            "config.frozen_dtype: int8, but no matrix of the denoiser's blocks is frozen; expected "
            "bfloat16 or float32, or another --config.train"
        )

    def form(path: str, leaf: Any) -> Any:
        if dtype == "int8" and MATRICES.fullmatch(path):
            return quantised.abstract(leaf)
        return jax.ShapeDtypeStruct(leaf.shape, _cast(leaf.dtype, dtype), sharding=leaf.sharding)

    return {path: form(path, leaf) for path, leaf in planned.frozen.items()}


def placed_frozen(planned: Plan, leaves: Mapping[str, Any], dtype: FrozenType) -> Params:
    """The frozen parameters on the devices, in the form that `kept` says; "" as they are stored."""
    result = {}
    for path, form in kept(planned, dtype).items():
        leaf, where = leaves[path], planned.frozen[path]
        if quantised.is_quantised(form):
            # Each process holds parts of columns, and what scales them is a property of the whole.
            result[path] = _quantised(_put(leaf, where, leaf.dtype), form)
        else:
            result[path] = _put(leaf, where, _cast(leaf.dtype, dtype))
    return unflatten(result)


def _cast(own: Any, dtype: FrozenType) -> Any:
    """The type of what is not quantised."""
    is_float = jnp.issubdtype(own, jnp.floating)
    return jnp.dtype("bfloat16" if dtype == "int8" else dtype) if dtype and is_float else own


def _quantised(matrix: jax.Array, form: Any) -> Any:
    where = jax.tree.map(lambda leaf: leaf.sharding, form)
    options = dict(compiler.RUN_ONCE)
    return jax.jit(quantised.quantise, out_shardings=where, compiler_options=options)(matrix)


def trees(state: TrainState) -> dict[str, Any]:
    """A (possibly abstract) state as the items of a checkpoint."""
    rest = {"step": state.step, "opt_state": state.opt_state}
    return {"params": state.params, "ema": state.ema, "rest": rest}


def table(planned: Plan) -> str:
    """One line per second-level module: trained or frozen, parameters, learning-rate multiplier."""
    sizes: dict[tuple[str, float], int] = {}
    leaves = {**flatten(planned.state.params), **planned.frozen}
    for path, leaf in leaves.items():
        row = ("/".join(path.split("/")[:2]), planned.rates[path])
        sizes[row] = sizes.get(row, 0) + int(np.prod(leaf.shape))
    lines = []
    for (module, rate), size in sorted(sizes.items()):
        state = f"trained, rate x {rate:g}" if rate else "frozen"
        lines.append(f"  {module:32s} {size / 1e6:10.3f} M  {state}")
    return "\n".join(lines)


def _sizes(system: Mapping[str, Any], parts: set[str]) -> dict[str, Any]:
    """What may not change under a run: settings of its own parts, less how they are executed."""

    def kept(settings: Any) -> Any:
        if not isinstance(settings, Mapping):
            return settings
        return {
            key: kept(value)
            for key, value in settings.items()
            if key not in EXECUTION and value is not None  # what is not there need not be named
        }

    return {part: kept(system[part]) for part in sorted(parts) if part in system}


def _initialised(stage: Stage, wanted: Mapping[str, Any], seed: int) -> dict[str, jax.Array]:
    if not wanted:
        return {}

    def make(key: jax.Array) -> dict[str, jax.Array]:
        leaves = flatten(stage.init(key))
        return {path: leaves[path].astype(wanted[path].dtype) for path in wanted}

    where = {path: leaf.sharding for path, leaf in wanted.items()}
    key = randomness.draw(jax.random.key(seed), "init")
    return dict(jax.jit(make, out_shardings=where, compiler_options=dict(compiler.RUN_ONCE))(key))


def _put(array: Any, abstract: Any, dtype: Any) -> jax.Array:
    """Onto the devices; each process reads what its own devices hold."""

    def part(index: Any) -> np.ndarray:
        return np.asarray(array[index]).astype(dtype, copy=False)

    return jax.make_array_from_callback(tuple(array.shape), abstract.sharding, part)


def _placed(boxed: Any, mesh: Mesh, rules: str, is_read: bool = True) -> Any:
    where = shardings(boxed, mesh, rules, is_read)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        meta.unbox(boxed),
        where,
    )
