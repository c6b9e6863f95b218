"""Who is cut off from whom by a partition."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testground.sdk import FilterAction, NetworkPeer
from testground.sdk.network_peers import Side, across, rules_against

PEERS = [NetworkPeer(group, f"16.0.0.{number + 1}", number=number) for number, group in enumerate("aabbc", 1)]
A1, A2, B1, B2, C1 = PEERS


@pytest.mark.parametrize(
    ("sides", "me", "others"),
    [
        (("a", "b"), A1, [B1, B2]),
        (("a", "b"), B2, [A1, A2]),
        (("a", "b"), C1, []),
        (("a",), A2, [B1, B2, C1]),
        (("a",), C1, [A1, A2]),
        ((["a", "b"], "c"), B1, [C1]),
        (([A1, B1], [A2, B2, "c"]), A1, [A2, B2, C1]),
        ((A1, A2, B1), A2, [A1, B1]),
        (([], "a"), A1, []),
        (("a", "b", "c"), B1, [A1, A2, C1]),
    ],
)
def test_the_other_sides(sides: tuple[Side, ...], me: NetworkPeer, others: list[NetworkPeer]) -> None:
    assert across(sides, PEERS, me) == others


@pytest.mark.parametrize(
    ("sides", "complaint"),
    [
        ((), "no sides: a partition needs groups or instances"),
        (("left", "b"), "no instance is in group 'left'; there is: a, b, c"),
        ((None,), "a side is None: it is a group's id, a peer from meet(), or a list of these"),
        (("a", ["b", A2]), "16.0.0.3 of group 'a' is on two sides of the partition"),
        ((NetworkPeer("a", "16.0.0.77"),), "NetworkPeer(group='a', address='16.0.0.77'"),
    ],
)
def test_sides_that_are_none(sides: tuple[Side, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}"):
        across(sides, PEERS, A1)


@given(st.lists(st.integers(0, 2), min_size=2, max_size=12))
def test_a_partition_is_mutual(places: list[int]) -> None:
    """Who drops what it sends to another has it dropped by the other, too."""
    peers = [NetworkPeer(f"g{place}", f"16.0.0.{number}", number=number) for number, place in enumerate(places, 1)]
    sides = [[peer for peer in peers if peer.group == f"g{place}"] for place in (0, 1)]
    cut = {peer: across(sides, peers, peer) for peer in peers}
    assert all((one in cut[other]) == (other in cut[one]) for one in peers for other in peers)


@given(st.sets(st.integers(2, 300)))
def test_rules_match_exactly_the_instances(numbers: set[int]) -> None:
    peers = [NetworkPeer("g", str(ip_address(0x10000000 + n)), f"fd00::{n:x}/64", n) for n in numbers]
    rules = rules_against(peers, FilterAction.REJECT)
    networks = sorted((rule.network for rule in rules), key=lambda network: (network.version, network))
    matched = {str(address) for network in networks for address in network}
    assert matched == {f"{peer.address}" for peer in peers} | {peer.ipv6.removesuffix("/64") for peer in peers}
    assert {rule.filter for rule in rules} <= {FilterAction.REJECT}
    assert not any(one.version == two.version and one.overlaps(two) for one, two in pairwise(networks))


def test_neighbours_share_a_rule() -> None:
    rules = rules_against(PEERS, FilterAction.DROP)
    assert [ip_network(rule.subnet) for rule in rules] == [
        ip_network("16.0.0.2/31"),
        ip_network("16.0.0.4/31"),
        ip_network("16.0.0.6/32"),
    ]
