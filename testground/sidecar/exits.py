"""What leads out of a hub besides its own networks: routing between the control network and a link to the world.

Instances that may go out send to the hub, which passes it on. It does so in the control network and on that link only:
nothing gets by the control network into the data network, where a plan has its filters and shapes.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from testground.sidecar import messages
from testground.sidecar.layout import Request

DNS_PORT = 53

_FIRST = 100
"""Priority; those of the kernel's own rules are 0 and above 32,000."""


def rules(control: int, data: IPv4Network, nameserver: IPv4Address) -> list[Request]:
    """`control` is the bridge. Of the nameserver nothing but that: it may be the machine's 127.0.0.1."""
    server = IPv4Network(nameserver)
    rules = [
        messages.rule(_FIRST, data, open=False, link=str(control)),
        messages.rule(_FIRST + 1, server, open=True, port=DNS_PORT),
        messages.rule(_FIRST + 2, server, open=False),
    ]
    return [Request("a routing rule", rule) for rule in rules]


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
