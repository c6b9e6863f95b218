"""What arrives on the socket, frame by frame: handshakes, fragments, pings, closing, flooding (contract §3.1, §8.3)."""

from __future__ import annotations

import itertools
import json
import logging
import os
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute

from testground.sync import connection as connections
from testground.sync.server import SyncServer, open_server
from testground.sync.service import Member, Service
from tests.frames import BINARY, CLOSE, CONTINUATION, HANDSHAKE, PING, PONG, TEXT, Raw, connected, frame

TOPIC = "run:r:plan:p:case:c:topics:t"


@pytest.fixture
async def server() -> AsyncIterator[SyncServer]:
    with anyio.fail_after(30):
        async with open_server(Service(), "127.0.0.1", 0) as server:
            yield server


def raw(server: SyncServer, port: int = 0) -> AbstractAsyncContextManager[Raw]:
    return connected(port or server.port)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", ("Host: ...", *HANDSHAKE)),
        ("/any/path?query=1", ("host: testground-sync-service:5050", *HANDSHAKE)),
        ("/", ("Host: x", "Origin: http://elsewhere", *(line.lower() for line in HANDSHAKE[:3]), HANDSHAKE[3])),
        ("/", ("Host: x", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits", *HANDSHAKE)),
    ],
)
async def test_handshakes_of_all_sdks(server: SyncServer, path: str, headers: tuple[str, ...]) -> None:
    async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
        client = Raw(stream)
        answer = await client.shake(*headers, path=path)
        assert answer[0].startswith("HTTP/1.1 101")
        assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
        assert not any("extensions" in line.lower() for line in answer)
        assert (await client.ask("0", signal_entry={"state": "s"}))["signal_entry"] == {"seq": 1}


async def test_a_door_says_that_there_is_no_descriptor_left_for_it() -> None:
    service, member = Service(), Member("r", "g", 0)
    async with open_server(service, "127.0.0.1", 0) as server:
        service.begin_run("r", [member], lambda member, event: None)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with open(os.devnull) as first_free:
            free = first_free.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                await server.open_door(member)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_connections_that_ask_for_nothing_end_with_the_service() -> None:
    async with open_server(Service(), "127.0.0.1", 0) as server:
        stream = await anyio.connect_tcp("127.0.0.1", server.port)
        await stream.send(b"GET / HTTP/1.1\r\n")
        async with raw(server) as other:
            await other.ask("0", signal_entry={"state": "s"})
    async with stream:
        with anyio.fail_after(10):
            assert await Raw(stream).ended()


async def test_trouble_with_one_connection_is_not_the_others() -> None:
    def on_event(member: Member | None, event: dict[str, Any]) -> None:
        raise ZeroDivisionError

    async with open_server(Service(), "127.0.0.1", 0) as server:
        server.service.begin_run("r", [], on_event)
        async with raw(server) as client, raw(server) as other:
            await client.send(TEXT, b'{"publish":{"topic":"run:r:plan:p:case:c:run_events","payload":{}}}')
            assert (await client.reply())["publish"] == {"seq": 1}
            assert await client.receive() == (0x80 | CLOSE, (1011).to_bytes(2, "big") + b"internal error")
            assert (await other.ask("0", signal_entry={"state": "s"}))["signal_entry"] == {"seq": 1}


async def test_plain_http_is_told_to_upgrade(server: SyncServer) -> None:
    async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
        client = Raw(stream)
        answer = await client.shake("Host: x")
        assert answer[0].startswith("HTTP/1.1 426")
        assert b"sync service" in await client.buffer.receive()


