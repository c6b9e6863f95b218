"""Links, addresses and routes of a run's networks, as requests that the kernel takes many of at a time.

A hundred instances are a thousand requests, at the start of a run.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address

from testground.sidecar import netlink
from testground.sidecar.netlink import ACK, CREATE, EXCLUSIVE, HEADER, REPLACE, REQUEST, attribute, number, text

Address = IPv4Address | IPv6Address

AT_ONCE = 32

_NO_ROUTE = 0x200
_PERMANENT, _FIXED, _OF_THE_BRIDGE = 0x80, 0x40, 0x04

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
        self._socket.send(b"".join(_framed(identity, request) for identity, request in enumerate(requests)))
        refused: list[tuple[int, int]] = []
        waiting = len(requests)
        while waiting:
            for identity, code in _answers(self._socket.recv(_ANSWER_BYTES)):
                waiting -= 1
                if code:
                    refused.append((identity, code))
        if refused:
            identity, code = min(refused)
            raise OSError(code, os.strerror(code), requests[identity].what)


def bridge(index: int, name: str, mac: bytes) -> Request:
    """A new bridge that is up, forwards at once and sends no packets of its own."""
    kind = text(1, "bridge") + attribute(2, number(1, 0) + attribute(23, b"\0"))
    body = netlink.link(index, up=True) + text(3, name) + attribute(1, mac) + attribute(18, kind)
    return Request(f"a bridge ({name})", netlink.NEW_LINK, CREATE | EXCLUSIVE, body)


def pair(
    name: str, bridge_index: int, peer: str, *, indices: tuple[int, int], mac: bytes = b"", netns: int = -1
) -> Request:
    """A veth pair: `name` is up and a port of a bridge, `peer` is down, in the namespace of the descriptor `netns`.

    `mac` is the peer's. The kernel heeds the index of a peer only where the other end has one, too.
    """
    here, beyond = indices
    there = netlink.link(beyond, up=False) + text(3, peer)
    there += attribute(1, mac) if mac else b""
    there += number(28, netns) if netns >= 0 else b""
    kind = text(1, "veth") + attribute(2, attribute(1, there))
    body = netlink.link(here, up=True) + text(3, name) + number(10, bridge_index) + attribute(18, kind)
    return Request(f"a veth pair ({name})", netlink.NEW_LINK, CREATE | EXCLUSIVE, body)


def up(index: int, *, bridge_index: int = 0) -> Request:
    """Switch a link on; with `bridge_index`, as a port of that bridge."""
    body = netlink.link(index, up=True) + (number(10, bridge_index) if bridge_index else b"")
    return Request(f"link {index} up", netlink.NEW_LINK, 0, body)


def address(index: int, interface: IPv4Interface, *, route: bool = True) -> Request:
    """Give a link an address; without `route`, nothing leads to the rest of its network."""
    packed, everybody = interface.ip.packed, interface.network.broadcast_address.packed
    body = netlink.address(4, interface.network.prefixlen, index)
    body += attribute(1, packed) + attribute(2, packed) + attribute(4, everybody)
    body += b"" if route else number(8, _NO_ROUTE)
    return Request(f"address {interface}", netlink.NEW_ADDRESS, CREATE | EXCLUSIVE, body)


def neighbour(index: int, host: Address, mac: bytes) -> Request:
    """Who has an address, so that nobody needs to ask all others."""
    body = netlink.neighbour(netlink.FAMILIES[host.version], index, _PERMANENT)
    body += attribute(1, host.packed) + attribute(2, mac)
    return Request(f"neighbour {host}", netlink.NEW_NEIGHBOUR, CREATE | REPLACE, body)


def route(index: int, host: Address) -> Request:
    """The way to one host that is on the link."""
    body = netlink.route(host.version, host.max_prefixlen, scope=netlink.ON_LINK) + attribute(1, host.packed)
    return Request(f"route to {host}", netlink.NEW_ROUTE, CREATE, body + number(4, index))


def beyond(index: int, mac: bytes) -> Request:
    """Which port of a bridge leads to a hardware address. What it does not know, it sends to all ports."""
    body = netlink.neighbour(netlink.BRIDGES, index, _FIXED, _OF_THE_BRIDGE) + attribute(2, mac)
    return Request(f"the way to {mac.hex(':')} by link {index}", netlink.NEW_NEIGHBOUR, CREATE | REPLACE, body)


def no_neighbour(index: int, host: Address) -> Request:
    body = netlink.neighbour(netlink.FAMILIES[host.version], index, 0) + attribute(1, host.packed)
    return Request(f"neighbour {host}", netlink.DELETE_NEIGHBOUR, 0, body)


def no_route(index: int, host: Address) -> Request:
    body = netlink.route(host.version, host.max_prefixlen, scope=netlink.ON_LINK) + attribute(1, host.packed)
    return Request(f"route to {host}", netlink.DELETE_ROUTE, 0, body + number(4, index))


def way(index: int, network: IPv4Network, gateway: IPv4Address) -> Request:
    """The way to a network by a host on the link."""
    body = netlink.route(4, network.prefixlen) + attribute(1, network.network_address.packed)
    body += attribute(5, gateway.packed) + number(4, index)
    return Request(f"route to {network}", netlink.NEW_ROUTE, CREATE, body)


def _framed(identity: int, request: Request) -> bytes:
    return netlink.message(request.kind, REQUEST | ACK | request.flags, request.body, identity)


def _answers(data: bytes) -> Iterator[tuple[int, int]]:
    """The number and the error code, 0 for none, of each request that is answered here."""
    offset = 0
    while offset < len(data):
        size, kind, _, identity, _ = HEADER.unpack_from(data, offset)
        if kind == _ERROR:
            yield identity, -struct.unpack_from("=i", data, offset + HEADER.size)[0]
        offset += (size + 3) & ~3
