"""`eq ne lt le gt ge`: values of one kind only, whole numbers apart from others."""

from __future__ import annotations

from typing import Any

from testground.plan.template.errors import Refused
from testground.plan.template.values import ABSENT, Struct, encoded, type_name


def equal(first: Any, *others: Any) -> bool:
    """Whether the first is one of the others. Raises `Refused` for what cannot be compared."""
    if not others:
        raise Refused("missing argument for comparison")
    return any(_same(first, other) for other in others)


def unequal(first: Any, second: Any) -> bool:
    return not equal(first, second)


def less(first: Any, second: Any) -> bool:
    """Raises `Refused` for what has no order."""
    kind = _kind(first)
    if kind == "" or _kind(second) == "" or (kind == "bool" and _kind(second) == "bool"):
        raise Refused("invalid type for comparison")
    if kind != _kind(second):
        raise _incompatible(first, second)
    return bool(encoded(first) < encoded(second) if kind == "string" else first < second)


def less_or_equal(first: Any, second: Any) -> bool:
    return less(first, second) or equal(first, second)


def greater(first: Any, second: Any) -> bool:
    return not less_or_equal(first, second)


def greater_or_equal(first: Any, second: Any) -> bool:
    return not less(first, second)


def _same(first: Any, second: Any) -> bool:
    kind = _kind(first)
    if kind != _kind(second):
        if first is ABSENT or second is ABSENT:
            return False
        raise _incompatible(first, second)
    if kind:
        return bool(first == second)
    if _is_nil(first) or _is_nil(second):
        return _is_nil(first) == _is_nil(second)
    for value in (first, second):
        if isinstance(value, dict | list) and not isinstance(value, Struct):
            raise Refused(f"non-comparable type {type_name(value)}")
    if isinstance(first, Struct) != isinstance(second, Struct):
        raise _incompatible(first, second)
    return type(first) is type(second) and bool(first == second)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    return "string" if isinstance(value, str) else ""


def _is_nil(value: Any) -> bool:
    """An empty array of a TOML file is nil to Go."""
    return value is ABSENT or (type(value) is list and not value)


def _incompatible(first: Any, second: Any) -> Refused:
    return Refused(f"incompatible types for comparison: {type_name(first)} and {type_name(second)}")
