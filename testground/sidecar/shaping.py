"""A link's shape in the kernel's numbers: HTB classes and netem queues (contract §4.6)."""

from __future__ import annotations

import math
from typing import Any

from testground.sidecar.config import LinkShape

UNLIMITED = 125_000_000_000
"""Bytes per second: more than any link here carries."""
SPARE_PACKETS = 1000
"""How many wait for their turn at a limited rate; a bridge or a router holds about as many."""

MOST_SEGMENTS = 65_535
"""Linux's own limit."""

_PACKETS_PER_SECOND = 2_000_000
"""More than one core sends."""
_SMALLEST_PACKET = 64
_MOST_PACKETS = 2**31
_TICK = 64
"""Nanoseconds in the unit of HTB's buffers and of netem's 32-bit times."""
_CELL_LOG, _ETHERNET, _CELL_ALIGN = 3, 1, -1
_BURST_SECONDS = 1e-3
_BURST_BYTES = 1600
_QUANTUM = 1514
_U32 = 2**32 - 1


def rate(shape: LinkShape) -> int:
    """Bytes per second."""
    return min(max(shape.bandwidth // 8, 1), UNLIMITED) if shape.bandwidth else UNLIMITED


def htb_class(shape: LinkShape) -> dict[str, Any]:
    """The options of the class. The kernel computes what used to be rate tables when it knows that this is Ethernet."""
    bytes_per_second = rate(shape)
    burst = bytes_per_second * _BURST_SECONDS + _BURST_BYTES
    ticks = min(math.ceil(burst * 1e9 / bytes_per_second / _TICK), _U32)
    speed = {
        "": min(bytes_per_second, _U32),
        "_cell_log": _CELL_LOG,
        "_cell_align": _CELL_ALIGN,
        "___reserved": _ETHERNET,
    }
    speeds = {f"{which}{member}": value for which in ("rate", "ceil") for member, value in speed.items()}
    parameters = {**speeds, "buffer": ticks, "cbuffer": ticks, "quantum": _QUANTUM}
    options: list[tuple[str, Any]] = [("TCA_HTB_PARMS", parameters)]
    if bytes_per_second > _U32:
        options += [("TCA_HTB_RATE64", bytes_per_second), ("TCA_HTB_CEIL64", bytes_per_second)]
    return {"attrs": options}


def netem(shape: LinkShape) -> dict[str, Any]:
    """The options of the queue. All are always there: the kernel keeps what a change does not mention."""
    return {
        "delay": _ticks(shape.latency),
        "jitter": _ticks(shape.jitter),
        "limit": queue_packets(shape),
        "loss": _share(shape.loss),
        "duplicate": _share(shape.duplicate),
        "gap": 1 if shape.reorder else 0,
        "attrs": [
            ("TCA_NETEM_CORR", {"dup_corr": _correlation(shape.duplicate, shape.duplicate_corr)}),
            ("TCA_NETEM_REORDER", _chance("reorder", shape.reorder, shape.reorder_corr)),
            ("TCA_NETEM_CORRUPT", _chance("corrupt", shape.corrupt, shape.corrupt_corr)),
            ("TCA_NETEM_LATENCY64", shape.latency),
            ("TCA_NETEM_JITTER64", shape.jitter),
        ],
    }


def segments(shape: LinkShape) -> int:
    """How many packets may share a turn, a millisecond's worth, and a fate: one where packets have fates."""
    if any((shape.loss, shape.corrupt, shape.reorder, shape.duplicate)):
        return 1
    return min(max(int(rate(shape) * _BURST_SECONDS / _QUANTUM), 1), MOST_SEGMENTS)


def queue_packets(shape: LinkShape) -> int:
    """As many as can be under way at the link's rate, so that a delay never drops what the plan did not ask to drop."""
    bytes_per_second = min(rate(shape), _PACKETS_PER_SECOND * _SMALLEST_PACKET)
    under_way = -(-(shape.latency + shape.jitter) * bytes_per_second // (10**9 * _SMALLEST_PACKET))  # rounded up
    return min(SPARE_PACKETS + under_way, _MOST_PACKETS)


def _ticks(nanoseconds: int) -> int:
    return min(nanoseconds // _TICK, _U32)


def _chance(name: str, percent: float, correlation: float) -> dict[str, int]:
    return {f"prob_{name}": _share(percent), f"corr_{name}": _correlation(percent, correlation)}


def _correlation(percent: float, correlation: float) -> int:
    """Without a probability there is nothing to correlate."""
    return _share(correlation) if percent else 0


def _share(percent: float) -> int:
    return round(percent / 100 * _U32)
