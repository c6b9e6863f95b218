"""The networks of one run: a hub with a control and a data network, and a namespace for each instance (contract §4.3).

The hub is a network namespace of its own, so runs cannot meet and every run's addresses are the first there are.
Nothing has a name outside: all is gone once no process and no descriptor holds it.
"""

from __future__ import annotations

import errno
import functools
import operator
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from testground.drivers import launcher
from testground.sidecar import exits, layout
from testground.sidecar.addressing import CONTROL, DATA, FIRST_HOST
from testground.sidecar.layout import Channel, Request
from testground.sidecar.ports import Port, Ports

PORTS = 500
"""Of one bridge. Linux allows 1023, but each takes longer to add than the one before."""

LOOPBACK, ETH0, ETH1 = 1, 2, 3
"""Interface indices in an instance's namespace."""

_CONTROL, _DATA, _JOINTS, _PORTS = 10, 1010, 10_000, 100_000
"""Interface indices in the hub: the first bridge of each network, what joins bridges, the instances' links."""

_HUB = {
    "/proc/sys/net/ipv4/ip_forward": "0",  # a machine with Docker has 1, and new namespaces take that over
    "/proc/sys/net/ipv6/conf/default/disable_ipv6": "1",
    "/proc/sys/net/bridge/bridge-nf-call-iptables": "0",
    "/proc/sys/net/bridge/bridge-nf-call-ip6tables": "0",
    "/proc/sys/net/bridge/bridge-nf-call-arptables": "0",
    "/proc/sys/net/ipv4/ip_early_demux": "0",
}
"""The last four gain some percent: bridges need not ask any tables, and few packets are for the hub itself."""
_FORWARDING = {
    "/proc/sys/net/ipv4/conf/all/send_redirects": "0",
    f"/proc/sys/net/ipv4/conf/{_DATA}/send_redirects": "0",
    f"/proc/sys/net/ipv4/conf/{_DATA}/forwarding": "1",
}
"""What an instance sends to another goes by the hub, the only one that must know where everybody is. Asking each other
would not do: Linux remembers a thousand neighbours for all namespaces together, and thirty instances have as many.
"""
_INSTANCE = {
    "/proc/sys/net/ipv4/ip_unprivileged_port_start": "0",
    "/proc/sys/net/ipv4/ping_group_range": f"{os.getegid()} {os.getegid()}",
    "/proc/sys/net/ipv6/conf/default/addr_gen_mode": "1",
    "/proc/sys/net/ipv6/conf/default/accept_redirects": "0",
    "/proc/sys/net/ipv6/conf/default/router_solicitations": "0",
}
"""An ordinary user may ping and serve any port, as root may. No link gives itself addresses and asks who is there: all
ports of a bridge would get all of these questions."""


class TopologyError(Exception):
    """The kernel cannot give what a run needs; the text says what and why."""


@dataclass(frozen=True, slots=True)
class Space:
    """An instance's namespace and its addresses."""

    netns: int
    control: IPv4Interface
    data: IPv4Interface


