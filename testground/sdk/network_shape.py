"""How what an instance sends travels, and what is different towards parts of its network (contract §4.1)."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypedDict

from testground.errors import did_you_mean
from testground.sdk import network_units as units

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network
    from typing import Unpack

    Subnet = IPv4Network | IPv6Network


class FilterAction(enum.IntEnum):
    """What becomes of packets to a rule's subnet."""

    ACCEPT = 0
    REJECT = 1
    """The sender is told."""
    DROP = 2
    """The packets vanish. Connections wait for answers; a program that opens a new one may get an error."""


class Shaping(TypedDict, total=False):
    """The members of a `LinkShape`, each also as text with its unit."""

    latency: float | str
    jitter: float | str
    bandwidth: int | str
    filter: FilterAction | str
    loss: float | str
    corrupt: float | str
    corrupt_corr: float | str
    reorder: float | str
    reorder_corr: float | str
    duplicate: float | str
    duplicate_corr: float | str


class Addressed(Protocol):
    """What can be the aim of a rule, such as a `NetworkPeer`."""

    @property
    def address(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class LinkShape:
    """How what an instance sends travels. Zero everywhere is the network as it is. `of` also reads `100ms`."""

    latency: float = 0
    """Seconds."""
    jitter: float = 0
    """Seconds."""
    bandwidth: int = 0
    """Bits per second; 0 is unlimited."""
    filter: FilterAction = FilterAction.ACCEPT
    """Sidecars of the original honour it in rules only."""
    loss: float = 0
    """Percent, as all that follow."""
    corrupt: float = 0
    corrupt_corr: float = 0
    reorder: float = 0
    reorder_corr: float = 0
    duplicate: float = 0
    duplicate_corr: float = 0

    _for_text: ClassVar = "; LinkShape.of reads texts"

    def __post_init__(self) -> None:
        for name, unit in _UNITS.items():
            units.number(name, getattr(self, name), unit, self._for_text)
        for name in ("latency", "jitter", "bandwidth"):
            value = getattr(self, name)
            if value < 0:
                raise ValueError(f"{name} is {value}: it cannot be negative")
            if not math.isfinite(value):
                raise ValueError(f"{name} is {value}: it must be finite")
        for name in _PERCENTAGES:
            if not 0 <= getattr(self, name) <= 100:
                raise ValueError(f"{name} is {getattr(self, name)}: it is a percentage, 0 to 100")
        if self.filter not in tuple(FilterAction):
            raise ValueError(f"filter is {self.filter!r}: it is a FilterAction, such as FilterAction.DROP")

    @classmethod
    def of(cls, **shaping: Unpack[Shaping]) -> LinkShape:
        """`LinkShape.of(latency="100ms", bandwidth="20Mbit", loss="1%")`. Raises `ValueError`."""
        return LinkShape().changed(shaping)

    def changed(self, shaping: Mapping[str, object]) -> LinkShape:
        """With some members of `Shaping` in place of its own. Raises `ValueError`, `TypeError` for an unknown one."""
        shape = dataclasses.replace(self, **read(shaping))
        shape.check()
        return shape

    def check(self) -> None:
        """Raises `ValueError` for what the kernel would take, and then not do."""
        if self.jitter > units.WIDEST:
            raise ValueError(f"jitter is {self.jitter}: the widest that a link can have is {units.WIDEST:.3f}s")
        if 0 < self.bandwidth < units.SLOWEST:
            raise ValueError(
                f"bandwidth is {self.bandwidth}: the least that a link can have is {units.SLOWEST} bits per second"
            )
        if self.reorder and not self.latency:
            raise ValueError(f"reorder is {self.reorder}: without a latency there is nothing to overtake")

    def wire(self) -> dict[str, Any]:
        """Durations in whole nanoseconds, whole percentages without a fraction."""
        return {
            "latency": round(float(self.latency) * 1e9),
            "jitter": round(float(self.jitter) * 1e9),
            "bandwidth": int(self.bandwidth),
            "filter": int(self.filter),
            **{name: _plain(getattr(self, name)) for name in _PERCENTAGES},
        }


@dataclass(frozen=True, kw_only=True)
class LinkRule(LinkShape):
    """What is different towards a part of the data network. `to` also reads addresses, peers and `100ms`.

    A shape takes the place of the link's for this subnet; without one, that of the link stays. Sidecars of the original
    honour the filter alone. A rule stays until there is another one for its subnet.
    """

    subnet: str
    """CIDR, such as `16.0.0.9/32`."""

    _for_text: ClassVar = "; LinkRule.to reads texts"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cidr("subnet", self.subnet)

    @classmethod
    def to(cls, target: str | Subnet | Addressed, **shaping: Unpack[Shaping]) -> LinkRule:
        """`LinkRule.to("16.0.0.9", latency="200ms")`: towards a subnet, an address or a peer. Raises `ValueError`."""
        rule = LinkRule(subnet=_subnet(target), **read(shaping))
        rule.check()
        return rule

    @property
    def network(self) -> Subnet:
        """The subnet without what its text may have more: `16.0.1.9/24` is `16.0.1.0/24`."""
        from ipaddress import ip_network

        return ip_network(self.subnet, strict=False)

    def wire(self) -> dict[str, Any]:
        return {**super().wire(), "subnet": self.subnet}

    def short_wire(self) -> dict[str, Any]:
        """Without what is zero, as sdk-js sends it: for configurations with many rules."""
        return {name: value for name, value in self.wire().items() if value}


def read(shaping: Mapping[str, object]) -> dict[str, Any]:
    """The members of `Shaping` as numbers. Raises `ValueError`, and `TypeError` for an unknown one."""
    for name in shaping:
        if name not in _READERS:
            raise TypeError(f"a link has no '{name}'{did_you_mean(str(name), _READERS)}")
    return {name: _READERS[name](name, value) for name, value in shaping.items()}


def listed(rules: object) -> tuple[LinkRule, ...]:
    """Of any iterable. Raises `ValueError` for what is none, and for members that are no rules."""
    if isinstance(rules, LinkRule):
        raise ValueError(
            f"rules is one rule, towards {rules.subnet}: it is a list of rules, such as [LinkRule.to(...)]"
        )
    if isinstance(rules, (str, bytes, Mapping)) or not isinstance(rules, Iterable):
        raise ValueError(f"rules is {rules!r}: it is a list of rules, such as [LinkRule.to(peer, latency='200ms')]")
    found = tuple(rules)
    for at, rule in enumerate(found):
        if not isinstance(rule, LinkRule):
            raise ValueError(f"rules[{at}] is {rule!r}: it is a LinkRule, such as LinkRule.to(peer, latency='200ms')")
    return found


def check_cidr(name: str, text: object) -> None:
    from ipaddress import ip_interface

    if not isinstance(text, str):
        raise ValueError(f"{name} is {text!r}: it is a text such as '{_CIDRS[name]}'")
    if "/" not in text:
        length = {"ipv4": 16, "ipv6": 64}.get(name, 128 if ":" in text else 32)
        raise ValueError(f"{name} is '{text}': it needs a mask, such as {text}/{length}")
    if "%" in text:
        raise ValueError(f"{name} is '{text}': it has a scope; write it without '%' and what follows up to the mask")
    try:
        ip_interface(text)
    except ValueError as error:
        raise ValueError(f"{name} is '{text}': {error}") from error


_PERCENTAGES = ("loss", "corrupt", "corrupt_corr", "reorder", "reorder_corr", "duplicate", "duplicate_corr")
_UNITS = {
    "latency": "seconds",
    "jitter": "seconds",
    "bandwidth": "bits per second",
    **dict.fromkeys(_PERCENTAGES, "percent"),
}
_CIDRS = {"ipv4": "16.0.1.1/16", "ipv6": "fd00::2/64", "subnet": "16.0.0.9/32"}


def _filter(name: str, value: FilterAction | str) -> FilterAction:
    return units.chosen(name, value, FilterAction)


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "latency": units.seconds,
    "jitter": units.seconds,
    "bandwidth": units.bits_per_second,
    "filter": _filter,
    **dict.fromkeys(_PERCENTAGES, units.percent),
}


def _subnet(target: object) -> str:
    from ipaddress import ip_network

    text = str(getattr(target, "address", target))
    try:
        return str(ip_network(text, strict=False))
    except ValueError as error:
        raise ValueError(
            f"the target is '{text}': {error}; it is an address, or a subnet such as 16.0.1.0/24"
        ) from error


def _plain(value: float) -> int | float:
    return int(value) if float(value).is_integer() else float(value)
