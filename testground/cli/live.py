"""What a terminal shows while a command waits: a bar for the upload, a board of instance states, a verdict."""

from __future__ import annotations

import codecs
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from pydantic import ValidationError
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from testground.api.rpc import Chunk
from testground.api.task import InstanceFailure, Outcome, RunResult, Task, TaskType

STATES = {"running": "cyan", "ok": "green", "failed": "red"}
SHOWN = 5
"""Reasons, and instances of a reason; the others are counted."""


class Screen:
    """One terminal. Lines scroll by above whatever is live."""

    def __init__(self, stream: IO[str]) -> None:
        self._console = Console(file=stream, highlight=False)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._partial = ""

    def write(self, text: str) -> None:
        self._print(text.removesuffix("\n"))

    def chunk(self, chunk: Chunk) -> None:
        """Progress comes in any cut; only whole lines can stand above a live display."""
        lines, newline, self._partial = (self._partial + self._utf8.decode(chunk.payload)).rpartition("\n")
        if newline:
            self._print(lines)

    @contextlib.contextmanager
    def upload(self) -> Iterator[Callable[[int, int], None]]:
        columns = (TextColumn("uploading"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task("upload", total=None)
            yield lambda sent, total: progress.update(task, completed=sent, total=total)

    @contextlib.contextmanager
    def board(self, title: str) -> Iterator[Callable[[Chunk], None]]:
        board = Board(title)

        def show(chunk: Chunk) -> None:
            self.chunk(chunk)
            board.take(chunk)

        with Live(board, console=self._console, transient=True, redirect_stdout=False, redirect_stderr=False):
            try:
                yield show
            finally:
                self._end_line()

    def verdict(self, title: str, task: Task) -> None:
        self._end_line()
        self._console.print(verdict(title, task))

    def _end_line(self) -> None:
        if self._partial:
            self._print(self._partial)
            self._partial = ""

    def _print(self, text: str) -> None:
        self._console.print(Text.from_ansi(text), soft_wrap=True)


class Board:
    """Instances of a run by state, a row per group."""

    def __init__(self, title: str) -> None:
        self._spinner = Spinner("dots", text=title)
        self._groups: dict[str, dict[str, int]] = {}

    def take(self, chunk: Chunk) -> None:
        """Read the `states` member of a progress chunk; other clients and daemons do not know it."""
        states = (chunk.extra or {}).get("states")
        if isinstance(states, dict):
            counts = {name: value for name, value in states.items() if isinstance(value, int)}
            self._groups[str(states.get("group", ""))] = counts

    def __rich__(self) -> RenderableType:
        if not self._groups:
            return self._spinner
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("group", "", "instances", *STATES):
            table.add_column(
                heading, justify="left" if heading in ("group", "") else "right", style=STATES.get(heading)
            )
        for group, counts in self._groups.items():
            numbers = [str(counts.get(name, 0)) for name in ("total", *STATES)]
            table.add_row(group, _bar(counts), *numbers)
        return Group(table, self._spinner)


def verdict(title: str, task: Task) -> Panel:
    """Outcome per group, the first failure, and the last lines of those that failed."""
    passed = task.outcome is Outcome.SUCCESS
    lines = list(_reasons(task))
    heading = "passed" if passed else str(task.outcome)
    return Panel(
        Group(*lines) if lines else Text(f"task {task.id}"),
        title=f"{title}: {heading}",
        title_align="left",
        border_style="green" if passed else "yellow" if task.outcome is Outcome.CANCELED else "red",
        expand=False,
    )


def _reasons(task: Task) -> Iterator[RenderableType]:
    if task.error:
        yield Text(task.error)
    result = _result(task)
    for group, outcome in sorted(result.outcomes.items()):
        style = "green" if outcome.ok == outcome.total else "red"
        yield Text.assemble(f"{group}: ", (f"{outcome.ok}/{outcome.total} ok", style))
    if result.failures:
        yield from _failures(result.failures[0], result.failures[1:])


def _failures(first: InstanceFailure, others: Sequence[InstanceFailure]) -> Iterator[RenderableType]:
    """The others by their reason: of a hundred instances, most fail for the same one."""
    yield Text.assemble(("first failure: ", "bold"), f"{first.instance} after {first.seconds:.1f}s: {first.reason}")
    by_reason: dict[str, list[str]] = {}
    for failure in others:
        by_reason.setdefault(failure.reason, []).append(failure.instance)
    for reason, names in list(by_reason.items())[:SHOWN]:
        yield Text.assemble(("then: ", "bold"), f"{_listed(names)}: {reason}")
    if len(by_reason) > SHOWN:
        yield Text(f"… and others for {len(by_reason) - SHOWN} more reason(s)")
    if first.last_lines:
        yield Text(f"the last lines of {first.instance}:", style="bold")
        yield Padding(Text.from_ansi("\n".join(first.last_lines), style="dim"), (0, 0, 0, 4))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"


def _result(task: Task) -> RunResult:
    if task.type is TaskType.RUN and isinstance(task.result, dict):
        with contextlib.suppress(ValidationError):
            return RunResult.model_validate(task.result)
    return RunResult()


def _bar(counts: dict[str, int], width: int = 24) -> Text:
    total = max(1, counts.get("total", 0))
    bar = Text()
    for name in ("ok", "failed", "running"):
        bar.append("━" * round(width * counts.get(name, 0) / total), style=STATES[name])
    return bar.append("─" * max(0, width - len(bar)), style="dim")
