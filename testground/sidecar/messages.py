"""Requests about networks, as bytes for the kernel's routing socket."""

from __future__ import annotations

import functools
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface
from typing import Any

from testground.sidecar import netlink, shaping
from testground.sidecar.config import Filter, LinkShape, Subnet
from testground.sidecar.netlink import CREATE, EXCLUSIVE, REPLACE, encode

Host = IPv4Address | IPv6Address
Address = IPv4Interface | IPv6Interface

DEFAULT_CLASS = 2
VERDICTS = 77
"""The routing table with a plan's filters, and the priority of the rule that asks it before the others."""

_VERDICTS = {Filter.ACCEPT: netlink.THROW, Filter.REJECT: netlink.PROHIBIT, Filter.DROP: netlink.BLACKHOLE}
"""To throw is to ask the next table."""
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_PROTOCOLS = {4: 0x0800, 6: 0x86DD}
_DESTINATIONS = {4: 16, 6: 24}
"""Where the destination stands in a packet."""
_TREE = 1 << 16

_once = functools.lru_cache(maxsize=1024)
"""For what all instances of a run are told, and at each change again: encoding takes longer than the kernel does."""


@_once
def link_named(name: str) -> bytes:
    return encode(netlink.GET_LINK, attrs=[("IFLA_IFNAME", name)])


def link_at(index: int) -> bytes:
    return encode(netlink.GET_LINK, index=index)


@_once
def link_up(index: int, up: bool = True, *, bridge: int = 0) -> bytes:
    """With the index of a `bridge`, the link becomes a port of it."""
    attrs = [("IFLA_MASTER", bridge)] if bridge else []
    return encode(netlink.NEW_LINK, index=index, flags=netlink.UP if up else 0, change=netlink.UP, attrs=attrs)


def link_segments(index: int, most: int) -> bytes:
    """How many packets' worth programs hand to a link as one, which its queues take for one packet."""
    return encode(netlink.NEW_LINK, index=index, attrs=[("IFLA_GSO_MAX_SEGS", most)])


def bridge(index: int, name: str, mac: bytes) -> bytes:
    """A new bridge that is up, forwards at once and sends no packets of its own."""
    quiet = [("IFLA_BR_FORWARD_DELAY", 0), ("IFLA_BR_MCAST_SNOOPING", 0)]
    attrs = [("IFLA_IFNAME", name), ("IFLA_ADDRESS", mac.hex(":")), _kind("bridge", *quiet)]
    return _new(netlink.NEW_LINK, index=index, flags=netlink.UP, change=netlink.UP, attrs=attrs)


def pair(name: str, bridge: int, peer: str, *, indices: tuple[int, int], mac: bytes = b"", netns: int = -1) -> bytes:
    """A veth pair: `name` is up and a port of a bridge, `peer` is down, in the namespace of the descriptor `netns`.

    `mac` is the peer's. The kernel heeds the index of a peer only where the other end has one, too.
    """
    here, beyond = indices
    there: list[tuple[str, Any]] = [("IFLA_IFNAME", peer)]
    there += [("IFLA_ADDRESS", mac.hex(":"))] if mac else []
    there += [("IFLA_NET_NS_FD", netns)] if netns >= 0 else []
    end = ("VETH_INFO_PEER", {"index": beyond, "change": netlink.UP, "attrs": there})
    attrs = [("IFLA_IFNAME", name), ("IFLA_MASTER", bridge), _kind("veth", end)]
    return _new(netlink.NEW_LINK, index=here, flags=netlink.UP, change=netlink.UP, attrs=attrs)


@_once
def add_address(index: int, address: Address, *, route: bool = True) -> bytes:
    """Without `route`, nothing leads to the rest of its network; with an IPv6 address, nothing ever does."""
    how = 0 if route else netlink.NO_ROUTE
    return _address(netlink.NEW_ADDRESS, CREATE | EXCLUSIVE, index, address, how)


def remove_address(index: int, address: Address) -> bytes:
    return _address(netlink.DELETE_ADDRESS, 0, index, address)


