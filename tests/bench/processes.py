"""Servers under measurement: processes of their own, on a core of their own where the system allows it."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LISTENING = re.compile(r"listening.*?:(\d+)")
"""What each of them prints when it can be asked, and its port."""

STOP_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Server:
    pid: int
    port: int


@contextmanager
def started(*argv: str, home: Path | None = None, **environment: str) -> Iterator[Server]:
    """A program that listens, its home a new directory unless given, from its start on pinned to the first core.

    From its start: Go asks once how many cores there are. Raises `RuntimeError` when it ends before it listens.
    """
    with ExitStack() as stack:
        home = home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="testground-bench-")))
        with pinned(0):
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "TESTGROUND_HOME": str(home), **environment},
            )
        stack.callback(_end, process)
        yield Server(process.pid, _port(process))


@contextmanager
def load_on_the_other_core() -> Iterator[None]:
    """Pin this process to the second core, if there is one, and allow it many sockets."""
    with _many_files(), pinned(1):
        yield


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Bind this thread, and what it starts, to one of the cores that we may use; does nothing where that is unknown."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    cores = _cores()
    os.sched_setaffinity(0, {cores[core % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def processor_time(pid: int) -> float | None:
    """Seconds that the threads of a process have used; None where the system does not tell."""
    paths = list(Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(int(path.read_text().split()[0]) for path in paths) / 1e9 if paths else None


def resident(pid: int, figure: str = "VmRSS") -> float:
    """Resident memory of a process in MiB, or with `VmHWM` the most it had; 0 where the system does not tell."""
    path = Path(f"/proc/{pid}/status")
    found = re.search(rf"{figure}:\s+(\d+) kB", path.read_text()) if path.exists() else None
    return int(found[1]) / 1024 if found else 0.0


@contextmanager
def _many_files() -> Iterator[None]:
    """Also for the processes started meanwhile."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 16384 if most == resource.RLIM_INFINITY else min(16384, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def _cores() -> list[int]:
    if not _ALL_CORES:
        _ALL_CORES.extend(sorted(os.sched_getaffinity(0)))
    return _ALL_CORES


_ALL_CORES: list[int] = []


def _port(process: subprocess.Popen[str]) -> int:
    """Of a process that is starting; all that it prints later is read and dropped, so that it never waits for us."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if found := LISTENING.search(line):
            threading.Thread(target=_drop, args=(process.stdout,), daemon=True).start()
            return int(found[1])
    process.stdout.close()
    raise RuntimeError(f"{process.args} ended before it listened:\n{''.join(said)}")


def _drop(stream: IO[str]) -> None:
    with stream:
        deque(stream, maxlen=0)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
