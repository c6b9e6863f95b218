"""Servers under measurement: processes of their own, on a core of their own where the system allows it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def started(*argv: str) -> Iterator[subprocess.Popen[str]]:
    """This Python with `argv`, its output in a pipe, its home a new directory; pinned to the first core."""
    with tempfile.TemporaryDirectory(prefix="testground-bench-") as home:
        env = {**os.environ, "TESTGROUND_HOME": home}
        process = subprocess.Popen([sys.executable, *argv], stdout=subprocess.PIPE, text=True, env=env)
        try:
            pin(0, process.pid)
            yield process
        finally:
            process.kill()
            process.communicate()


@contextmanager
def load_on_the_other_core() -> Iterator[None]:
    """Pin this process to the second core, if there is one, and allow it many sockets."""
    allow_many_files()
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    pin(1, 0)
    try:
        yield
    finally:
        if before:
            os.sched_setaffinity(0, before)


def pin(core: int, pid: int) -> None:
    """Bind a process to one of the cores that we may use; does nothing where that is not known."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = _cores()
    os.sched_setaffinity(pid, {cores[core % len(cores)]})


def allow_many_files() -> None:
    """Also for the processes started from here."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 16384 if most == resource.RLIM_INFINITY else min(16384, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def processor_time(pid: int) -> float | None:
    """Seconds that a process has used; None where the system does not tell."""
    path = Path(f"/proc/{pid}/schedstat")
    return int(path.read_text().split()[0]) / 1e9 if path.exists() else None


def _cores() -> list[int]:
    if not _ALL_CORES:
        _ALL_CORES.extend(sorted(os.sched_getaffinity(0)))
    return _ALL_CORES


_ALL_CORES: list[int] = []
