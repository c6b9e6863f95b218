"""`python -m tests.bench.network [--strict] [links|throughput|changes|runs …]`: isolated networks, measured.

What links do beside what was asked of them, how fast they are unshaped, how soon changes are in force, and how long
runs of hundreds of instances take to begin and end. Takes three minutes. Instances on the Go SDK need go, latency and
loss a kernel with netem or user-mode Linux; what is not there is said and left out. With `--strict` the exit code is 1
when a target is missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Iterator

import anyio

from testground.runners import isolated_network
from tests.bench import network_changes, network_links, network_runs, tables
from tests.bench.row import Row


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.network", description="Measure isolated networks.")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"which, of: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args()
    if unknown := sorted(set(options.parts) - set(PARTS)):
        parser.error(f"no part named {', '.join(unknown)}; there is: {', '.join(PARTS)}")
    possible, how = anyio.run(isolated_network.possible)
    if not possible:
        parser.exit(2, f"no isolated networks on this machine: {how}\n")
    load = os.getloadavg()[0]
    if load > 1:
        print(f"others keep this machine busy: its load is {load:.1f}")
    met = [PARTS[name]() for name in options.parts or PARTS]
    return 1 if options.strict and not all(met) else 0


def _runs() -> Iterator[Row]:
    go = shutil.which("go") is not None
    if not go:
        print("runs of Go instances are not measured: no go toolchain")
    return network_runs.bench(go)


def _shown(title: str, bench: Callable[[], Iterator[Row]]) -> Callable[[], bool]:
    def show() -> bool:
        rows = list(bench())
        tables.show(title, rows)
        return all(row.ok is not False for row in rows)

    return show


PARTS: dict[str, Callable[[], bool]] = {
    "links": network_links.bench,
    "throughput": _shown("throughput", network_links.throughput),
    "changes": _shown("changes of links, from a call of the Python SDK to its return", network_changes.bench),
    "runs": _shown("runs, by the daemon's clock", _runs),
}

if __name__ == "__main__":
    raise SystemExit(main())
