"""`print`, `println`, `printf`: Go's fmt over the values of templates."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from testground.plan.template.formatting import Verb, formatted
from testground.plan.template.limits import joined
from testground.plan.template.values import ABSENT, Struct

LARGEST = 1_000_000
"""Go's own limit of widths and precisions."""

NO_VALUE = "<no value>"
"""What stands in the text for a key or variable that is not there."""

_FLAGS = {"+": "plus", "-": "minus", "#": "sharp", " ": "space", "0": "zero"}
_DIGITS = "0123456789"
_INDEX = re.compile(r"\[([^\]]*)\]")


def shown(value: Any) -> str:
    """What an action leaves in the text."""
    if value is ABSENT:
        return NO_VALUE
    text = formatted(value)
    return text[1:] if isinstance(value, Struct) else text


def print_(*values: Any) -> str:
    """A space goes between two of which neither is a string."""
    return joined("", spaced(values, formatted))


def spaced(values: Sequence[Any], form: Callable[[Any], str]) -> Iterator[str]:
    for place, value in enumerate(values):
        if place and not isinstance(value, str) and not isinstance(values[place - 1], str):
            yield " "
        yield form(value)


def println(*values: Any) -> str:
    return joined(" ", map(formatted, values)) + "\n"


def printf(text: str, *values: Any) -> str:
    return _Printf(text, values).run()


class _Printf:
    """Mistakes do not fail, they stand in the result: `%!d(string=x)`."""

    def __init__(self, text: str, values: Sequence[Any]) -> None:
        self._text = text
        self._at = 0
        self._values = values
        self._used = 0
        self._reordered = False
        self._index_is_good = True
        self._after_index = False

    def run(self) -> str:
        return joined("", self._parts())

    def _parts(self) -> Iterator[str]:
        while (percent := self._text.find("%", self._at)) >= 0:
            yield self._text[self._at : percent]
            self._at = percent + 1
            yield self._verb()
        yield self._text[self._at :]
        if not self._reordered and self._used < len(self._values):
            extra = joined(", ", map(_described, self._values[self._used :]))
            yield f"%!(EXTRA {extra})"

    def _verb(self) -> str:
        flags: dict[str, Any] = {}
        while self._peek() in _FLAGS and self._peek():
            flags[_FLAGS[self._next()]] = True
        self._index_is_good, self._after_index = True, False
        problems = ""
        self._index()
        width, problem = self._measure("BADWIDTH", may_be_negative=True)
        problems += problem
        if width is not None and width < 0:
            width, flags["minus"] = -width, True
        precision = None
        if self._peek() == ".":
            self._next()
            if self._after_index:
                self._index_is_good = False
            self._index()
            precision, problem = self._measure("BADPREC", may_be_negative=False)
            problems += problem
            precision = 0 if precision is None and not problem else precision
        if not self._after_index:
            self._index()
        verb = Verb(self._next(), width=width, precision=precision, **flags)
        if verb.minus:
            verb = dataclasses.replace(verb, zero=False)
        if verb.name in ("v", "w"):
            verb = dataclasses.replace(verb, plus=False, named=verb.plus, sharp=False, source=verb.sharp)
        return problems + self._apply(verb)

    def _apply(self, verb: Verb) -> str:
        if not verb.name:
            return "%!(NOVERB)"
        if verb.name == "%":
            return "%"
        if not self._index_is_good:
            return f"%!{verb.name}(BADINDEX)"
        if self._used >= len(self._values):
            return f"%!{verb.name}(MISSING)"
        self._used += 1
        return formatted(self._values[self._used - 1], verb)

    def _measure(self, problem: str, *, may_be_negative: bool) -> tuple[int | None, str]:
        """A width or precision: digits, or `*`, which takes a value."""
        if self._peek() == "*":
            self._next()
            self._after_index = False
            value = self._values[self._used] if self._used < len(self._values) else None
            self._used = min(self._used + 1, len(self._values))
            size = int(value) if isinstance(value, int) and not isinstance(value, bool) else LARGEST + 1
            if abs(size) > LARGEST or (size < 0 and not may_be_negative):
                return None, f"%!({problem})"
            return size, ""
        number = None
        while (digit := self._peek()) in _DIGITS and digit:
            if number is not None and number > LARGEST:
                self._at = len(self._text)  # Go gives the whole format up
                return None, ""
            number = (number or 0) * 10 + int(self._next())
        if number is not None and self._after_index:
            self._index_is_good = False
        return number, ""

    def _index(self) -> None:
        """`[2]`: the next verb or `*` takes the second value."""
        if self._peek() != "[":
            return
        self._reordered = True
        found = _INDEX.match(self._text, self._at)
        if found is None:
            self._at += 1
            self._index_is_good = False
            return
        self._at = found.end()
        number = int(found[1]) if found[1].isascii() and found[1].isdigit() and len(found[1]) < 8 else 0
        if not 1 <= number <= len(self._values):
            self._index_is_good = False
            return
        self._used, self._after_index = number - 1, True

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        self._at += 1
        return self._text[self._at - 1 : self._at]


def _described(value: Any) -> str:
    return "<nil>" if value is None else f"{formatted(value, Verb('T'))}={formatted(value)}"
