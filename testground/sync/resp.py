"""RESP 2, the wire format of Redis: commands in, replies out. Pure, no I/O.

Only for SDKs from before the websocket service; see `redis`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

MAX_ARGUMENTS = 1024
MAX_COMMAND = 1 << 17
"""Bytes of all arguments of a command: some times a message (32 KiB)."""

NIL = b"$-1\r\n"
NIL_ARRAY = b"*-1\r\n"
OK = b"+OK\r\n"

_MAX_LINE = 32
"""Bytes of a length: more digits than any valid one has."""


class RespError(Exception):
    """Bytes that are no command; the connection cannot go on."""


class Parser:
    """Takes bytes as they come, cut anywhere, and gives whole commands."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._arguments: list[bytes] = []
        self._missing = 0
        self._room = 0
        self._length: int | None = None

    def feed(self, data: bytes) -> Iterator[list[bytes]]:
        """The commands that `data` completes. Raises `RespError`, after the commands before it."""
        self._buffer += data
        while (command := self._next()) is not None:
            if command:
                yield command

    def _next(self) -> list[bytes] | None:
        """A command, an empty list for an empty one, or None while there is more to come."""
        if not self._missing:
            count = self._read_length(b"*", MAX_ARGUMENTS)
            if count is None:
                return None
            self._arguments, self._missing, self._room = [], count, MAX_COMMAND
        while self._missing:
            argument = self._read_argument()
            if argument is None:
                return None
            self._arguments.append(argument)
            self._missing -= 1
        return self._arguments

    def _read_argument(self) -> bytes | None:
        if self._length is None:
            self._length = self._read_length(b"$", self._room)
        if self._length is None or len(self._buffer) < self._length + 2:
            return None
        argument = bytes(self._buffer[: self._length])
        if self._buffer[self._length : self._length + 2] != b"\r\n":
            raise RespError("an argument that does not end where its length says")
        del self._buffer[: self._length + 2]
        self._room -= self._length
        self._length = None
        return argument

    def _read_length(self, mark: bytes, most: int) -> int | None:
        if self._buffer and not self._buffer.startswith(mark):
            raise RespError(f"expected '{mark.decode()}', got {bytes(self._buffer[:1])!r}")
        end = self._buffer.find(b"\r\n", 0, _MAX_LINE)
        if end < 0:
            if len(self._buffer) >= _MAX_LINE:
                raise RespError("a length without an end")
            return None
        digits = bytes(self._buffer[1:end])
        if not digits.isdigit() or int(digits) > most:
            raise RespError(f"{digits!r} is no length from 0 to {most}")
        del self._buffer[: end + 2]
        return int(digits)


def integer(value: int) -> bytes:
    return b":%d\r\n" % value


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def array(items: Iterable[bytes]) -> bytes:
    """Of items that are replies themselves."""
    encoded = list(items)
    return b"*%d\r\n" % len(encoded) + b"".join(encoded)


def simple(text: str) -> bytes:
    return b"+%b\r\n" % _line(text)


def error(text: str, code: str = "ERR") -> bytes:
    return b"-%b %b\r\n" % (code.encode(), _line(text))


def _line(text: str) -> bytes:
    return text.replace("\r", " ").replace("\n", " ").encode()
