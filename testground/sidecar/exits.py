"""What leads out of a hub besides its own networks: routing between the control network and a link to the world.

Instances that may go out send to the hub, which passes it on. It does so in the control network and on that link only:
nothing gets by the control network into the data network, where a plan has its filters and shapes.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Network

from testground.sidecar import netlink
from testground.sidecar.layout import Request
from testground.sidecar.netlink import attribute, number, text

DNS_PORT = 53

_TO_TABLE, _UNREACHABLE = 1, 7
_DESTINATION, _INPUT, _PRIORITY, _DESTINATION_PORTS = 1, 3, 6, 24
_FIRST = 100
"""Priority; those of the kernel's own rules are 0 and above 32,000."""


def rules(control: int, data: IPv4Network, nameserver: IPv4Address) -> list[Request]:
    """`control` is the bridge. Of the nameserver nothing but that: it may be the machine's 127.0.0.1."""
    ports = attribute(_DESTINATION_PORTS, struct.pack("=HH", DNS_PORT, DNS_PORT))
    server = IPv4Network(nameserver)
    return [
        _rule(_FIRST, data, _UNREACHABLE, text(_INPUT, str(control))),
        _rule(_FIRST + 1, server, _TO_TABLE, ports),
        _rule(_FIRST + 2, server, _UNREACHABLE),
    ]


def settings(control: int, link: str) -> dict[str, str]:
    """`link` leads out. What is there asks by ARP for every instance that it answers, and the hub says: that is me."""
    conf = "/proc/sys/net/ipv4/conf"
    return {
        f"{conf}/{control}/forwarding": "1",
        f"{conf}/{link}/forwarding": "1",
        f"{conf}/{link}/proxy_arp": "1",
        f"/proc/sys/net/ipv4/neigh/{link}/proxy_delay": "0",
        "/proc/sys/net/ipv4/icmp_ratelimit": "0",  # who cannot get out shall know it at once, and not every other time
    }


def _rule(priority: int, to: IPv4Network, action: int, more: bytes = b"") -> Request:
    table = netlink.MAIN_TABLE if action == _TO_TABLE else 0
    head = netlink.ROUTE.pack(netlink.FAMILIES[4], to.prefixlen, 0, 0, table, 0, 0, action, 0)
    body = head + attribute(_DESTINATION, to.network_address.packed) + number(_PRIORITY, priority) + more
    return Request("a routing rule", netlink.NEW_RULE, netlink.CREATE | netlink.EXCLUSIVE, body)
