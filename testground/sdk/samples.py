"""Samples: a bounded choice of the values that a histogram or timer was given, and what they say."""

from __future__ import annotations

import heapq
import itertools
import math
import random
import time
from collections.abc import Sequence
from typing import Protocol

PERCENTILES = {"p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99, "p999": 0.999, "p9999": 0.9999}
RESCALE_AFTER = 3600.0
"""Seconds after which an exponentially decaying sample renews its weights, before they grow beyond a float."""


class Sample(Protocol):
    def update(self, value: float) -> None: ...

    def values(self) -> Sequence[float]: ...

    def clear(self) -> None: ...


class UniformSample:
    """`size` values, each value of the whole run with the same chance to be among them (Vitter's algorithm R)."""

    def __init__(self, size: int = 1028) -> None:
        self._size = size
        self._seen = 0
        self._values: list[float] = []

    def update(self, value: float) -> None:
        self._seen += 1
        if len(self._values) < self._size:
            self._values.append(value)
        elif (place := random.randrange(self._seen)) < self._size:
            self._values[place] = value

    def values(self) -> Sequence[float]:
        return self._values

    def clear(self) -> None:
        self._seen = 0
        self._values.clear()


class ExpDecaySample:
    """`size` values, recent ones with the better chance: forward decay by `alpha` per second (Cormode et al.)."""

    def __init__(self, size: int = 1028, alpha: float = 0.015) -> None:
        self._size = size
        self._alpha = alpha
        self._entries: list[tuple[float, int, float]] = []
        self._order = itertools.count()
        self._landmark = time.monotonic()

    def update(self, value: float) -> None:
        now = time.monotonic()
        if now - self._landmark >= RESCALE_AFTER:
            self._rescale(now)
        weight = math.exp(self._alpha * (now - self._landmark)) / (1.0 - random.random())
        entry = (weight, next(self._order), value)
        if len(self._entries) < self._size:
            heapq.heappush(self._entries, entry)
        else:
            heapq.heappushpop(self._entries, entry)

    def values(self) -> Sequence[float]:
        return [value for _, _, value in self._entries]

    def clear(self) -> None:
        self._entries.clear()
        self._landmark = time.monotonic()

    def _rescale(self, now: float) -> None:
        factor = math.exp(-self._alpha * (now - self._landmark))
        self._entries = [(weight * factor, order, value) for weight, order, value in self._entries]
        self._landmark = now


def describe(values: Sequence[float]) -> dict[str, float]:
    """`max mean min p50 … p9999 stddev variance`, all zero for no values."""
    ordered = sorted(values)
    mean = math.fsum(ordered) / len(ordered) if ordered else 0.0
    variance = math.fsum((value - mean) ** 2 for value in ordered) / len(ordered) if ordered else 0.0
    return {
        "max": ordered[-1] if ordered else 0,
        "mean": mean,
        "min": ordered[0] if ordered else 0,
        **{name: percentile(ordered, point) for name, point in PERCENTILES.items()},
        "stddev": math.sqrt(variance),
        "variance": variance,
    }


def percentile(ordered: Sequence[float], point: float) -> float:
    """Linear between the neighbours of rank `point * (n + 1)`, as the other SDKs do."""
    if not ordered:
        return 0.0
    rank = point * (len(ordered) + 1)
    if rank < 1:
        return ordered[0]
    if rank >= len(ordered):
        return ordered[-1]
    below = ordered[int(rank) - 1]
    return below + (rank - int(rank)) * (ordered[int(rank)] - below)
