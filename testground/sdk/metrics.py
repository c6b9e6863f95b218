"""Metrics of a plan: `env.R()` for results, `env.D()` for diagnostics (contract §2.7, §5.5).

Points are written at once. Aggregates are harvested on a clock, and a last time when the instance ends, so that a short
run loses nothing. A name may carry tags: `latency,peer=a,dir=in`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from testground.sdk.instruments import (
    Counter,
    Ewma,
    FunctionGauge,
    Gauge,
    Histogram,
    Instrument,
    Measures,
    Meter,
    Timer,
)
from testground.sdk.journal import Logger
from testground.sdk.samples import Sample

Kind = TypeVar("Kind", bound=Instrument)
Line = dict[str, Any]


class Metrics:
    """One of the two sets of metrics. Usable from every thread.

    Asking twice for a name gives the same metric; asking for it as another kind is a `TypeError`.
    """

    def __init__(self, logger: Logger, frequency: float) -> None:
        self.listeners: list[Callable[[Line], None]] = []
        self._logger = logger
        self._frequency = frequency
        self._instruments: dict[str, Instrument] = {}
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._harvesting = threading.Lock()
        self._file: BinaryIO | None = None
        self._opened = False
        self._ticking = False

    def record_point(self, name: str, value: float) -> None:
        """One value, now."""
        self._write("point", name, {"value": value})

    def counter(self, name: str) -> Counter:
        return self._registered(name, Counter, Counter)

    def gauge(self, name: str) -> Gauge:
        return self._registered(name, Gauge, Gauge)

    def gauge_f(self, name: str, function: Callable[[], float]) -> FunctionGauge:
        """A gauge that asks `function`, which must be quick and safe to call from another thread."""
        return self._registered(name, FunctionGauge, lambda: FunctionGauge(function))

    def histogram(self, name: str, sample: Sample | None = None) -> Histogram:
        """Over an exponentially decaying sample, unless another one is given."""
        return self._registered(name, Histogram, lambda: Histogram(sample))

    def resetting_histogram(self, name: str, sample: Sample | None = None) -> Histogram:
        """Each harvest tells of the values since the one before."""
        return self._registered(name, Histogram, lambda: Histogram(sample, resetting=True))

    def meter(self, name: str) -> Meter:
        return self._registered(name, Meter, Meter)

    def timer(self, name: str, sample: Sample | None = None) -> Timer:
        return self._registered(name, Timer, lambda: Timer(sample))

    def ewma(self, name: str, alpha: float) -> Ewma:
        return self._registered(name, Ewma, lambda: Ewma(alpha))

    def set_frequency(self, seconds: float) -> None:
        """Seconds between harvests; zero and less leaves only the last one."""
        with self._wake:
            self._frequency = seconds
            self._wake.notify_all()

    def harvest(self) -> None:
        """Write a line for each aggregate now."""
        with self._harvesting:
            with self._lock:
                instruments = list(self._instruments.items())
            for name, instrument in instruments:
                self._measure(name, instrument)

    def open(self, file: Path | None) -> None:
        """Write to `file` from now on, and start the clock. Raises `OSError`."""
        self._file = file.open("ab", buffering=0) if file else None
        with self._lock:
            self._opened = True
            self._start_ticking()

    def close(self) -> None:
        """Harvest a last time."""
        with self._wake:
            if not self._opened:
                return
            self._opened = False
            self._wake.notify_all()
        self.harvest()
        with self._lock:
            file, self._file = self._file, None
        if file is not None:
            file.close()

    def _registered(self, name: str, kind: type[Kind], create: Callable[[], Kind]) -> Kind:
        with self._lock:
            found = self._instruments.get(name)
            if found is None:
                found = self._instruments[name] = create()
                self._start_ticking()
        if not isinstance(found, kind):
            raise TypeError(f"the metric '{name}' is a {found.kind} already")
        return found

    def _start_ticking(self) -> None:
        if self._opened and self._instruments and not self._ticking:
            self._ticking = True
            threading.Thread(target=self._tick, name="testground-harvest", daemon=True).start()

    def _tick(self) -> None:
        while True:
            with self._wake:
                changed = self._opened and self._wake.wait(self._frequency if self._frequency > 0 else None)
                if not self._opened:
                    return
            if not changed:
                self.harvest()

    def _measure(self, name: str, instrument: Instrument) -> None:
        try:
            self._write(instrument.kind, name, instrument.measure())
        except Exception as error:  # a gauge's function is the plan's: its fault must not end the others' harvest
            self._logger.warn("a metric could not be read", metric=name, error=repr(error))

    def _write(self, kind: str, name: str, measures: Measures) -> None:
        finite = {key: _number(value) for key, value in sorted(measures.items()) if math.isfinite(value)}
        if len(finite) < len(measures):
            self._logger.warn("a metric is not a finite number", metric=name)
        if not finite:
            return
        line = {"ts": time.time_ns(), "type": kind, "name": name, "measures": finite}
        with self._lock:
            if self._file is not None:
                self._store(self._file, line)
        for listener in self.listeners:
            listener(line)

    def _store(self, file: BinaryIO, line: Line) -> None:
        try:
            file.write(msgspec.json.encode(line) + b"\n")
        except OSError as error:
            self._file = None
            self._logger.error("metrics are no longer written", reason=str(error))


def _number(value: float) -> int | float:
    """JSON as other SDKs write it: no fraction where there is none."""
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else float(value)
