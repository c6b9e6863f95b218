"""Shapes what an instance receives, and shapes links as far as it goes. Run within user-mode Linux."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from testground.sidecar import measuring
from testground.sidecar.config import LONGEST, WIDEST
from testground.sidecar.peer import Peer
from tests.networks import networks

MILLISECOND = 1_000_000
LATENCY, OUT = 80, 20
LOSS = 10
RATE = 2_000_000
PACKETS = 2000
SAMPLES = 3


def report() -> dict[str, Any]:
    found: dict[str, Any] = {}
    with networks(3) as (here, there, elsewhere):
        measuring.round_trip(here, there, 3)
        measuring.round_trip(there, elsewhere, 3)
        found["unshaped_ms"] = measuring.round_trip(there, here)
        here.apply(ingress={"latency": LATENCY * MILLISECOND})
        found["in_ms"] = measuring.round_trip(there, here)
        found["others_ms"] = measuring.round_trip(there, elsewhere)
        here.apply(default={"latency": OUT * MILLISECOND}, ingress={"latency": LATENCY * MILLISECOND})
        found["both_ms"] = measuring.round_trip(here, there)
        here.apply(enable=False)
        here.apply(ingress={"latency": LATENCY * MILLISECOND})
        found["plugged_in_again_ms"] = measuring.round_trip(there, here)
        here.apply(IPv4="16.0.9.9/16", ingress={"latency": LATENCY * MILLISECOND})
        found["moved_ms"] = measuring.round_trip(there, here)
        here.apply(ingress={"loss": LOSS})
        found["lost"] = [PACKETS - len(measuring.arrivals(there, here, PACKETS)) for _ in range(SAMPLES)]
        found["lost_elsewhere"] = PACKETS - len(measuring.arrivals(there, elsewhere, PACKETS))
        here.apply(ingress={"bandwidth": RATE})
        found["rate"] = measuring.throughput(there, here)
        here.apply(ingress={"bandwidth": 100 * RATE, "loss": 1})
        found["segments"] = measuring.throughput(there, here, seconds=2)
        here.apply()
        found["reset_ms"] = measuring.round_trip(there, here)
        limits(found, here, there)
    return found


def limits(found: dict[str, Any], here: Peer, there: Peer) -> None:
    here.apply(default={"latency": 5 * MILLISECOND, "jitter": 50 * MILLISECOND})
    found["more_jitter_than_latency_ms"] = measuring.trips(here, there, 60)
    here.apply(default={"jitter": 50 * MILLISECOND})
    found["jitter_alone_ms"] = measuring.trips(here, there, 60)
    here.apply(default={"corrupt": 12.5})
    found["corrupted"] = PACKETS - len(measuring.arrivals(here, there, PACKETS))
    here.apply(default={"loss": 0.5})
    found["half_a_percent"] = PACKETS - len(measuring.arrivals(here, there, PACKETS))
    here.apply(default={"duplicate": 100})
    found["doubled"] = len(measuring.arrivals(here, there, PACKETS)) - PACKETS
    here.apply(default={"latency": 20 * MILLISECOND, "reorder": 100})
    found["all_overtake_ms"] = measuring.round_trip(here, there)
    here.apply(default={"latency": 3600 * 1000 * MILLISECOND})
    found["hour"] = len(measuring.arrivals(here, there, 5))
    here.apply(default={"latency": LONGEST, "jitter": WIDEST})
    found["longest"] = len(measuring.arrivals(here, there, 5))
    found["busy_seconds"] = elapsed(lambda: sum(range(1_000_000)))
    here.apply()
    found["idle_seconds"] = elapsed(lambda: sum(range(1_000_000)))
    here.apply(default={"bandwidth": 2**64 - 1})
    found["fastest"] = len(measuring.arrivals(here, there, PACKETS))
    here.apply(default={"bandwidth": 202})
    measuring.arrivals(here, there, 100)
    found["slowest"] = len(measuring.arrivals(here, there, 100))
    here.apply()
    found["after_all_ms"] = measuring.round_trip(here, there)


def elapsed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
