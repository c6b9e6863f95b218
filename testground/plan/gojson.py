"""JSON text as Go writes it: compact, sorted keys, `<>&` escaped, integral floats as integers (client-daemon §2.1)."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
_PAIR = re.compile(r"\\(.)", re.DOTALL)


def dumps(value: Any) -> str:
    """The text of anything TOML or JSON can hold; a date becomes a string."""
    if isinstance(value, dict):
        pairs = sorted((str(key), item) for key, item in value.items())
        return "{" + ",".join(f"{_string(key)}:{dumps(item)}" for key, item in pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(dumps, value)) + "]"
    if isinstance(value, float):
        return _number(value)
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    return _string(value if isinstance(value, str) else value.isoformat())


def _string(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False).translate(_ESCAPES)
    return _PAIR.sub(lambda pair: {"b": "\\u0008", "f": "\\u000c"}.get(pair[1], pair[0]), quoted)


def _number(value: float) -> str:
    """Shortest digits; an exponent only below 1e-6 and from 1e21 on, without leading zeros."""
    if value and not 1e-6 <= abs(value) < 1e21:
        return repr(value).replace("e-0", "e-")
    return format(Decimal(repr(value)), "f").removesuffix(".0")
