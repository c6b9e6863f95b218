"""The kinds of aggregate metrics: each is updated by the plan and read by the harvest (contract §2.7, §5.5)."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from testground.sdk.samples import ExpDecaySample, Sample, describe

Measures = dict[str, float]
TICK = 5.0
"""Seconds between two steps of a moving average."""


class Instrument:
    """`kind` is the `type` of its metric lines. `measure` is called by one harvest at a time."""

    kind: str

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def measure(self) -> Measures:
        raise NotImplementedError


class Counter(Instrument):
    """Counts what happened since the last harvest: its lines add up to the total."""

    kind = "counter"

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def inc(self, amount: int = 1) -> None:
        with self._lock:
            self._count += amount

    def dec(self, amount: int = 1) -> None:
        self.inc(-amount)

    def measure(self) -> Measures:
        with self._lock:
            count, self._count = self._count, 0
        return {"count": count}


class Gauge(Instrument):
    """The last value it was given."""

    kind = "gauge"

    def __init__(self) -> None:
        super().__init__()
        self._value = 0.0

    def update(self, value: float) -> None:
        self._value = value

    def measure(self) -> Measures:
        return {"value": self._value}


class FunctionGauge(Instrument):
    """The value of a function at each harvest."""

    kind = "gauge"

    def __init__(self, function: Callable[[], float]) -> None:
        super().__init__()
        self._function = function

    def measure(self) -> Measures:
        return {"value": self._function()}


class Histogram(Instrument):
    """The distribution of a sample of all values so far; with `resetting`, of those since the last harvest."""

    kind = "histogram"

    def __init__(self, sample: Sample | None = None, *, resetting: bool = False) -> None:
        super().__init__()
        self._sample = sample or ExpDecaySample()
        self._resetting = resetting
        self._count = 0

    def update(self, value: float) -> None:
        with self._lock:
            self._count += 1
            self._sample.update(value)

    def measure(self) -> Measures:
        with self._lock:
            measures = {"count": self._count, **describe(self._sample.values())}
            if self._resetting:
                self._count = 0
                self._sample.clear()
        return measures


class Ewma(Instrument):
    """A rate per second that forgets: each five seconds it moves by `alpha` towards the rate of these five seconds."""

    kind = "ewma"

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self._alpha = alpha
        self._uncounted = 0.0
        self._rate: float | None = None
        self._ticked = time.monotonic()

    def update(self, amount: float = 1) -> None:
        with self._lock:
            self._catch_up()
            self._uncounted += amount

    def rate(self) -> float:
        with self._lock:
            self._catch_up()
            return self._rate or 0.0

    def measure(self) -> Measures:
        return {"rate": self.rate()}

    def _catch_up(self) -> None:
        ticks = int((time.monotonic() - self._ticked) / TICK)
        if ticks == 0:
            return
        self._ticked += ticks * TICK
        first, self._uncounted = self._uncounted / TICK, 0.0
        self._rate = first if self._rate is None else self._rate + self._alpha * (first - self._rate)
        self._rate *= (1 - self._alpha) ** (ticks - 1)


class Meter(Instrument):
    """How often: a count, the mean rate per second, and moving averages over 1, 5 and 15 minutes."""

    kind = "meter"

    def __init__(self) -> None:
        super().__init__()
        self._count = 0
        self._started = time.monotonic()
        self._averages = {f"m{minutes}": Ewma(1 - math.exp(-TICK / 60 / minutes)) for minutes in (1, 5, 15)}

    def mark(self, amount: int = 1) -> None:
        with self._lock:
            self._count += amount
        for average in self._averages.values():
            average.update(amount)

    def measure(self) -> Measures:
        return {"count": self._count, **self.rates(), "mean": self.mean_rate()}

    def rates(self) -> Measures:
        return {name: average.rate() for name, average in self._averages.items()}

    def mean_rate(self) -> float:
        elapsed = time.monotonic() - self._started
        return self._count / elapsed if elapsed > 0 else 0.0


class Timer(Instrument):
    """How long and how often. Given in seconds, written in nanoseconds."""

    kind = "timer"

    def __init__(self, sample: Sample | None = None) -> None:
        super().__init__()
        self._durations = Histogram(sample)
        self._meter = Meter()

    def update(self, seconds: float) -> None:
        self._durations.update(round(seconds * 1e9))
        self._meter.mark()

    def update_since(self, start: float) -> None:
        """`start` comes from `time.perf_counter()`."""
        self.update(time.perf_counter() - start)

    @contextmanager
    def time(self) -> Iterator[None]:
        """`with timer.time(): …` – measures also what ends in an exception."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.update_since(start)

    def measure(self) -> Measures:
        return {**self._durations.measure(), **self._meter.rates(), "meanrate": self._meter.mean_rate()}
