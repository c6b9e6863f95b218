"""Measures the way from one instance to another: how long it takes, what arrives, and how fast."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Protocol

ROOM = 1 << 24
"""Bytes that may wait for a receiver; only root of the machine gets so many."""
LOT = 100
"""Packets sent before those that have come are read: as many as others than root have room for."""
QUIET_SECONDS = 0.3
"""After as long without an arrival, nothing more comes."""
AGAIN_SECONDS, ATTEMPTS = 0.05, 200

_ETHERNET, _IP_AND_UDP, _IP_AND_TCP = 14, 28, 52
_SO_RCVBUFFORCE = 33
_MOST = 1 << 18
"""Bytes handed over at a time: on an unlimited link, the kernel and not this program takes the time."""
_DATAGRAM = 1200
_PAUSE_SECONDS = 0.01


class End(Protocol):
    """Of the way; a `Peer`."""

    @property
    def ip(self) -> str: ...

    def socket(self, kind: int = ...) -> socket.socket:
        """With a timeout, which is an error of the measurement."""
        ...


def meet(here: End, there: End) -> None:
    """Return once packets get through, both ways: links that were just made lose some."""
    for sender, taker in ((here, there), (there, here)):
        with receiver(taker) as ear, receiver(sender) as mouth:
            ear.settimeout(AGAIN_SECONDS)
            _knock(mouth, ear)


def round_trip(here: End, there: End, count: int = 11) -> float:
    """Milliseconds. The shortest is the link's: a busy machine only adds to it."""
    return min(trips(here, there, count))


def trips(here: End, there: End, count: int) -> list[float]:
    """Milliseconds of each."""
    times = []
    with receiver(there) as echo, receiver(here) as caller:
        for _ in range(count):
            began = time.perf_counter()
            caller.sendto(b"ping", echo.getsockname())
            echo.sendto(*echo.recvfrom(100))
            caller.recv(100)
            times.append((time.perf_counter() - began) * 1000)
    return times


def arrivals(here: End, there: End, count: int, *, seconds: float = 0) -> list[int]:
    """The numbers of as many numbered packets, in the order in which they come, the last ones within `seconds`."""
    with receiver(there) as ear, receiver(here) as mouth:
        numbers = send_numbers(mouth, ear, count)
        return numbers + heard(ear, seconds)


def send_numbers(mouth: socket.socket, ear: socket.socket, count: int) -> list[int]:
    """Send numbered packets; the numbers of those that have come meanwhile."""
    numbers: list[int] = []
    for first in range(0, count, LOT):
        for number in range(first, min(first + LOT, count)):
            mouth.sendto(number.to_bytes(4, "big"), ear.getsockname())
        numbers += _numbers(ear, 0)
    return numbers


def heard(ear: socket.socket, seconds: float = 0) -> list[int]:
    """The numbers that come until nothing more does."""
    return _numbers(ear, seconds + QUIET_SECONDS)


def throughput(here: End, there: End, *, warm: float = 1, seconds: float = 4) -> float:
    """Bits per second of what TCP delivers and its headers, once it has been under way for the `warm` seconds."""
    with there.socket(socket.SOCK_STREAM) as door, here.socket(socket.SOCK_STREAM) as sender:
        door.bind((there.ip, 0))
        door.listen()
        sender.connect(door.getsockname())
        taker, _ = door.accept()
        segment = sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        pump = threading.Thread(target=send_until_closed, args=[sender])
        pump.start()
        with taker:
            taker.settimeout(sender.gettimeout())
            read_for(taker, warm)
            payload, elapsed = read_for(taker, seconds)
            sender.shutdown(socket.SHUT_RDWR)
        pump.join()
    return payload * 8 / elapsed * (segment + _IP_AND_TCP + _ETHERNET) / segment


def flood(here: End, there: End, rate: int, *, warm: float = 1, seconds: float = 4) -> float:
    """Bits per second of packets that arrive when half as many again are sent as fit. TCP would take its time to."""
    per_second = 1.5 * rate / 8 / _DATAGRAM
    over = threading.Event()

    def pour() -> None:
        began, sent = time.perf_counter(), 0
        while not over.wait(_PAUSE_SECONDS):
            due = (time.perf_counter() - began) * per_second
            while sent < due and not over.is_set():
                mouth.sendto(bytes(_DATAGRAM), ear.getsockname())
                sent += 1

    with receiver(there) as ear, receiver(here) as mouth:
        pump = threading.Thread(target=pour)
        pump.start()
        read_for(ear, warm)
        payload, elapsed = read_for(ear, seconds)
        over.set()
        pump.join()
    return payload * 8 / elapsed * (_DATAGRAM + _IP_AND_UDP + _ETHERNET) / _DATAGRAM


def _knock(mouth: socket.socket, ear: socket.socket) -> None:
    for _ in range(ATTEMPTS):
        mouth.sendto(b"ping", ear.getsockname())
        with contextlib.suppress(TimeoutError):
            ear.recv(100)
            return
    raise TimeoutError("no packet gets through")


def receiver(end: End) -> socket.socket:
    """For packets, with room for many."""
    made = end.socket(socket.SOCK_DGRAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, ROOM)
    except PermissionError:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)  # as much as there is for everybody
    made.bind((end.ip, 0))
    return made


def _numbers(ear: socket.socket, seconds: float) -> list[int]:
    """Those that come until nothing has for as long."""
    numbers = []
    ear.settimeout(seconds)
    with contextlib.suppress(TimeoutError, BlockingIOError):
        while True:
            numbers.append(int.from_bytes(ear.recv(100), "big"))
    return numbers


def read_for(taker: socket.socket, seconds: float) -> tuple[int, float]:
    """Bytes, and seconds from one arrival to another."""
    room = bytearray(_MOST)
    taker.recv_into(room)
    began = now = time.perf_counter()
    payload = 0
    while now < began + seconds:
        payload += taker.recv_into(room)
        now = time.perf_counter()
    return payload, now - began


def send_until_closed(sender: socket.socket) -> None:
    """As fast as it takes."""
    data = bytes(_MOST)
    with contextlib.suppress(OSError):
        while True:
            sender.send(data)
