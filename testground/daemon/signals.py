"""Signals of a daemon that owns its process: the first asks it to stop, a second one ends it at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType

import anyio

SHUTDOWN_SECONDS = 30
"""From the first signal to the end of the process, however much is left to clean up (client-daemon §6.1)."""

EXIT_INTERRUPTED = 255

log = logging.getLogger(__name__)


@contextlib.contextmanager
def setting(stop: anyio.Event) -> Iterator[None]:
    """Set `stop` at the first signal. Main thread only.

    Plain handlers, not those of the event loop: there is no moment without one, and a loop that hangs cannot keep the
    process from a second signal.
    """
    loop = asyncio.get_running_loop()
    timer = threading.Timer(SHUTDOWN_SECONDS, os._exit, [EXIT_INTERRUPTED])
    timer.daemon = True
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received:
            os._exit(EXIT_INTERRUPTED)
        received.append(number)
        loop.call_soon_threadsafe(begin, number)

    def begin(number: int) -> None:
        log.info("received %s; a second signal ends the daemon at once", signal.Signals(number).name)
        timer.start()
        stop.set()

    with _waking(loop):
        before = [(number, signal.signal(number, handle)) for number in _wanted()]
        try:
            yield
        finally:
            timer.cancel()
            for number, handler in before:
                signal.signal(number, handler)


@contextlib.contextmanager
def _waking(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Have signals wake the loop. One that comes just before it goes to sleep would be handled when it wakes by itself,
    which is never when there is nothing to do.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for end in (ours, theirs):
            end.setblocking(False)
        loop.add_reader(ours, ours.recv, 64)
        before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            loop.remove_reader(ours)


def _wanted() -> tuple[signal.Signals, ...]:
    """Not SIGHUP when it is ignored: that is what nohup asks for."""
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return (signal.SIGINT, signal.SIGTERM)
    return (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
