"""Healthchecks: enlisted checks are run in order, each with an optional fix, into a report (client-daemon §1.4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from testground.errors import TestgroundError

OK, FAILED, ABORTED, OMITTED, UNNECESSARY = "ok", "failed", "aborted", "omitted", "unnecessary"

Probe = Callable[[], Awaitable[tuple[bool, str]]]
"""Says whether all is well, and a message; an exception means that it could not tell."""

Fix = Callable[[], Awaitable[str]]
"""Mends, and says what it did; an exception means that it could not."""


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    probe: Probe
    fix: Fix | None = None
    on_demand: bool = False
    """Runs do without it: it tells what is possible, to who asks."""


@dataclass(frozen=True, slots=True)
class Item:
    name: str
    status: str
    message: str

    def __str__(self) -> str:
        return f"- {self.name}: {self.status}; {self.message}"


@dataclass(frozen=True, slots=True)
class Report:
    checks: tuple[Item, ...]
    fixes: tuple[Item, ...]

    @property
    def checks_failed(self) -> bool:
        """A check failed and no fix mended it."""
        mended = {fix.name for fix in self.fixes if fix.status == OK}
        return any(check.status in (FAILED, ABORTED) and check.name not in mended for check in self.checks)

    @property
    def fixes_failed(self) -> bool:
        return any(fix.status == FAILED for fix in self.fixes)

    def wire(self) -> dict[str, Any]:
        """CamelCase, `null` for an empty list, as the Go daemon writes it."""
        return {"Checks": _wire(self.checks), "Fixes": _wire(self.fixes)}

    def __str__(self) -> str:
        return "\n".join((*_section("Checks", self.checks), *_section("Fixes", self.fixes)))


async def examine(checks: Sequence[Check], *, fix: bool) -> Report:
    """Run all checks in order; none stops the others. With `fix`, mend what failed."""
    checked: list[Item] = []
    fixed: list[Item] = []
    for check in checks:
        item = await _probe(check)
        checked.append(item)
        if check.fix is None:
            continue
        if fix:
            fixed.append(await _mend(check, check.fix, item))
        elif item.status == FAILED:
            fixed.append(Item(check.name, OMITTED, ""))
    return Report(tuple(checked), tuple(fixed))


def parse(value: dict[str, Any]) -> Report:
    """Read a report off the wire; keys in any letter case, null lists allowed."""
    lowered = {str(key).lower(): items for key, items in value.items()}
    return Report(_items(lowered.get("checks")), _items(lowered.get("fixes")))


async def _probe(check: Check) -> Item:
    try:
        healthy, message = await check.probe()
    except (TestgroundError, OSError) as error:
        return Item(check.name, ABORTED, f"{check.name} could not be checked; error: {error}")
    return Item(check.name, OK if healthy else FAILED, message)


async def _mend(check: Check, fix: Fix, item: Item) -> Item:
    if item.status == OK:
        return Item(check.name, UNNECESSARY, "")
    if item.status == ABORTED:
        return Item(check.name, OMITTED, "")
    try:
        return Item(check.name, OK, await fix())
    except (TestgroundError, OSError) as error:
        return Item(check.name, FAILED, str(error))


def _wire(items: tuple[Item, ...]) -> list[dict[str, str]] | None:
    return [{"Name": i.name, "Status": i.status, "Message": i.message} for i in items] or None


def _items(values: Any) -> tuple[Item, ...]:
    items = []
    for value in values or []:
        lowered = {str(key).lower(): text for key, text in value.items()}
        items.append(Item(*(str(lowered.get(key, "")) for key in ("name", "status", "message"))))
    return tuple(items)


def _section(title: str, items: tuple[Item, ...]) -> list[str]:
    if not items:
        return ["No checks made." if title == "Checks" else "No fixes applied."]
    return [f"{title}:", *map(str, items)]
