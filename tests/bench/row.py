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
