"""One interface of an instance: its state, addresses and routes. Each change may be made twice.

Failures are `OSError` with the kernel's words.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address
from typing import Any

from testground.sidecar import messages, netlink, rtsocket
from testground.sidecar.config import Subnet
from testground.sidecar.messages import Address
from testground.sidecar.rtsocket import RoutingSocket

_ARP, _REQUEST = 0x0806, 1
_BROADCAST, _NOBODY = b"\xff" * 6, b"\0" * 6


class Link:
    """An interface in the namespace of a socket. It keeps its identity when somebody renames it."""

    def __init__(self, kernel: RoutingSocket, name: str) -> None:
        self.name = name
        self._kernel = kernel
        found = netlink.decode(kernel.get(messages.link_named(name)))
        self.index: int = found["index"]
        self._speaker: socket.socket | None = None  # kept: the kernel takes milliseconds to close one
        self._mac = bytes.fromhex((found.get_attr("IFLA_ADDRESS") or "").replace(":", ""))

    def set_up(self, up: bool) -> None:
        """A link that is down has no routes and no IPv6 addresses; what waits in its queues is lost."""
        self._kernel.request(messages.link_up(self.index, up))

    def add_address(self, address: Address) -> None:
        with rtsocket.tolerated(errno.EEXIST):
            self._kernel.request(messages.add_address(self.index, address))

    def remove_address(self, address: Address) -> None:
        with rtsocket.tolerated(errno.EADDRNOTAVAIL):
            self._kernel.request(messages.remove_address(self.index, address))

    def announce(self, address: IPv4Address) -> None:
        """Tell the neighbours who has the address now; some may remember who had it before."""
        if len(self._mac) != len(_NOBODY):
            return
        question = struct.pack(">HHBBH", 1, 0x0800, 6, 4, _REQUEST)
        question += self._mac + address.packed + _NOBODY + address.packed
        frame = _BROADCAST + self._mac + _ARP.to_bytes(2, "big") + question
        if self._speaker is None:
            self._speaker = self._kernel.inside(_raw_socket)
        self._speaker.sendto(frame, (self.name, _ARP))

    def close(self) -> None:
        if self._speaker is not None:
            self._speaker.close()

    def reach(self, neighbour: IPv4Address, source: IPv4Interface) -> None:
        """Make sure of a route to one address on the link."""
        self._kernel.request(messages.direct_route(self.index, IPv4Network(neighbour), source.ip))

    def lead(self, network: Subnet, gateway: IPv4Address | IPv6Address, mac: bytes) -> None:
        """Reach a network by a host on the link, which has the hardware address `mac`."""
        self._kernel.request(messages.neighbour(self.index, gateway, mac))
        self._kernel.request(messages.route_by(self.index, network, gateway))

    def leave(self, network: Subnet, gateway: IPv4Address | IPv6Address) -> None:
        """Take `lead` back."""
        with rtsocket.tolerated(errno.ESRCH):
            self._kernel.request(messages.no_route_by(self.index, network, gateway))

    def direct_route(self, source: IPv4Interface) -> bytes:
        """The route to the network of an address, for `restore` and `remove`."""
        return messages.direct_route(self.index, source.network, source.ip)

    def default_route(self, gateway: IPv4Address) -> bytes:
        """By a host on the link, for `restore` and `remove`."""
        return messages.route_by(self.index, IPv4Network("0.0.0.0/0"), gateway)

    def routes(self, *, without: Collection[IPv4Address]) -> list[bytes]:
        """The IPv4 routes that leave by this link, but for those to single addresses; the default route is last."""
        told = [(netlink.decode(route), route) for route in self._kernel.dump(messages.routes())]
        kept = [(found["dst_len"] == 0, route) for found, route in told if self._is_mine(found, without)]
        return [route for _, route in sorted(kept, key=lambda pair: pair[0])]

    def restore(self, route: bytes) -> None:
        self._request(netlink.NEW_ROUTE, netlink.CREATE | netlink.REPLACE, route)

    def remove(self, route: bytes) -> None:
        with rtsocket.tolerated(errno.ESRCH):
            self._request(netlink.DELETE_ROUTE, 0, route)

    def _is_mine(self, route: Any, without: Collection[IPv4Address]) -> bool:
        if (route["table"], route["type"]) != (netlink.MAIN_TABLE, netlink.UNICAST):
            return False
        if route["dst_len"] == 32 and IPv4Address(route.get_attr("RTA_DST")) in without:
            return False
        return bool(route.get_attr("RTA_OIF") == self.index)

    def _request(self, kind: int, flags: int, route: bytes) -> None:
        """What the kernel tells of a route is what it takes to make it."""
        self._kernel.request(rtsocket.requested(kind, flags, route))


def _raw_socket() -> socket.socket:
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC)
