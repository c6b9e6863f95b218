"""A link's shape in the kernel's numbers: HTB classes and netem queues (contract §4.6)."""

from __future__ import annotations

import math
import struct

from testground.sidecar.config import LinkShape
from testground.sidecar.netlink import attribute

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
_SPEED = struct.Struct("=BBHhHI")
_CELL_LOG, _ETHERNET, _CELL_ALIGN = 3, 1, -1
_BURST_SECONDS = 1e-3
_BURST_BYTES = 1600
_QUANTUM = 1514
_U32 = 2**32 - 1


def rate(shape: LinkShape) -> int:
    """Bytes per second."""
    return min(max(shape.bandwidth // 8, 1), UNLIMITED) if shape.bandwidth else UNLIMITED


def htb_class(shape: LinkShape) -> bytes:
    """The options of the class. The kernel computes what used to be rate tables when it knows that this is Ethernet."""
    bytes_per_second = rate(shape)
    burst = bytes_per_second * _BURST_SECONDS + _BURST_BYTES
    ticks = min(math.ceil(burst * 1e9 / bytes_per_second / _TICK), _U32)
    speed = _SPEED.pack(_CELL_LOG, _ETHERNET, 0, _CELL_ALIGN, 0, min(bytes_per_second, _U32))
    options = attribute(1, speed + speed + struct.pack("=5I", ticks, ticks, _QUANTUM, 0, 0))
    if bytes_per_second > _U32:
        whole = struct.pack("=Q", bytes_per_second)
        options += attribute(6, whole) + attribute(7, whole)
    return options


def netem(shape: LinkShape) -> bytes:
    """The options of the queue. All are always there: the kernel keeps what a change does not mention."""
    options = struct.pack(
        "=6I",
        _ticks(shape.latency),
        queue_packets(shape),
        _share(shape.loss),
        1 if shape.reorder else 0,
        _share(shape.duplicate),
        _ticks(shape.jitter),
    )
    options += attribute(1, struct.pack("=3I", 0, 0, _correlation(shape.duplicate, shape.duplicate_corr)))
    options += attribute(3, _chance(shape.reorder, shape.reorder_corr))
    options += attribute(4, _chance(shape.corrupt, shape.corrupt_corr))
    return options + attribute(10, struct.pack("=q", shape.latency)) + attribute(11, struct.pack("=q", shape.jitter))


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


def _chance(percent: float, correlation: float) -> bytes:
    return struct.pack("=2I", _share(percent), _correlation(percent, correlation))


def _correlation(percent: float, correlation: float) -> int:
    """Without a probability there is nothing to correlate."""
    return _share(correlation) if percent else 0


def _share(percent: float) -> int:
    return round(percent / 100 * _U32)
