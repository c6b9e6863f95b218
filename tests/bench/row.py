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
    """A figure of ours beside the same of the Go programs."""

    name: str
    ours: float
    go: float
    unit: str
    more_is_better: bool

    @property
    def ratio(self) -> float:
        """How many times better ours is; ahead above 1. Both figures are above 0."""
        return self.ours / self.go if self.more_is_better else self.go / self.ours


def more(name: str, ours: float, go: float, unit: str) -> Comparison:
    return Comparison(name, ours, go, unit, True)


def less(name: str, ours: float, go: float, unit: str) -> Comparison:
    return Comparison(name, ours, go, unit, False)


def number(value: float) -> str:
    """As people read it."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.3g}"
