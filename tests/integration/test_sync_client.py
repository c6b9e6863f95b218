"""Instances against a real service: the client's calls, doors, dead peers, and the loss of the connection."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from websockets.asyncio.server import ServerConnection, serve

from testground.errors import PeerLostError, SyncError, SyncLostError
from testground.sync.client import SyncConnection
from testground.sync.server import SyncServer, open_server, serve_alone
from testground.sync.service import Member, Service

STATE = "run:r:plan:p:case:c:states:"
TOPIC = "run:r:plan:p:case:c:topics:"


@pytest.fixture
async def server() -> AsyncIterator[SyncServer]:
    with anyio.fail_after(30):
        async with open_server(Service(), "127.0.0.1", 0) as server:
            yield server


@asynccontextmanager
async def pair(server: SyncServer) -> AsyncIterator[tuple[SyncConnection, SyncConnection]]:
    async with (
        SyncConnection.open("127.0.0.1", server.port) as one,
        SyncConnection.open("localhost", server.port) as two,
    ):
        yield one, two


async def test_signals_and_barriers(server: SyncServer) -> None:
    async with pair(server) as (one, two):
        assert (one.lost, two.lost) == (None, None)
    async with pair(server) as (one, two), anyio.create_task_group() as tasks:
        assert await one.signal("s") == 1
        tasks.start_soon(one.barrier, "s", 2)
        assert await two.signal("s") == 2
    async with pair(server) as (one, _):
        await one.barrier("s", 2)


async def test_barriers_without_a_target_ask_nobody(server: SyncServer) -> None:
    async with SyncConnection.open("127.0.0.1", server.port) as connection:
        await server.stop()
        await connection.wait_lost()
        with pytest.raises(SyncLostError):
            await connection.barrier("s", 0)
    async with open_server(Service(), "127.0.0.1", 0) as other, pair(other) as (connection, _):
        await connection.barrier("s", 0)
        await connection.barrier("s", -1)


async def test_topics_carry_the_text_verbatim(server: SyncServer) -> None:
    async with pair(server) as (one, two):
        subscription = two.subscribe("t")
        for seq, payload in enumerate([b'{"b": 1, "a": 2}', b'"\xc3\xa9"', b"9007199254740993", b"null"], start=1):
            assert await one.publish("t", payload) == seq
            assert await anext(subscription) == payload.decode()


async def test_many_calls_at_once_find_their_replies(server: SyncServer) -> None:
    async with pair(server) as (one, two):
        seqs: list[int] = []

        async def publish(connection: SyncConnection, number: int) -> None:
            seqs.append(await connection.publish("t", str(number).encode()))

        async with anyio.create_task_group() as tasks:
            for number in range(500):
                tasks.start_soon(publish, one, number)
                tasks.start_soon(publish, two, number)
        assert sorted(seqs) == list(range(1, 1001))
        orders = [
            [await anext(subscription) for _ in range(1000)]
            for subscription in (one.subscribe("t"), two.subscribe("t"))
        ]
        assert orders[0] == orders[1]
        assert sorted(map(int, orders[0])) == sorted([*range(500), *range(500)])


async def test_an_unread_subscription_holds_up_nothing(server: SyncServer) -> None:
    async with pair(server) as (one, two):
        unread = one.subscribe("t")
        for number in range(2000):
            await two.publish("t", json.dumps("x" * 10000).encode())
            assert await one.signal("s") == number + 1
        unread.cancel()


async def test_a_cancelled_subscription_ends(server: SyncServer) -> None:
    async with pair(server) as (one, two):
        subscription = one.subscribe(TOPIC + "t")
        await two.publish(TOPIC + "t", b"1")
        assert await anext(subscription) == "1"
        subscription.cancel()
        subscription.cancel()
        assert [payload async for payload in subscription] == []
        await one.signal("s")
        assert server.service.waiting("r") == []


async def test_a_cancelled_barrier_is_forgotten_by_the_service(server: SyncServer) -> None:
    async with pair(server) as (one, _):
        with anyio.move_on_after(0.05) as scope:
            await one.barrier(STATE + "s", 2)
        assert scope.cancelled_caught
        await one.signal("other")
        assert server.service.waiting("r") == []


async def test_messages_that_are_too_large_are_refused_and_the_connection_stays(server: SyncServer) -> None:
    async with pair(server) as (one, _):
        with pytest.raises(SyncError, match="32768 at most"):
            await one.publish("t", json.dumps("x" * 40000).encode())
        with pytest.raises(SyncError, match="message too large"):
            await one.publish("t", json.dumps("x" * 32600).encode())
        assert await one.publish("t", b"1") == 1


async def test_connections_through_a_door_are_their_members(server: SyncServer) -> None:
    events: list[tuple[Member | None, dict[str, Any]]] = []
    members = [Member("r", "single", index) for index in range(2)]
    server.service.begin_run("r", members, lambda member, event: events.append((member, event)))
    port = await server.open_door(members[1])
    async with SyncConnection.open("127.0.0.1", port) as known, pair(server) as (unknown, _):
        await known.publish("run:r:plan:p:case:c:run_events", b'{"success_event":{}}')
        await unknown.publish("run:r:plan:p:case:c:run_events", b'{"failure_event":{}}')
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(known.barrier, STATE + "ready", 2)
            await known.signal("other")
            assert [(wait.member, wait.name, wait.target, wait.current) for wait in server.service.waiting("r")] == [
                (members[1], "ready", 2, 0)
            ]
            tasks.cancel_scope.cancel()
    assert events == [(members[1], {"success_event": {}}), (None, {"failure_event": {}})]


async def test_the_death_of_a_peer_is_told(server: SyncServer) -> None:
    members = [Member("r", "single", index) for index in range(2)]
    server.service.begin_run("r", members, lambda *_: None)
    ports = [await server.open_door(member) for member in members]
    async with SyncConnection.open("127.0.0.1", ports[0]) as living:
        await living.signal(STATE + "ready")
        await living.publish(TOPIC + "peers", b"1")
        subscription = living.subscribe(TOPIC + "peers")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_expect_peer_lost, lambda: living.barrier(STATE + "ready", 2), "it needs 2, has 1")
            assert await anext(subscription) == "1"
            server.service.member_ended(members[1], "exit code 1")
            await _expect_peer_lost(
                lambda: anext(subscription), r"single\[001\] died \(exit code 1\) before publishing"
            )
        await _expect_peer_lost(lambda: living.barrier(STATE + "ready", 2), r"single\[001\] died \(exit code 1\)")
        assert await living.signal(STATE + "ready") == 2
        await _expect_peer_lost(lambda: anext(subscription), "peers")


async def test_closing_the_doors_of_a_run_ends_its_connections_alone(server: SyncServer) -> None:
    members = [Member("r", "single", 0), Member("other", "single", 0)]
    ports = []
    for member in members:
        server.service.begin_run(member.run_id, [member], lambda *_: None)
        ports.append(await server.open_door(member))
    async with (
        SyncConnection.open("127.0.0.1", ports[0]) as closed,
        SyncConnection.open("127.0.0.1", ports[1]) as open_,
    ):
        server.close_doors("r")
        assert await closed.wait_lost() == "the service closed it with code 1001: run r has ended"
        assert await open_.signal("s") == 1
    with pytest.raises(SyncLostError, match="Connection refused"):
        async with SyncConnection.open("127.0.0.1", ports[0], timeout=0.1):
            pass
    server.close_doors("unknown")


async def test_every_door_has_a_port_of_its_own(server: SyncServer) -> None:
    members = [Member("r", "single", index) for index in range(200)]
    server.service.begin_run("r", members, lambda *_: None)
    ports = {await server.open_door(member) for member in members}
    assert len(ports) == len(members)
    server.close_doors("r")


async def test_the_loss_of_the_service_ends_everything_that_waits(server: SyncServer) -> None:
    async with SyncConnection.open("127.0.0.1", server.port) as connection:
        await connection.publish("t", b"1")
        subscription = connection.subscribe("t")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_expect_lost, lambda: connection.barrier("s", 1))
            await connection.signal("other")
            await server.stop()
        assert (
            await connection.wait_lost()
            == connection.lost
            == ("the service closed it with code 1001: the sync service is going away")
        )
        assert await anext(subscription) == "1"
        await _expect_lost(lambda: anext(subscription))
        for call in (
            lambda: connection.publish("t", b"1"),
            lambda: connection.signal("s"),
            lambda: connection.barrier("s", 1),
        ):
            await _expect_lost(call)
        with pytest.raises(SyncLostError, match=f"127.0.0.1:{server.port}"):
            connection.subscribe("t")


@pytest.mark.parametrize("ending", ["abort", "garbage", "close"])
async def test_any_loss_has_its_reason(ending: str) -> None:
    async def answer(peer: ServerConnection) -> None:
        await peer.recv()
        if ending == "abort":
            peer.transport.abort()
        elif ending == "garbage":
            await peer.send("no response")
            await peer.wait_closed()
        else:
            await peer.close(1009, "read limited at 32769 bytes")

    async with serve(answer, "127.0.0.1", 0) as service:
        port = next(iter(service.sockets)).getsockname()[1]
        async with SyncConnection.open("127.0.0.1", port) as connection:
            with anyio.fail_after(10), pytest.raises(SyncLostError) as caught:
                await connection.barrier("s", 1)
            reason = {"abort": "", "garbage": "not a response of a sync service", "close": "1009: read limited"}[ending]
            assert reason in str(caught.value)
            assert await connection.wait_lost()


async def test_closing_is_a_loss_of_our_own(server: SyncServer) -> None:
    async with SyncConnection.open("127.0.0.1", server.port) as connection:
        subscription = connection.subscribe("t")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_expect_lost, lambda: connection.barrier("s", 1))
            await connection.signal("other")
            await connection.close()
        await _expect_lost(lambda: anext(subscription))
        await connection.close()
    assert connection.lost == "it was closed"


async def test_errors_of_the_caller_pass_as_they_are(server: SyncServer) -> None:
    with pytest.raises(ZeroDivisionError):
        async with SyncConnection.open("127.0.0.1", server.port):
            raise ZeroDivisionError


async def test_leaving_while_cancelled_drops_the_connection(server: SyncServer) -> None:
    with anyio.move_on_after(0.05):
        async with SyncConnection.open("127.0.0.1", server.port) as connection:
            await connection.barrier("s", 1)
    assert await connection.wait_lost()


async def test_connecting_waits_for_the_service(unused_tcp_port: int) -> None:
    seqs: list[int] = []

    async def signal() -> None:
        async with SyncConnection.open("127.0.0.1", unused_tcp_port) as connection:
            seqs.append(await connection.signal("s"))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as services:
            async with anyio.create_task_group() as clients:
                clients.start_soon(signal)
                await anyio.wait_all_tasks_blocked()
                services.start_soon(serve_alone, f"127.0.0.1:{unused_tcp_port}")
            services.cancel_scope.cancel()
    assert seqs == [1]


async def test_replies_in_fragments_are_put_together() -> None:
    async def answer(peer: ServerConnection) -> None:
        await peer.recv()
        await peer.send(['{"id":"0","error":"","publish":null,', '"subscribe":"","signal', '_entry":{"seq":7}}'])
        await peer.wait_closed()

    async with serve(answer, "127.0.0.1", 0) as service:
        port = next(iter(service.sockets)).getsockname()[1]
        async with SyncConnection.open("127.0.0.1", port) as connection:
            assert await connection.signal("s") == 7


async def test_nobody_there_names_the_address(unused_tcp_port: int) -> None:
    with pytest.raises(SyncLostError, match=f"cannot reach the sync service at 127.0.0.1:{unused_tcp_port}: Conn"):
        async with SyncConnection.open("127.0.0.1", unused_tcp_port, timeout=0.1):
            pass


async def test_somebody_else_there_is_told_at_once() -> None:
    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        with anyio.fail_after(10), pytest.raises(SyncLostError, match=f"127.0.0.1:{port} is no sync service"):
            async with SyncConnection.open("127.0.0.1", port):
                pass
        tasks.cancel_scope.cancel()


async def test_a_service_alone_says_where_it_listens(unused_tcp_port: int) -> None:
    addresses: list[str] = []
    ready = anyio.Event()

    def on_ready(address: str) -> None:
        addresses.append(address)
        ready.set()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve_alone, f"localhost:{unused_tcp_port}", on_ready)
            await ready.wait()
            assert addresses == [f"localhost:{unused_tcp_port}"]
            for host in ("127.0.0.1", "localhost"):
                async with SyncConnection.open(host, unused_tcp_port) as connection:
                    await connection.signal("s")
            with pytest.raises(SyncError, match="cannot listen at .* in use"):
                await serve_alone(f"127.0.0.1:{unused_tcp_port}")
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize("listen", ["", "5050", "localhost:", "localhost:http", "localhost:70000", ":5050"])
async def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(SyncError, match="HOST:PORT is needed"):
        await serve_alone(listen)


def test_the_client_is_light() -> None:
    heavy = ["pydantic", "anyio", "picows", "fastapi", "httpx"]
    code = f"import sys, testground.sync.client; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.fixture
def unused_tcp_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _expect_lost(call: Callable[[], Awaitable[Any]]) -> None:
    with pytest.raises(SyncLostError):
        await call()


async def _expect_peer_lost(call: Callable[[], Awaitable[Any]], text: str) -> None:
    with pytest.raises(PeerLostError, match=text):
        await call()
