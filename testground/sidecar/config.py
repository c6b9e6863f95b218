"""What a plan asks of its network: `network.Config` of the SDKs (contract §4.1)."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, field_validator

from testground.api.model import Bool, Int, Str, UInt, WireModel, explain
from testground.errors import NetworkError

Subnet = IPv4Network | IPv6Network

DEFAULT_NETWORK = "default"
ALLOW_ALL = "allow_all"


class Filter(enum.IntEnum):
    """What becomes of what an instance sends."""

    ACCEPT = 0
    REJECT = 1
    """The sending program gets an error."""
    DROP = 2
    """It vanishes."""


def parse(payload: object) -> NetworkConfig:
    """The published JSON value. Raises `NetworkError` that names the member."""
    try:
        return NetworkConfig.model_validate(payload)
    except ValidationError as error:
        raise NetworkError(f"the network configuration cannot be read: {explain(error)}") from error


def _cidr(read: Callable[[str], Any], value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("a string such as '16.0.0.9/32' is needed")
    if "/" not in value:
        raise ValueError(f"'{value}' has no mask; one address is '{value}/{128 if ':' in value else 32}'")
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(str(error)) from error


def _address(read: Callable[[str], Any]) -> BeforeValidator:
    return BeforeValidator(lambda value: _cidr(read, value) if value else None)


def _filter(value: Any) -> Any:
    if isinstance(value, bool) or value not in (0, 1, 2):
        raise ValueError("0 (accept), 1 (reject) or 2 (drop) is needed")
    return Filter(int(value))


Nanoseconds = Annotated[Int, Field(ge=0)]
Percent = Annotated[float, Field(ge=0, le=100, strict=True)]


class LinkShape(WireModel):
    """How what an instance sends travels; all zero is the network as it is."""

    latency: Nanoseconds = 0
    jitter: Nanoseconds = 0
    bandwidth: UInt = 0
    """Bits per second; 0 is unlimited."""
    filter: Annotated[Filter, BeforeValidator(_filter)] = Filter.ACCEPT
    loss: Percent = 0
    corrupt: Percent = 0
    corrupt_corr: Percent = 0
    reorder: Percent = 0
    reorder_corr: Percent = 0
    duplicate: Percent = 0
    duplicate_corr: Percent = 0

    @property
    def emulated(self) -> bool:
        """Whether it needs the kernel's netem, and not a limited rate alone."""
        return any((self.latency, self.jitter, self.loss, self.corrupt, self.reorder, self.duplicate))

    @property
    def plain(self) -> bool:
        """Whether it is the network as it is, but perhaps for its filter."""
        return not self.bandwidth and not self.emulated


class LinkRule(LinkShape):
    """What is different towards a subnet. Its shape, when it has one, takes the place of the link's (ours)."""

    subnet: Annotated[Subnet, BeforeValidator(lambda value: _cidr(ipaddress.ip_interface, value).network)]

    @property
    def neutral(self) -> bool:
        """Whether it only takes back what another rule said, or excepts its subnet from its configuration's default."""
        return self.plain and self.filter is Filter.ACCEPT


class NetworkConfig(WireModel):
    """One change of an instance's data network. Rules stay until another one for the same subnet (contract §4.6)."""

    network: Str = Field("", validate_default=True)
    ipv4: Annotated[IPv4Interface | None, _address(IPv4Interface)] = Field(None, alias="IPv4")
    ipv6: Annotated[IPv6Interface | None, _address(IPv6Interface)] = Field(None, alias="IPv6")
    enable: Bool = False
    default: LinkShape = Field(default_factory=LinkShape)
    rules: list[LinkRule] = Field(default_factory=list)
    callback_state: Str = ""
    routing_policy: Str = ""

    @field_validator("network")
    @classmethod
    def _known(cls, name: str) -> str:
        if name != DEFAULT_NETWORK:
            raise ValueError(f"unsupported network: '{name}'; there is '{DEFAULT_NETWORK}' only")
        return name

    @property
    def external(self) -> bool:
        """Whether what lies beyond the data network and the services is to be reachable."""
        return self.routing_policy == ALLOW_ALL
