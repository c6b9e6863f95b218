"""What a browser or curl can fetch of a task: its log, outputs, journal and metrics (client-daemon §1.5)."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from testground.api.task import Journal, RunResult
from testground.daemon.exchange import SHUTTING_DOWN, Exchanges
from testground.engine.engine import Engine
from testground.errors import RequestError, TestgroundError, UnknownError

TEXT = "text/plain; charset=utf-8"
ARCHIVE = "application/tar+gzip"
NOTHING_IN_JOURNAL = "No events or statuses captured for this run.\n"

log = logging.getLogger(__name__)
_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")
_PLAIN = {"X-Content-Type-Options": "nosniff"}
"""What a plan has printed is never shown as a page."""


class _Progress(msgspec.Struct):
    """A line of a task's log."""

    p: bytes


_PROGRESS = msgspec.json.Decoder(_Progress)


@dataclass(frozen=True, slots=True)
class Download:
    path: str
    parameter: str
    description: str
    media_type: str
    missing: str
    failed: str
    """Stands in front of the reason, when there is nothing to fetch."""
    fetch: Callable[[Engine, str], Awaitable[Response]]

    async def answer(self, exchanges: Exchanges, request: Request) -> Response:
        wanted = request.query_params.get(self.parameter)
        if not wanted:
            return _text(self.missing, 400)
        try:
            return _Admitted(exchanges, await self.fetch(exchanges.engine, wanted))
        except TestgroundError as error:
            status = 404 if isinstance(error, UnknownError) else 400 if isinstance(error, RequestError) else 500
            return _text(f"{self.failed}{error}", status)


class _Admitted(Response):
    """A response that the end of the daemon breaks off, however slowly its client reads."""

    def __init__(self, exchanges: Exchanges, response: Response) -> None:
        super().__init__()
        self._exchanges = exchanges
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._exchanges.admit() as admission:
            await self._response(scope, receive, send)
        if admission.cancelled_caught:
            log.warning("a download broke off: %s", SHUTTING_DOWN)


class _Stream(StreamingResponse):
    """What breaks off ends the connection before the end of the body, so that it cannot pass for the whole."""

    async def stream_response(self, send: Send) -> None:
        async with contextlib.aclosing(cast(AsyncGenerator[Any, None], self.body_iterator)):
            try:
                await super().stream_response(send)
            except TestgroundError as error:
                log.warning("a download broke off: %s", error)


async def logs(engine: Engine, task_id: str) -> Response:
    """What the task has said so far, as plain text."""
    task = engine.task(task_id)
    return _Stream(_decoded(engine.logs(task.id, follow=False)), media_type=TEXT, headers=_PLAIN)


async def outputs(engine: Engine, run_id: str) -> Response:
    """The outputs of a run, as a gzip-compressed tar."""
    task = engine.task(run_id)
    pieces = engine.collect(task.id)
    first = await anext(pieces, b"")  # what cannot be read at all is told by a status
    disposition = {"Content-Disposition": f'attachment; filename="{task.id}.tgz"'}
    return _Stream(_chained(first, pieces), media_type=ARCHIVE, headers=disposition)


async def journal(engine: Engine, task_id: str) -> Response:
    """The events and the statuses of instances that a runner has noted."""
    found = _journal(engine.task(task_id).result)
    parts = [("Events", found.events.values()), ("Statuses", found.pods_statuses)]
    sections = ["\n".join((title, "=" * 17, *lines)) + "\n" for title, lines in parts if lines]
    return _text("".join(sections) or NOTHING_IN_JOURNAL)


async def data(engine: Engine, name: str) -> Response:
    """The values of a metric, one row for each run of the last 7 days, as CSV."""
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(await engine.series(name))
    return _text(table.getvalue())


NO_TASK = "url param `task_id` is missing"
DOWNLOADS = (
    Download("/logs", "task_id", "a task", TEXT, NO_TASK, "error while getting task; err: ", logs),
    Download(
        "/outputs",
        "run_id",
        "a run",
        ARCHIVE,
        "url param `run_id` is missing",
        "cannot collect outputs; err: ",
        outputs,
    ),
    Download("/journal", "task_id", "a task", TEXT, NO_TASK, "cannot fetch tsk; err: ", journal),
    Download(
        "/data",
        "series",
        "results.PLAN-CASE.METRIC.TYPE",
        TEXT,
        "query param `series` is missing",
        "failed to get data for series ",
        data,
    ),
)


def _text(text: str, status: int = 200) -> Response:
    return Response(text.encode("utf-8", "replace"), status, _PLAIN, TEXT)


async def _decoded(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in lines:
        yield b"".join(_texts(piece))


def _texts(lines: bytes) -> Iterator[bytes]:
    try:
        for line in lines.splitlines():
            yield _COLOUR.sub(b"", _PROGRESS.decode(line).p)
    except msgspec.DecodeError as error:
        yield f"error while parsing logs: {error}\n".encode("utf-8", "replace")


async def _chained(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece


def _journal(result: Any) -> Journal:
    """An empty one for a task without a result, as builds, and for results of another version."""
    try:
        return RunResult.model_validate(result).journal
    except ValidationError:
        return Journal()
