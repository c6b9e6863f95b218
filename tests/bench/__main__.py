"""`python -m tests.bench [--strict] [name …]`: run `bench_<name>.py` of this directory and print their figures.

With `--strict` the exit code is 1 when a target is missed; without it, the figures of a noisy machine are only shown.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil

import tests.bench
from tests.bench import tables


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
        tables.show(name, rows)
        missed = missed or any(row.ok is False for row in rows)
    return 1 if missed and options.strict else 0


def _modules() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(tests.bench.__path__)]


if __name__ == "__main__":
    raise SystemExit(main())