@_once
def neighbour(index: int, host: Host, mac: bytes) -> bytes:
    """Who has an address, so that nobody needs to ask all others."""
    who, attrs = {"family": _FAMILIES[host.version], "ifindex": index}, [("NDA_DST", str(host)), _hardware(mac)]
    return encode(netlink.NEW_NEIGHBOUR, CREATE | REPLACE, state=netlink.PERMANENT, attrs=attrs, **who)


def no_neighbour(index: int, host: Host) -> bytes:
    who, attrs = {"family": _FAMILIES[host.version], "ifindex": index}, [("NDA_DST", str(host))]
    return encode(netlink.DELETE_NEIGHBOUR, attrs=attrs, **who)


def beyond(index: int, mac: bytes) -> bytes:
    """Which port of a bridge leads to a hardware address. What it does not know, it sends to all ports."""
    port = {"family": socket.AF_BRIDGE, "ifindex": index, "state": netlink.FIXED, "flags": netlink.OF_THE_BRIDGE}
    return encode(netlink.NEW_NEIGHBOUR, CREATE | REPLACE, attrs=[_hardware(mac)], **port)


@_once
def direct_route(index: int, to: Subnet, source: IPv4Address | None = None) -> bytes:
    """To what is on a link, from the address `source` unless the program chooses one."""
    attrs = [("RTA_OIF", index), *([("RTA_PREFSRC", str(source))] if source else [])]
    return _route(netlink.NEW_ROUTE, CREATE | REPLACE, to, attrs, scope=netlink.ON_LINK)


def no_direct_route(index: int, to: Subnet) -> bytes:
    return _route(netlink.DELETE_ROUTE, 0, to, [("RTA_OIF", index)], scope=netlink.ON_LINK)


@_once
def route_by(index: int, to: Subnet, gateway: Host) -> bytes:
    """By a neighbour on a link."""
    return _route(netlink.NEW_ROUTE, CREATE | REPLACE, to, [("RTA_OIF", index), ("RTA_GATEWAY", str(gateway))])


def no_route_by(index: int, to: Subnet, gateway: Host) -> bytes:
    return _route(netlink.DELETE_ROUTE, 0, to, [("RTA_OIF", index), ("RTA_GATEWAY", str(gateway))])


def routes() -> bytes:
    """Asks for the IPv4 routes of the namespace."""
    return encode(netlink.GET_ROUTE, family=socket.AF_INET)


def rule(priority: int, to: IPv4Network, *, open: bool, link: str = "", port: int = 0) -> bytes:
    """What goes to a network finds its way or is refused; only what came by a link, only what is for a port."""
    attrs: list[tuple[str, Any]] = [("FRA_DST", str(to.network_address)), ("FRA_PRIORITY", priority)]
    attrs += [("FRA_IIFNAME", link)] if link else []
    attrs += [("FRA_DPORT_RANGE", f"{port}:{port}")] if port else []
    then = {"table": netlink.MAIN_TABLE, "action": netlink.TO_TABLE} if open else {"action": netlink.UNREACHABLE}
    return _new(netlink.NEW_RULE, family=socket.AF_INET, dst_len=to.prefixlen, attrs=attrs, **then)


def ask_verdicts(version: int) -> bytes:
    """The rule by which IPv4 or IPv6 consults the table of verdicts."""
    family, attrs = _FAMILIES[version], [("FRA_PRIORITY", VERDICTS)]
    return _new(netlink.NEW_RULE, family=family, table=VERDICTS, action=netlink.TO_TABLE, attrs=attrs)


def verdict(subnet: Subnet, filter_: Filter) -> bytes:
    return _route(netlink.NEW_ROUTE, CREATE | REPLACE, subnet, table=VERDICTS, type=_VERDICTS[filter_])


def no_verdict(subnet: Subnet) -> bytes:
    return _route(netlink.DELETE_ROUTE, 0, subnet, table=VERDICTS, type=0)


@_once
def tree(index: int) -> bytes:
    """The root of an interface's queues."""
    options = {"attrs": [("TCA_HTB_INIT", {"version": 3, "rate2quantum": 10, "defcls": DEFAULT_CLASS})]}
    attrs = _options("htb", options)
    return _new(netlink.NEW_QUEUE, index=index, parent=netlink.ROOT, handle=_TREE, attrs=attrs)


