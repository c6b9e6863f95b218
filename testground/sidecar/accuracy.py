"""What a link of this machine does, beside what was asked of it: measured on a link made for it, by a child process.

The daemon's side; `calibration` is the child's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import anyio

from testground.drivers import tools
from testground.sidecar.client import SidecarError

SECONDS = 20.0
"""Until the measurement is given up; it takes two."""

MILLISECONDS_OFF, SHARE_OF_LATENCY_OFF, SHARE_OF_RATE_OFF = 1.0, 0.02, 0.05
NEARLY_ALL = 3.291
"""Standard deviations: within them is what comes by chance in 999 of 1000 cases."""

_PROGRAM = """
import sys
sys.path[:] = sys.argv[1].split("\\n")
from testground.sidecar import calibration
calibration.main()
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """A property of a link. Units: milliseconds from here to there and back, bits per second, percent of `packets`."""

    what: Literal["latency", "rate", "loss"]
    asked: float
    got: float
    packets: int = 0
    """How many were sent to measure a loss."""

    @property
    def off(self) -> bool:
        """Whether it is further from what was asked than such a measurement is from the truth."""
        return abs(self.got - self.asked) > self._tolerance

    @property
    def _tolerance(self) -> float:
        if self.what == "latency":
            return max(MILLISECONDS_OFF, self.asked * SHARE_OF_LATENCY_OFF)
        if self.what == "rate":
            return self.asked * SHARE_OF_RATE_OFF
        share = self.asked / 100
        return 100 * NEARLY_ALL * float((share * (1 - share) / self.packets) ** 0.5)

    def __str__(self) -> str:
        asked, got = {
            "latency": (f"{self.asked:.3g} ms", f"{self.got:.3g} ms"),
            "rate": (f"{self.asked / 1e6:.3g} Mbit/s", f"{self.got / 1e6:.3g}"),
            "loss": (f"{self.asked:.3g} % loss", f"{self.got:.3g} % of {self.packets}"),
        }[self.what]
        return f"asked {asked}, got {got}{' (off)' if self.off else ''}"


@dataclass(frozen=True, slots=True)
class Result:
    readings: Sequence[Reading]
    lacking: Sequence[str]
    """What could not be measured, and why."""

    def __str__(self) -> str:
        return "; ".join([*map(str, self.readings), *self.lacking])


async def measure() -> Result:
    """Takes about two seconds. Raises `SidecarError` when it cannot be done."""
    argv = [sys.executable, "-I", "-S", "-c", _PROGRAM, "\n".join(sys.path)]
    with anyio.move_on_after(SECONDS):
        done = await tools.run_tool(argv)
        said = done.output.decode("utf-8", "replace").strip()
        last = said.splitlines()[-1] if said else ""
        if done.returncode:
            raise SidecarError(f"the process that measures exited with code {done.returncode}: {last}")
        return _parse(json.loads(last))
    raise SidecarError(f"it took longer than {SECONDS:g} seconds: this machine is too busy to measure")


def _parse(said: dict[str, Any]) -> Result:
    if error := said.get("refused") or said.get("error"):
        raise SidecarError(error, by_kernel="refused" in said)
    return Result([Reading(**reading) for reading in said["readings"]], said["lacking"])
