"""TOML in the layout that upstream writes: sorted keys, tables after values, two spaces for each level."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator
from typing import Any

from testground.plan.template import numbers
from testground.plan.template.errors import Refused
from testground.plan.template.formatting import fraction
from testground.plan.template.limits import joined
from testground.plan.template.values import Time, encoded

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def toml(value: Any) -> str:
    """Raises `Refused` for what is not a table."""
    if not isinstance(value, dict):
        raise Refused("only a table can be written as TOML")
    return joined("", _spread(_table(value, ())))


def _spread(lines: Iterator[str]) -> Iterator[str]:
    """An empty line is asked for by an empty text; there is none at the top."""
    first = True
    for line in lines:
        if line:
            yield line + "\n"
        elif not first:
            yield "\n"
        first = False


def _table(table: dict[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    indent = "  " * len(path)
    present = [(key, table[key]) for key in sorted(table, key=encoded) if table[key] is not None]
    for key, value in present:
        if not _is_table(value):
            yield f"{indent}{_key(key)} = {_value(value)}"
    for key, value in present:
        name = ".".join(map(_key, (*path, key)))
        if isinstance(value, dict):
            if not path:
                yield ""
            yield f"{indent}[{name}]"
            yield from _table(value, (*path, key))
        elif _is_table(value):
            for item in value:
                yield ""
                yield f"{indent}[[{name}]]"
                yield from _table(item, (*path, key))


def _is_table(value: Any) -> bool:
    """Or a list of nothing but tables."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, dict) for item in value)
    return isinstance(value, dict)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list):
        return f"[{joined(', ', map(_value, value))}]"
    if isinstance(value, dict):
        items = (f"{_key(key)} = {_value(value[key])}" for key in sorted(value, key=encoded))
        return f"{{{joined(', ', items)}}}"
    return _time(value)


def _float(value: float) -> str:
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "+inf" if value > 0 else "-inf"
    text = numbers.shortest(value, plain=True)
    return text if "." in text else f"{text}.0"


def _string(value: str) -> str:
    return f'"{"".join(map(_escaped, value))}"'


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return f"\\u{ord(character):04x}" if character < " " or character == "\x7f" else character


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string(key)


def _time(value: Time) -> str:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value.isoformat()
    seconds = value.replace(microsecond=0, tzinfo=None).isoformat() + fraction(value.microsecond)
    if value.tzinfo is None:
        return seconds
    offset = value.strftime("%z")
    return seconds + ("Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:5]}")
