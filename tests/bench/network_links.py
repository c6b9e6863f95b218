"""Links as they were asked for and as they are: in this kernel if it has netem, else also in user-mode Linux."""

from __future__ import annotations

import itertools
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from testground.sidecar.accuracy import Reading
from tests.bench import links, tables
from tests.bench.home import CHECKOUT
from tests.bench.row import Row, at_least
from tests.uml import boot
from tests.uml.conftest import MODULES

REAL_RATES = (1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
GRID = [asked for asked in itertools.product((0, 5, 50, 200), (0, 1, 10), (0, 1_000_000, 4_000_000)) if any(asked)]
FAST = [(20, 0, 10_000_000), (20, 0, 20_000_000), (20, 0, 50_000_000)]
"""As `links.Asked`. What is fast is more than some processors can do in user-mode Linux."""
SAMPLES = 14
UML_SECONDS = 240
LEAST_SHARE_PERCENT = 80.0
BUSY = 0.25
"""Idle processors, below which a rate is the processor's: there is one in user-mode Linux, as busy as its machine."""
UNITS = {"latency": (1, "ms"), "loss": (1, "%"), "rate": (1e6, "Mbit/s")}


@dataclass(frozen=True, slots=True)
class Cell:
    """One link, with the properties that were asked of it."""

    readings: dict[str, Reading]
    busy: bool

    @property
    def ok(self) -> bool | None:
        """None when it is for the processor that the rate is off."""
        off = {what for what, reading in self.readings.items() if reading.off}
        return None if off == {"rate"} and self.busy else not off


def bench() -> bool:
    """Print the tables; whether all links are as asked."""
    here = f"this kernel, Linux {platform.release()}"
    kernels = {f"{here}: rates of TCP": _cells(_measured("rates", asked=REAL_RATES))}
    if _measured("netem"):
        kernels[f"{here}: latency, loss and rate"] = _cells(_measured("grid", asked=GRID + FAST))
    elif reason := boot.missing():
        print(f"latency and loss are not measured: {here}, has no netem, and {reason}")
    else:
        where = f"user-mode Linux {_uml_release()}, as {here}, has no netem: latency, loss and rate"
        kernels[where] = _cells(_in_user_mode_linux("grid", asked=GRID + FAST))
    for title, cells in kernels.items():
        _show(title, cells)
    return all(cell.ok is not False for cells in kernels.values() for cell in cells)


def throughput() -> Iterator[Row]:
    """Two instances that nobody has shaped, and a bare veth pair, in turns; others only make a sample smaller."""
    samples = _measured("unshaped", samples=SAMPLES)
    instances, bare = (max(side) for side in zip(*samples, strict=True))
    share = 100 * instances / bare
    yield at_least("two unshaped instances beside a bare veth pair, best of each", share, LEAST_SHARE_PERCENT, "%")
    ratios = [100 * ours / theirs for ours, theirs in samples]
    yield Row(f"  median of {len(ratios)} pairs of samples, one after the other", statistics.median(ratios), "%")
    yield Row("  the instances, one TCP connection", instances / 1e9, "Gbit/s")


def _cells(measured: list[dict[str, Any]]) -> list[Cell]:
    return [Cell(links.readings(cell), cell["idle"] < BUSY) for cell in measured]


def _show(title: str, cells: list[Cell]) -> None:
    names = [what for what in UNITS if any(what in cell.readings for cell in cells)]
    shown = tables.table(title, "asked", *(f"{what}, {UNITS[what][1]}" for what in names), "")
    for cell in cells:
        figures = (_got(cell.readings.get(what)) for what in names)
        note = "the processor's" if cell.ok is None else tables.mark(cell.ok)
        shown.add_row(", ".join(map(_asked, cell.readings.values())), *figures, note)
    Console(width=tables.WIDTH).print(shown)


def _asked(reading: Reading) -> str:
    unit, name = UNITS[reading.what]
    return f"{reading.asked / unit:,.4g} {name}"


def _got(reading: Reading | None) -> str:
    return f"{reading.got / UNITS[reading.what][0]:,.4g}" if reading else ""


def _measured(part: str, **arguments: Any) -> Any:
    """By a process that may stay in the network namespaces that it makes."""
    argv = [sys.executable, "-m", "tests.bench.links", part, json.dumps(arguments)]
    done = subprocess.run(argv, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} exited with {done.returncode}")
    return json.loads(done.stdout)


def _in_user_mode_linux(part: str, **arguments: Any) -> Any:
    with tempfile.TemporaryDirectory(prefix="testground-bench-") as scratch:
        return boot.run(
            Path(links.__file__), Path(scratch), MODULES, {"part": part, "arguments": arguments}, seconds=UML_SECONDS
        )


def _uml_release() -> str:
    return max(path.name for path in boot.MODULES.iterdir())
