"""Measures the link between two instances of a run's networks, in this kernel or in user-mode Linux.

`python -m tests.bench.links PART ARGUMENTS` prints what a function of `PARTS` returns, as root or as an ordinary user;
its arguments and what it returns are JSON.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

from testground.errors import NetworkError
from testground.sidecar import calibration, layout, measuring, rtsocket, topology
from testground.sidecar.accuracy import Reading
from testground.sidecar.peer import SECONDS, Peer

PACKETS = 1000
WARM_SECONDS, COUNTED_SECONDS = 0.3, 1.0
SAMPLE_SECONDS = 0.35
"""Short: what else this machine does is in fewer of them."""
TRIES = 3
BARE = tuple(IPv4Interface(f"10.9.9.{host}/30") for host in (1, 2))

Cell = dict[str, Any]
Asked = tuple[float, float, int]
"""Milliseconds of latency, percent of loss, bits per second; 0 for what is not asked for."""


def report(part: str, arguments: dict[str, Any]) -> Any:
    return PARTS[part](**arguments)


def netem() -> bool:
    """Whether this kernel has it."""
    here, _ = calibration.pair()
    try:
        here.apply(default={"latency": 1})
    except NetworkError:
        return False
    return True


def grid(asked: list[Asked]) -> list[Cell]:
    """One link after the other. What is off is measured again: it may have been for others on this machine."""
    here, there = calibration.pair()
    return [_tried(lambda each=each: _cell(here, there, *each)) for each in asked]


def rates(asked: list[int]) -> list[Cell]:
    """As TCP has them."""
    here, there = calibration.pair()
    return [_tried(lambda rate=rate: _rate(here, there, rate)) for rate in asked]


def unshaped(samples: int) -> list[tuple[float, float]]:
    """Bits per second between two instances, and over a veth pair with nothing in between; one after the other."""
    instances, bare = calibration.pair(), _bare_pair()
    return [(_fast(*instances), _fast(*bare)) for _ in range(samples)]


def readings(cell: Cell) -> dict[str, Reading]:
    """By what was asked for."""
    asked, got = cell["asked"], cell["got"]
    return {what: Reading(what, asked[what], got[what], PACKETS if what == "loss" else 0) for what in got}


def _tried(measure: Callable[[], Cell]) -> Cell:
    for _ in range(TRIES):
        cell = measure()
        if not any(reading.off for reading in readings(cell).values()):
            break
    return cell


def _cell(here: Peer, there: Peer, latency: float, loss: float, rate: int) -> Cell:
    """Milliseconds, percent and bits per second; what is 0 is not asked for and not measured."""
    here.apply()
    measuring.meet(here, there)  # nothing of the cell before is under way any more
    got: dict[str, float] = {}
    shape = {"latency": round(latency * 1e6), "bandwidth": rate}
    if latency:
        here.apply(default=shape)  # without the loss: who waits for what is lost waits for ever
        got["latency"] = measuring.round_trip(here, there, 5)
    here.apply(default=shape | {"loss": loss})
    if loss:
        came = measuring.arrivals(here, there, PACKETS, seconds=latency / 1000)
        got["loss"] = 100 * (PACKETS - len(came)) / PACKETS
    idle = 1.0
    if rate:
        idle_before, began = _idle(), time.monotonic()
        got["rate"] = measuring.flood(here, there, rate, warm=WARM_SECONDS, seconds=COUNTED_SECONDS)
        idle = (_idle() - idle_before) / (time.monotonic() - began)
    return {"asked": {"latency": latency, "loss": loss, "rate": rate}, "got": got, "idle": idle}


def _rate(here: Peer, there: Peer, rate: int) -> Cell:
    here.apply(default={"bandwidth": rate})
    got = measuring.throughput(here, there, warm=WARM_SECONDS, seconds=COUNTED_SECONDS)
    return {"asked": {"rate": rate}, "got": {"rate": got}, "idle": 1.0}


def _idle() -> float:
    """Seconds that the processors had nothing to do."""
    fields = Path("/proc/stat").read_text().split()
    return int(fields[4]) / os.sysconf("SC_CLK_TCK")


def _fast(here: measuring.End, there: measuring.End) -> float:
    """Bits per second of one TCP connection. One process sends and another one receives, as instances do."""
    with there.socket(socket.SOCK_STREAM) as door, here.socket(socket.SOCK_STREAM) as sender:
        door.bind((there.ip, 0))
        door.listen()
        sender.connect(door.getsockname())
        taker, _ = door.accept()
        process = os.fork()
        if not process:
            taker.close()
            measuring.send_until_closed(sender)
            os._exit(0)
        sender.close()
        with taker:
            measuring.read_for(taker, 0.1)
            payload, elapsed = measuring.read_for(taker, SAMPLE_SECONDS)
        os.waitpid(process, 0)  # what it sends now is refused
    return payload * 8 / elapsed


class Bare:
    """An end of a veth pair, in a namespace of its own."""

    def __init__(self, netns: int, ip: str) -> None:
        self.ip = ip
        self._netns = netns

    def socket(self, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        made = rtsocket.inside(self._netns, lambda: socket.socket(socket.AF_INET, kind))
        made.settimeout(SECONDS)
        return made


def _bare_pair() -> tuple[Bare, Bare]:
    there, far = topology._namespace(), layout.Channel()
    here, near = topology._namespace(), layout.Channel()
    near.carry_out([layout.pair("bare0", 0, "bare1", indices=(7, 7), netns=there), layout.address(7, BARE[0])])
    far.carry_out([layout.up(7), layout.address(7, BARE[1])])
    return Bare(here, str(BARE[0].ip)), Bare(there, str(BARE[1].ip))


PARTS: dict[str, Callable[[], Any]] = {"netem": netem, "grid": grid, "rates": rates, "unshaped": unshaped}

if __name__ == "__main__":
    print(json.dumps(report(sys.argv[1], json.loads(sys.argv[2]))))
