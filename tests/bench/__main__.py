"""`python -m tests.bench [--strict] [name …]`: run `bench_<name>.py` of this directory and print their figures.

With `--strict` the exit code is 1 when a target is missed; without it, the figures of a noisy machine are only shown.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

import tests.bench
from tests.bench.row import Row, number


def main() -> int:
    found = sorted(name.removeprefix("bench_") for name in _modules() if name.startswith("bench_"))
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure speed and size.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"which to run, of: {', '.join(found)} (default: all)")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(found))
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}; there is: {', '.join(found)}")
    missed = False
    for name in options.names or found:
        rows = importlib.import_module(f"tests.bench.bench_{name}").bench()
        Console(width=110).print(_table(name, rows))
        missed = missed or any(row.ok is False for row in rows)
    return 1 if missed and options.strict else 0


def _modules() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(tests.bench.__path__)]


def _table(title: str, rows: Sequence[Row]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", expand=True)
    table.add_column("figure")
    for column in ("value", "target"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        table.add_row(row.name, f"{number(row.value)} {row.unit}".strip(), row.target, _mark(row.ok))
    return table


def _mark(ok: bool | None) -> str:
    return {True: "[green]ok[/]", False: "[red]missed[/]", None: ""}[ok]


if __name__ == "__main__":
    raise SystemExit(main())