async def test_binary_frames_are_answered_in_text_and_errors_quoted(server: SyncServer) -> None:
    async with raw(server) as client:
        await client.send(BINARY, b'{"id":"0","is_cancel":false,"signal_entry":{"state":"s"}}')
        assert (await client.reply())["signal_entry"] == {"seq": 1}
        await client.send(BINARY, json.dumps({"publish": {"topic": "t", "payload": "x" * 32600}}).encode())
        assert "too large" in json.loads((await client.reply())["error"])


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="acknowledgements cannot be hurried on this system")
async def test_a_frame_in_two_parts_waits_for_no_acknowledgement(server: SyncServer) -> None:
    """sdk-rust sends the head first; its system keeps the payload back until the head is acknowledged, 40 ms later."""
    request = frame(BINARY, b'{"id":"0","is_cancel":false,"signal_entry":{"state":"s"}}')
    took = []
    async with raw(server) as client:
        client.stream.extra(SocketAttribute.raw_socket).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        for _ in range(30):  # the system itself hurries with the first few
            begin = anyio.current_time()
            await client.stream.send(request[:6])
            await client.stream.send(request[6:])
            await client.reply()
            took.append(anyio.current_time() - begin)
    assert sorted(took)[len(took) // 2] < 0.02


async def test_fragments_are_put_together(server: SyncServer) -> None:
    async with raw(server) as client:
        for opcode in (TEXT, BINARY):
            await client.send(opcode, b'{"id":"0","signal', fin=False)
            await client.send(PING, b"between")
            await client.send(CONTINUATION, b"", fin=False)
            await client.send(CONTINUATION, b'_entry":{"state":"s"}}')
            assert await client.receive() == (0x80 | PONG, b"between")
            assert (await client.reply())["signal_entry"] == {"seq": opcode}


@pytest.mark.parametrize(
    "frames", [[(CONTINUATION, True)], [(TEXT, False), (TEXT, True)], [(TEXT, False), (BINARY, True)]]
)
async def test_fragments_out_of_order_end_the_connection(server: SyncServer, frames: list[tuple[int, bool]]) -> None:
    async with raw(server) as client:
        for opcode, fin in frames:
            await client.send(opcode, b"{}", fin=fin)
        first, payload = await client.receive()
        assert (first, payload[:2]) == (0x80 | CLOSE, (1002).to_bytes(2, "big"))


async def test_endless_fragments_are_cut_off(server: SyncServer) -> None:
    async with raw(server) as client:
        await client.send(TEXT, b" " * 20000, fin=False)
        await client.send(CONTINUATION, b" " * 20000, fin=False)
        first, payload = await client.receive()
        assert (first, payload) == (0x80 | CLOSE, (1009).to_bytes(2, "big") + b"read limited at 32769 bytes")


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe8bye", b"\x03\xe9", b"\x0f\xa0\xc3\xa9"])
async def test_a_close_is_echoed_at_once_after_the_replies(server: SyncServer, payload: bytes) -> None:
    async with raw(server) as client:
        request = b'{"id":"0","signal_entry":{"state":"s"}}'
        await client.stream.send(frame(TEXT, request) + frame(CLOSE, payload) + frame(TEXT, request))
        assert (await client.reply())["signal_entry"] == {"seq": 1}
        assert await client.receive() == (0x80 | CLOSE, payload)
        assert await client.ended()
    async with raw(server) as client:
        assert (await client.ask("0", signal_entry={"state": "s"}))["signal_entry"] == {"seq": 2}


@pytest.mark.parametrize(
    ("goodbye", "echo"),
    [
        pytest.param(frame(CLOSE, (1000).to_bytes(2, "big")), (0x80 | CLOSE, (1000).to_bytes(2, "big")), id="go-1000"),
        pytest.param(frame(CLOSE), (0x80 | CLOSE, b""), id="js-1005"),
        pytest.param(b"", None, id="rust-1006"),
    ],
)
async def test_goodbyes_of_all_sdks_after_their_outcome(goodbye: bytes, echo: tuple[int, bytes] | None) -> None:
    """All are ordinary endings: the outcome counts, the client hears its own code, and nothing of it waits on."""
    member, events = Member("r", "single", 0), []
    async with open_server(Service(), "127.0.0.1", 0) as server:
        service = server.service
        service.begin_run("r", [member], lambda who, event: events.append((who, event)))
        async with raw(server, await server.open_door(member)) as client:
            await client.ask("0", signal_entry={"state": "run:r:plan:p:case:c:states:s"})
            await client.send(TEXT, b'{"id":"1","barrier":{"state":"run:r:plan:p:case:c:states:s","target":2}}')
            outcome = {"topic": "run:r:plan:p:case:c:run_events", "payload": {"success_event": {"group": "single"}}}
            published = frame(TEXT, json.dumps({"id": "2", "publish": outcome}).encode())
            await client.stream.send(published + goodbye)
            if echo is None:
                await client.stream.send_eof()
            with anyio.fail_after(10):
                assert (await client.reply())["publish"] == {"seq": 1}
                if echo is not None:
                    assert await client.receive() == echo
                assert await client.ended()
        assert events == [(member, {"success_event": {"group": "single"}})]
        assert service.waiting("r") == []


async def test_after_a_close_from_our_side_the_client_may_answer(server: SyncServer) -> None:
    async with raw(server) as client:
        await client.send(TEXT, b"nonsense")
        first, payload = await client.receive()
        assert first == 0x80 | CLOSE
        await client.send(TEXT, b'{"id":"0","signal_entry":{"state":"s"}}')
        await client.send(CLOSE, payload[:2])
        assert await client.ended()
    async with raw(server) as client:
        assert (await client.ask("0", signal_entry={"state": "s"}))["signal_entry"] == {"seq": 1}


async def test_a_client_that_never_answers_a_close_is_dropped(
    server: SyncServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CLOSE_DEADLINE", 0.05)
    async with raw(server) as client:
        await client.send(TEXT, b"nonsense")
        await client.receive()
        assert await client.ended()


async def test_a_dropped_connection_waits_for_nothing(server: SyncServer) -> None:
    service = server.service
    async with raw(server) as client:
        await client.send(TEXT, b'{"id":"0","barrier":{"state":"run:r:plan:p:case:c:states:s","target":2}}')
        await client.ask("1", signal_entry={"state": "other"})
        assert len(service.waiting("r")) == 1
        client.stream.extra(SocketAttribute.raw_socket).setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
        )
    async with raw(server) as other:
        while service.waiting("r"):
            await other.ask("1", signal_entry={"state": "other"})


async def test_a_connection_that_the_service_closes_waits_for_nothing(server: SyncServer) -> None:
    """At once, not when the client has answered."""
    async with raw(server) as client, raw(server) as other:
        for body in (
            '"barrier":{"state":"run:r:plan:p:case:c:states:s","target":2}',
            f'"subscribe":{{"topic":"{TOPIC}"}}',
        ):
            await client.send(TEXT, f'{{"id":"0",{body}}}'.encode())
        await client.ask("1", signal_entry={"state": "other"})
        assert len(server.service.waiting("r")) == 2
        await client.send(TEXT, b"nonsense")
        assert await client.closed() == 1007
        assert server.service.waiting("r") == []
        await other.ask("0", publish={"topic": TOPIC, "payload": 1})
        await client.send(CLOSE, (1007).to_bytes(2, "big"))
        assert await client.ended()


async def test_pipelined_requests_are_carried_out_in_order(server: SyncServer) -> None:
    async with raw(server) as client:
        requests = [
            frame(TEXT, b'{"id":"%d","publish":{"topic":"t","payload":%d}}' % (number, number))
            for number in range(5000)
        ]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.stream.send, b"".join(requests))
            for number in range(5000):
                reply = await client.reply()
                assert (reply["id"], reply["publish"]) == (str(number), {"seq": number + 1})


