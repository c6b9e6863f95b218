"""A watchman for the day the daemon is killed with -9: a small child process that ends what the daemon's tasks started.

The daemon tells it over a pipe which tasks are under way. When the pipe closes, because the daemon is gone in whatever
way, the reaper kills their processes, removes their temporary directories and exits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

from testground.drivers import leftovers, trees

_PROGRAM = """
import sys
sys.path.append(sys.argv[1])
from testground.drivers import reaper
reaper.main(sys.stdin.buffer)
"""
"""Not `python -m`, which would first look for modules in the directory that the daemon happens to stand in."""

_ROOT = Path(__file__).parents[2]


class Reaper:
    """The daemon's side. Started by the first `watch`; never a reason for a task to fail."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._watched: dict[str, Path | None] = {}

    def watch(self, task_id: str, directory: Path | None = None) -> None:
        """From now on the task's processes and its temporary `directory` are removed if this process dies."""
        directory = self._watched[task_id] = directory or self._watched.get(task_id)
        if self._process is not None and self._process.poll() is None:
            self._tell(_watch_order(task_id, directory))
        else:
            self._start()

    def forget(self, task_id: str) -> None:
        """The task has ended and cleaned up behind itself."""
        if self._watched.pop(task_id, self) is not self:
            self._tell(f"-{task_id}\n".encode())

    def close(self) -> None:
        """End the reaper, unless it still watches. Blocks for as long as that takes, at most 10 s."""
        if self._process is None or self._watched:
            return
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._process.communicate(timeout=10)
        self._process = None

    def _start(self) -> None:
        """Again, if somebody has ended it."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, str(_ROOT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:  # without it, what a killed daemon leaves behind is removed by the next one
            self._process = None
        for task_id, directory in self._watched.items():
            self._tell(_watch_order(task_id, directory))

    def _tell(self, order: bytes) -> None:
        if self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(OSError):
            self._process.stdin.write(order)
            self._process.stdin.flush()


shared = Reaper()
"""One is enough for a process."""


def main(orders: IO[bytes]) -> None:
    """The reaper process: read orders until their end, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched: dict[str, str] = {}
    for line in orders:
        task_id, _, directory = os.fsdecode(line[1:].rstrip(b"\n")).partition(" ")
        if line.startswith(b"+"):
            watched[task_id] = directory
        else:
            watched.pop(task_id, None)
    leftovers.kill(list(watched))
    for directory in filter(None, watched.values()):
        with contextlib.suppress(OSError):
            trees.remove(Path(directory))


def _watch_order(task_id: str, directory: Path | None) -> bytes:
    return b"+%b %b\n" % (task_id.encode(), os.fsencode(directory or ""))
