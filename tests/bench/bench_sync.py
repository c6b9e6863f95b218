"""The sync service: signals, deliveries, releases, and what a signal costs beside a bare websocket echo.

The service runs as `testground sync-service` on the first core, the load on the second. Each figure is the best of
some rounds, and rounds of the service and of the echo alternate: other work on the machine only makes figures worse.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from tests.bench.processes import load_on_the_other_core, processor_time, started
from tests.bench.row import Row, at_least, below

TEXT = WSMsgType.TEXT
PREFIX = "run:c0ffee0000000000000g:plan:bench:case:sync:"
SYNC_SERVICE = ("-c", "from testground.cli.app import main; main()", "sync-service", "--listen", "127.0.0.1:0")
CONNECTIONS = 200
SIGNALS = 150
"""Per connection and round."""
ROUNDS = 8
DEADLINE = 300
"""Seconds for all of it; a quiet machine needs 15."""


def bench() -> list[Row]:
    with load_on_the_other_core(), started(*SYNC_SERVICE) as service, started("-m", "tests.bench.echo_server") as echo:
        return asyncio.run(asyncio.wait_for(_measure(service, echo), DEADLINE))


async def _measure(service: subprocess.Popen[str], echo: subprocess.Popen[str]) -> list[Row]:
    port, echo_port = _port(service), _port(echo)
    signals: list[Loop] = []
    echoes: list[Loop] = []
    for number in range(ROUNDS):
        signals.append(await _loop(service.pid, port, f"closed-{number}"))
        echoes.append(await _loop(echo.pid, echo_port, f"closed-{number}"))
    deliveries = [await _deliveries(port, f"topic-{number}") for number in range(3)]
    releases = [await _release(port, f"round-{number}") for number in range(ROUNDS)]
    delays = [await _delay(port, f"delay-{number}") for number in range(ROUNDS)]
    return [
        *_loop_rows(signals, echoes),
        at_least(
            f"topic deliveries, {CONNECTIONS} connections publish to {CONNECTIONS}", max(deliveries), 100_000, "/s"
        ),
        below("1000 instances signal and wait: last release after last signal", min(releases) * 1e3, 100, "ms"),
        below("publish to receive, 100 connections, median", min(delays) * 1e3, 1, "ms"),
    ]


@dataclass(frozen=True, slots=True)
class Loop:
    """A round of requests, each sent after the reply to the one before: their rate, and seconds of processor time."""

    rate: float
    cost: float


def _loop_rows(signals: list[Loop], echoes: list[Loop]) -> list[Row]:
    """No processor time where the system does not tell it."""
    rows = [
        at_least(f"signals, {CONNECTIONS} connections, closed loop", max(loop.rate for loop in signals), 60_000, "/s"),
        Row("bare websocket echoes, the same way", max(loop.rate for loop in echoes), "/s"),
    ]
    signal, echo = (min(loop.cost for loop in loops) for loops in (signals, echoes))
    if not echo:
        return rows
    return [
        *rows,
        Row("processor time per signal", signal * 1e6, "µs"),
        Row("processor time per bare websocket echo", echo * 1e6, "µs"),
        below("processor time per signal, in echoes", signal / echo, 2),
    ]


class Client(WSListener):
    """Counts what it receives; `on_reply` may send the next request."""

    def __init__(self, on_reply: Callable[[WSTransport, WSFrame], None]) -> None:
        self._on_reply = on_reply

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
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


async def _loop(pid: int, port: int, state: str) -> Loop:
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

    async with connected(port, CONNECTIONS, on_reply) as clients:
        left.update(dict.fromkeys(clients, SIGNALS))
        used, begun = processor_time(pid), time.perf_counter()
        for client in clients:
            client.send(TEXT, message)
        await countdown.done
        elapsed = time.perf_counter() - begun
        spent = (processor_time(pid) or 0.0) - (used or 0.0)
    total = CONNECTIONS * SIGNALS
    return Loop(total / elapsed, spent / total)


async def _deliveries(port: int, topic: str) -> float:
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


async def _release(port: int, state: str, count: int = 1000) -> float:
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


async def _delay(port: int, topic: str, count: int = 100) -> float:
    """Median seconds from publishing to each delivery: one message at a time, of every client in turn, to all."""
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
        for client in clients:
            countdown = Countdown(count + 1)
            sent = time.perf_counter()
            client.send(TEXT, publish)
            await countdown.done
    return statistics.median(delays)


def _key(kind: str, name: str) -> bytes:
    return f"{PREFIX}{kind}:{name}".encode()


def _port(server: subprocess.Popen[str]) -> int:
    """The number at the end of the first line that has one."""
    assert server.stdout is not None
    for line in server.stdout:
        if found := re.search(r"(\d+)\D*$", line):
            return int(found[1])
    raise RuntimeError("the server ended before it listened")
