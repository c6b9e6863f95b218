"""One request and its answer: a body is read, work is done, chunks are sent (client-daemon §1.4, §2).

A handler is an async function of an `Exchange`; what it returns is the result chunk, what it raises the error chunk.
It ends early when the client disconnects or the daemon shuts down.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from testground.api import rpc
from testground.api.model import WireModel, explain
from testground.config import EnvConfig
from testground.daemon import gate, jsonbody
from testground.engine.engine import Engine
from testground.errors import CanceledError, RequestError, TestgroundError

FAREWELL_SECONDS = 1.0
"""How long the last chunk of an answer that a shutdown ends may take to leave."""

SHUTTING_DOWN = "the daemon is shutting down"

log = logging.getLogger(__name__)
_LEVELS = {"info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
Model = TypeVar("Model", bound=WireModel)


class Exchanges:
    """All exchanges under way, and what they share."""

    def __init__(self, engine: Engine, env: EnvConfig) -> None:
        self.engine = engine
        self.env = env
        self._scopes: set[anyio.CancelScope] = set()
        self._closed = False

    def close(self) -> None:
        """End each exchange with an error chunk, those to come included."""
        self._closed = True
        for scope in self._scopes:
            scope.cancel()

    @contextlib.contextmanager
    def admit(self) -> Iterator[anyio.CancelScope]:
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            if self._closed:
                scope.cancel()
            try:
                yield scope
            finally:
                self._scopes.discard(scope)


class Failure(TestgroundError):
    """An error as the client is to read it, with the code of what caused it."""

    def __init__(self, context: str, cause: TestgroundError) -> None:
        super().__init__(f"{context}{cause}")
        self.code = cause.code


class Refusal(Exception):
    """Answer with a bare status instead of chunks; only before the first of them."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _GoneError(Exception):
    """The client disconnected before its request was complete."""


@contextlib.contextmanager
def failing(context: str) -> Iterator[None]:
    """Put `context` in front of the message of what the block raises."""
    try:
        yield
    except TestgroundError as error:
        raise Failure(context, error) from error


class Exchange:
    """What a handler works with. As an `Output`, it turns what it is told into progress chunks."""

    def __init__(self, shared: Exchanges, scope: Scope, receive: Receive, send: Send) -> None:
        self.engine = shared.engine
        self.env = shared.env
        self.id: str = scope[gate.REQUEST_ID]
        self.headers = Headers(scope=scope)
        self._receive = receive
        self._send = send
        self._read = anyio.Event()
        self._begun = False
        self._finished = False
        self._gone = False
        self._on_disconnect: Callable[[], None] = lambda: None
        self._lines: deque[bytes] = deque()
        self._line_came = anyio.Event()
        self._sending = anyio.Lock()

    async def body(self) -> AsyncIterator[bytes]:
        """The request's body as it comes."""
        while not self._read.is_set():
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._gone = True
                raise _GoneError
            if not message.get("more_body"):
                self._read.set()
            if data := message.get("body"):
                yield data

    async def json(self, model: type[Model], context: str) -> Model:
        """The body as a model. Raises `RequestError` for what is not one."""
        try:
            return model.model_validate(jsonbody.parse(await jsonbody.collect(self.body())))
        except (RequestError, ValidationError) as error:
            detail = explain(error) if isinstance(error, ValidationError) else error.message
            raise RequestError(f"{context} json decode; err: {detail}") from error

    def on_disconnect(self, action: Callable[[], None]) -> None:
        """Call `action` when the client goes away before the answer is complete."""
        self._on_disconnect = action

    async def begin(self) -> None:
        """Send the head of the answer, so that the client knows it was heard before the first chunk comes."""
        async with self._sending:
            await self._begin()

    async def send(self, chunk: bytes) -> None:
        """Send a chunk after all lines written so far; waits while the client does not read."""
        async with self._sending:
            await self._flush()
            await self._write(chunk)

    def info(self, message: str, **fields: Any) -> None:
        self._say("info", message, fields)

    def warn(self, message: str, **fields: Any) -> None:
        self._say("warn", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        self._say("error", message, fields)

    def write(self, data: bytes) -> None:
        self._line(rpc.progress(data))

    def states(self, group: str, counts: dict[str, int]) -> None:
        self._line(rpc.progress(b"", states={"group": group, **counts}))

    async def run(self, handler: Handler) -> None:
        """Let the handler work and send its outcome; return early when the client is gone."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._pump)
            group.start_soon(self._watch, group.cancel_scope)
            await self._answer(handler)
            group.cancel_scope.cancel()

    async def fail(self, message: str, code: str) -> None:
        """The error as a warning for the reader, and as an error chunk for the program; unless an outcome was sent."""
        message = message.encode("utf-8", "replace").decode()
        self.warn(message)
        await self._finish(rpc.error(message, code))

    async def end(self) -> None:
        if self._begun and not self._gone:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _answer(self, handler: Handler) -> None:
        await anyio.lowlevel.checkpoint_if_cancelled()  # after a shutdown the engine is closed
        try:
            await self._finish(rpc.result(await handler(self)))
        except TestgroundError as error:
            await self.fail(error.message, error.code)
        except Refusal as refusal:
            await self._refuse(refusal.status)
        except _GoneError:
            log.info("the client left before its request was complete", extra={"fields": {"req_id": self.id}})
        except Exception as error:
            log.exception("request failed", extra={"fields": {"req_id": self.id}})
            await self.fail(f"internal error: {type(error).__name__}: {error}", TestgroundError.code)

    async def _finish(self, outcome: bytes) -> None:
        if not self._finished:
            await self.send(outcome)
            self._finished = True

    async def _refuse(self, status: int) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await self._send({"type": "http.response.body", "body": b""})

    async def _pump(self) -> None:
        """Lines leave as soon as they are written, whatever the handler is busy with."""
        while True:
            await self._line_came.wait()
            self._line_came = anyio.Event()
            async with self._sending:
                await self._flush()

    async def _watch(self, scope: anyio.CancelScope) -> None:
        """End the exchange when the client goes away, even if there is nothing to send (client-daemon §7.1 no. 12)."""
        await self._read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self._gone = True
        with contextlib.suppress(TestgroundError):
            self._on_disconnect()
        scope.cancel()

    def _say(self, level: str, message: str, fields: dict[str, Any]) -> None:
        fields = {"req_id": self.id, **fields}
        log.log(_LEVELS[level], message, extra={"fields": fields})
        self._line(rpc.progress(rpc.console_line(level, message, fields).encode("utf-8", "replace")))

    def _line(self, chunk: bytes) -> None:
        self._lines.append(chunk)
        self._line_came.set()

    async def _flush(self) -> None:
        while self._lines:
            await self._write(self._lines.popleft())

    async def _write(self, chunk: bytes) -> None:
        await self._begin()
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _begin(self) -> None:
        if self._begun:
            return
        headers = [(b"content-type", rpc.CONTENT_TYPE.encode())]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        self._begun = True


Handler = Callable[[Exchange], Awaitable[Any]]


class Answer(Response):
    """The response of a route: all of its exchange, from reading the body on."""

    def __init__(self, shared: Exchanges, handler: Handler) -> None:
        super().__init__()
        self._shared = shared
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(self._shared, scope, receive, send)
        with self._shared.admit() as admission:
            await exchange.run(self._handler)
        if admission.cancelled_caught:
            with anyio.move_on_after(FAREWELL_SECONDS):
                await exchange.fail(SHUTTING_DOWN, CanceledError.code)
                await exchange.end()
        else:
            await exchange.end()
