"""Go's text/template over the values that compositions meet (client-daemon §3.9).

    text → lexer → parser → nodes → executor → text

`render` is a pure function. What differs from Go on purpose is listed in tests/integration/test_upstream_templates.py.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from testground.plan.template.builtins import BUILTINS, Function, Takes
from testground.plan.template.errors import Refused, TemplateError
from testground.plan.template.executor import execute
from testground.plan.template.parser import parse
from testground.plan.template.printing import NO_VALUE
from testground.plan.template.values import decoded, encoded

__all__ = ["NO_VALUE", "Function", "Refused", "Rendered", "Takes", "TemplateError", "render", "rendered"]


@dataclass(frozen=True, slots=True)
class Rendered:
    text: str
    starts: tuple[int, ...]
    """Where pieces of the text begin…"""
    origins: tuple[int, ...]
    """…and the lines of the template, from 1, that they come from."""

    def origin(self, line: int) -> int:
        """The line of the template that a line of the text comes from."""
        lines = self.text.split("\n")
        offset = sum(len(before) + 1 for before in lines[: line - 1])
        offset += len(lines[line - 1]) - len(lines[line - 1].lstrip()) if line <= len(lines) else 0
        place = bisect.bisect_right(self.starts, offset) - 1
        if place < 0:
            return 1
        return self.origins[place] + self.text.count("\n", self.starts[place], offset)


def render(text: str, data: Any, functions: Mapping[str, Function]) -> str:
    """Raises `TemplateError` with the line and column."""
    return rendered(text, data, functions).text


def rendered(text: str, data: Any, functions: Mapping[str, Function]) -> Rendered:
    """As `render`, with the origin of each line."""
    known = {**BUILTINS, **functions}
    try:
        pieces = execute(parse(text, known), data, known)
    except TemplateError as error:
        error.locate(text)
        raise
    except RecursionError as error:
        raise TemplateError("nested too deeply") from error
    starts = [0, *itertools.accumulate(len(piece) for piece, _ in pieces)]
    try:
        result = decoded(encoded("".join(piece for piece, _ in pieces)))
        result.encode()
    except UnicodeEncodeError as error:
        raise TemplateError("the result is not UTF-8") from error
    lines = _line_numbers(text, [origin for _, origin in pieces])
    return Rendered(result, tuple(starts[:-1]), tuple(lines))


def _line_numbers(text: str, offsets: list[int]) -> list[int]:
    breaks = [found.start() for found in re.finditer("\n", text)]
    return [bisect.bisect_left(breaks, offset) + 1 for offset in offsets]
