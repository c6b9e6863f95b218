"""Members of JSON objects as Go's decoder reads them: keys in any letter case, unknown ones ignored, `null` is absent.

A reader gets a member's name and value, and returns what it means or raises `ValueError` with the name, what is needed
and what came, shortened.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
Reader: TypeAlias = "Callable[[str, object], T]"

LONGEST_QUOTE = 100
"""Characters of a value that a message repeats."""


def members(name: str, value: object, readers: Mapping[str, Reader[Any]]) -> dict[str, Any]:
    """Of an object, by their names in lower case. Of several spellings of a key the last one counts."""
    if not isinstance(value, dict):
        raise wrong(name, "a JSON object", value)
    known = {key.lower(): key for key in readers}
    found = {}
    for key, member in value.items():
        if member is not None and key.lower() in known:
            found[key.lower()] = member
    prefix = f"{name}." if name else ""
    return {key: readers[known[key]](f"{prefix}{known[key]}", member) for key, member in found.items()}


def text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise wrong(name, "a string", value)
    if "\x00" in value:
        raise wrong(name, "a string without NUL characters", value)
    return value


def truth(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise wrong(name, "true or false", value)
    return value


def bounded(least: int, most: int, unit: str) -> Reader[int]:
    """A whole number between the two, which may both be it. JSON has no integers: `2.0` is one, `"2"` is not."""

    def read(name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float) or not _integral(value):
            raise wrong(name, "a whole number", value, unit)
        return _within(name, int(value), least, most, unit)

    return read


def percentage(name: str, value: object) -> float:
    """Also a whole number that no float holds, which `math.isnan` would not take."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise wrong(name, "a number", value, "percent")
    return _within(name, value, 0, 100, "percent")


def wrong(name: str, needed: str, value: object, unit: str = "") -> ValueError:
    prefix = f"{name}: " if name else ""
    return ValueError(f"{prefix}{needed} is needed{unit and f', in {unit}'}; it is {quoted(value)}")


def quoted(value: object) -> str:
    """A JSON value as a message shows it, however long it is: of an object or a list only what it is."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return repr(shortened(value))
    return shortened(json.dumps(value))


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}…"


def _within(name: str, value: T, least: int, most: int, unit: str) -> T:
    if value < least:  # type: ignore[operator]
        raise wrong(name, f"at least {least}", value, unit)
    if value > most:  # type: ignore[operator]
        raise wrong(name, f"at most {most}", value, unit)
    return value


def _integral(value: int | float) -> bool:
    return isinstance(value, int) or (math.isfinite(value) and value == int(value))
