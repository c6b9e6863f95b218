"""What a sync service of its own process survives: after each of these, others are served as before (contract §3.1)."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import anyio
import pytest

from testground.sync import server as servers
from testground.sync.server import open_server
from testground.sync.service import Service
from tests.frames import BINARY, CLOSE, CONTINUATION, HANDSHAKE, PING, PONG, TEXT, Raw, connected, frame
from tests.integration.conftest import SyncProcess

SIGNAL = b'{"id":"0","signal_entry":{"state":"s"}}'
TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256))
names = (f"bad-input-{number}" for number in itertools.count())


@pytest.fixture
async def port(sync_process: SyncProcess) -> AsyncIterator[int]:
    """Others are connected before and after, and are answered; all within a deadline."""
    with anyio.fail_after(50):
        async with connected(sync_process.port) as before:
            state = next(names)
            assert await before.ask("0", signal_entry={"state": state}) == signalled(1)
            yield sync_process.port
            assert await before.ask("0", signal_entry={"state": state}) == signalled(2)
        async with connected(sync_process.port) as after:
            assert await after.ask("0", signal_entry={"state": state}) == signalled(3)


def signalled(seq: int, request_id: str = "0") -> dict[str, object]:
    return {"id": request_id, "error": "", "publish": None, "subscribe": "", "signal_entry": {"seq": seq}}


# -- handshakes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hosts",
    [
        pytest.param(["Host: ..."], id="dots, of sdk-rust"),
        pytest.param(["Host: "], id="empty"),
        pytest.param([], id="missing"),
        pytest.param(["Host: a b  c"], id="with spaces"),
        pytest.param(["Host: \xff\xfe"], id="not ASCII"),
        pytest.param(["Host: a", "Host: b"], id="two"),
        pytest.param(["Host: " + "x" * 4000], id="long"),
    ],
)
async def test_odd_hosts_are_let_in(port: int, hosts: list[str]) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        client, state = Raw(stream), next(names)
        assert (await client.shake(*hosts, *HANDSHAKE))[0].startswith("HTTP/1.1 101 ")
        assert await client.ask("0", signal_entry={"state": state}) == signalled(1)


def request(line: str, *headers: str) -> bytes:
    return "\r\n".join([line, *headers, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(request("GET / HTTP/1.1", "Host: x", *HANDSHAKE[:3]), id="no key"),
        pytest.param(request("GET / HTTP/1.1", *HANDSHAKE[:3], "Sec-WebSocket-Key: zzz"), id="a key that is none"),
        pytest.param(request("GET / HTTP/1.1", HANDSHAKE[0], *HANDSHAKE[2:]), id="no Connection header"),
        pytest.param(request("POST / HTTP/1.1", "Host: x", *HANDSHAKE), id="POST"),
        pytest.param(request("GET / HTTP/1.0", "Host: x", *HANDSHAKE), id="HTTP/1.0"),
        pytest.param(request("PRI * HTTP/2.0"), id="HTTP/2"),
        pytest.param(request("GET /"), id="half a request line"),
        pytest.param(request(""), id="nothing"),
        pytest.param(request("GET / HTTP/1.1", "no colon", *HANDSHAKE), id="a header without a colon"),
        pytest.param(TLS_HELLO + b"\r\n\r\n", id="TLS"),
    ],
)
async def test_what_is_no_handshake_is_refused_with_a_status(port: int, data: bytes) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(data)
        client = Raw(stream)
        assert (await client.buffer.receive_until(b"\r\n", 4096)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("size", [100_000, 5_000_000])
async def test_a_handshake_without_end_is_cut_off(port: int, size: int) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        answer = b""
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * size)
            answer = await stream.receive()
        assert not answer.startswith(b"HTTP/1.1 101")


async def test_half_open_handshakes_keep_nobody_out(port: int) -> None:
    whole = request("GET / HTTP/1.1", "Host: x", *HANDSHAKE)
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port)) for _ in range(200)]
        for stream, size in zip(streams, itertools.cycle(range(len(whole) - 1)), strict=False):
            if size:
                await stream.send(whole[:size])
        async with connected(port) as client:
            assert await client.ask("0", signal_entry={"state": next(names)}) == signalled(1)
        await streams[-1].send(whole[199 % (len(whole) - 1) :])
        late = Raw(streams[-1])
        assert b"101" in await late.buffer.receive_until(b"\r\n\r\n", 4096)
        assert await late.ask("0", signal_entry={"state": next(names)}) == signalled(1)


async def test_a_half_open_handshake_is_dropped_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "HANDSHAKE_DEADLINE", 0.05)
    async with open_server(Service(), "127.0.0.1", 0) as server, connected(server.port) as other:
        async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
            await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
            with anyio.fail_after(20):
                assert await Raw(stream).ended()
        assert await other.ask("0", signal_entry={"state": "s"}) == signalled(1)


# -- frames -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "data"),
    [
        pytest.param(1002, frame(TEXT, SIGNAL, masked=False), id="unmasked"),
        pytest.param(1002, frame(PING, masked=False), id="unmasked ping"),
        *[pytest.param(1002, frame(TEXT, SIGNAL, reserved=bit), id=f"reserved bit {bit}") for bit in (4, 2, 1)],
        *[pytest.param(1002, frame(opcode, b"x"), id=f"opcode {opcode}") for opcode in (3, 7, 11, 15)],
        pytest.param(1002, frame(PING, b"x", fin=False), id="ping in fragments"),
        pytest.param(1002, frame(PING, b"x" * 126), id="ping of 126 bytes"),
        pytest.param(1002, frame(CLOSE, b"\x03\xe8", fin=False), id="close in fragments"),
        pytest.param(1002, frame(CLOSE, b"\x03\xe8" + b"x" * 124), id="close of 126 bytes"),
        pytest.param(1002, frame(CLOSE, b"x"), id="close with half a code"),
        pytest.param(1002, frame(CLOSE, (1005).to_bytes(2, "big")), id="close with a code that means none"),
        pytest.param(1007, frame(CLOSE, b"\x03\xe8\xff"), id="close with a reason that is not UTF-8"),
        pytest.param(1002, b"\x81\xfe\x00\x05" + bytes(4) + b"hello", id="length of 5 in 16 bits"),
        pytest.param(1002, b"\x81\xff" + b"\xff" * 8 + bytes(4), id="negative length"),
        pytest.param(1009, b"\x81\xff" + (1 << 40).to_bytes(8, "big") + bytes(4), id="a terabyte announced"),
        pytest.param(1009, frame(TEXT, b" " * 32769), id="32769 bytes"),
        pytest.param(1009, frame(BINARY, b" " * (1 << 20)), id="a mebibyte"),
        pytest.param(1009, frame(TEXT, b" " * (2 << 20)), id="two mebibytes"),
        pytest.param(
            1009,
            frame(TEXT, b" " * 20000, fin=False) + frame(CONTINUATION, b" " * 12769),
            id="32769 bytes in fragments",
        ),
        pytest.param(
            1009, frame(TEXT, b"", fin=False) + frame(CONTINUATION, b" " * 9000, fin=False) * 4, id="endless fragments"
        ),
        pytest.param(1002, frame(CONTINUATION, SIGNAL), id="continuation of nothing"),
        pytest.param(1002, frame(TEXT, b"{", fin=False) + frame(TEXT, SIGNAL), id="a message within another"),
        pytest.param(1002, frame(BINARY, b"{", fin=False) + frame(TEXT, SIGNAL), id="text within binary"),
        pytest.param(1007, frame(TEXT, b'{"id":"\xff","signal_entry":{"state":"s"}}'), id="id that is not UTF-8"),
        pytest.param(1007, frame(TEXT, b'{"signal_entry":{"state":"\xc3"}}'), id="state that is not UTF-8"),
        pytest.param(1007, frame(BINARY, b'{"signal_entry":{"state":"\xff"}}'), id="binary that is not UTF-8"),
        pytest.param(1007, frame(TEXT, b'{"publish":{"topic":"t","payload":"\xff"}}'), id="payload that is not UTF-8"),
        pytest.param(
            1007,
            frame(TEXT, b'{"publish":{"topic":"t","payload":"\xc3', fin=False) + frame(CONTINUATION, b'"}}'),
            id="half a character in a fragment",
        ),
        pytest.param(1007, frame(TEXT), id="an empty text"),
        pytest.param(1007, frame(BINARY), id="an empty binary"),
        pytest.param(1007, frame(TEXT, b"[" * 32768), id="deep"),
        pytest.param(1007, frame(TEXT, b'{"barrier":{"state":"s","target":1e3}}'), id="a target in tens"),
        pytest.param(
            1007, frame(TEXT, b'{"barrier":{"state":"s","target":9223372036854775808}}'), id="a target too far"
        ),
        pytest.param(1008, frame(TEXT, b'{"id":"' + b"i" * 65 + b'"}'), id="a long id"),
    ],
)
async def test_bad_frames_end_their_connection_with_a_code(port: int, code: int, data: bytes) -> None:
    async with connected(port) as client:
        await client.stream.send(data)
        assert await client.closed() == code


async def test_pings_are_answered_in_order_also_within_a_message(port: int) -> None:
    state = next(names)
    message = json.dumps({"id": "0", "signal_entry": {"state": state}}).encode()
    async with connected(port) as client:
        await client.send(TEXT, message[:9], fin=False)
        for payload in (b"", b"a", b"x" * 125):
            await client.send(PING, payload)
            assert await client.receive() == (0x80 | PONG, payload)
        await client.send(PONG, b"nobody asked")
        await client.send(CONTINUATION, message[9:])
        assert await client.reply() == signalled(1)
        await client.stream.send(b"".join(frame(PING, b"%d" % number) for number in range(1000)))
        assert [await client.receive() for _ in range(1000)] == [(0x80 | PONG, b"%d" % n) for n in range(1000)]


async def test_a_character_may_be_cut_by_fragments(port: int) -> None:
    message = '{"id":"é","signal_entry":{"state":"%s"}}'.replace("%s", next(names)).encode()
    cut = message.index(b"\xc3") + 1
    async with connected(port) as client:
        await client.send(TEXT, message[:cut], fin=False)
        await client.send(CONTINUATION, message[cut:])
        assert await client.reply() == signalled(1, "é")


# -- 32 KiB, the most that a Go client can read -----------------------------------------------------------------


def text(character: str, count: int) -> str:
    return json.dumps(character * count)


@pytest.mark.parametrize(
    ("character", "copies"),
    [("x", 1), ('"', 4), ("\\", 4), ("\x01", 7), ("\u00e9", 7)],
    ids=["x", "quote", "\\", "1", "é"],
)
async def test_the_largest_message_is_delivered_within_32_kib_and_the_next_one_refused(
    port: int, character: str, copies: int
) -> None:
    """Each character is escaped twice on its way, and the subscription has the longest id there can be."""
    topic, request_id = next(names), "\x00" * 64
    frame_of_nothing = len(json.dumps({"id": request_id, "error": "", "publish": None}, separators=(",", ":"))) - 1
    frame_of_nothing += len(r',"subscribe":"\"\"","signal_entry":null}')
    most = (32768 - frame_of_nothing) // copies
    async with connected(port) as publisher, connected(port) as subscriber:
        await subscriber.send(TEXT, json.dumps({"id": request_id, "subscribe": {"topic": topic}}).encode())
        for count, seq in ((most, 1), (most + 1, None), (most - 1, 2)):
            publish = f'{{"id":"p","publish":{{"topic":"{topic}","payload":{text(character, count)}}}}}'
            await publisher.send(TEXT, publish.encode())
            reply = await publisher.reply()
            assert reply["publish"] == (seq and {"seq": seq})
            assert bool(reply["error"]) == (seq is None)
            assert "a subscriber would get" in (reply["error"] or "a subscriber would get")
        for count in (most, most - 1):
            received = await subscriber.text()
            assert len(received.encode()) == frame_of_nothing + count * copies <= 32768
            assert json.loads(json.loads(received)["subscribe"]) == character * count


# -- clients that do not play their part ------------------------------------------------------------------------


async def test_a_client_that_never_reads_costs_bounded_memory(port: int, sync_process: SyncProcess) -> None:
    """It is dropped when the bound is reached, however much it sends."""
    state = next(names)
    requests = frame(TEXT, json.dumps({"id": "x" * 64, "signal_entry": {"state": state}}).encode()) * 500
    before = sync_process.resident_kib
    async with connected(port) as stuck, connected(port) as other:
        with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
            while True:
                await stuck.stream.send(requests)
        assert await other.ask("0", signal_entry={"state": next(names)}) == signalled(1)
    assert sync_process.resident_kib - before < 128 << 10


async def test_connections_that_come_and_go_leave_nothing(port: int) -> None:
    for ending in range(300):
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            client = Raw(stream)
            if ending % 3:
                await client.shake(*HANDSHAKE)
            if ending % 3 == 2:
                await client.send(TEXT, b'{"id":"b","barrier":{"state":"never","target":9}}')
