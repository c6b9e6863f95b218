"""What is wrong with a template, and where."""

from __future__ import annotations

from typing import Any

MAX_SHOWN = 1000
"""Characters of an error: it quotes what is wrong, which can be megabytes."""


class TemplateError(Exception):
    """`offset` counts characters of the template; `render` turns it into a line and a column, both from 1."""

    def __init__(self, message: str, offset: int = 0) -> None:
        message = message.replace("\n", "\\n")
        message = message if len(message) <= MAX_SHOWN else f"{message[:MAX_SHOWN]}…"
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.line = 0
        self.column = 0

    def locate(self, text: str) -> None:
        self.line = text.count("\n", 0, self.offset) + 1
        self.column = self.offset - text.rfind("\n", 0, self.offset)

    def __str__(self) -> str:
        return f"{self.message} (at line {self.line}, column {self.column})" if self.line else self.message


class Refused(Exception):
    """What a function or an operation says of its arguments; the executor adds the place."""


class Place:
    """Names the place, and the function, for what is `Refused` within: `with Place(node.offset): …`"""

    def __init__(self, offset: int, function: str = "") -> None:
        self._offset = offset
        self._function = function

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Refused):
            prefix = f"{self._function}: " if self._function else ""
            raise TemplateError(f"{prefix}{error}", self._offset) from error
