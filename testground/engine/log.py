"""The log of a task: a file of progress chunks, one a line (client-daemon §5.8), appended to and followed by event."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from testground.api import rpc

_PIECE = 1 << 16


class TaskLog:
    """Writes the log; is the `Output` of a task's builders and runner. Followers wake at each write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._size = os.fstat(self._file).st_size
        self._grown = anyio.Event()
        self._lost = ""
        self.closed = False

    def info(self, message: str, **fields: Any) -> None:
        self._line("info", message, fields)

    def warn(self, message: str, **fields: Any) -> None:
        self._line("warn", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        self._line("error", message, fields)

    def write(self, data: bytes) -> None:
        self._append(rpc.progress(data))

    def states(self, group: str, counts: dict[str, int]) -> None:
        self._append(rpc.progress(b"", states={"group": group, **counts}))

    @property
    def lost(self) -> str:
        """Why output is missing from the log, such as a full disk; empty when nothing is."""
        return self._lost

    def close(self) -> None:
        """No more will come; followers end once they have read all."""
        if not self.closed:
            self.closed = True
            os.close(self._file)
            self._grown.set()

    async def follow(self) -> AsyncIterator[bytes]:
        """Whole lines from the start of the log until it is closed."""
        with self._path.open("rb") as file:
            rest = b""
            while True:
                grown, closed = self._grown, self.closed
                while piece := file.read(_PIECE):
                    lines, newline, rest = (rest + piece).rpartition(b"\n")
                    if newline:
                        yield lines + newline
                    await anyio.lowlevel.checkpoint()
                if closed:
                    return
                await grown.wait()

    def _line(self, level: str, message: str, fields: dict[str, Any]) -> None:
        self.write(rpc.console_line(level, message, fields).encode("utf-8", "replace"))

    def _append(self, chunk: bytes) -> None:
        if self.closed:
            return
        try:
            _write_all(self._file, chunk + b"\n")
        except OSError as error:  # a full disk must not end a run that may still succeed
            self._lost = f"the log of the task is incomplete: {error.strerror}"
            os.ftruncate(self._file, self._size)
            return
        self._size += len(chunk) + 1
        grown, self._grown = self._grown, anyio.Event()
        grown.set()


async def pieces(path: Path) -> AsyncIterator[bytes]:
    """The whole lines of a log, as far as it has come. Nothing if there is none."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        rest = b""
        while piece := file.read(_PIECE):
            lines, newline, rest = (rest + piece).rpartition(b"\n")
            if newline:
                yield lines + newline
            await anyio.lowlevel.checkpoint()


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
