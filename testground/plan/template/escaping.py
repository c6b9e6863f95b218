"""`html`, `js`, `urlquery`."""

from __future__ import annotations

import urllib.parse
from typing import Any

from testground.plan.template.limits import joined
from testground.plan.template.printing import NO_VALUE, shown, spaced
from testground.plan.template.values import encoded

_HTML = str.maketrans({"'": "&#39;", '"': "&#34;", "&": "&amp;", "<": "&lt;", ">": "&gt;", "\0": "\ufffd"})
_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}


def html(*values: Any) -> str:
    return _text(values).translate(_HTML)


def js(*values: Any) -> str:
    return "".join(map(_in_js, _text(values)))


def urlquery(*values: Any) -> str:
    return urllib.parse.quote_plus(encoded(_text(values)))


def _text(values: tuple[Any, ...]) -> str:
    """As `print`, but values look as in the text itself."""
    present = [NO_VALUE if value is None else value for value in values]
    return joined("", spaced(present, shown))


def _in_js(character: str) -> str:
    if character in _JS:
        return _JS[character]
    if character < " ":
        return f"\\u{ord(character):04X}"
    return character if character.isprintable() or 0xDC80 <= ord(character) <= 0xDCFF else f"\\u{ord(character):04X}"
