"""Strings, characters and numbers as Go writes them."""

from __future__ import annotations

import re

from testground.plan.template.errors import TemplateError
from testground.plan.template.lexer import Kind, Token
from testground.plan.template.nodes import Literal

_ESCAPE = re.compile(r"\\(?:([abfnrtv\\])|x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.S)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_INTEGER = re.compile(r"([+-]?)(0[xX](?:_?[0-9a-fA-F])+|0[oO]?(?:_?[0-7])+|0[bB](?:_?[01])+|0|[1-9](?:_?[0-9])*)")
_FLOAT = re.compile(
    r"[+-]?(?:[0-9](?:_?[0-9])*\.?(?:[0-9](?:_?[0-9])*)?|\.[0-9](?:_?[0-9])*)(?:[eE][+-]?[0-9](?:_?[0-9])*)?"
)
_HEX_FLOAT = re.compile(r"[+-]?0[xX]_?[0-9a-fA-F_]*\.?[0-9a-fA-F_]*[pP][+-]?[0-9_]+")
MAX_INT = (1 << 63) - 1
MAX_DIGITS = 1000
"""Characters of a number: more than anybody writes, and few enough to be read at once."""


def literal(token: Token) -> Literal:
    """Raises `TemplateError` for what is not one."""
    value: object
    if token.kind is Kind.BOOL:
        value = token.text == "true"
    elif token.kind is Kind.RAW:
        value = token.text[1:-1].replace("\r", "")
    elif token.kind is Kind.STRING:
        value = unquoted(token, '"')
    elif token.kind is Kind.CHARACTER:
        value = _character(token)
    else:
        return _number(token)
    return Literal(token.offset, token.text, value)


def unquoted(token: Token, quote: str) -> str:
    """What a quoted string says. Bytes that are not UTF-8 become lone surrogates, as in names of files."""
    data = bytearray()
    end = 0
    inside = token.text[1:-1]
    for found in _ESCAPE.finditer(inside):
        data += inside[end : found.start()].encode(errors="surrogateescape")
        data += _unescaped(found, quote, token)
        end = found.end()
    data += inside[end:].encode(errors="surrogateescape")
    return data.decode(errors="surrogateescape")


def _unescaped(found: re.Match[str], quote: str, token: Token) -> bytes:
    simple, hexadecimal, octal, short, long, other = found.groups()
    if simple is not None:
        return _SIMPLE[simple].encode()
    if other == quote:
        return quote.encode()
    if other is None and hexadecimal is not None:
        return bytes([int(hexadecimal, 16)])
    if octal is not None and int(octal, 8) < 256:
        return bytes([int(octal, 8)])
    code = int(short or long or "110000", 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise TemplateError(f"invalid escape {found[0]} in {token.text}", token.offset + 1 + found.start())
    return chr(code).encode()


def _character(token: Token) -> int:
    one = re.fullmatch(r"'\\(?:x([0-9a-fA-F]{2})|([0-7]{3}))'", token.text)
    if one is not None and int(one[1] or one[2], 16 if one[1] else 8) < 256:
        return int(one[1] or one[2], 16 if one[1] else 8)
    text = unquoted(token, "'")
    if len(text) != 1:
        raise TemplateError(f"malformed character constant: {token.text}", token.offset)
    return ord(text)


def _number(token: Token) -> Literal:
    text = token.text
    if len(text) > MAX_DIGITS:
        raise TemplateError(f"a number has more than {MAX_DIGITS} digits", token.offset)
    if text.endswith("i") and not text[:2].lower() == "0x":
        raise TemplateError(f"complex numbers are not supported: {text}", token.offset)
    has_point = any(mark in text for mark in ".eEpP")
    whole = _whole(text)
    if whole is not None:
        if has_point and not re.match("0[xX]", text):
            return Literal(token.offset, text, float(whole))  # Go reads -0x1e so
        if whole > (1 << 64) - 1 or whole < -(1 << 63):
            raise TemplateError(f"integer overflow: {text}", token.offset)
        problem = f"{text} overflows int" if whole > MAX_INT else ""
        return Literal(token.offset, text, whole, problem)
    fraction = _fraction(text) if has_point else None
    if fraction is None:
        raise TemplateError(f"illegal number syntax: {text}", token.offset)
    return Literal(token.offset, text, fraction)


def _whole(text: str) -> int | None:
    found = _INTEGER.fullmatch(text)
    if found is None:
        return None
    digits = found[2].replace("_", "")
    if re.fullmatch("0[0-7]+", digits):
        digits = f"0o{digits[1:]}"
    return int(found[1] + digits, 0)


def _fraction(text: str) -> float | None:
    plain = text.replace("_", "")
    if _FLOAT.fullmatch(text):
        value = float(plain)
    elif _HEX_FLOAT.fullmatch(text) and "__" not in text:
        try:
            value = float.fromhex(plain)
        except (ValueError, OverflowError):
            return None
    else:
        return None
    return value if abs(value) != float("inf") else None
