"""Python 3.11 only: a child watcher that needs neither threads nor the main thread's loop, as 3.12 has it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TypeVarTuple, Unpack

Ts = TypeVarTuple("Ts")


class PidfdWatcher(asyncio.AbstractChildWatcher):
    """Waits for a child with a pidfd in the loop that started it."""

    def __enter__(self) -> PidfdWatcher:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def is_active(self) -> bool:
        return True

    def close(self) -> None:
        return None

    def attach_loop(self, loop: asyncio.AbstractEventLoop | None) -> None:
        return None

    def add_child_handler(self, pid: int, callback: Callable[[int, int, Unpack[Ts]], object], *args: *Ts) -> None:
        loop = asyncio.get_running_loop()
        pidfd = os.pidfd_open(pid)
        loop.add_reader(pidfd, self._ended, loop, pidfd, pid, callback, args)

    def remove_child_handler(self, pid: int) -> bool:
        """Never called by the loops that use pidfds: the handler goes when the child does."""
        return False

    def _ended(
        self,
        loop: asyncio.AbstractEventLoop,
        pidfd: int,
        pid: int,
        callback: Callable[[int, int, Unpack[Ts]], object],
        args: tuple[*Ts],
    ) -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:
            code = 255  # reaped by somebody else, as in asyncio's own watchers
        callback(pid, code, *args)
