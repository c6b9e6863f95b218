"""The only place that prints.

In a pipe, standard output carries exactly the lines that scripts parse (client-daemon §2.3, §2.4, §6.4). On a terminal,
a command that waits shows a progress bar, live instance states and a verdict instead; see `live`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from testground.errors import AuthError, StreamError, TestgroundError, UnreachableError

if TYPE_CHECKING:
    from testground.api.rpc import Chunk
    from testground.api.task import Task
    from testground.cli.live import Screen

CYAN, GREEN, RED = "36", "92", "91"
LEVELS = ("debug", "info", "warn", "error")
OURS = (AuthError, StreamError, UnreachableError)
"""Errors of the exchange itself: the daemon did not answer with them."""


class Output:
    """Standard output and standard error of one command."""

    def __init__(self, *, level: str = "info") -> None:
        self._stdout = sys.stdout
        self._stderr = sys.stderr
        self._level = LEVELS.index(level)
        self._live: Screen | None = None

    @property
    def interactive(self) -> bool:
        return self._stdout.isatty() and os.environ.get("TERM") != "dumb"

    def set_level(self, *, verbose: bool, environ: dict[str, str] | None = None) -> None:
        """`LOG_LEVEL` beats the flags (client-daemon §6.1)."""
        wanted = (os.environ if environ is None else environ).get("LOG_LEVEL", "").lower().replace("warning", "warn")
        self._level = LEVELS.index(wanted if wanted in LEVELS else "debug" if verbose else "info")

    def shows(self, level: str) -> bool:
        """Whether log lines of this level are printed."""
        return LEVELS.index(level) >= self._level

    def line(self, text: str = "") -> None:
        self._write(text + "\n")

    def log(self, level: str, message: str, **fields: Any) -> None:
        """A log line of the client: four fields before the message, which scripts count on."""
        from testground.api import console

        if self.shows(level):
            self._write(console.console_line(level, message, fields or None))

    def note(self, text: str) -> None:
        """Something for people only; never in the way of a script that reads standard output."""
        with contextlib.suppress(OSError):
            print(text, file=self._stderr, flush=True)

    def error(self, error: BaseException) -> None:
        """One sentence on standard output; a hint, if there is one, on standard error."""
        text = str(error) or type(error).__name__
        self.line(_painted(RED, text) if self.interactive else text)
        if isinstance(error, AuthError):
            self.note("the daemon refuses this client: set client.token in .env.toml to one of its daemon.tokens")

    def unexpected(self, error: BaseException, *, verbose: bool) -> None:
        self.line(f"internal error: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        if verbose:
            self.note("".join(traceback.format_exception(error)).rstrip())
        else:
            self.note("run the command again with --vv to see where it comes from")

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Columns padded with three spaces (client-daemon §6.4)."""
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            self.line("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    @contextlib.contextmanager
    def answer(self) -> Iterator[Callable[[Chunk], None]]:
        """Headings around the chunks of one answer, and what they say."""
        if self.interactive:
            yield self._screen().chunk
            return
        begun = False

        def show(chunk: Chunk) -> None:
            nonlocal begun
            if not chunk.payload:
                return
            if not begun:
                self._heading("Server output", CYAN)
                begun = True
            self._write_bytes(chunk.payload)

        try:
            yield show
        except TestgroundError as error:
            if not isinstance(error, OURS):
                self._heading("Error", RED)
            raise
        self._heading("Result", GREEN)

    @contextlib.contextmanager
    def following(self, title: str) -> Iterator[Callable[[Chunk], None]]:
        """As `answer`, for a task that is followed: on a terminal with the states of its instances."""
        with self._screen().board(title) if self.interactive else self.answer() as show:
            yield show

    @contextlib.contextmanager
    def upload(self) -> Iterator[Callable[[int, int], None] | None]:
        """Yields what wants to know the bytes sent so far and their total; None: nobody does."""
        if not self.interactive:
            yield None
            return
        with self._screen().upload() as advance:
            yield advance

    def verdict(self, title: str, task: Task) -> None:
        """How a task ended and why, in words; scripts read it off the log lines."""
        if self.interactive:
            self._screen().verdict(title, task)

    def close(self) -> None:
        """Raises `BrokenPipeError` here rather than when the interpreter ends."""
        self._stdout.flush()

    def _screen(self) -> Screen:
        from testground.cli.live import Screen

        if self._live is None:
            self._live = Screen(self._stdout)
        return self._live

    def _heading(self, text: str, color: str) -> None:
        self._write("\n" + _painted(color, f">>> {text}:") + "\n")

    def _write(self, text: str) -> None:
        if self._live is not None:
            self._live.write(text)
            return
        self._stdout.write(text)
        self._stdout.flush()

    def _write_bytes(self, data: bytes) -> None:
        """As they come: they may hold half a character."""
        self._stdout.flush()
        self._stdout.buffer.write(data)
        self._stdout.buffer.flush()


def _painted(color: str, text: str) -> str:
    """Bold; outside of terminals too, as upstream's scripts see it."""
    return f"\x1b[1;{color}m{text}\x1b[0m"
