"""One request and its answer, at the ASGI seam: chunks, errors, disconnects, shutdown."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from starlette.types import Message

from testground.api import rpc
from testground.config import EnvConfig, Home
from testground.daemon import exchange as exchanges
from testground.daemon import gate
from testground.daemon.exchange import Answer, Exchange, Exchanges, Refusal, failing
from testground.engine.engine import Engine
from testground.errors import QueueFullError, RequestError, UnknownError

DEADLINE = 10


class Wire:
    """Both ends of one HTTP exchange as ASGI sees it. `read_slowly`: the client takes no bytes until it is set."""

    def __init__(self, *body: bytes, whole: bool = True) -> None:
        self.sent: list[Message] = []
        self.first_chunk = anyio.Event()
        self.may_write = anyio.Event()
        self.may_write.set()
        self._gone = anyio.Event()
        more = [*(True for _ in body[1:]), not whole]
        self._messages = [
            {"type": "http.request", "body": part, "more_body": following}
            for part, following in zip(body or (b"",), more, strict=True)
        ]

    def disconnect(self) -> None:
        self._gone.set()

    async def receive(self) -> Message:
        if self._messages:
            return self._messages.pop(0)
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self.may_write.wait()
        self.sent.append(message)
        if message["type"] == "http.response.body" and message["body"]:
            self.first_chunk.set()

    async def answer(self, handler: exchanges.Handler, shared: Exchanges | None = None) -> None:
        scope = {"type": "http", "headers": [], gate.REQUEST_ID: "0123abcd"}
        with anyio.fail_after(DEADLINE):
            await Answer(shared or hub(), handler)(scope, self.receive, self.send)

    @property
    def status(self) -> int:
        return cast(int, self.sent[0]["status"])

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return [json.loads(message["body"]) for message in self.sent[1:] if message["body"]]

    @property
    def ended(self) -> bool:
        return bool(self.sent) and not self.sent[-1].get("more_body", True)


def hub() -> Exchanges:
    env = EnvConfig(home=Home(Path("/nowhere")))
    return Exchanges(cast(Engine, None), env)


def text(chunk: dict[str, Any]) -> str:
    return base64.b64decode(chunk["p"]).decode()


def returns(value: Any) -> exchanges.Handler:
    async def handler(exchange: Exchange) -> Any:
        return value

    return handler


def raises(error: BaseException) -> exchanges.Handler:
    async def handler(exchange: Exchange) -> Any:
        raise error

    return handler


@pytest.mark.parametrize(
    ("value", "chunk"),
    [
        ("dc28aidqmd2op8cgmlg0", b'{"t":114,"p":"dc28aidqmd2op8cgmlg0"}'),  # C1
        (False, b'{"t":114,"p":false}'),  # C4
        (None, b'{"t":114,"p":null}'),  # C4; never without "p" (C5)
        ([], b'{"t":114,"p":[]}'),
        ("", b'{"t":114,"p":""}'),
    ],
)
async def test_result(value: Any, chunk: bytes) -> None:
    wire = Wire()
    await wire.answer(returns(value))
    assert wire.sent == [
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]},
        {"type": "http.response.body", "body": chunk, "more_body": True},
        {"type": "http.response.body", "body": b"", "more_body": False},
    ]


async def test_error_is_a_warning_and_an_error_chunk() -> None:
    async def handler(exchange: Exchange) -> None:
        with failing("engine run error: "):
            raise QueueFullError("queue full")

    wire = Wire()
    await wire.answer(handler)
    warning, error = wire.chunks
    assert error == {"t": 101, "e": {"m": "engine run error: queue full"}, "c": "queue-full"}  # C3
    assert warning["t"] == 112
    assert text(warning).endswith('\t\x1b[33mWARN\x1b[0m\tengine run error: queue full\t{"req_id": "0123abcd"}\n')
    assert wire.ended


async def test_output_becomes_progress_in_order_and_before_the_result() -> None:
    async def handler(exchange: Exchange) -> bool:
        exchange.info("one", group="a")
        exchange.write(b"\x00raw\xff")
        exchange.states("a", {"total": 2, "running": 1})
        await exchange.send(rpc.binary(b"\x01\x02\x03\x04"))
        exchange.error("two")
        return True

    wire = Wire()
    await wire.answer(handler)
    first, raw, states, binary, second, result = wire.chunks
    assert text(first).endswith('\x1b[34mINFO\x1b[0m\tone\t{"req_id": "0123abcd", "group": "a"}\n')
    assert base64.b64decode(raw["p"]) == b"\x00raw\xff"
    assert states == {"t": 112, "p": "", "states": {"group": "a", "total": 2, "running": 1}}
    assert binary == {"t": 98, "p": "AQIDBA=="}  # C2
    assert "\x1b[31mERROR\x1b[0m\ttwo" in text(second)
    assert result == {"t": 114, "p": True}


async def test_lines_leave_while_the_handler_is_busy() -> None:
    seen = anyio.Event()

    async def handler(exchange: Exchange) -> str:
        exchange.info("busy")
        await seen.wait()
        return "done"

    wire = Wire()
    async with anyio.create_task_group() as group:
        group.start_soon(wire.answer, handler)
        with anyio.fail_after(DEADLINE):
            await wire.first_chunk.wait()
        assert not wire.ended
        seen.set()
    assert wire.chunks[-1] == {"t": 114, "p": "done"}


async def test_a_handler_that_sends_waits_for_a_client_that_does_not_read() -> None:
    sent = 0

    async def handler(exchange: Exchange) -> bool:
        nonlocal sent
        for _ in range(100):
            await exchange.send(rpc.binary(b"x"))
            sent += 1
        return True

    wire = Wire()
    wire.may_write = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(wire.answer, handler)
        await anyio.wait_all_tasks_blocked()
        assert sent == 0
        wire.may_write.set()
    assert sent == 100


async def test_an_unexpected_error_is_an_error_chunk_and_not_a_broken_answer(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()
    await wire.answer(raises(ZeroDivisionError("division by zero")))
    assert wire.chunks[-1]["e"] == {"m": "internal error: ZeroDivisionError: division by zero"}
    assert wire.status == 200
    assert wire.ended
    assert "Traceback" in caplog.text


async def test_an_error_that_is_not_utf8_is_still_sent() -> None:
    wire = Wire()
    await wire.answer(raises(RequestError("bad name \udcff")))
    assert wire.chunks[-1]["e"] == {"m": "bad name ?"}


async def test_refusal_is_a_bare_status() -> None:
    wire = Wire()
    await wire.answer(raises(Refusal(400)))
    assert wire.sent == [
        {"type": "http.response.start", "status": 400, "headers": [(b"content-length", b"0")]},
        {"type": "http.response.body", "body": b""},
    ]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "EOF"),
        (b"{bad", "Expecting property name"),
        (b"[]", "an object is needed"),
        (b'{"task_id":7}', "task_id: a string is needed"),
        (b'{"TASK_ID":true}', "task_id: a string is needed"),
        (b'{"task_id":"\\u0000"}', "NUL"),
        (b'{"task_id":"x","follow":"perhaps"}', "follow: true or false is needed"),
    ],
)
async def test_malformed_json(body: bytes, detail: str) -> None:
    async def handler(exchange: Exchange) -> str:
        return (await exchange.json(rpc.LogsRequest, "logs")).task_id

    wire = Wire(body)
    await wire.answer(handler)
    assert wire.chunks[-1]["e"]["m"].startswith("logs json decode; err: ")
    assert detail in wire.chunks[-1]["e"]["m"]
    assert wire.chunks[-1]["c"] == "request"


@pytest.mark.parametrize(
    "parts",
    [
        (b'{"task_id":"x","follow":true}',),
        (b'{"Task_ID":"x",', b'"FOLLOW":true', b"}\n"),
        (b'{"task_id":"x","follow":true,"cancel_with_context":null,"more":{}}trailing',),
        (b"", b'{"task_id":"x","follow":true}', b""),
    ],
)
async def test_json_in_any_case_and_in_any_cut(parts: tuple[bytes, ...]) -> None:
    async def handler(exchange: Exchange) -> dict[str, Any]:
        return (await exchange.json(rpc.LogsRequest, "logs")).wire()

    wire = Wire(*parts)
    await wire.answer(handler)
    assert wire.chunks == [{"t": 114, "p": {"task_id": "x", "follow": True, "cancel_with_context": False}}]


async def test_a_client_that_leaves_while_it_sends_its_body_gets_no_answer() -> None:
    wire = Wire(b'{"task_id":', whole=False)
    wire.disconnect()

    async def handler(exchange: Exchange) -> None:
        await exchange.json(rpc.TaskRequest, "status")

    await wire.answer(handler)
    assert wire.sent == []


async def until_gone(action: Callable[[Wire], Awaitable[None]]) -> tuple[Wire, list[str]]:
    events: list[str] = []

    async def handler(exchange: Exchange) -> None:
        await exchange.json(rpc.LogsRequest, "logs")
        exchange.on_disconnect(lambda: events.append("disconnected"))
        await exchange.begin()
        try:
            await anyio.sleep_forever()
        finally:
            events.append("cleaned up")

    wire = Wire(b"{}")
    shared = hub()
    async with anyio.create_task_group() as group:
        group.start_soon(wire.answer, handler, shared)
        await anyio.wait_all_tasks_blocked()
        assert wire.status == 200
        if action is shutdown:
            shared.close()
        else:
            await action(wire)
    return wire, events


async def leave(wire: Wire) -> None:
    wire.disconnect()


async def shutdown(wire: Wire) -> None:
    raise AssertionError("replaced by closing the hub")


async def test_a_client_that_leaves_ends_a_silent_exchange() -> None:
    wire, events = await until_gone(leave)
    assert events == ["disconnected", "cleaned up"]
    assert wire.chunks == []


async def test_shutdown_ends_a_silent_exchange_with_a_word() -> None:
    wire, events = await until_gone(shutdown)
    assert events == ["cleaned up"]
    assert wire.chunks[-1] == {"t": 101, "e": {"m": "the daemon is shutting down"}, "c": "canceled"}
    assert wire.ended


async def test_shutdown_ends_an_upload_with_a_word() -> None:
    shared = hub()
    wire = Wire(b"part", whole=False)

    async def handler(exchange: Exchange) -> int:
        return len([piece async for piece in exchange.body()])

    async with anyio.create_task_group() as group:
        group.start_soon(wire.answer, handler, shared)
        await anyio.wait_all_tasks_blocked()
        shared.close()
    assert wire.chunks[-1]["e"]["m"] == "the daemon is shutting down"


async def test_a_request_after_the_shutdown_is_told_so() -> None:
    shared = hub()
    shared.close()
    wire = Wire(b"{}")

    async def handler(exchange: Exchange) -> Any:
        return (await exchange.json(rpc.TaskRequest, "status")).wire()

    await wire.answer(handler, shared)
    assert len([chunk for chunk in wire.chunks if chunk["t"] in (101, 114)]) == 1


async def test_shutdown_does_not_wait_for_a_client_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanges, "FAREWELL_SECONDS", 0.05)
    shared = hub()
    wire = Wire(b"{}")
    wire.may_write = anyio.Event()

    async def handler(exchange: Exchange) -> bool:
        await exchange.send(rpc.binary(b"x"))
        return True

    async with anyio.create_task_group() as group:
        group.start_soon(wire.answer, handler, shared)
        await anyio.wait_all_tasks_blocked()
        shared.close()
    assert wire.sent == []


async def test_an_error_while_a_stream_is_under_way_comes_after_its_chunks() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        raise UnknownError("the file went away")

    async def handler(exchange: Exchange) -> bool:
        async for piece in pieces():
            await exchange.send(rpc.binary(piece))
        return True

    wire = Wire()
    await wire.answer(handler)
    assert [chunk["t"] for chunk in wire.chunks] == [98, 112, 101]
