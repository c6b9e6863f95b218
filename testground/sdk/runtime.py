"""Gauges of the Python runtime, harvested with the diagnostics."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from pathlib import Path

from testground.sdk.metrics import Metrics

_STATM = Path("/proc/self/statm")


def register(metrics: Metrics) -> None:
    """Memory in bytes, processor time in seconds; cheap enough for every harvest."""
    metrics.gauge_f("runtime.rss", _resident_bytes)
    metrics.gauge_f("runtime.cpu", time.process_time)
    metrics.gauge_f("runtime.threads", threading.active_count)
    metrics.gauge_f("runtime.gc.collections", lambda: sum(generation["collections"] for generation in gc.get_stats()))
    metrics.gauge_f("runtime.gc.collected", lambda: sum(generation["collected"] for generation in gc.get_stats()))


def _resident_bytes() -> float:
    """Now, where the system tells; the most it ever was, elsewhere."""
    try:
        return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return _largest_resident_bytes()


def _largest_resident_bytes() -> float:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
