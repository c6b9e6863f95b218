"""`python -m tests.bench.upstream [--strict] [sync|daemon …]`: ours beside the published Go programs, as one table.

Both are started here, on the first core, and get their work from the second. Needs go to build the programs, once
network to fetch them, and port 5050, which the Go sync service cannot change. A ratio says how many times better ours
is, and the target is to be ahead on every row. With `--strict` the exit code is 1 when a row is behind for which there
is no reason given below the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.bench import upstream_daemon, upstream_sync
from tests.bench.row import Comparison, number
from tests.upstream import programs

PARTS = {"sync": upstream_sync.compare, "daemon": upstream_daemon.compare}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.upstream", description="Measure ours beside Go's.")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"which, of: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a row is behind without a known reason")
    options = parser.parse_args()
    if unknown := sorted(set(options.parts) - set(PARTS)):
        parser.error(f"no part named {', '.join(unknown)}; there is: {', '.join(PARTS)}")
    if reason := programs.missing():
        parser.exit(2, f"cannot build upstream's programs: {reason}\n")
    try:
        rows = [row for name in options.parts or PARTS for row in PARTS[name]() if row.known]
    except RuntimeError as error:
        parser.exit(2, f"{error}\n")
    console = Console(width=110)
    console.print(_table(rows))
    missed = [row for row in rows if not row.ahead]
    for row in missed:
        if row.why_behind:
            console.print(f"behind, {row.name.strip()}: {row.why_behind}")
    return 1 if options.strict and not all(row.why_behind for row in missed) else 0


def _table(rows: Sequence[Comparison]) -> Table:
    table = Table(title="ours beside Go's", title_justify="left", title_style="bold", expand=True)
    table.add_column("figure")
    for column in ("ours", "Go", "ratio", "target"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        figures = (f"{number(value)} {row.unit}" for value in (row.ours, row.go))
        target = "" if row.why_behind else "> 1 ×"
        table.add_row(row.name, *figures, f"{number(row.ratio)} ×", target, _mark(row))
    return table


def _mark(row: Comparison) -> str:
    if row.ahead:
        return "[green]ahead[/]"
    return "[yellow]behind[/]" if row.why_behind else "[red]behind[/]"


if __name__ == "__main__":
    raise SystemExit(main())
