"""The instances of a run as their data network sees them, and who is cut off from whom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testground.errors import did_you_mean
from testground.sdk.network_shape import FilterAction, LinkRule

if TYPE_CHECKING:
    from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class NetworkPeer:
    """An instance of the run, from `meet`."""

    group: str
    address: str
    """In the data network."""
    ipv6: str = ""
    """If it was given one before it met the others."""
    number: int = 0
    """From 1, in the order of arrival; this meeting's, and the same for all who take part."""


Side: TypeAlias = "str | NetworkPeer | Iterable[str | NetworkPeer]"
"""The id of a group, an instance, or several of both."""


def across(sides: Sequence[Side], peers: Sequence[NetworkPeer], me: NetworkPeer) -> list[NetworkPeer]:
    """The instances that are on other sides than `me`; none if it is on no side.

    Of one side alone, the other one is the rest. Raises `ValueError` that names the group or instance.
    """
    if not sides:
        raise ValueError("no sides: a partition needs groups or instances to part from each other")
    members = [_members(side, peers) for side in sides]
    if len(members) == 1:
        members.append(set(peers) - members[0])
    everybody: set[NetworkPeer] = set()
    for side in members:
        if both := everybody & side:
            shown = min(both, key=lambda peer: peer.number)
            raise ValueError(f"{shown.address} of group '{shown.group}' is on two sides of the partition")
        everybody |= side
    own: set[NetworkPeer] = next((side for side in members if me in side), everybody)
    return sorted(everybody - own, key=lambda peer: peer.number)


def rules_against(peers: Iterable[NetworkPeer], action: FilterAction) -> tuple[LinkRule, ...]:
    """As few rules as match these instances and nobody else."""
    from ipaddress import IPv4Network, IPv6Network, collapse_addresses

    known = list(peers)
    subnets = [
        *collapse_addresses(IPv4Network(peer.address) for peer in known),
        *collapse_addresses(IPv6Network(peer.ipv6.partition("/")[0]) for peer in known if peer.ipv6),
    ]
    return tuple(LinkRule(subnet=str(subnet), filter=action) for subnet in subnets)


def _members(side: Side, peers: Sequence[NetworkPeer]) -> set[NetworkPeer]:
    if not isinstance(side, (str, NetworkPeer, Iterable)):
        raise ValueError(f"a side is {side!r}: it is a group's id, a peer from meet(), or a list of these")
    if not isinstance(side, (str, NetworkPeer)):
        return set().union(*(_members(part, peers) for part in side))
    if isinstance(side, NetworkPeer):
        if side not in peers:
            raise ValueError(f"{side} is none of those who met")
        return {side}
    found = {peer for peer in peers if peer.group == side}
    if not found:
        raise ValueError(f"no instance is in group '{side}'{did_you_mean(side, {peer.group for peer in peers})}")
    return found
