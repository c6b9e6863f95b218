"""A manifest in words (client-daemon §6.4)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from testground.api.manifest import Manifest, TestCase

COLUMNS = ("NAME", "TYPE", "DESCRIPTION", "UNIT", "DEFAULT")


def of(manifest: Manifest) -> str:
    """What `testground describe` prints."""
    cases = manifest.testcases or []
    paragraphs = (
        f'This test plan is called "{manifest.name}".',
        f"It can be built with strategies: {_listed(manifest.builders)}.",
        f"It can be run with strategies: {_listed(manifest.runners)}.",
        f"It has {len(cases)} test cases.",
        "\n".join(("TEST CASES:", "----------", *(line for case in cases for line in _case(case)))),
    )
    return "\n\n".join(paragraphs)


def _listed(names: Iterable[str] | None) -> str:
    return f"[{' '.join(sorted(names or ()))}]"


def _case(case: TestCase) -> Iterator[str]:
    yield f"- Test case: {case.name}"
    yield "  Instances:"
    yield f"    minimum: {case.instances.minimum}"
    yield f"    maximum: {case.instances.maximum}"
    yield "  Parameters:"
    parameters = case.parameters or {}
    rows = [(name, p.type, p.description, p.unit, _text(p.default)) for name, p in sorted(parameters.items())]
    yield from _table((COLUMNS, *rows))


def _text(default: Any) -> str:
    if default is None:
        return ""
    return default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "    | " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