async def test_what_was_sent_before_a_drop_is_carried_out(server: SyncServer) -> None:
    """sdk-rust publishes its outcome and hangs up (contract §3.1)."""
    async with raw(server) as client:
        request = frame(TEXT, b'{"id":"0","signal_entry":{"state":"s"}}')
        await client.stream.send(request * 1000)
        await client.stream.send_eof()
        while not await client.ended():
            pass
    async with raw(server) as other:
        barrier = {"state": "s", "target": 1000}
        assert (await other.ask("0", barrier=barrier))["error"] == ""


async def test_a_client_that_floods_does_not_starve_the_others(server: SyncServer) -> None:
    """Between two replies to one client, little is done for another that has sent thousands of requests."""
    request = frame(TEXT, b'{"id":"0","signal_entry":{"state":"flood"}}')
    async with raw(server) as flooding, raw(server) as other, anyio.create_task_group() as tasks:
        tasks.start_soon(flooding.stream.send, request * 50000)
        tasks.start_soon(_discard, flooding)
        while (await other.ask("0", signal_entry={"state": "flood"}))["signal_entry"]["seq"] < 1000:
            pass
        seqs = [(await other.ask("0", signal_entry={"state": "flood"}))["signal_entry"]["seq"] for _ in range(20)]
        steps = [later - earlier for earlier, later in itertools.pairwise(seqs)]
        assert max(steps) < 20 * connections.TURN
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("flood", [b'{"id":"0","signal_entry":{"state":"s"}}', b"ping"])
async def test_a_client_that_never_reads_its_replies_is_dropped(
    server: SyncServer, flood: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "MAX_BACKLOG", 1 << 20)
    opcode = PING if flood == b"ping" else TEXT
    async with raw(server) as client, raw(server) as other:
        requests = frame(opcode, flood * (1 if opcode is TEXT else 30)) * 1000
        with caplog.at_level(logging.WARNING, "testground.sync"), pytest.raises(anyio.BrokenResourceError):
            while True:
                await client.stream.send(requests)
        assert any("it does not read" in message for message in caplog.messages)
        assert (await other.ask("0", signal_entry={"state": "other"}))["signal_entry"] == {"seq": 1}


