"""The service as Redis, on sockets: doors of instances, and what becomes of connections when their run ends."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import SocketStream

from testground.sync import redis_server, resp
from testground.sync.server import SyncServer, open_server
from testground.sync.service import Member, Service

MEMBER = Member("r", "g", 0)
STATE, TOPIC = "run:r:plan:p:case:c:states:s", "run:r:plan:p:case:c:topics:t"


@pytest.fixture
async def server() -> AsyncIterator[SyncServer]:
    with anyio.fail_after(30):
        async with open_server(Service(), "127.0.0.1", 0) as server:
            yield server


async def connect(server: SyncServer) -> SocketStream:
    server.service.begin_run(MEMBER.run_id, [MEMBER], lambda member, event: None)
    return await anyio.connect_tcp("127.0.0.1", await server.open_redis_door(MEMBER))


def command(*words: str) -> bytes:
    return resp.array(resp.bulk(word.encode()) for word in words)


async def test_a_connection_ends_with_its_run_and_nothing_of_it_is_left(server: SyncServer) -> None:
    async with await connect(server) as client:
        await client.send(command("INCR", STATE))
        assert await client.receive() == b":1\r\n"
        await client.send(command("XREAD", "BLOCK", "0", "STREAMS", TOPIC, "0") + command("INCR", STATE))
        while not server.service.waiting(MEMBER.run_id):
            await anyio.lowlevel.checkpoint()
        server.close_doors(MEMBER.run_id)
        server.service.end_run(MEMBER.run_id)
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await client.receive()
    async with await connect(server) as client:
        await client.send(command("GET", STATE))
        assert await client.receive() == resp.NIL


async def test_bytes_that_are_no_command_end_the_connection_with_a_reason(server: SyncServer) -> None:
    async with await connect(server) as client:
        await client.send(command("PING") + b"GET / HTTP/1.1\r\n\r\n")
        answer = b""
        with pytest.raises(anyio.EndOfStream):
            while True:
                answer += await client.receive()
    assert answer == b"+PONG\r\n-ERR Protocol error: expected '*', got b'G'\r\n"


async def test_who_asks_on_and_on_and_never_reads_is_dropped(
    server: SyncServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_server, "MAX_BACKLOG", 1 << 20)
    async with await connect(server) as client:
        await client.send(command("XADD", TOPIC, "*", "p", '"' + "x" * 30_000 + '"'))
        with pytest.raises(anyio.BrokenResourceError):
            while True:
                await client.send(command("XREAD", "STREAMS", TOPIC, "0") * 100)
