"""Measures links that the sidecar shaped. Run within user-mode Linux."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import anyio

from testground.errors import NetworkError
from testground.sidecar import accuracy
from testground.sidecar.measuring import (
    arrivals,
    flood,
    heard,
    meet,
    receiver,
    round_trip,
    send_numbers,
    throughput,
    trips,
)
from testground.sidecar.peer import Peer
from tests.networks import networks

MILLISECOND = 1_000_000
LATENCIES = (5, 20, 100, 300)
LOSSES = (1, 10, 50)
RATES = (1_000_000, 4_000_000)
PACKETS = 2000
SAMPLES = 3
REFUSED = "this kernel does not duplicate on a link that also delays or loses by another rule"


def report() -> dict[str, Any]:
    found: dict[str, Any] = {}
    with networks(3) as (here, there, elsewhere):
        meet(here, there)
        meet(here, elsewhere)
        found["unshaped_ms"] = round_trip(here, there)
        for latency in LATENCIES:
            here.apply(default={"latency": latency * MILLISECOND})
            found[f"latency_{latency}_ms"] = round_trip(here, there)
        here.apply(default={"latency": 50 * MILLISECOND, "jitter": 20 * MILLISECOND})
        found["jitter_ms"] = trips(here, there, 60)
        found["towards"] = towards(here, there, elsewhere)
        here.apply(default={})
        found["reset_ms"] = round_trip(here, there)
        for loss in LOSSES:
            here.apply(default={"loss": loss})
            found[f"loss_{loss}"] = [PACKETS - len(arrivals(here, there, PACKETS)) for _ in range(SAMPLES)]
        here.apply(default={"duplicate": 20})
        found["duplicated"] = len(arrivals(here, there, PACKETS)) - PACKETS
        here.apply(default={"latency": 20 * MILLISECOND, "reorder": 20, "reorder_corr": 10})
        order = arrivals(here, there, PACKETS)
        found["reordered"] = sum(later < earlier for earlier, later in itertools.pairwise(order))
        here.apply(default={"corrupt": 20, "corrupt_corr": 0})
        found["corrupted"] = PACKETS - len(arrivals(here, there, PACKETS))
        here.apply(default={"latency": 500 * MILLISECOND})
        found["under_way"] = len(arrivals(here, there, PACKETS, seconds=2))
        found["changed_under_way"] = len(changed_under_way(here, there))
        for rate in RATES:
            here.apply(default={"bandwidth": rate})
            found[f"rate_{rate}"] = throughput(here, there)
        here.apply(default={"bandwidth": 2_000_000, "latency": 40 * MILLISECOND})
        found["rate_with_latency"] = flood(here, there, 2_000_000)
        found["both"] = both(here, there)
        here.apply(default={})
    found["calibrated"] = dataclasses.asdict(anyio.run(accuracy.measure))
    return found


def towards(here: Peer, there: Peer, elsewhere: Peer) -> dict[str, float]:
    """A shape of its own for one peer."""
    here.apply(default={"latency": 5 * MILLISECOND}, rules=[{"subnet": f"{there.ip}/32", "latency": 80 * MILLISECOND}])
    times = {"there": round_trip(here, there), "elsewhere": round_trip(here, elsewhere)}
    here.apply(default={"latency": 5 * MILLISECOND}, rules=[{"subnet": f"{there.ip}/32"}])
    return times | {"taken_back": round_trip(here, there)}


def both(here: Peer, there: Peer) -> str:
    """Some kernels refuse duplicates in a tree with two queues."""
    try:
        here.apply(default={"duplicate": 10}, rules=[{"subnet": f"{there.ip}/32", "latency": MILLISECOND}])
    except NetworkError as error:
        return str(error)
    here.apply(default={}, rules=[{"subnet": f"{there.ip}/32"}])
    return "accepted"


def changed_under_way(here: Peer, there: Peer) -> list[int]:
    with receiver(there) as ear, receiver(here) as mouth:
        came = send_numbers(mouth, ear, PACKETS)
        here.apply(default={"latency": MILLISECOND})
        here.apply(default={})
        return came + heard(ear, 2)
