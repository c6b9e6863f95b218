"""The hub's ends of the instances' data links: where the others find an instance, and the shape of what it receives.

What instances say to each other goes by the hub, so its end of a link sends what the instance receives.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Address, IPv6Interface, ip_network
from pathlib import Path

from testground.sidecar import messages, netlink, rtsocket
from testground.sidecar.config import LinkShape
from testground.sidecar.messages import Host
from testground.sidecar.queues import Queues
from testground.sidecar.rtsocket import RoutingSocket
from testground.sidecar.shaping import MOST_SEGMENTS

GATEWAY = IPv6Interface("fe80::1/64")
"""The hub's on the data link. Its IPv4 address is the first of the data network."""

_DETOUR_NAME = "cut"
_DETOUR, _DETOUR_PORT = 20_000, 20_001
"""Interface indices in the hub, among those of `topology`."""

_SETTLE_SECONDS = 3.0
_NEWS_BYTES = 1 << 16
_FORWARDING = {"disable_ipv6": "0", "accept_ra": "0", "forwarding": "1"}


class Ports:
    """Those of one hub. Failures are `OSError` with the kernel's words, or a `NetworkError`."""

    def __init__(self, netns: int, bridge: int, mac: bytes) -> None:
        """`netns` is the hub's, `bridge` the index of the link with its addresses there, `mac` that link's own."""
        self.mac = mac
        self._netns, self._bridge = netns, bridge
        self._connected: RoutingSocket | None = None
        self._queues: dict[int, Queues] = {}
        self._addresses: dict[Port, Collection[Host]] = {}
        self._segments: dict[Port, int] = {}
        self._links = [bridge]
        self._speaks_ipv6 = False

    def locate(self, port: Port, before: Collection[Host], now: Collection[Host]) -> None:
        """Who is at a port has other addresses."""
        for address in now:
            self._lead(address, port)
        for address in before:
            if address not in now:
                self._forget(address)
        self._addresses[port] = now

    def shape(self, port: Port, ingress: LinkShape) -> None:
        """What a port sends, which an instance receives."""
        index = port.index
        if index not in self._queues and ingress.plain:
            return
        if index not in self._queues:
            self._queues[index] = Queues(self._kernel, index, cut=partial(self._cut, port))
        self._queues[index].shape(ingress, {})

    def settle(self, index: int) -> None:
        """Wait until the port `index` sends, once its other end is up: the kernel takes notice in its own time."""
        if self._sends(index):
            return
        with self._kernel.inside(rtsocket.open_news_of_links) as news:
            deadline = time.monotonic() + _SETTLE_SECONDS
            while not self._sends(index):
                news.settimeout(max(deadline - time.monotonic(), 0))
                try:
                    with rtsocket.tolerated(errno.ENOBUFS):  # more news than it could keep
                        news.recv(_NEWS_BYTES)
                except (TimeoutError, BlockingIOError):  # which is what a timeout of 0 raises
                    raise TimeoutError(errno.ETIMEDOUT, "the other end of the link does not notice") from None

    def close(self) -> None:
        if self._connected is not None:
            self._connected.close()

    @property
    def _kernel(self) -> RoutingSocket:
        if self._connected is None:
            self._connected = RoutingSocket(self._netns)
        return self._connected

    def _sends(self, index: int) -> bool:
        """Linux from 6.8 on takes notice when it is asked for this."""
        found = netlink.decode(self._kernel.get(messages.link_at(index)))
        return bool(found.get_attr("IFLA_OPERSTATE") == "UP")

    def _lead(self, address: Host, port: Port) -> None:
        """The IPv4 network has a route by the bridge, so nobody needs one who is reached that way."""
        if address.version == 6:
            self._speak_ipv6()
        link = _DETOUR if self._is_cut(port) else self._bridge
        if address.version == 6 or link == _DETOUR:
            self._kernel.request(messages.direct_route(link, ip_network(address)))
        elif _DETOUR in self._links:
            self._leave(address, _DETOUR)
        self._kernel.request(messages.neighbour(link, address, port.mac))

    def _leave(self, address: Host, link: int) -> None:
        with rtsocket.tolerated(errno.ESRCH):
            self._kernel.request(messages.no_direct_route(link, ip_network(address)))

    def _forget(self, address: Host) -> None:
        for link in self._links:
            with rtsocket.tolerated(errno.ENOENT):
                self._kernel.request(messages.no_neighbour(link, address))
            if address.version == 6 or link == _DETOUR:
                self._leave(address, link)

    def _speak_ipv6(self) -> None:
        """Forward it, from the first address on: most runs have none."""
        if self._speaks_ipv6:
            return
        self._kernel.inside(lambda: self._forward_ipv6(*self._links))
        with rtsocket.tolerated(errno.EEXIST):
            self._kernel.request(messages.add_address(self._bridge, GATEWAY))
        self._speaks_ipv6 = True

    def _forward_ipv6(self, *links: int) -> None:
        for link in links:
            name = self._name(link)
            for setting, value in _FORWARDING.items():
                Path(f"/proc/sys/net/ipv6/conf/{name}/{setting}").write_text(value)
        Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")

    def _name(self, link: int) -> str:
        return _DETOUR_NAME if link == _DETOUR else str(link)

    def _is_cut(self, port: Port) -> bool:
        return self._segments.get(port, MOST_SEGMENTS) < MOST_SEGMENTS

    def _cut(self, port: Port, segments: int) -> None:
        """A port would cut what it sends after its queue, so it is done before, on a detour of those who need it."""
        self._segments[port] = segments
        if self._is_cut(port) and _DETOUR not in self._links:
            self._make_detour()
        if _DETOUR in self._links:
            self._kernel.request(messages.link_segments(_DETOUR, min(self._segments.values())))
        for address in self._addresses.get(port, ()):
            self._lead(address, port)

    def _make_detour(self) -> None:
        """From the hub to its bridge by a pair of links, of which the first cuts."""
        ends = (_DETOUR_PORT, _DETOUR)
        self._kernel.request(messages.pair("joint", self._bridge, _DETOUR_NAME, indices=ends))
        self._kernel.request(messages.link_up(_DETOUR))
        self._kernel.inside(self._answer_by_other_ways)
        if self._speaks_ipv6:
            self._kernel.inside(lambda: self._forward_ipv6(_DETOUR))
        self._links.append(_DETOUR)

    def _answer_by_other_ways(self) -> None:
        """What comes from an instance comes by the bridge, also where the way to it is the detour."""
        for name in ("all", self._name(self._bridge)):
            Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text("0")


@dataclass(frozen=True, slots=True)
class Port:
    """One instance's, by its index in the hub."""

    ports: Ports
    index: int
    mac: bytes
    """The instance's, on the data link."""

    @property
    def gateway(self) -> tuple[IPv6Address, bytes]:
        """The hub on the data link: its address and hardware address."""
        return GATEWAY.ip, self.ports.mac

    def locate(self, before: Collection[Host], now: Collection[Host]) -> None:
        self.ports.locate(self, before, now)

    def settle(self) -> None:
        self.ports.settle(self.index)

    def shape(self, ingress: LinkShape) -> None:
        self.ports.shape(self, ingress)
