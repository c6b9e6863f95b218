"""One change of the data network as it travels (contract §4.1)."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from testground.sdk.network_shape import FilterAction, LinkRule, LinkShape, check_cidr, listed
from testground.sdk.network_units import truth

DEFAULT_NETWORK = "default"

MANY_RULES = 32
"""More are written shortly: messages may have 32768 bytes, and a rule in full takes 165."""


class RoutingPolicy(enum.StrEnum):
    """Whether an instance reaches anything beyond the data network and the infrastructure."""

    ALLOW_ALL = "allow_all"
    DENY_ALL = "deny_all"


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """One change of the data network. It replaces the shape and the policy of the one before.

    Rules stay until there is another one for their subnet (contract §4.6).
    """

    callback_state: str
    """Signalled by the sidecar once the change is in force."""
    callback_target: int = 0
    """How many instances to wait for; 0: all of the run."""
    network: str = DEFAULT_NETWORK
    enable: bool = True
    """False unplugs the instance."""
    ipv4: str | None = None
    """A new address with its mask, such as `16.0.1.1/16`; None keeps the one there is."""
    ipv6: str | None = None
    default: LinkShape = field(default_factory=LinkShape)
    ingress: LinkShape = field(default_factory=LinkShape)
    """Of what the instance receives. Sidecars of the original take no notice of it."""
    rules: Sequence[LinkRule] = ()
    routing_policy: RoutingPolicy = RoutingPolicy.DENY_ALL

    def __post_init__(self) -> None:
        if not self.callback_state:
            raise ValueError("failed to configure network; no callback state provided")
        if not isinstance(self.callback_state, str):
            raise ValueError(f"callback_state is {self.callback_state!r}: it is a text, the same for all who wait")
        if isinstance(self.callback_target, bool) or not isinstance(self.callback_target, int):
            raise ValueError(f"callback_target is {self.callback_target!r}: it is a whole number, 0 for all instances")
        truth("enable", self.enable)
        for name in ("default", "ingress"):
            if not isinstance(getattr(self, name), LinkShape):
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}: it is a LinkShape, such as LinkShape(latency=0.1)"
                )
        object.__setattr__(self, "rules", listed(self.rules))  # not the caller's list, which may change
        if self.ipv4 is not None:
            check_cidr("ipv4", self.ipv4)
        if self.ipv6:
            check_cidr("ipv6", self.ipv6)
        if self.ingress.filter is not FilterAction.ACCEPT:
            raise ValueError("ingress has a filter: what an instance sends can be filtered, not what it receives")

    def wire(self) -> dict[str, Any]:
        write = LinkRule.short_wire if len(self.rules) > MANY_RULES else LinkRule.wire
        ingress = {"ingress": self.ingress.wire()} if self.ingress != LinkShape() else {}
        return {
            "network": self.network,
            "IPv4": self.ipv4,
            "IPv6": self.ipv6,
            "enable": self.enable,
            "default": self.default.wire(),
            **ingress,
            "rules": [write(rule) for rule in self.rules] or None,
            "callback_state": self.callback_state,
            "routing_policy": str(self.routing_policy),
        }
