"""Changes of one instance's network, as bytes for the kernel's routing socket."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface

from testground.sidecar import netlink, shaping
from testground.sidecar.config import Filter, LinkShape, Subnet
from testground.sidecar.netlink import CREATE, EXCLUSIVE, REPLACE, attribute, number, text

Address = IPv4Interface | IPv6Interface

DEFAULT_CLASS = 2
VERDICTS = 77
"""The routing table with a plan's filters, and the priority of the rule that asks it before the others."""

_NO_DUPLICATE_DETECTION, _NO_ROUTE = 0x02, 0x200
_VERDICTS = {Filter.ACCEPT: 9, Filter.REJECT: 8, Filter.DROP: 6}
"""Throw (ask the next table), prohibit, blackhole."""
_TO_TABLE = 1
_PROTOCOLS = {4: 0x0800, 6: 0x86DD}
_DESTINATIONS = {4: 16, 6: 24}
"""Where the destination stands in a packet."""
_TREE = 1 << 16
_QDISC_ROOT = 0xFFFFFFFF

_HTB_VERSION, _RATE_TO_QUANTUM = 3, 10
_SELECTOR = struct.Struct("=BBBxHHHHI")
_LAST = 1
"""What a selector matches is a verdict: no other one is asked."""


def link_named(name: str) -> bytes:
    return netlink.message(netlink.GET_LINK, 0, netlink.link(0) + text(3, name))


def link_at(index: int) -> bytes:
    return netlink.message(netlink.GET_LINK, 0, netlink.link(index))


def link_up(index: int, up: bool) -> bytes:
    return netlink.message(netlink.NEW_LINK, 0, netlink.link(index, up=up))


def link_segments(index: int, most: int) -> bytes:
    """How many packets' worth programs hand to a link as one, which its queues take for one packet."""
    return netlink.message(netlink.NEW_LINK, 0, netlink.link(index) + number(40, most))


def add_address(index: int, address: Address) -> bytes:
    return _address(netlink.NEW_ADDRESS, index, address, CREATE | EXCLUSIVE)


def remove_address(index: int, address: Address) -> bytes:
    return _address(netlink.DELETE_ADDRESS, index, address)


def routes() -> bytes:
    """Asks for the IPv4 routes of the namespace."""
    return netlink.message(netlink.GET_ROUTE, 0, netlink.ROUTE.pack(netlink.FAMILIES[4], *[0] * 8))


def direct_route(index: int, to: IPv4Network, source: IPv4Address) -> bytes:
    """To neighbours on a link."""
    way = netlink.route(4, to.prefixlen, scope=netlink.ON_LINK)
    return _route(way, attribute(1, to.network_address.packed) + number(4, index) + attribute(7, source.packed))


def route_by(index: int, to: Subnet, gateway: IPv4Address | IPv6Address) -> bytes:
    """By a neighbour on a link."""
    return _route(*_by(index, to, gateway))


def no_route_by(index: int, to: Subnet, gateway: IPv4Address | IPv6Address) -> bytes:
    return netlink.message(netlink.DELETE_ROUTE, 0, b"".join(_by(index, to, gateway)))


def ask_verdicts(version: int) -> bytes:
    """The rule by which IPv4 or IPv6 consults the table of verdicts."""
    body = netlink.rule(version, VERDICTS, _TO_TABLE) + number(6, VERDICTS)
    return netlink.message(netlink.NEW_RULE, CREATE | EXCLUSIVE, body)


def verdict(subnet: Subnet, filter_: Filter) -> bytes:
    return _route(*_in_verdicts(subnet, _VERDICTS[filter_]))


def no_verdict(subnet: Subnet) -> bytes:
    way, destination = _in_verdicts(subnet, 0)
    return netlink.message(netlink.DELETE_ROUTE, 0, way + destination)


