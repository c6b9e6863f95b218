"""Started by `accuracy`: makes two instances, asks for a shape, measures, and prints what came of it as JSON.

As root or as an ordinary user, as a run's sidecar does it, in a process that has nothing else to do.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from testground.drivers import launcher
from testground.errors import NetworkError
from testground.sidecar import measuring, server
from testground.sidecar.accuracy import Reading
from testground.sidecar.peer import Peer
from testground.sidecar.topology import TopologyError

LATENCY_MS, RATE, LOSS_PERCENT = 20, 10_000_000, 10
PACKETS = 1000
WARM_SECONDS, COUNTED_SECONDS = 0.2, 0.8


def main() -> None:
    print(json.dumps(_calibrate()))


def pair() -> tuple[Peer, Peer]:
    """Two instances of a hub in which this process is from then on. Raises what the sidecar's own hub does."""
    hub, _ = server.open_hub(2)
    taken: dict[Any, str] = {}
    here, there = (Peer(hub, number, hub.add(number), taken) for number in range(2))
    measuring.meet(here, there)
    return here, there


def _calibrate() -> dict[str, Any]:
    try:
        here, there = pair()
        return _measured(here, there)
    except launcher.Failed as error:
        return {"refused": server.refused(error)}
    except (TopologyError, NetworkError, OSError) as error:
        return {"error": str(error)}


def _measured(here: Peer, there: Peer) -> dict[str, Any]:
    readings: list[Reading] = []
    lacking: list[str] = []
    for measure in (_delays_and_losses, _rates):
        try:
            readings += measure(here, there)
        except NetworkError as error:
            lacking.append(f"not measured: {error}")
    return {"readings": [dataclasses.asdict(reading) for reading in readings], "lacking": lacking}


def _delays_and_losses(here: Peer, there: Peer) -> Iterator[Reading]:
    """Raises `NetworkError` at once where the kernel has neither."""
    latency, loss = {"latency": LATENCY_MS * 1_000_000}, {"loss": LOSS_PERCENT}
    here.apply(default=latency | loss)
    here.apply(default=latency)
    yield Reading("latency", LATENCY_MS, measuring.round_trip(here, there))
    here.apply(default=loss)
    lost = PACKETS - len(measuring.arrivals(here, there, PACKETS))
    yield Reading("loss", LOSS_PERCENT, 100 * lost / PACKETS, PACKETS)


def _rates(here: Peer, there: Peer) -> Iterator[Reading]:
    here.apply(default={"bandwidth": RATE})
    yield Reading("rate", RATE, measuring.throughput(here, there, warm=WARM_SECONDS, seconds=COUNTED_SECONDS))
