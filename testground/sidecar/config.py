"""What a plan asks of its network: `network.Config` of the SDKs (contract §4.1).

Read without pydantic: every run waits for its sidecar to start, and would wait for the import, too.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import Any, TypeVar

from testground.errors import NetworkError
from testground.sidecar import reading
from testground.sidecar.reading import Reader, bounded, percentage, quoted, shortened, text, truth, wrong

Subnet = IPv4Network | IPv6Network
T = TypeVar("T")

DEFAULT_NETWORK = "default"
ALLOW_ALL = "allow_all"
DENY_ALL = "deny_all"
"""So does every other policy."""

LONGEST = (2**32 - 1) * 1000
"""Nanoseconds, 71 minutes: where the original's links end, which says nothing of it."""
WIDEST = 2**31 - 1
"""Nanoseconds: the kernel's netem spreads delays by no more, and does not say so."""
SLOWEST = 202
"""Bits per second. The kernel lets a packet of full size through each minute, however little is asked for."""
FASTEST = 2**64 - 1


class Filter(enum.IntEnum):
    """What becomes of what an instance sends."""

    ACCEPT = 0
    REJECT = 1
    """The sending program gets an error."""
    DROP = 2
    """It vanishes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkShape:
    """How packets travel; all zero is the network as it is."""

    latency: int = 0
    """Nanoseconds."""
    jitter: int = 0
    """Nanoseconds."""
    bandwidth: int = 0
    """Bits per second; 0 is unlimited."""
    filter: Filter = Filter.ACCEPT
    loss: float = 0
    """Percent, as all that follow."""
    corrupt: float = 0
    corrupt_corr: float = 0
    reorder: float = 0
    reorder_corr: float = 0
    duplicate: float = 0
    duplicate_corr: float = 0

    @property
    def emulated(self) -> bool:
        """Whether it needs the kernel's netem, and not a limited rate alone."""
        return any((self.latency, self.jitter, self.loss, self.corrupt, self.reorder, self.duplicate))

    @property
    def plain(self) -> bool:
        """Whether it is the network as it is, but perhaps for its filter."""
        return not self.bandwidth and not self.emulated


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkRule(LinkShape):
    """What is different towards a subnet. Its shape, when it has one, takes the place of the link's (ours)."""

    subnet: Subnet

    @property
    def neutral(self) -> bool:
        """Whether it only takes back what another rule said, or excepts its subnet from its configuration's default."""
        return self.plain and self.filter is Filter.ACCEPT


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """One change of an instance's data network. Rules stay until another one for the same subnet (contract §4.6)."""

    network: str = DEFAULT_NETWORK
    ipv4: IPv4Interface | None = None
    ipv6: IPv6Interface | None = None
    enable: bool = False
    default: LinkShape = LinkShape()
    """For what the instance sends."""
    ingress: LinkShape = LinkShape()
    """For what it receives (ours)."""
    rules: tuple[LinkRule, ...] = ()
    callback_state: str = ""
    routing_policy: str = ""

    @property
    def external(self) -> bool:
        """Whether what lies beyond the data network and the services is to be reachable."""
        return self.routing_policy == ALLOW_ALL


def parse(payload: object) -> NetworkConfig:
    """The published JSON value. Raises `NetworkError` that names the member."""
    try:
        members = reading.members("", payload, CONFIG)
        if "network" not in members:
            _network("network", "")
        return NetworkConfig(**members)
    except ValueError as error:
        raise NetworkError(f"the network configuration cannot be read: {error}") from error


def _network(name: str, value: object) -> str:
    found = text(name, value)
    if found != DEFAULT_NETWORK:
        raise ValueError(f"{name}: unsupported network: {quoted(found)}; there is '{DEFAULT_NETWORK}' only")
    return found


def _cidr(read: Callable[[str], T], example: str, hint: Callable[[str], str]) -> Reader[T]:
    """`hint` tells an address without a mask how to have one."""

    def cidr(name: str, value: object) -> T:
        if not isinstance(value, str):
            raise wrong(name, f"a string such as '{example}'", value)
        if "/" not in value:
            raise ValueError(f"{name}: {quoted(value)} has no mask; {hint(shortened(value))}")
        if "%" in value:
            raise ValueError(f"{name}: {quoted(value)} has a scope ('%'); an address without one is needed")
        try:
            return read(value)
        except ValueError as error:
            raise ValueError(f"{name}: {quoted(value)}: {shortened(str(error))}") from error

    return cidr


def _address(read: Callable[[str], T], example: str) -> Reader[T | None]:
    """An empty text is none."""
    mask = example.partition("/")[2]
    cidr = _cidr(read, example, lambda value: f"it could be {value + '/' + mask!r}")
    return lambda name, value: None if value == "" else cidr(name, value)


def _filter(name: str, value: object) -> Filter:
    if isinstance(value, bool) or value not in (0, 1, 2):
        raise wrong(name, "0 (accept), 1 (reject) or 2 (drop)", value)
    return Filter(value)


def _bandwidth(name: str, value: object) -> int:
    found = bounded(0, FASTEST, "bits per second")(name, value)
    if 0 < found < SLOWEST:
        raise wrong(name, f"0 for no limit, or at least {SLOWEST}", value, "bits per second")
    return found


def _shape(name: str, value: object) -> LinkShape:
    return LinkShape(**_consistent(name, reading.members(name, value, SHAPE)))


def _ingress(name: str, value: object) -> LinkShape:
    shape = _shape(name, value)
    if shape.filter is not Filter.ACCEPT:
        raise ValueError(f"{name}.filter: what an instance sends can be filtered, not what it receives")
    return shape


def _rules(name: str, value: object) -> tuple[LinkRule, ...]:
    if not isinstance(value, list):
        raise wrong(name, "a list", value)
    return tuple(_rule(f"{name}[{at}]", item) for at, item in enumerate(value))


def _rule(name: str, value: object) -> LinkRule:
    members = reading.members(name, value, RULE)
    if "subnet" not in members:
        members["subnet"] = _SUBNET(f"{name}.subnet", None)
    return LinkRule(**_consistent(name, members))


def _consistent(name: str, members: dict[str, Any]) -> dict[str, Any]:
    """The kernel would take what these checks refuse, and do nothing of the kind."""
    if members.get("reorder") and not members.get("latency"):
        raise ValueError(f"{name}.reorder: without a latency there is nothing to overtake")
    return members


_SUBNET: Reader[Subnet] = _cidr(
    lambda value: ipaddress.ip_interface(value).network,
    "16.0.0.9/32",
    lambda value: f"one address is {value + ('/128' if ':' in value else '/32')!r}",
)
_PERCENTAGES = ("loss", "corrupt", "corrupt_corr", "reorder", "reorder_corr", "duplicate", "duplicate_corr")
# The members that there are, in the spelling of the SDKs.
SHAPE: Mapping[str, Reader[Any]] = {
    "latency": bounded(0, LONGEST, "nanoseconds"),
    "jitter": bounded(0, WIDEST, "nanoseconds"),
    "bandwidth": _bandwidth,
    "filter": _filter,
    **dict.fromkeys(_PERCENTAGES, percentage),
}
RULE: Mapping[str, Reader[Any]] = {**SHAPE, "subnet": _SUBNET}
CONFIG: Mapping[str, Reader[Any]] = {
    "network": _network,
    "IPv4": _address(IPv4Interface, "16.0.1.1/16"),
    "IPv6": _address(IPv6Interface, "fd00::2/64"),
    "enable": truth,
    "default": _shape,
    "ingress": _ingress,
    "rules": _rules,
    "callback_state": text,
    "routing_policy": text,
}
