"""Figures as tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.bench.row import Row, number

WIDTH = 110


def show(title: str, rows: Sequence[Row]) -> None:
    """Figures beside their targets."""
    shown = table(title, "figure", "value", "target", "")
    for row in rows:
        shown.add_row(row.name, f"{number(row.value)} {row.unit}".strip(), row.target, mark(row.ok))
    Console(width=WIDTH).print(shown)


def table(title: str, first: str, *others: str) -> Table:
    made = Table(title=title, title_justify="left", title_style="bold", expand=True)
    made.add_column(first)
    for column in others:
        made.add_column(column, justify="right" if column else "left", no_wrap=True)
    return made


def mark(ok: bool | None) -> str:
    return {True: "[green]ok[/]", False: "[red]missed[/]", None: ""}[ok]
