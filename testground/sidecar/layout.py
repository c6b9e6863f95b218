"""Links, addresses and routes of a run's networks, as requests that the kernel takes many of at a time.

A hundred instances are a thousand requests, at the start of a run.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from testground.sidecar import messages, rtsocket

AT_ONCE = 32

_ANSWER_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Request:
    what: str
    message: bytes


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
        self._socket.send(b"".join(rtsocket.numbered(k, request.message) for k, request in enumerate(requests)))
        refused: list[tuple[int, int]] = []
        waiting = len(requests)
        while waiting:
            for identity, code in rtsocket.acknowledged(self._socket.recv(_ANSWER_BYTES)):
                waiting -= 1
                if code:
                    refused.append((identity, code))
        if refused:
            identity, code = min(refused)
            raise OSError(code, os.strerror(code), requests[identity].what)


def bridge(index: int, name: str, mac: bytes) -> Request:
    return Request(f"a bridge ({name})", messages.bridge(index, name, mac))


def pair(name: str, bridge: int, peer: str, *, indices: tuple[int, int], mac: bytes = b"", netns: int = -1) -> Request:
    message = messages.pair(name, bridge, peer, indices=indices, mac=mac, netns=netns)
    return Request(f"a veth pair ({name})", message)


def up(index: int, *, bridge: int = 0) -> Request:
    return Request(f"link {index} up", messages.link_up(index, bridge=bridge))


def address(index: int, interface: IPv4Interface, *, route: bool = True) -> Request:
    return Request(f"address {interface}", messages.add_address(index, interface, route=route))


def neighbour(index: int, host: IPv4Address, mac: bytes) -> Request:
    return Request(f"neighbour {host}", messages.neighbour(index, host, mac))


def beyond(index: int, mac: bytes) -> Request:
    return Request(f"the way to {mac.hex(':')} by link {index}", messages.beyond(index, mac))


def route(index: int, host: IPv4Address) -> Request:
    """The way to one host that is on the link."""
    return Request(f"route to {host}", messages.direct_route(index, IPv4Network(host)))


def way(index: int, network: IPv4Network, gateway: IPv4Address) -> Request:
    """The way to a network by a host on the link."""
    return Request(f"route to {network}", messages.route_by(index, network, gateway))
