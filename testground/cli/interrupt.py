"""Signals while a command waits (client-daemon §6.1): the first one cancels, a second one ends the process at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

SHUTDOWN_SECONDS = 30
"""From the first signal to the end of the process, however much is left to clean up."""

EXIT_INTERRUPTED = 255
WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Raised in the main thread by the first signal. No `Exception`, so that nothing mistakes it for a failure."""


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Signals are ours in the block; not SIGHUP when it is ignored: that is what nohup asks for. Main thread only."""
    before = {number: signal.getsignal(number) for number in WATCHED}
    for number in WATCHED:
        if number != signal.SIGHUP or before[number] != signal.SIG_IGN:
            signal.signal(number, _first)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def release() -> None:
    """Back to the defaults within the block, for commands that handle signals themselves."""
    for number in WATCHED:
        if signal.getsignal(number) == _first:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _first(number: int, frame: FrameType | None) -> NoReturn:
    for watched in WATCHED:
        if signal.getsignal(watched) == _first:
            signal.signal(watched, _again)
    timer = threading.Timer(SHUTDOWN_SECONDS, os._exit, [EXIT_INTERRUPTED])
    timer.daemon = True
    timer.start()
    raise Interrupted(signal.Signals(number).name)


def _again(number: int, frame: FrameType | None) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted twice; leaving at once\n")
    os._exit(EXIT_INTERRUPTED)
