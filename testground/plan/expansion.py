"""Templates in composition files: expanding them, and explaining the errors of what comes out (client-daemon §3.9)."""

from __future__ import annotations

import os
import re
from pathlib import Path

from testground.errors import TestgroundError
from testground.plan.document import Failure
from testground.plan.template import NO_VALUE, Rendered, TemplateError, functions, rendered

SHOWN = 200
"""Characters of a line that an error shows."""

_LINE = re.compile(r"at line (\d+)")


def expand(text: str, directory: Path, failure: Failure) -> Rendered:
    """The text with the environment and the resources beside it filled in. Raises `failure` with line and column."""
    environment = dict(os.environ)
    try:
        return rendered(text, functions.data(environment), functions.functions(directory, environment))
    except TemplateError as error:
        raise failure(f"failed to process composition template: {error}") from error


def explained(text: str, expanded: Rendered, failure: Failure) -> Failure:
    """`failure` that shows the line it speaks of, as nobody has ever seen that: the templates made it."""
    if expanded.text == text:
        return failure
    return lambda problem: _with_line(problem, expanded, failure)


def _with_line(problem: str, expanded: Rendered, failure: Failure) -> TestgroundError:
    place = _LINE.search(problem)
    if place is None and "end of document" not in problem:
        return failure(problem)  # it names a key
    lines = expanded.text.split("\n")
    number = int(place[1]) if place else len(lines)
    line = lines[number - 1].strip() if number <= len(lines) else ""
    hint = f"; {NO_VALUE} stands for a variable or key that is not there" if NO_VALUE in line else ""
    if len(line) > SHOWN:
        line = f"{line[:SHOWN]}…"
    return failure(
        f"failed to process composition file: {problem}, once its templates are expanded: "
        f"there, line {number} is {line!r}, which comes from line {expanded.origin(number)} of the file{hint}"
    )
