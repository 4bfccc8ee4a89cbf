"""Plain mappings -> frozen dataclasses, strictly.

Settings are written as ``ml_collections.ConfigDict`` in ``configs/`` and changed by flags; below
the command line everything is a frozen dataclass that lives beside the module that reads it. This
is the bridge: an unknown, missing or mistyped key is a ``UsageError`` that names it.

Tests: tests/config_test.py.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ft_jax.errors import UsageError

C = TypeVar("C")


def build(cls: type[C], settings: Any, path: str = "config") -> C:
    """Builds the dataclass `cls` from `settings`, whose keys must be exactly its fields.

    Args:
      cls: A dataclass; fields may be dataclasses, optionals of them, tuples and plain values.
      settings: A mapping or ConfigDict. Fields with a default may be left out.
      path: Where `settings` stands in the whole, for messages.

    Raises:
      UsageError: A key is unknown or missing, or a value has the wrong type.
    """
    types_of = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(settings) - set(fields)):
        raise UsageError(f"{path}.{unknown[0]}: unknown key; expected one of {sorted(fields)}")
    values = {}
    for name, field in fields.items():
        if name in settings:
            values[name] = _convert(settings[name], types_of[name], f"{path}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UsageError(f"{path}.{name}: missing; expected {_describe(types_of[name])}")
    return cls(**values)


def to_dict(value: Any) -> Any:
    """The inverse of `build`: dataclasses to nested dicts of plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [to_dict(item) for item in value]
    return value


def _convert(value: Any, wanted: Any, path: str) -> Any:
    origin = typing.get_origin(wanted)
    if origin in (types.UnionType, typing.Union):
        options = [option for option in typing.get_args(wanted) if option is not type(None)]
        if value is None and len(options) < len(typing.get_args(wanted)):
            return None
        if len(options) == 1:
            return _convert(value, options[0], path)
        return _first_that_fits(value, options, path)
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
        if isinstance(value, wanted):
            return value
        if not isinstance(value, Mapping) and not hasattr(value, "keys"):
            raise UsageError(f"{path}: got {value!r}; expected a group of settings")
        return build(wanted, value, path)
    if origin is tuple and isinstance(value, (list, tuple)):
        inner = typing.get_args(wanted)
        if len(inner) == 2 and inner[1] is Ellipsis:
            inner = (inner[0],) * len(value)
        if len(inner) != len(value):
            raise UsageError(f"{path}: got {len(value)} values; expected {len(inner)}")
        pairs = zip(value, inner, strict=True)
        return tuple(_convert(v, w, f"{path}[{i}]") for i, (v, w) in enumerate(pairs))
    if origin is typing.Literal:
        if value in typing.get_args(wanted):
            return value
        raise UsageError(f"{path}: got {value!r}; expected one of {typing.get_args(wanted)}")
    return _plain(value, wanted, path)


def _first_that_fits(value: Any, options: list[Any], path: str) -> Any:
    for option in options:
        try:
            return _convert(value, option, path)
        except UsageError:
            continue
    expected = " or ".join(_describe(option) for option in options)
    raise UsageError(f"{path}: got {value!r}; expected {expected}")


def _plain(value: Any, wanted: Any, path: str) -> Any:
    if wanted is Any:
        return value
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    is_bool_for_int = wanted is int and isinstance(value, bool)
    if isinstance(wanted, type) and isinstance(value, wanted) and not is_bool_for_int:
        return value
    raise UsageError(f"{path}: got {value!r}; expected {_describe(wanted)}")


def _describe(wanted: Any) -> str:
    return getattr(wanted, "__name__", str(wanted))