@_once
def branch(index: int, minor: int, shape: LinkShape) -> bytes:
    """A class of its own rate below the root."""
    attrs = _options("htb", shaping.htb_class(shape))
    return encode(netlink.NEW_CLASS, CREATE, index=index, parent=_TREE, handle=_TREE | minor, attrs=attrs)


@_once
def queue(index: int, minor: int, shape: LinkShape) -> bytes:
    """The netem queue of a class, whose number it has."""
    place, attrs = {"parent": _TREE | minor, "handle": minor << 16}, _options("netem", shaping.netem(shape))
    return encode(netlink.NEW_QUEUE, CREATE | REPLACE, index=index, attrs=attrs, **place)


def no_branch(index: int, minor: int) -> bytes:
    """Its queue goes with it. No filter may point to it."""
    return encode(netlink.DELETE_CLASS, index=index, parent=_TREE, handle=_TREE | minor)


def direct(index: int, subnet: Subnet, minor: int) -> bytes:
    """Send what goes to a subnet through a class. The narrower the subnet, the earlier it is asked."""
    version = subnet.version
    priority = 1 + subnet.max_prefixlen - subnet.prefixlen + (100 if version == 6 else 0)
    info = priority << 16 | socket.htons(_PROTOCOLS[version])
    options = {"attrs": [("TCA_U32_CLASSID", _TREE | minor), ("TCA_U32_SEL", {"keys": _keys(subnet)})]}
    return _new(netlink.NEW_FILTER, index=index, parent=_TREE, info=info, attrs=_options("u32", options))


def no_directions(index: int) -> bytes:
    """Everything goes through the default class again."""
    return encode(netlink.DELETE_FILTER, index=index, parent=_TREE)


def _new(kind: int, **fields: Any) -> bytes:
    """What is there already is an error."""
    return encode(kind, CREATE | EXCLUSIVE, **fields)


def _kind(name: str, *options: tuple[str, Any]) -> tuple[str, Any]:
    return "IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", name), ("IFLA_INFO_DATA", {"attrs": list(options)})]}


def _hardware(mac: bytes) -> tuple[str, str]:
    return "NDA_LLADDR", mac.hex(":")


def _options(name: str, options: dict[str, Any]) -> list[tuple[str, Any]]:
    return [("TCA_KIND", name), ("TCA_OPTIONS", options)]


def _address(kind: int, flags: int, index: int, address: Address, how: int = 0) -> bytes:
    attrs: list[tuple[str, Any]] = [("IFA_ADDRESS", str(address.ip)), ("IFA_LOCAL", str(address.ip))]
    if address.version == 4:
        attrs.append(("IFA_BROADCAST", str(address.network.broadcast_address)))
    else:
        how = netlink.NO_DUPLICATE_DETECTION | netlink.NO_ROUTE
    attrs += [("IFA_FLAGS", how)] if how else []
    family, prefix = _FAMILIES[address.version], address.network.prefixlen
    return encode(kind, flags, family=family, prefixlen=prefix, index=index, attrs=attrs)


def _route(
    kind: int, flags: int, to: Subnet, attrs: Sequence[tuple[str, Any]] = (), *, table: int = netlink.MAIN_TABLE,
    scope: int = netlink.ANYWHERE, type: int = netlink.UNICAST,
) -> bytes:  # fmt: skip
    return encode(
        kind, flags, family=_FAMILIES[to.version], dst_len=to.prefixlen, table=table, proto=netlink.STATIC,
        scope=scope, type=type, attrs=[("RTA_DST", str(to.network_address)), *attrs],
    )  # fmt: skip


def _keys(subnet: Subnet) -> list[str]:
    """The words of the destination that the prefix covers; one that is always right, if it covers none."""
    address, mask = subnet.network_address.packed, subnet.netmask.packed
    start = _DESTINATIONS[subnet.version]
    words = range(0, (subnet.prefixlen + 31) // 32 * 4, 4)
    return [f"0x{address[at : at + 4].hex()}/0x{mask[at : at + 4].hex()}+{start + at}" for at in words] or ["0/0+0"]
