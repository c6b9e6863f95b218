"""Profiles that a composition asks for (contract §6.3): `cpu` for the whole case, `heap` on a clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from testground.errors import did_you_mean
from testground.sdk.journal import Logger
from testground.sdk.params import parse_duration

KINDS = ("cpu", "heap")


class Profiles:
    """`cpu.prof` is read by `pstats`, a heap profile by `tracemalloc.Snapshot.load`."""

    def __init__(self, wanted: Mapping[str, str], directory: Path, logger: Logger) -> None:
        self._directory = directory
        self._logger = logger
        self._cpu = "cpu" in wanted
        self._interval = self._heap_interval(wanted.get("heap"))
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None
        for kind in wanted.keys() - set(KINDS):
            logger.warn(f"unknown profile '{kind}'{did_you_mean(kind, KINDS)}")

    def start(self) -> None:
        if self._interval is None:
            return
        import tracemalloc

        tracemalloc.start()
        self._ticker = threading.Thread(target=self._tick, name="testground-heap-profile", daemon=True)
        self._ticker.start()

    def stop(self) -> None:
        """Take the last heap profile: a case that ends before the first tick has one too."""
        self._stop.set()
        if self._ticker is not None:
            self._ticker.join()
            self._dump_heap()

    @contextmanager
    def cpu(self) -> Iterator[None]:
        """Profile the calling thread, which must be the one that the case runs in."""
        if not self._cpu:
            yield
            return
        import cProfile

        self._logger.info("writing cpu profile")
        profile = cProfile.Profile()
        profile.enable()
        try:
            yield
        finally:
            profile.disable()
            self._write("cpu.prof", profile.dump_stats)

    def _heap_interval(self, text: str | None) -> float | None:
        if text is None:
            return None
        try:
            interval = parse_duration(text)
        except ValueError:
            interval = 0
        if interval > 0:
            return interval
        self._logger.warn(f"no heap profiles: '{text}' is not a duration such as 5s")
        return None

    def _tick(self) -> None:
        while not self._stop.wait(self._interval):
            self._dump_heap()

    def _dump_heap(self) -> None:
        import tracemalloc

        stamp = datetime.now().astimezone().isoformat(timespec="seconds")
        self._write(f"heap.{stamp}.prof", tracemalloc.take_snapshot().dump)

    def _write(self, name: str, dump: Callable[[str], object]) -> None:
        try:
            dump(str(self._directory / name))
        except OSError as error:
            self._logger.error("cannot write a profile", file=name, reason=str(error))
