"""Signals of a daemon that owns its process: the first asks it to stop, a second one ends it at once."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

import anyio
from anyio.abc import TaskStatus

SHUTDOWN_SECONDS = 30
"""From the first signal to the end of the process, however much is left to clean up (client-daemon §6.1)."""

EXIT_INTERRUPTED = 255

log = logging.getLogger(__name__)


async def watch(stop: anyio.Event, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
    """Set `stop` at the first signal; then guard the shutdown until cancelled. Main thread only."""
    numbers = _wanted()
    with anyio.open_signal_receiver(*numbers) as received:
        task_status.started()
        number = await anext(aiter(received))
    log.info("received %s; a second signal ends the daemon at once", signal.Signals(number).name)
    stop.set()
    with _guarded(numbers):
        await anyio.sleep_forever()


def _wanted() -> Sequence[signal.Signals]:
    """Not SIGHUP when it is ignored: that is what nohup asks for."""
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return (signal.SIGINT, signal.SIGTERM)
    return (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def _guarded(numbers: Sequence[signal.Signals]) -> Iterator[None]:
    """Outside the event loop, so that a loop which hangs cannot keep the process."""
    timer = threading.Timer(SHUTDOWN_SECONDS, os._exit, [EXIT_INTERRUPTED])
    timer.daemon = True
    timer.start()
    before = [(number, signal.signal(number, _exit_at_once)) for number in numbers]
    try:
        yield
    finally:
        timer.cancel()
        for number, handler in before:
            signal.signal(number, handler)


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(EXIT_INTERRUPTED)
