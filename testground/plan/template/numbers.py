"""Floats in the forms of Go's strconv, and strings in its quotes."""

from __future__ import annotations

import math
from decimal import Decimal

_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\"}


def shortest(value: float, *, plain: bool = False) -> str:
    """The fewest digits that give the value back. Large and small values have an exponent, unless `plain`."""
    if not math.isfinite(value):
        return special(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    point = len(text) + exponent if value else 1
    minus = "-" if sign else ""
    if not plain and not -4 <= point - 1 < 6:
        mantissa = text[0] + (f".{text[1:]}" if len(text) > 1 else "")
        return f"{minus}{mantissa}e{'-' if point < 1 else '+'}{abs(point - 1):02d}"
    whole = text[:point].ljust(point, "0") if point > 0 else "0"
    rest = text[point:] if point > 0 else text.rjust(len(text) - point, "0")
    return f"{minus}{whole}.{rest}" if rest and value else minus + whole


def special(value: float) -> str:
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def quoted(text: str, mark: str = '"', *, ascii_only: bool = False) -> str:
    return mark + "".join(_escaped(character, mark, ascii_only) for character in text) + mark


def _escaped(character: str, mark: str, ascii_only: bool) -> str:
    code = ord(character)
    if character == mark:
        return "\\" + mark
    if character in _ESCAPES:
        return _ESCAPES[character]
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if character.isprintable() and (code < 128 or not ascii_only):
        return character
    if code < 128:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
