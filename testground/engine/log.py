"""The log of a task: a file of progress chunks, one a line (client-daemon §5.8), appended to and followed by event."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO

import anyio
import anyio.lowlevel

from testground.api import rpc

_PIECE = 1 << 16


class TaskLog:
    """Writes the log; is the `Output` of a task's builders and runner. Followers wake at each write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0
        self._grown = anyio.Event()
        self._lost = ""
        self.closed = False
        self._file: int | None = None
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            self._size = _cut_torn_line(self._file)
        except OSError as error:
            self._lose(error)

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
            if self._file is not None:
                os.close(self._file)
            self._grown.set()

    async def follow(self) -> AsyncIterator[bytes]:
        """Whole lines from the start of the log until it is closed; none of a log that somebody has removed."""
        file = None
        with contextlib.suppress(OSError):
            file = self._path.open("rb")
        with file or io.BytesIO() as opened:
            while True:
                grown, closed = self._grown, self.closed
                async for lines in _whole_lines(opened):
                    yield lines
                if closed:
                    return
                await grown.wait()

    def _line(self, level: str, message: str, fields: dict[str, Any]) -> None:
        self.write(rpc.console_line(level, message, fields).encode("utf-8", "replace"))

    def _append(self, chunk: bytes) -> None:
        if self.closed or self._file is None:
            return
        try:
            _write_all(self._file, chunk + b"\n")
        except OSError as error:
            self._lose(error)
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            return
        self._size += len(chunk) + 1
        grown, self._grown = self._grown, anyio.Event()
        grown.set()

    def _lose(self, error: OSError) -> None:
        """A full disk must not end a run that may still succeed."""
        self._lost = f"the log of the task is incomplete: {error.strerror}"


async def pieces(path: Path) -> AsyncIterator[bytes]:
    """The whole lines of a log, as far as it has come. Nothing if there is none."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        async for lines in _whole_lines(file):
            yield lines


async def _whole_lines(file: BinaryIO) -> AsyncIterator[bytes]:
    """From where the file stands to its last line end, where it stands afterwards."""
    parts: list[bytes] = []
    while piece := file.read(_PIECE):
        lines, newline, rest = piece.rpartition(b"\n")
        if newline:
            yield b"".join((*parts, lines, newline))
            parts.clear()
        parts.append(rest)
        await anyio.lowlevel.checkpoint()
    file.seek(-sum(map(len, parts)), os.SEEK_CUR)


def _cut_torn_line(file: int) -> int:
    """What a crash left half-written would spoil the next line. Returns the size of the whole lines."""
    size = whole = end = os.fstat(file).st_size
    while end:
        start = max(0, end - _PIECE)
        whole = start + os.pread(file, end - start, start).rfind(b"\n") + 1
        if whole > start:
            break
        end = start
    if whole != size:
        os.ftruncate(file, whole)
    return whole


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
