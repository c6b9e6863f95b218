"""One instance's network: what it starts with, and every change that its plan asks for (contract §4.4, §4.5)."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface

from testground.errors import NetworkError
from testground.sidecar.config import Filter, LinkRule, LinkShape, NetworkConfig, Subnet
from testground.sidecar.link import Link
from testground.sidecar.ports import Port
from testground.sidecar.queues import Queues
from testground.sidecar.rtsocket import RoutingSocket
from testground.sidecar.verdicts import Verdicts

_MOST_RULES = 4096


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """A link of an instance that exists, is up and has its address when the `Instance` is made."""

    name: str
    """In the instance's namespace: `eth0`, `eth1`."""
    address: IPv4Interface
    """With the prefix length of its network, such as `16.0.0.2/16`."""


@dataclass(frozen=True, slots=True)
class _State:
    """What is in force."""

    ipv4: IPv4Interface
    ipv6: IPv6Interface | None = None
    enabled: bool = True
    external: bool = False
    default: LinkShape = field(default_factory=LinkShape)
    ingress: LinkShape = field(default_factory=LinkShape)
    rules: dict[Subnet, LinkRule] = field(default_factory=dict)


class Instance:
    """The links of one instance. One call at a time; calls take well under ten milliseconds and do not wait."""

    def __init__(
        self,
        hostname: str,
        netns: int,
        *,
        control: LinkInfo,
        data: LinkInfo,
        services: Sequence[IPv4Address],
        taken: MutableMapping[IPv4Address | IPv6Address, str],
        port: Port,
        hosts: Sequence[IPv4Address] = (),
    ) -> None:
        """`netns` is the namespace's file descriptor; it is not kept. `port` is the other end of the data link.

        `services` stay reachable through the control link whatever a plan asks for, and so do `hosts`, by routes that
        exist, unless a rule is for exactly that address. `taken` is shared by the run's instances: who has which data
        address, by hostname; it is kept up to date here. Raises `NetworkError`.
        """
        self._hostname = hostname
        self._control_info, self._data_info = control, data
        self._services, self._hosts = services, hosts
        self._taken = taken
        self._port = port
        self._state = _State(ipv4=data.address)
        self._external: list[bytes] = []
        with _step("look at the instance's links"):
            kernel = self._kernel = RoutingSocket(netns)
            self._control, self._data = (Link(kernel, info.name) for info in (control, data))
        self._verdicts = Verdicts(kernel)
        self._queues = Queues(kernel, self._data.index)

    def initialise(self) -> None:
        """Leave the data network and the services reachable, and nothing else. Raises `NetworkError`."""
        address = self._control_info.address
        with _step(f"prepare {self._control.name}"):
            for service in self._services:
                self._control.reach(service, address)
            found = self._control.routes(without=[*self._services, *self._hosts])
            self._external = found or [self._control.direct_route(address)]
            self._reach_external(False)
        self._check_free("IPv4", self._state.ipv4.ip)
        self._taken[self._state.ipv4.ip] = self._hostname

    def apply(self, config: NetworkConfig) -> None:
        """Carry out one change. Raises `NetworkError`; the network is as it was before, or the error says it is not."""
        before, wanted = self._state, self._wanted(config)
        try:
            self._change(before, wanted)
        except NetworkError as error:
            raise NetworkError(f"{error}{self._undo(wanted, before)}") from error
        self._state = wanted
        self._hold_addresses(before, wanted)

    @property
    def ipv4(self) -> IPv4Address:
        """Its address in the data network."""
        return self._state.ipv4.ip

    def lead_out(self, gateway: IPv4Address) -> None:
        """From now on, what may leave the networks of the run (`allow_all`) goes to `gateway`."""
        self._external.append(self._control.default_route(gateway))

    def close(self) -> None:
        """Let go of the namespace. Its addresses are free again."""
        self._kernel.close()
        self._data.close()
        for address in _addresses(self._state):
            self._taken.pop(address, None)

    def _wanted(self, config: NetworkConfig) -> _State:
        """A disabled network keeps its shape and its addresses for when it is enabled again."""
        now = replace(self._state, enabled=config.enable, external=config.external)
        if not config.enable:
            return now
        rules = {subnet: rule for subnet, rule in now.rules.items() if not rule.neutral}
        rules |= {rule.subnet: rule for rule in config.rules}
        if len(rules) > _MOST_RULES:
            raise NetworkError(f"rules: an instance can have {_MOST_RULES} of them, and these would be {len(rules)}")
        for at, rule in enumerate(config.rules):
            self._check_rule(f"rules[{at}].subnet", rule)
        now = replace(now, default=config.default, ingress=config.ingress, rules=rules)
        if config.ipv4 and config.ipv4.ip != now.ipv4.ip:
            now = replace(now, ipv4=self._ipv4(config.ipv4.ip))
        if config.ipv6 and (not now.ipv6 or config.ipv6.ip != now.ipv6.ip):
            now = replace(now, ipv6=self._ipv6(config.ipv6))
        return now

    def _check_rule(self, name: str, rule: LinkRule) -> None:
        control = self._control_info.address.network
        if rule.subnet.version == control.version and rule.subnet.subnet_of(control):
            raise NetworkError(f"{name}: {rule.subnet} lies in the control network {control}, which has no rules")

    def _ipv4(self, address: IPv4Address) -> IPv4Interface:
        network = self._data_info.address.network
        if address not in network:
            raise NetworkError(f"IPv4: {address} is not in the data network {network}")
        if address in (network[0], network[1], network[-1]):
            raise NetworkError(f"IPv4: {address} is an address of the data network itself; take another of {network}")
        self._check_free("IPv4", address)
        return IPv4Interface((address, network.prefixlen))

    def _ipv6(self, address: IPv6Interface) -> IPv6Interface:
        ip = address.ip
        if ip.is_unspecified or ip.is_multicast or ip.is_loopback or ip.is_link_local or ip.ipv4_mapped:
            raise NetworkError(f"IPv6: {ip} cannot be the address of an instance; fd00::2/64 can, for example")
        self._check_free("IPv6", ip)
        return address

    def _check_free(self, name: str, address: IPv4Address | IPv6Address) -> None:
        if self._taken.get(address, self._hostname) != self._hostname:
            raise NetworkError(f"{name}: {address} is the address of another instance, {self._taken[address]}")

    def _change(self, before: _State, wanted: _State) -> None:
        """In the original's order (contract §4.5): what fails there first fails here first."""
        name = self._data.name
        with _step(f"change the routes of {self._control.name}"):
            self._reach_external(wanted.external)
        if not wanted.enabled:
            with _step(f"disable {name}"):
                self._data.set_up(False)
            return
        with _step(f"enable {name}"):
            self._data.set_up(True)
            if not before.enabled:
                self._port.settle()
        with _step(f"change the address of {name}"):
            self._move(before, wanted)
            self._port.locate(_addresses(before), _addresses(wanted))
        with _step(f"change the shape of what {name} receives"):
            self._port.shape(wanted.ingress)
        with _step(f"change the shape of {name}"):
            self._queues.shape(wanted.default, {s: rule for s, rule in wanted.rules.items() if not rule.plain})
        with _step(f"change the filters of {name}"):
            self._verdicts.set(self._filters(wanted))

    def _reach_external(self, external: bool) -> None:
        for route in self._external:
            if external:
                self._control.restore(route)
            else:
                self._control.remove(route)

    def _move(self, before: _State, wanted: _State) -> None:
        """The old address goes first: the kernel takes others of a network with its first one.

        All that is not here is reached by the hub, as when the networks were made (`topology`).
        """
        gateway, mac = self._port.gateway
        if before.ipv4 != wanted.ipv4:
            self._data.remove_address(before.ipv4)
        self._data.add_address(wanted.ipv4)
        network = self._data_info.address.network
        for half in network.subnets():  # halves win over the route to the network, which comes with the address
            self._data.lead(half, network[1], mac)
        if before.ipv6 and before.ipv6 != wanted.ipv6:
            self._data.leave(before.ipv6.network, gateway)
            self._data.remove_address(before.ipv6)
        if wanted.ipv6:
            self._data.add_address(wanted.ipv6)
            self._data.lead(wanted.ipv6.network, gateway, mac)
        if before.ipv4 != wanted.ipv4:
            self._data.announce(wanted.ipv4.ip)

    def _filters(self, state: _State) -> dict[Subnet, Filter]:
        whole: list[Subnet] = [address.network for address in (state.ipv4, state.ipv6) if address]
        filters = dict.fromkeys(whole, state.default.filter)
        filters |= {subnet: rule.filter for subnet, rule in state.rules.items()}
        if not any(filters.values()):
            return {}
        hosts: dict[Subnet, Filter] = dict.fromkeys(map(IPv4Network, self._hosts), Filter.ACCEPT)
        return hosts | filters | {self._control_info.address.network: Filter.ACCEPT}

    def _undo(self, wanted: _State, before: _State) -> str:
        try:
            self._change(wanted, before)
        except NetworkError as error:
            return f"; what was done of the change could not be undone: {error}"
        return ""

    def _hold_addresses(self, before: _State, now: _State) -> None:
        for address in _addresses(before):
            self._taken.pop(address, None)
        for address in _addresses(now):
            self._taken[address] = self._hostname


def _addresses(state: _State) -> list[IPv4Address | IPv6Address]:
    return [address.ip for address in (state.ipv4, state.ipv6) if address]


@contextmanager
def _step(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NetworkError(f"cannot {what}: {error.strerror or error}") from error
