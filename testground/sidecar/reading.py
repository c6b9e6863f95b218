"""Members of JSON objects as Go's decoder reads them: keys in any letter case, unknown ones ignored, `null` is absent.

A reader gets a member's name and value, and returns what it means or raises `ValueError` with the name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
Reader: TypeAlias = "Callable[[str, object], T]"


def members(name: str, value: object, readers: Mapping[str, Reader[Any]]) -> dict[str, Any]:
    """Of an object, by their names in lower case. Of several spellings of a key the last one counts."""
    if not isinstance(value, dict):
        raise ValueError(f"{name}: a table is needed" if name else "a table is needed")
    known = {key.lower(): key for key in readers}
    found = {}
    for key, member in value.items():
        if member is not None and key.lower() in known:
            found[key.lower()] = member
    prefix = f"{name}." if name else ""
    return {key: readers[known[key]](f"{prefix}{known[key]}", member) for key, member in found.items()}


def text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name}: a string is needed")
    if "\x00" in value:
        raise ValueError(f"{name}: a string without NUL characters is needed")
    return value


def truth(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name}: true or false is needed")
    return value


def whole(name: str, value: object) -> int:
    """JSON has no integers: `2.0` is one; `true` and `"2"` are not."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not _integral(value):
        raise ValueError(f"{name}: a whole number is needed")
    return int(value)


def bounded(least: int, most: int) -> Reader[int]:
    """A whole number between the two, which may both be it."""

    def read(name: str, value: object) -> int:
        return _within(name, whole(name, value), least, most)

    return read


def percentage(name: str, value: object) -> float:
    """Also a whole number that no float holds, which `math.isnan` would not take."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise ValueError(f"{name}: a number is needed")
    return _within(name, value, 0, 100)


def _within(name: str, value: T, least: int, most: int) -> T:
    if value < least:  # type: ignore[operator]
        raise ValueError(f"{name}: at least {least} is needed")
    if value > most:  # type: ignore[operator]
        raise ValueError(f"{name}: at most {most} is needed")
    return value


def _integral(value: int | float) -> bool:
    return isinstance(value, int) or (math.isfinite(value) and value == int(value))
