"""How long a change of a link takes: from the call to its return, through the sync service and the sidecar."""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.bench.home import CHECKOUT, Home, opened, task
from tests.bench.row import Row, below

ACKNOWLEDGED_MS = 10.0
ALONE = 200
INSTANCES, TOGETHER = 20, 20
"""How many change at once, and how often each."""

MANIFEST = """
name = "changes"
[builders."exec:generic"]
artifact = "plan.py"
[runners."local:exec"]
[[testcases]]
name = "ok"
instances = { min = 2, max = 1000 }
[testcases.params]
alone = { type = "int" }
together = { type = "int" }
"""
PLAN = Path(__file__).parent / "plans" / "changes.py"
START = f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(CHECKOUT)!r})\n"


def bench() -> Iterator[Row]:
    with opened({"changes": {"manifest.toml": MANIFEST, "plan.py": START + PLAN.read_text()}}) as home:
        took = _took(home)
    yield _within("the first change of a run, acknowledged", took["first alone"][0])
    yield _within(f"{ALONE} changes of one instance: median", statistics.median(took["alone"]))
    yield _within("  99th percentile", _percentile(took["alone"], 99))
    yield _within(f"first changes of {INSTANCES} instances at once: median", statistics.median(took["first together"]))
    yield Row("  the slowest", max(took["first together"]), "ms")
    together = took["together"]
    yield _within(f"{INSTANCES} instances, {TOGETHER} changes each, at once: median", statistics.median(together))
    yield Row("  99th percentile", _percentile(together, 99), "ms")


def _took(home: Home) -> dict[str, list[float]]:
    parameters = (f"--test-param=alone={ALONE}", f"--test-param=together={TOGETHER}")
    _, output = home.single("changes", "exec:generic", INSTANCES + 1, "--run-cfg", "network=isolated", *parameters)
    found: dict[str, list[float]] = defaultdict(list)
    for path in home.outputs("changes", task(output), "took.json"):
        for what, times in json.loads(path.read_text()).items():
            found[what] += times
    return found


def _within(name: str, milliseconds: float) -> Row:
    return below(name, milliseconds, ACKNOWLEDGED_MS, "ms")


def _percentile(times: list[float], percent: int) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[percent - 1]
