"""What a template may use up, so that one that does not end or grows without bound fails with a reason."""

from __future__ import annotations

from collections.abc import Iterable

from testground.plan.template.errors import Refused

MAX_TEXT = 16 << 20
"""Characters of the result, or of one value. No composition file may be larger either."""
MAX_HANDLED = 4 * MAX_TEXT
"""Characters of all strings that functions take, and characters and items of all values that they make."""
MAX_STEPS = 1_000_000
"""Nodes that are carried out, with each round of a loop."""
MAX_DEPTH = 100
"""Templates that call each other. Go's own limit is 100,000."""


def joined(separator: str, parts: Iterable[str]) -> str:
    """Raises `Refused` before the text is larger than a value may be."""
    found: list[str] = []
    size = 0
    for part in parts:
        size += len(part) + len(separator)
        if size > MAX_TEXT:
            raise Refused(f"the value is larger than {MAX_TEXT >> 20} MiB")
        found.append(part)
    return separator.join(found)


class Budget:
    """Counts down. Each method raises `Refused` when nothing is left."""

    def __init__(self) -> None:
        self._steps = MAX_STEPS
        self._handled = MAX_HANDLED
        self._text = MAX_TEXT

    def step(self) -> None:
        self._steps -= 1
        if self._steps < 0:
            raise Refused(f"the template takes more than {MAX_STEPS} steps")

    def take(self, arguments: Iterable[object]) -> None:
        self._handle(sum(len(value) for value in arguments if isinstance(value, str)))

    def produce(self, value: object) -> None:
        self._handle(len(value) if isinstance(value, str | list | dict) else 1)

    def write(self, text: str) -> None:
        self._text -= len(text)
        if self._text < 0:
            raise Refused(f"the result is larger than {MAX_TEXT >> 20} MiB")

    def _handle(self, size: int) -> None:
        self._handled -= size
        if self._handled < 0:
            raise Refused(f"the values of the template add up to more than {MAX_HANDLED >> 20} MiB")
