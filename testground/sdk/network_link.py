"""What an instance has asked of its data network so far, and what tells its sidecar of a change."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from testground.errors import did_you_mean
from testground.sdk.network_config import NetworkConfig, RoutingPolicy
from testground.sdk.network_shape import FilterAction, LinkRule, LinkShape, Shaping, listed
from testground.sdk.network_units import chosen, truth

if TYPE_CHECKING:
    from testground.sdk.network_shape import Subnet


class LinkChange(Shaping, total=False):
    """What a change may name; the rest stays as it is."""

    enable: bool
    ingress: LinkShape | Shaping | None
    rules: Iterable[LinkRule]
    routing_policy: RoutingPolicy | str
    callback_state: str
    callback_target: int


class Configuration(LinkChange, total=False):
    """A change that may give addresses, too."""

    ipv4: str | None
    ipv6: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """Immutable: each change makes another one."""

    enable: bool = True
    ipv4: str | None = None
    ipv6: str | None = None
    shape: LinkShape = field(default_factory=LinkShape)
    ingress: LinkShape = field(default_factory=LinkShape)
    rules: tuple[LinkRule, ...] = ()
    partition: tuple[LinkRule, ...] = ()
    """Apart from the other rules, so that it can heal."""
    routing_policy: RoutingPolicy = RoutingPolicy.DENY_ALL
    lifted: tuple[LinkRule, ...] = ()
    """For the subnets of former rules: sidecars keep a rule until another one for its subnet (contract §4.6)."""

    def changed(self, change: Mapping[str, Any]) -> Link:
        """By the members of `Configuration`. Raises `ValueError`, and `TypeError` for an unknown one."""
        for name in change:
            if name not in Configuration.__annotations__:
                raise TypeError(f"a link has no '{name}'{did_you_mean(str(name), Configuration.__annotations__)}")
        fields = dict(change)
        addresses = {name: fields.pop(name, None) for name in ("ipv4", "ipv6")}
        changes: dict[str, Any] = {name: address for name, address in addresses.items() if address is not None}
        if "enable" in fields:
            changes["enable"] = truth("enable", fields.pop("enable"))
        if "ingress" in fields:
            changes["ingress"] = _arriving(fields.pop("ingress"))
        if "rules" in fields:
            changes["rules"] = listed(fields.pop("rules"))
        if "routing_policy" in fields:
            changes["routing_policy"] = chosen("routing_policy", fields.pop("routing_policy"), RoutingPolicy)
        return dataclasses.replace(self, shape=self.shape.changed(fields), **changes)

    def configured(self, config: NetworkConfig) -> Link:
        """By a configuration that was made by hand."""
        renewed = {rule.network for rule in config.rules}

        def others(rules: Iterable[LinkRule]) -> tuple[LinkRule, ...]:
            return tuple(rule for rule in rules if rule.network not in renewed)

        return Link(
            enable=config.enable,
            ipv4=config.ipv4 or self.ipv4,
            ipv6=config.ipv6 or self.ipv6,
            shape=config.default,
            ingress=config.ingress,
            rules=(*others(self.rules), *config.rules),
            partition=others(self.partition),
            routing_policy=config.routing_policy,
            lifted=others(self.lifted),
        )

    def after(self, before: Link) -> Link:
        """With all that was different before and is not any more in `lifted`: as what is around it now."""
        rules = {rule.network: rule for rule in self._in_force()}
        former = dict.fromkeys(rule.network for rule in (*before.lifted, *before._in_force()))
        lifted = [
            LinkRule(subnet=str(subnet), filter=(_around(subnet, rules) or self.shape).filter)
            for subnet in former
            if subnet not in rules
        ]
        return dataclasses.replace(self, lifted=tuple(lifted))

    def config(self, before: Link, callback_state: str, callback_target: int) -> NetworkConfig:
        """What leads here from the link before. While disabled, sidecars take no notice of rules."""
        known = set(before.lifted) if before.enable else set()
        return NetworkConfig(
            callback_state=callback_state,
            callback_target=callback_target,
            enable=self.enable,
            ipv4=self.ipv4,
            ipv6=self.ipv6,
            default=self.shape,
            ingress=self.ingress,
            rules=(*(rule for rule in self.lifted if rule not in known), *self._in_force()),
            routing_policy=self.routing_policy,
        )

    def _in_force(self) -> list[LinkRule]:
        """A rule would win over the partition around it, being narrower, so it waits until that has healed."""
        cut = {rule.network: rule for rule in self.partition}
        return [*(rule for rule in self.rules if not cut or _around(rule.network, cut) is None), *self.partition]


def _arriving(wanted: LinkShape | Mapping[str, object] | None) -> LinkShape:
    """A filter would have to be the senders'."""
    if wanted is not None and not isinstance(wanted, (LinkShape, Mapping)):
        raise ValueError(f"ingress is {wanted!r}: it is a dict such as {{'latency': '50ms'}}, or None to take it back")
    shape = wanted if isinstance(wanted, LinkShape) else LinkShape().changed(wanted or {})
    if shape.filter is not FilterAction.ACCEPT:
        raise ValueError(
            f"ingress has the filter {shape.filter.name.lower()}: what an instance sends can be filtered, "
            "not what it receives"
        )
    shape.check()
    return shape


def _around(subnet: Subnet, rules: Mapping[Subnet, LinkRule]) -> LinkRule | None:
    """The rule for the narrowest subnet that holds this one."""
    lengths = {known.prefixlen for known in rules if known.version == subnet.version}
    for length in sorted(lengths, reverse=True):
        if length <= subnet.prefixlen and (found := rules.get(subnet.supernet(new_prefix=length))):
            return found
    return None