class Hub:
    """Makes the hub of a run with room for `instances`; this process is in its namespace afterwards."""

    def __init__(self, instances: int, *, control: IPv4Network = CONTROL, data: IPv4Network = DATA) -> None:
        self.instances, self.control, self.data = instances, control, data
        room = min(control.num_addresses, data.num_addresses) - FIRST_HOST - 1
        if instances > room:
            raise TopologyError(f"the data network {data} has addresses for {room} instances, not for {instances}")
        self._hosts: Sequence[IPv4Address] = ()
        self._netns = _namespace()
        self._channel = Channel()
        self._ports = Ports(self._netns, _DATA, _mac(data[1], _DATA))
        _settle(_HUB)
        bridges = range(-(-instances // PORTS))
        requests = [layout.up(LOOPBACK)]
        for network, first in ((control, _CONTROL), (data, _DATA)):
            requests += [layout.bridge(first + k, f"{first + k}", _mac(network[1], first + k)) for k in bridges]
            requests += [request for k in bridges[1:] for request in _joined(first, first + k)]
            requests.append(layout.address(first, IPv4Interface((network[1], network.prefixlen))))
        joints = (_JOINTS + 2 * (_DATA + k) + 1 for k in bridges[1:])
        requests += [layout.beyond(joint, _mac(data[1], _DATA)) for joint in joints]
        _carry_out(self._channel, requests)
        _settle(_FORWARDING)

    def port(self, number: int) -> Port:
        """The hub's end of the data link of the instance `number`."""
        return Port(self._ports, _PORTS + 2 * number + 1, _mac(self.data[FIRST_HOST + number]))

    def lead_out(self, link: str, nameserver: IPv4Address, hosts: Sequence[IPv4Address]) -> None:
        """Let instances use a link that somebody has added to the hub; instances yet to come always reach `hosts`."""
        _carry_out(self._channel, exits.rules(_CONTROL, self.data, nameserver))
        _settle(exits.settings(_CONTROL, link))
        self._hosts = hosts

    @property
    def netns(self) -> int:
        """The descriptor of its namespace."""
        return self._netns

    def listen(self, port: int) -> socket.socket:
        """A listening socket where instances find the services."""
        return socket.create_server((str(self.control[1]), port), backlog=2048)

    def add(self, number: int) -> Space:
        """Make the namespace of the instance `number`, from 0, with its links up."""
        control, data = (network[FIRST_HOST + number] for network in (self.control, self.data))
        try:
            netns = _namespace()
            inside = Channel()
            _settle(_INSTANCE)
        finally:
            launcher.enter(self._netns, "the hub's network namespace", launcher.CLONE_NEWNET)
        space = Space(
            netns,
            IPv4Interface((control, self.control.prefixlen)),
            IPv4Interface((data, self.data.prefixlen)),
        )
        try:
            _carry_out(self._channel, self._links(number, space))
            _carry_out(inside, self._ends(space))
        except BaseException:
            os.close(netns)
            raise
        finally:
            inside.close()
        return space

    def _links(self, number: int, space: Space) -> list[Request]:
        """What the hub has of an instance."""
        control, data = space.control.ip, space.data.ip
        bridge, index = number // PORTS, _PORTS + 2 * number
        return [
            layout.pair(
                f"c{number}",
                _CONTROL + bridge,
                "eth0",
                indices=(index, ETH0),
                mac=_mac(control),
                netns=space.netns,
            ),
            layout.pair(
                f"d{number}",
                _DATA + bridge,
                "eth1",
                indices=(index + 1, ETH1),
                mac=_mac(data),
                netns=space.netns,
            ),
            layout.neighbour(_CONTROL, control, _mac(control)),
            layout.neighbour(_DATA, data, _mac(data)),
            layout.beyond(index + 1, _mac(data)),
            *([layout.beyond(_JOINTS + 2 * (_DATA + bridge), _mac(data))] if bridge else []),
        ]

    def _ends(self, space: Space) -> list[Request]:
        """What the instance has: the data network, and on the control network the services and nobody else."""
        services, gateway = self.control[1], self.data[1]
        return [
            *(layout.up(index) for index in (LOOPBACK, ETH0, ETH1)),
            layout.address(ETH0, space.control, route=False),
            layout.route(ETH0, services),
            layout.neighbour(ETH0, services, _mac(services, _CONTROL)),
            *(layout.way(ETH0, IPv4Network(host), services) for host in self._hosts),
            layout.address(ETH1, space.data),
            layout.neighbour(ETH1, gateway, _mac(gateway, _DATA)),
            *(layout.way(ETH1, half, gateway) for half in self.data.subnets()),
        ]


def _joined(first: int, other: int) -> list[Request]:
    """A pair of links between two bridges."""
    here, there = _JOINTS + 2 * other, _JOINTS + 2 * other + 1
    return [
        layout.pair(f"to{other}", first, f"from{other}", indices=(here, there)),
        layout.up(there, bridge=other),
    ]


def _mac(host: IPv4Address, number: int = 0) -> bytes:
    """Locally administered, after the address as Docker does it; `number` tells bridges from each other.

    Two of them differ in more than one bit: a packet that a plan has corrupted must not teach a bridge that an instance
    has moved.
    """
    parity = functools.reduce(operator.xor, host.packed, number % 256)
    return b"\x02" + parity.to_bytes() + host.packed


def _namespace() -> int:
    """A new one, which this process is in from then on; its descriptor."""
    launcher.unshare("a network namespace", launcher.CLONE_NEWNET)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _settle(settings: Mapping[str, str]) -> None:
    """Of the namespace; a kernel may lack some of them."""
    for path, value in settings.items():
        if os.path.exists(path):  # noqa: PTH110
            launcher.write(path, value)


def _carry_out(channel: Channel, requests: list[Request]) -> None:
    try:
        channel.carry_out(requests)
    except OSError as error:
        raise TopologyError(f"{error.filename}: {error.strerror}{_missing(error)}") from error


def _missing(error: OSError) -> str:
    """Which part of the kernel is not there, when it is that."""
    if error.errno not in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
        return ""
    parts = {"bridge": "CONFIG_BRIDGE", "rule": "CONFIG_IP_MULTIPLE_TABLES"}
    option = next((option for part, option in parts.items() if part in error.filename), "CONFIG_VETH")
    return f"; this kernel lacks {option}"
