"""Processes that outlive their task: found by what a runner or a builder put into their environment, and ended.

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

MARKS = ("TEST_RUN", "TESTGROUND_TASK")
"""Variables that hold the id of the task: of an instance (contract §1.1), and of a build tool."""

_PROC = Path("/proc")


def kill(task_ids: Sequence[str], *, deadline: float = 5.0) -> list[int]:
    """SIGKILL every process of these tasks, again until none is left or `deadline` seconds have passed.

    Returns the ids of the processes it ended. Blocks: call it in a thread. A process that replaced its environment is
    not found.
    """
    ended: list[int] = []
    end = time.monotonic() + deadline
    while found := [pid for pid in _of_tasks(task_ids) if pid != os.getpid()]:
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended.extend(pid for pid in found if pid not in ended)
        if time.monotonic() > end:
            break
    return ended


def _of_tasks(task_ids: Sequence[str]) -> Iterator[int]:
    if not task_ids:
        return
    from_proc = _PROC.joinpath("self/environ").exists()
    end = rb"\0" if from_proc else rb"[\0 ]"  # ps puts a space between variables
    names, ids = (b"|".join(re.escape(text.encode()) for text in texts) for texts in (MARKS, task_ids))
    mark = re.compile(rb"(?:^|%b)(?:%b)=(?:%b)(?:%b|$)" % (end, names, ids, end))
    for pid, environment in _from_proc() if from_proc else _from_ps():
        if mark.search(environment):
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
