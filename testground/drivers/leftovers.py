"""Processes that outlive their run: found by what a runner put into their environment, and ended.

Children inherit the environment, so this also finds what left its process group. Standard library only: the reaper
process runs this file without the rest of the package.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_PROC = Path("/proc")


def kill(run_ids: Sequence[str], *, deadline: float = 5.0) -> list[int]:
    """SIGKILL every process of these runs, again until none is left or `deadline` seconds have passed.

    Returns the ids of the processes it ended. Blocks: call it in a thread. A process that replaced its environment is
    not found.
    """
    ended: list[int] = []
    end = time.monotonic() + deadline
    while found := [pid for pid in _of_runs(run_ids) if pid != os.getpid()]:
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended.extend(pid for pid in found if pid not in ended)
        if time.monotonic() > end:
            break
    return ended


def _of_runs(run_ids: Sequence[str]) -> Iterator[int]:
    if not run_ids:
        return
    ids = b"|".join(re.escape(run_id.encode()) for run_id in run_ids)
    marker = re.compile(rb"(?:^|[\0 ])TEST_RUN=(?:" + ids + rb")(?:[\0 ]|$)")
    for pid, environment in _from_proc() if _PROC.joinpath("self/environ").exists() else _from_ps():
        if marker.search(environment):
            yield pid


def _from_proc() -> Iterator[tuple[int, bytes]]:
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's; a zombie's is empty
            yield int(entry.name), entry.joinpath("environ").read_bytes()


def _from_ps() -> Iterator[tuple[int, bytes]]:
    """macOS and the BSDs: `ps` shows the environment of one's own processes."""
    listing = subprocess.run(["ps", "-axEww", "-o", "pid=,command="], capture_output=True, check=False).stdout
    for line in listing.splitlines():
        pid, _, rest = line.strip().partition(b" ")
        if pid.isdigit():
            yield int(pid), rest
