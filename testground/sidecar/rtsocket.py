"""Conversations with the kernel's routing socket in any network namespace.

The kernel carries a request out before `send` returns, so the answer is there at once: nothing waits, and an event
loop may call this. Opening one costs a thread for a tenth of a millisecond.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from testground.sidecar.netlink import ACK, DUMP, REQUEST

_CLONE_NEWNET = 0x40000000
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_SIOCGSKNS = 0x894C
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR, _DONE = 2, 3
_ACK_TLVS = 0x200
_EXT_ACK_MESSAGE = 1
_SECONDS = 5
_NEWS_OF_LINKS = 1

T = TypeVar("T")


class RoutingSocket:
    """A routing socket of one network namespace. Requests raise `OSError` with the kernel's own words."""

    def __init__(self, netns: int | None = None) -> None:
        """`netns` is a file descriptor, which is not kept; None: the namespace of the process."""
        self._socket = _open() if netns is None else inside(netns, _open)
        self._sequence = 0

    def request(self, message: bytes) -> None:
        """Have one encoded message carried out; its header is completed here."""
        for _ in self._converse(message, REQUEST | ACK):
            pass

    def dump(self, message: bytes) -> list[bytes]:
        """The objects that a message asks for, each as a message."""
        return list(self._converse(message, REQUEST | DUMP))

    def get(self, message: bytes) -> bytes:
        """The one object that a message asks for, as a message."""
        return next(iter(list(self._converse(message, REQUEST | ACK))))

    def inside(self, call: Callable[[], T]) -> T:
        """Call something within the namespace."""
        netns = fcntl.ioctl(self._socket, _SIOCGSKNS)
        try:
            return inside(netns, call)
        finally:
            os.close(netns)

    def close(self) -> None:
        self._socket.close()

    def _converse(self, message: bytes, flags: int) -> Iterator[bytes]:
        self._sequence += 1
        self._socket.send(numbered(self._sequence, message, flags))
        while True:
            for kind, answer_flags, sequence, answer in _messages(self._socket.recv(1 << 16)):
                if sequence != self._sequence:  # the rest of an answer that was given up
                    continue
                if kind == _ERROR:
                    _raise_for(answer, answer_flags)
                    return
                if kind == _DONE:
                    return
                yield answer


def inside(netns: int, call: Callable[[], T]) -> T:
    """Call something within a network namespace, in a thread that ends with it."""
    results: list[T] = []
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            _setns(netns)
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=enter, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def numbered(sequence: int, message: bytes, flags: int = REQUEST | ACK) -> bytes:
    """An encoded message, ready to be sent; what answers it has its number."""
    _, kind, given, _, _ = _HEADER.unpack_from(message)
    return _HEADER.pack(len(message), kind, given | flags, sequence, 0) + message[_HEADER.size :]


def requested(kind: int, flags: int, message: bytes) -> bytes:
    """Another request about the object of a message."""
    return _HEADER.pack(len(message), kind, flags, 0, 0) + message[_HEADER.size :]


def acknowledged(data: bytes) -> Iterator[tuple[int, int]]:
    """The number and the error code, 0 for none, of each request that is answered here."""
    for kind, _, sequence, answer in _messages(data):
        if kind == _ERROR:
            yield sequence, _code(answer)


@contextmanager
def tolerated(number: int) -> Iterator[None]:
    """Let the one error pass that says that all is as it should be."""
    try:
        yield
    except OSError as error:
        if error.errno != number:
            raise


def open_news_of_links() -> socket.socket:
    """A socket that receives something whenever a link of the namespace changes."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    opened.bind((0, _NEWS_OF_LINKS))
    return opened


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of each of some attributes."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    opened.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
    opened.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
    opened.settimeout(_SECONDS)
    opened.bind((0, 0))
    return opened


def _setns(netns: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(netns, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"cannot enter the network namespace: {os.strerror(number)}")


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        yield kind, flags, sequence, data[offset : offset + length]
        offset += (length + 3) & ~3


def _code(answer: bytes) -> int:
    """An acknowledgement is an error with the number 0."""
    return -int(struct.unpack_from("=i", answer, _HEADER.size)[0])


def _raise_for(answer: bytes, flags: int) -> None:
    """What follows the error number is an echo of the request's header, and what the kernel says."""
    number = _code(answer)
    if not number:
        return
    said = ""
    if flags & _ACK_TLVS:
        for kind, content in attributes(answer[_HEADER.size + 4 + _HEADER.size :]):
            if kind == _EXT_ACK_MESSAGE:
                said = content.rstrip(b"\0").decode("utf-8", "replace")
    raise OSError(number, f"{os.strerror(number)} ({said})" if said else os.strerror(number))
