"""Measures links that the sidecar shaped: what arrives, when, and how fast. Run within user-mode Linux."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from typing import Any

from testground.errors import NetworkError
from tests.networks import Peer, networks

MILLISECOND = 1_000_000
LATENCIES = (5, 20, 100, 300)
LOSSES = (1, 10, 50)
RATES = (1_000_000, 4_000_000)
PACKETS = 2000
SAMPLES = 3
ROOM = 1 << 24
QUIET_SECONDS = 0.5
SO_RCVBUFFORCE = 33
REFUSED = "this kernel does not duplicate on a link that also delays or loses by another rule"


def report() -> dict[str, Any]:
    found: dict[str, Any] = {}
    with networks(3) as (here, there, elsewhere):
        round_trip(here, there, 3)  # who has which address
        round_trip(here, elsewhere, 3)
        found["unshaped_ms"] = round_trip(here, there)
        for latency in LATENCIES:
            here.apply(default={"latency": latency * MILLISECOND})
            found[f"latency_{latency}_ms"] = round_trip(here, there)
        here.apply(default={"latency": 50 * MILLISECOND, "jitter": 20 * MILLISECOND})
        found["jitter_ms"] = trips(here, there, 60)
        found["towards"] = towards(here, there, elsewhere)
        here.apply(default={})
        found["reset_ms"] = round_trip(here, there)
        for loss in LOSSES:
            here.apply(default={"loss": loss})
            found[f"loss_{loss}"] = [PACKETS - len(arrivals(here, there)) for _ in range(SAMPLES)]
        here.apply(default={"duplicate": 20})
        found["duplicated"] = len(arrivals(here, there)) - PACKETS
        here.apply(default={"latency": 20 * MILLISECOND, "reorder": 20, "reorder_corr": 10})
        order = arrivals(here, there)
        found["reordered"] = sum(later < earlier for earlier, later in itertools.pairwise(order))
        here.apply(default={"corrupt": 20, "corrupt_corr": 0})
        found["corrupted"] = PACKETS - len(arrivals(here, there))
        here.apply(default={"latency": 500 * MILLISECOND})
        found["under_way"] = len(arrivals(here, there, seconds=2))
        found["changed_under_way"] = len(changed_under_way(here, there))
        for rate in RATES:
            here.apply(default={"bandwidth": rate})
            found[f"rate_{rate}"] = throughput(here, there)
        here.apply(default={"bandwidth": 2_000_000, "latency": 40 * MILLISECOND})
        found["rate_with_latency"] = flood(here, there, 2_000_000)
        found["both"] = both(here, there)
        here.apply(default={})
    return found


def towards(here: Peer, there: Peer, elsewhere: Peer) -> dict[str, float]:
    """A shape of its own for one peer."""
    here.apply(default={"latency": 5 * MILLISECOND}, rules=[{"subnet": f"{there.ip}/32", "latency": 80 * MILLISECOND}])
    times = {"there": round_trip(here, there), "elsewhere": round_trip(here, elsewhere)}
    here.apply(default={"latency": 5 * MILLISECOND}, rules=[{"subnet": f"{there.ip}/32"}])
    return times | {"taken_back": round_trip(here, there)}


def both(here: Peer, there: Peer) -> str:
    """Some kernels refuse duplicates in a tree with two queues."""
    try:
        here.apply(default={"duplicate": 10}, rules=[{"subnet": f"{there.ip}/32", "latency": MILLISECOND}])
    except NetworkError as error:
        return str(error)
    here.apply(default={}, rules=[{"subnet": f"{there.ip}/32"}])
    return "accepted"


def round_trip(here: Peer, there: Peer, count: int = 11) -> float:
    """Milliseconds. The shortest is the link's: a busy machine only adds to it."""
    return min(trips(here, there, count))


def trips(here: Peer, there: Peer, count: int) -> list[float]:
    times = []
    with receiver(there) as echo, receiver(here) as caller:
        for _ in range(count):
            began = time.perf_counter()
            caller.sendto(b"ping", echo.getsockname())
            echo.sendto(*echo.recvfrom(100))
            caller.recv(100)
            times.append((time.perf_counter() - began) * 1000)
    return times


def arrivals(here: Peer, there: Peer, *, seconds: float = 0) -> list[int]:
    """The numbers of numbered packets, in the order in which they come."""
    with receiver(there) as ear, receiver(here) as mouth:
        for number in range(PACKETS):
            mouth.sendto(number.to_bytes(4, "big"), ear.getsockname())
        return heard(ear, seconds)


def changed_under_way(here: Peer, there: Peer) -> list[int]:
    with receiver(there) as ear, receiver(here) as mouth:
        for number in range(PACKETS):
            mouth.sendto(number.to_bytes(4, "big"), ear.getsockname())
        here.apply(default={"latency": MILLISECOND})
        here.apply(default={})
        return heard(ear, 2)


def heard(ear: socket.socket, seconds: float) -> list[int]:
    ear.settimeout(seconds + QUIET_SECONDS)
    numbers = []
    try:
        while True:
            numbers.append(int.from_bytes(ear.recv(100), "big"))
    except TimeoutError:
        return numbers


def throughput(here: Peer, there: Peer, *, seconds: float = 4) -> float:
    """Bits per second of what TCP delivers and its headers, once it is under way."""
    with there.socket(socket.SOCK_STREAM) as door, here.socket(socket.SOCK_STREAM) as sender:
        door.bind((there.ip, 0))
        door.listen()
        sender.connect(door.getsockname())
        taker, _ = door.accept()
        segment = sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        pump = threading.Thread(target=send_until_closed, args=[sender])
        pump.start()
        with taker:
            taker.settimeout(10)
            read_for(taker, 1)
            payload, elapsed = read_for(taker, seconds)
            sender.shutdown(socket.SHUT_RDWR)
        pump.join()
    return payload * 8 / elapsed * (segment + 66) / segment


def flood(here: Peer, there: Peer, rate: int, *, seconds: float = 4) -> float:
    """Bits per second of packets that arrive when half as many again are sent as fit. TCP would take its time to."""
    size, headers, lot = 1200, 42, 6
    pause = size * 8 * lot / (1.5 * rate)
    over = threading.Event()

    def pour() -> None:
        while not over.wait(pause):
            for _ in range(lot):
                mouth.sendto(bytes(size), ear.getsockname())

    with receiver(there) as ear, receiver(here) as mouth:
        pump = threading.Thread(target=pour)
        pump.start()
        read_for(ear, 1)
        payload, elapsed = read_for(ear, seconds)
        over.set()
        pump.join()
    return payload * 8 / elapsed * (size + headers) / size


def read_for(taker: socket.socket, seconds: float) -> tuple[int, float]:
    """From one arrival to another."""
    taker.recv(1 << 16)
    began = now = time.perf_counter()
    payload = 0
    while now < began + seconds:
        payload += len(taker.recv(1 << 16))
        now = time.perf_counter()
    return payload, now - began


def send_until_closed(sender: socket.socket) -> None:
    try:
        while True:
            sender.send(bytes(1 << 14))
    except OSError:
        return


def receiver(peer: Peer) -> socket.socket:
    made = peer.socket()
    made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
    made.bind((peer.ip, 0))
    return made
