"""A figure beside its target."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """`ok` is None for a figure that has no target, or none on this machine."""

    name: str
    value: float
    unit: str = ""
    target: str = ""
    ok: bool | None = None


def at_least(name: str, value: float, bound: float, unit: str = "") -> Row:
    return Row(name, value, unit, f"≥ {bound:,g} {unit}".strip(), value >= bound)


def below(name: str, value: float, bound: float, unit: str = "") -> Row:
    return Row(name, value, unit, f"< {bound:,g} {unit}".strip(), value < bound)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A figure of ours beside the same of the Go programs. Target is to be ahead, unless `why_behind` says why not."""

    name: str
    ours: float
    go: float
    unit: str
    more_is_better: bool
    why_behind: str = ""

    @property
    def known(self) -> bool:
        """Not where the system tells no memory, or no processor time: both are 0 then."""
        return self.ours > 0 and self.go > 0

    @property
    def ratio(self) -> float:
        """How many times better ours is; above 1 is ahead."""
        return self.ours / self.go if self.more_is_better else self.go / self.ours

    @property
    def ahead(self) -> bool:
        return self.ratio > 1


def more(name: str, ours: float, go: float, unit: str) -> Comparison:
    return Comparison(name, ours, go, unit, True)


def less(name: str, ours: float, go: float, unit: str, why_behind: str = "") -> Comparison:
    return Comparison(name, ours, go, unit, False, why_behind)


def number(value: float) -> str:
    """As people read it."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.3g}"
