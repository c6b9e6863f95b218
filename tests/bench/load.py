"""What websocket clients put on a sync service: the same for ours and for any other that speaks its protocol."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from tests.bench.processes import Server, processor_time

TEXT = WSMsgType.TEXT
PREFIX = "run:c0ffee0000000000000g:plan:bench:case:sync:"
CONNECTIONS = 200
SIGNALS = 150
"""Per connection and round."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A round of requests, each sent after the reply to the one before: their rate, and seconds of processor time."""

    rate: float
    cost: float


class Client(WSListener):
    """Tells of each message it receives, however many frames it comes in: Go's service ends each by an empty one."""

    def __init__(self, on_reply: Callable[[WSTransport, WSFrame], None]) -> None:
        self._on_reply = on_reply

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.fin:
            self._on_reply(transport, frame)


@asynccontextmanager
async def connected(
    port: int, count: int, on_reply: Callable[[WSTransport, WSFrame], None]
) -> AsyncIterator[list[WSTransport]]:
    clients = []
    for _ in range(count):
        transport, _ = await ws_connect(lambda: Client(on_reply), f"ws://127.0.0.1:{port}/")
        clients.append(transport)
    try:
        yield clients
    finally:
        for transport in clients:
            transport.disconnect()
        for transport in clients:
            await transport.wait_disconnected()


class Countdown:
    """Done after so many calls."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.done = asyncio.get_running_loop().create_future()

    def step(self) -> None:
        self.left -= 1
        if not self.left:
            self.done.set_result(None)


async def loop(server: Server, state: str) -> Loop:
    """Every client sends the same number of signals, each after the reply to the one before."""
    message = b'{"id":"1","is_cancel":false,"signal_entry":{"state":"%b"}}' % _key("states", state)
    countdown = Countdown(CONNECTIONS)
    left: dict[WSTransport, int] = {}

    def on_reply(transport: WSTransport, _: WSFrame) -> None:
        left[transport] -= 1
        if left[transport]:
            transport.send(TEXT, message)
        else:
            countdown.step()

    async with connected(server.port, CONNECTIONS, on_reply) as clients:
        left.update(dict.fromkeys(clients, SIGNALS))
        used, begun = processor_time(server.pid), time.perf_counter()
        for client in clients:
            client.send(TEXT, message)
        await countdown.done
        elapsed = time.perf_counter() - begun
        spent = (processor_time(server.pid) or 0.0) - (used or 0.0)
    total = CONNECTIONS * SIGNALS
    return Loop(total / elapsed, spent / total)


async def deliveries(port: int, topic: str) -> float:
    """Deliveries per second: all subscribe, then each publishes once."""
    key = _key("topics", topic)
    subscribe = b'{"id":"s","is_cancel":false,"subscribe":{"topic":"%b"}}' % key
    publish = (
        b'{"id":"p","is_cancel":false,"publish":{"topic":"%b","payload":{"addrs":["/ip4/16.0.1.1/tcp/4001"]}}}' % key
    )
    countdown = Countdown(CONNECTIONS * (CONNECTIONS + 1))
    async with connected(port, CONNECTIONS, lambda *_: countdown.step()) as clients:
        for client in clients:
            client.send(TEXT, subscribe)
        begun = time.perf_counter()
        for client in clients:
            client.send(TEXT, publish)
        await countdown.done
        return CONNECTIONS * CONNECTIONS / (time.perf_counter() - begun)


async def release(port: int, state: str, count: int = 1000) -> float:
    """Seconds from the last signal sent to the last barrier passed."""
    key = _key("states", state)
    signal = b'{"id":"s","is_cancel":false,"signal_entry":{"state":"%b"}}' % key
    barrier = b'{"id":"b","is_cancel":false,"barrier":{"state":"%b","target":%d}}' % (key, count)
    countdown = Countdown(2 * count)
    async with connected(port, count, lambda *_: countdown.step()) as clients:
        for client in clients:
            client.send(TEXT, signal)
            sent = time.perf_counter()
            client.send(TEXT, barrier)
        await countdown.done
        return time.perf_counter() - sent


async def delay(port: int, topic: str, count: int = 100, messages: int = 100) -> float:
    """Median seconds from publishing to each delivery: one message at a time, of clients in turn, to all of them."""
    key = _key("topics", topic)
    subscribe = b'{"id":"s","is_cancel":false,"subscribe":{"topic":"%b"}}' % key
    publish = b'{"id":"p","is_cancel":false,"publish":{"topic":"%b","payload":1}}' % key
    delays: list[float] = []
    countdown = Countdown(0)
    sent = 0.0

    def on_reply(_: WSTransport, frame: WSFrame) -> None:
        delays.append(time.perf_counter() - sent)
        countdown.step()

    async with connected(port, count, on_reply) as clients:
        for client in clients:
            client.send(TEXT, subscribe)
        for client in clients[:messages]:
            countdown = Countdown(count + 1)
            sent = time.perf_counter()
            client.send(TEXT, publish)
            await countdown.done
    return statistics.median(delays)


def _key(kind: str, name: str) -> bytes:
    return f"{PREFIX}{kind}:{name}".encode()