async def test_a_subscriber_that_does_not_read_stalls_nobody_and_misses_nothing(
    server: SyncServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has not read waits in the topic; its own queue stays below the bound at which it would be dropped."""
    monkeypatch.setattr(connections, "MAX_BACKLOG", 1 << 20)
    member, count = Member("r", "single", 7), 1000
    server.service.begin_run("r", [member], lambda *_: None)
    port = await server.open_door(member)
    async with raw(server, port) as stuck, raw(server) as reading, raw(server) as publishing:
        for client in (stuck, reading):
            await client.send(TEXT, json.dumps({"id": "s", "subscribe": {"topic": TOPIC}}).encode())
        for number in range(1, count + 1):
            reply = await publishing.ask("p", publish={"topic": TOPIC, "payload": [number, "x" * 30000]})
            assert reply["publish"] == {"seq": number}
            assert json.loads((await reading.reply())["subscribe"])[0] == number
        [delivered] = [wait.current for wait in server.service.waiting("r") if wait.member == member]
        assert 0 < delivered < count
        for number in range(1, count + 1):
            assert json.loads((await stuck.reply())["subscribe"])[0] == number
        await publishing.ask("p", publish={"topic": TOPIC, "payload": "live again"})
        assert json.loads((await stuck.reply())["subscribe"]) == "live again"


async def test_a_slow_reader_of_a_long_log_gets_all_of_it(server: SyncServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log longer than the bound of the queue waits in the topic, not in the queue."""
    monkeypatch.setattr(connections, "MAX_BACKLOG", 1 << 20)
    async with raw(server) as publishing, raw(server) as reading:
        for number in range(1, 1001):
            await publishing.ask("p", publish={"topic": "t", "payload": [number, "x" * 10000]})
        await reading.send(TEXT, b'{"id":"s","subscribe":{"topic":"t"}}')
        for _ in range(200):
            await publishing.ask("p", signal_entry={"state": "s"})
        for number in range(1, 1001):
            assert json.loads((await reading.reply())["subscribe"])[0] == number


async def _discard(client: Raw) -> None:
    while True:
        await client.stream.receive()
