"""Links, addresses and routes of a run's networks, as requests that the kernel takes many of at a time.

Written out rather than made by a library because it is done a thousand times at the start of a run: to import one takes
longer than this to connect a hundred instances.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

REQUEST, ACK, REPLACE, EXCLUSIVE, CREATE = 0x1, 0x4, 0x100, 0x200, 0x400
AT_ONCE = 32

_NEWLINK, _NEWADDR, _NEWROUTE, _NEWNEIGH = 16, 20, 24, 28
_UP = 0x1
_NO_ROUTE = 0x200
_PERMANENT = 0x80
_MAIN, _STATIC, _ANY_SCOPE, _LINK_SCOPE, _UNICAST = 254, 4, 0, 253, 1

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BBHiII")
_ADDRESS = struct.Struct("=BBBBI")
_NEIGHBOUR = struct.Struct("=BBHiHBB")
_ROUTE = struct.Struct("=BBBBBBBBI")

_ERROR = 2
_ANSWER_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Request:
    what: str
    kind: int
    flags: int
    body: bytes


class Channel:
    """To the network namespace that this thread is in when it is made, wherever it goes afterwards."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))

    def carry_out(self, requests: Sequence[Request]) -> None:
        """All in their order. Raises `OSError` for the first that is refused; its `filename` says which."""
        for first in range(0, len(requests), AT_ONCE):
            self._carry_out(requests[first : first + AT_ONCE])

    def close(self) -> None:
        self._socket.close()

    def _carry_out(self, requests: Sequence[Request]) -> None:
        self._socket.send(b"".join(_framed(number, request) for number, request in enumerate(requests)))
        refused: list[tuple[int, int]] = []
        waiting = len(requests)
        while waiting:
            for number, code in _answers(self._socket.recv(_ANSWER_BYTES)):
                waiting -= 1
                if code:
                    refused.append((number, code))
        if refused:
            number, code = min(refused)
            raise OSError(code, os.strerror(code), requests[number].what)


def bridge(index: int, name: str, mac: bytes) -> Request:
    """A new bridge that is up, forwards at once and sends no packets of its own."""
    kind = _attribute(1, b"bridge\0") + _attribute(2, _number(1, 0) + _attribute(23, b"\0"))
    body = _link(index, up=True) + _attribute(3, name.encode() + b"\0") + _attribute(1, mac) + _attribute(18, kind)
    return Request(f"a bridge ({name})", _NEWLINK, CREATE | EXCLUSIVE, body)


def pair(
    name: str, bridge_index: int, peer: str, *, indices: tuple[int, int], mac: bytes = b"", netns: int = -1
) -> Request:
    """A veth pair: `name` is up and a port of a bridge, `peer` is down, in the namespace of the descriptor `netns`.

    `mac` is the peer's. The kernel heeds the index of a peer only where the other end has one, too.
    """
    here, beyond = indices
    there = _link(beyond) + _attribute(3, peer.encode() + b"\0")
    there += _attribute(1, mac) if mac else b""
    there += _number(28, netns) if netns >= 0 else b""
    kind = _attribute(1, b"veth\0") + _attribute(2, _attribute(1, there))
    body = (
        _link(here, up=True) + _attribute(3, name.encode() + b"\0") + _number(10, bridge_index) + _attribute(18, kind)
    )
    return Request(f"a veth pair ({name})", _NEWLINK, CREATE | EXCLUSIVE, body)


def up(index: int, *, bridge_index: int = 0) -> Request:
    """Switch a link on; with `bridge_index`, as a port of that bridge."""
    body = _link(index, up=True) + (_number(10, bridge_index) if bridge_index else b"")
    return Request(f"link {index} up", _NEWLINK, 0, body)


def address(index: int, interface: IPv4Interface, *, route: bool = True) -> Request:
    """Give a link an address; without `route`, nothing leads to the rest of its network."""
    packed, everybody = interface.ip.packed, interface.network.broadcast_address.packed
    body = _ADDRESS.pack(socket.AF_INET, interface.network.prefixlen, 0, 0, index)
    body += _attribute(1, packed) + _attribute(2, packed) + _attribute(4, everybody)
    body += b"" if route else _number(8, _NO_ROUTE)
    return Request(f"address {interface}", _NEWADDR, CREATE | EXCLUSIVE, body)


def neighbour(index: int, host: IPv4Address, mac: bytes) -> Request:
    """Who has an address, so that nobody needs to ask all others."""
    body = _NEIGHBOUR.pack(socket.AF_INET, 0, 0, index, _PERMANENT, 0, 0)
    return Request(
        f"neighbour {host}", _NEWNEIGH, CREATE | REPLACE, body + _attribute(1, host.packed) + _attribute(2, mac)
    )


def route(index: int, host: IPv4Address) -> Request:
    """The way to one host that is on the link."""
    body = _ROUTE.pack(socket.AF_INET, 32, 0, 0, _MAIN, _STATIC, _LINK_SCOPE, _UNICAST, 0)
    return Request(f"route to {host}", _NEWROUTE, CREATE, body + _attribute(1, host.packed) + _number(4, index))


def way(index: int, network: IPv4Network, gateway: IPv4Address) -> Request:
    """The way to a network by a host on the link."""
    body = _ROUTE.pack(socket.AF_INET, network.prefixlen, 0, 0, _MAIN, _STATIC, _ANY_SCOPE, _UNICAST, 0)
    body += _attribute(1, network.network_address.packed) + _attribute(5, gateway.packed) + _number(4, index)
    return Request(f"route to {network}", _NEWROUTE, CREATE, body)


def _link(index: int, *, up: bool = False) -> bytes:
    return _LINK.pack(0, 0, 0, index, _UP if up else 0, _UP if up else 0)


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def _framed(number: int, request: Request) -> bytes:
    size = _HEADER.size + len(request.body)
    return _HEADER.pack(size, request.kind, REQUEST | ACK | request.flags, number, 0) + request.body


def _answers(data: bytes) -> Iterator[tuple[int, int]]:
    """The number and the error code, 0 for none, of each request that is answered here."""
    offset = 0
    while offset < len(data):
        size, kind, _, number, _ = _HEADER.unpack_from(data, offset)
        if kind == _ERROR:
            yield number, -struct.unpack_from("=i", data, offset + _HEADER.size)[0]
        offset += (size + 3) & ~3
