"""Network namespaces for tests: one that is nobody's, and all those that processes live in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def foreign_namespace() -> Iterator[str]:
    """Of a process that has nothing to do with testground."""
    root = str(Path(__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", FOREIGN, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


FOREIGN = """
import os, sys
sys.path.insert(0, sys.argv[1])
from testground.drivers import launcher
try:
    launcher.unshare("a network namespace", launcher.CLONE_NEWNET)
except launcher.Failed:
    launcher.own_user_namespace(launcher.CLONE_NEWNET)
print(os.readlink("/proc/self/ns/net"), flush=True)
sys.stdin.read()
"""


def network_namespaces() -> set[str]:
    """Network namespaces that a process of ours lives in."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                found.add(os.readlink(entry / "ns" / "net"))
            except OSError:
                continue
    return found
