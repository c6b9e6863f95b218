"""Our sync service beside the Go one: the same client puts the same load on both, in turns.

Both start with nothing and get the same rounds, so that their memory can be compared: idle, with 1000 connections that
ask for nothing, and after all the rounds. Go's service always listens at port 5050.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tests.bench import load
from tests.bench.bench_sync import SYNC_SERVICE
from tests.bench.load import CONNECTIONS
from tests.bench.processes import Server, load_on_the_other_core, resident, started
from tests.bench.row import Comparison, less, more
from tests.upstream import daemon, programs

ROUNDS = 8
INSTANCES = 1000
MESSAGES = 10
"""Published one after the other in a round; each takes Go up to 100 ms."""

PAUSE = 0.2
"""Seconds after a round, for a service to be done with its connections: the next to be measured is on the same core."""

DEADLINE = 600
"""Seconds for all of it; a quiet machine needs 40."""

Result = TypeVar("Result")


def compare() -> list[Comparison]:
    """Raises `RuntimeError` when the port that Go's service needs is taken."""
    if reason := daemon.taken():
        raise RuntimeError(reason)
    go_service = str(programs.program("sync-service"))
    with load_on_the_other_core(), started(*SYNC_SERVICE) as ours, started(go_service) as go:
        return asyncio.run(asyncio.wait_for(_measure((ours, go)), DEADLINE))


async def _measure(servers: tuple[Server, Server]) -> list[Comparison]:
    idle = _memory(servers)
    connected = [await _memory_with_connections(server) for server in servers]
    signals = await _in_turns(servers, "signals", load.loop)
    deliveries = await _in_turns(servers, "deliveries", lambda server, name: load.deliveries(server.port, name))
    releases = await _in_turns(servers, "releases", lambda server, name: load.release(server.port, name, INSTANCES))
    delays = await _in_turns(servers, "delays", lambda server, name: load.delay(server.port, name, messages=MESSAGES))
    rates = (max(loop.rate for loop in loops) for loops in signals)
    costs = (min(loop.cost for loop in loops) * 1e6 for loops in signals)
    return [
        more(f"signals, {CONNECTIONS} connections, closed loop", *rates, "/s"),
        less("  processor time per signal", *costs, "µs"),
        more(f"topic deliveries, {CONNECTIONS} connections publish to {CONNECTIONS}", *map(max, deliveries), "/s"),
        less(f"{INSTANCES} at a barrier: last signal to last release", *_milliseconds(releases), "ms"),
        less("publish to receive, 100 connections, median", *_milliseconds(delays), "ms"),
        less("sync service, resident memory, idle", *idle, "MiB"),
        less(f"  with {INSTANCES} connections", *connected, "MiB"),
        less("  after all these rounds", *_memory(servers), "MiB"),
    ]


async def _in_turns(
    servers: tuple[Server, Server], kind: str, one_round: Callable[[Server, str], Awaitable[Result]]
) -> tuple[list[Result], list[Result]]:
    """What each of the two came to; each round has a name of its own."""
    results: tuple[list[Result], list[Result]] = ([], [])
    for number in range(ROUNDS):
        for server, found in zip(servers, results, strict=True):
            found.append(await one_round(server, f"{kind}-{number}"))
            await asyncio.sleep(PAUSE)
    return results


def _milliseconds(rounds: tuple[list[float], list[float]]) -> list[float]:
    return [min(seconds) * 1e3 for seconds in rounds]


async def _memory_with_connections(server: Server) -> float:
    async with load.connected(server.port, INSTANCES, lambda *_: None):
        return resident(server.pid)


def _memory(servers: tuple[Server, Server]) -> list[float]:
    return [resident(server.pid) for server in servers]
