"""`.testgroundignore` in the root of a plan: what is not sent (client-daemon §6.6)."""

from __future__ import annotations

import re
from pathlib import Path

from pathspec import GitIgnoreSpec

from testground.errors import SourcesError
from testground.plan import document

FILE = ".testgroundignore"


class Ignore:
    """Patterns with git's meaning: order matters, `!` takes back, and nothing below a skipped directory comes back.

    Raises `ValueError` that names the line.
    """

    def __init__(self, lines: list[str]) -> None:
        patterns = [_pattern(line) for line in lines]
        for number, pattern in enumerate(patterns, 1):
            _check(number, pattern)
        self._spec = GitIgnoreSpec.from_lines(patterns)

    def skips(self, path: str, *, directory: bool = False) -> bool:
        """`path` is relative to the root, with `/`; its parents are known not to be skipped."""
        return self._spec.match_file(f"{path}/" if directory else path)


def load(plan_dir: Path) -> Ignore | None:
    """None if the plan has no such file. Raises `SourcesError` that names the file and the line."""
    file = plan_dir / FILE
    try:
        return Ignore(document.read(file).splitlines())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SourcesError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise SourcesError(f"cannot read {file}: {error}") from error


def _pattern(line: str) -> str:
    """`dir/**` spares the directory itself, so that `!dir/keep` can take back; pathspec needs `dir/*` for that."""
    return re.sub(r"/\*\*$", "/*", line.strip())


def _check(number: int, pattern: str) -> None:
    try:
        GitIgnoreSpec.from_lines([pattern])
    except (ValueError, re.error) as error:
        raise ValueError(f"line {number}: {error}") from error