def tree(index: int) -> bytes:
    """The root of an interface's queues."""
    options = attribute(2, struct.pack("=5I", _HTB_VERSION, _RATE_TO_QUANTUM, DEFAULT_CLASS, 0, 0))
    where = netlink.traffic(index, _QDISC_ROOT, _TREE)
    return _traffic(netlink.NEW_QUEUE, CREATE | EXCLUSIVE, where, "htb", options)


def branch(index: int, minor: int, shape: LinkShape) -> bytes:
    """A class of its own rate below the root."""
    where = netlink.traffic(index, _TREE, _TREE | minor)
    return _traffic(netlink.NEW_CLASS, CREATE, where, "htb", shaping.htb_class(shape))


def queue(index: int, minor: int, shape: LinkShape) -> bytes:
    """The netem queue of a class, whose number it has."""
    where = netlink.traffic(index, _TREE | minor, minor << 16)
    return _traffic(netlink.NEW_QUEUE, CREATE | REPLACE, where, "netem", shaping.netem(shape))


def no_branch(index: int, minor: int) -> bytes:
    """Its queue goes with it. No filter may point to it."""
    return netlink.message(netlink.DELETE_CLASS, 0, netlink.traffic(index, _TREE, _TREE | minor))


def direct(index: int, subnet: Subnet, minor: int) -> bytes:
    """Send what goes to a subnet through a class. The narrower the subnet, the earlier it is asked."""
    version = subnet.version
    priority = 1 + subnet.max_prefixlen - subnet.prefixlen + (100 if version == 6 else 0)
    where = netlink.traffic(index, _TREE, 0, priority << 16 | _swapped(_PROTOCOLS[version]))
    options = number(1, _TREE | minor) + attribute(5, _selector(subnet))
    return _traffic(netlink.NEW_FILTER, CREATE | EXCLUSIVE, where, "u32", options)


def no_directions(index: int) -> bytes:
    """Everything goes through the default class again."""
    return netlink.message(netlink.DELETE_FILTER, 0, netlink.traffic(index, _TREE, 0))


def _address(kind: int, index: int, address: Address, flags: int = 0) -> bytes:
    version, prefix, packed = address.version, address.network.prefixlen, address.ip.packed
    body = netlink.address(version, prefix, index) + attribute(1, packed) + attribute(2, packed)
    if version == 4:
        body += attribute(4, address.network.broadcast_address.packed)
    else:
        body += number(8, _NO_DUPLICATE_DETECTION | _NO_ROUTE)
    return netlink.message(kind, flags, body)


def _route(way: bytes, attributes: bytes) -> bytes:
    return netlink.message(netlink.NEW_ROUTE, CREATE | REPLACE, way + attributes)


def _by(index: int, to: Subnet, gateway: IPv4Address | IPv6Address) -> tuple[bytes, bytes]:
    way = netlink.route(to.version, to.prefixlen)
    return way, attribute(1, to.network_address.packed) + number(4, index) + attribute(5, gateway.packed)


def _in_verdicts(subnet: Subnet, kind: int) -> tuple[bytes, bytes]:
    way = netlink.route(subnet.version, subnet.prefixlen, table=VERDICTS, kind=kind)
    return way, attribute(1, subnet.network_address.packed)


def _traffic(kind: int, flags: int, where: bytes, name: str, options: bytes) -> bytes:
    return netlink.message(kind, flags, where + text(1, name) + attribute(2, options))


def _selector(subnet: Subnet) -> bytes:
    """The words of the destination that the prefix covers; one that is always right, if it covers none."""
    address, mask = subnet.network_address.packed, subnet.netmask.packed
    start = _DESTINATIONS[subnet.version]
    words = range(0, max(subnet.prefixlen + 31, 32) // 32 * 4, 4)
    keys = b"".join(mask[at : at + 4] + address[at : at + 4] + struct.pack("=ii", start + at, 0) for at in words)
    return _SELECTOR.pack(_LAST, 0, len(words), 0, 0, 0, 0, 0) + keys


def _swapped(word: int) -> int:
    return int.from_bytes(word.to_bytes(2, "big"), "little")
