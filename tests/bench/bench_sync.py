"""The sync service: signals, deliveries, releases, and what a signal costs beside a bare websocket echo.

The service runs as `testground sync-service` on the first core, the load on the second. Each figure is the best of
some rounds, and rounds of the service and of the echo alternate: other work on the machine only makes figures worse.
"""

from __future__ import annotations

import asyncio
import sys

from tests.bench import load
from tests.bench.load import CONNECTIONS, Loop
from tests.bench.processes import Server, load_on_the_other_core, started
from tests.bench.row import Row, at_least, below

SYNC_SERVICE = (sys.executable, "-m", "testground", "sync-service", "--listen", "127.0.0.1:0")
ECHO = (sys.executable, "-m", "tests.bench.echo_server")
ROUNDS = 8
DEADLINE = 300
"""Seconds for all of it; a quiet machine needs 15."""


def bench() -> list[Row]:
    with load_on_the_other_core(), started(*SYNC_SERVICE) as service, started(*ECHO) as echo:
        return asyncio.run(asyncio.wait_for(_measure(service, echo), DEADLINE))


async def _measure(service: Server, echo: Server) -> list[Row]:
    port = service.port
    signals: list[Loop] = []
    echoes: list[Loop] = []
    for number in range(ROUNDS):
        signals.append(await load.loop(service, f"closed-{number}"))
        echoes.append(await load.loop(echo, f"closed-{number}"))
    deliveries = [await load.deliveries(port, f"topic-{number}") for number in range(3)]
    releases = [await load.release(port, f"round-{number}") for number in range(ROUNDS)]
    delays = [await load.delay(port, f"delay-{number}") for number in range(ROUNDS)]
    return [
        *_loop_rows(signals, echoes),
        at_least(
            f"topic deliveries, {CONNECTIONS} connections publish to {CONNECTIONS}", max(deliveries), 100_000, "/s"
        ),
        below("1000 instances signal and wait: last release after last signal", min(releases) * 1e3, 100, "ms"),
        below("publish to receive, 100 connections, median", min(delays) * 1e3, 1, "ms"),
    ]


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
