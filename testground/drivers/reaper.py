"""A watchman for the day the daemon is killed with -9: a small child process that ends what the daemon's runs started.

The daemon tells it over a pipe which runs are under way. When the pipe closes, because the daemon is gone in whatever
way, the reaper kills their processes, removes their temporary directories and exits.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

from testground.drivers import leftovers


class Reaper:
    """The daemon's side. Started by the first `watch`; never a reason for a run to fail."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, run_id: str, directory: Path) -> None:
        """From now on the run's processes and its temporary `directory` are removed if this process dies."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._tell(f"+{run_id} {directory}\n")

    def forget(self, run_id: str) -> None:
        """The run has ended and cleaned up behind itself."""
        self._tell(f"-{run_id}\n")

    def close(self) -> None:
        """End the reaper; whatever it still watches is removed. Blocks for as long as that takes, at most 10 s."""
        if self._process is None:
            return
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._process.communicate(timeout=10)
        self._process = None

    def _tell(self, line: str) -> None:
        if self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(OSError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


def main(orders: IO[bytes]) -> None:
    """The reaper process: read orders until their end, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched: dict[str, str] = {}
    for line in orders:
        run_id, _, directory = line[1:].decode().rstrip("\n").partition(" ")
        if line.startswith(b"+"):
            watched[run_id] = directory
        else:
            watched.pop(run_id, None)
    leftovers.kill(list(watched))
    for directory in watched.values():
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(sys.stdin.buffer)
