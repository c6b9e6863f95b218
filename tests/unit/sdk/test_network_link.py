"""What an instance has asked of its network so far, and which configurations lead its sidecar there."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testground.sdk import FilterAction, LinkRule, LinkShape, NetworkConfig, NetworkPeer, RoutingPolicy
from testground.sdk.network_config import MANY_RULES
from testground.sdk.network_link import Link

ACCEPT, REJECT, DROP = FilterAction


class Sidecar:
    """What is in force after some configurations: rules stay until another one for their subnet (contract §4.6)."""

    def __init__(self) -> None:
        self.default = LinkShape()
        self.rules: dict[Any, LinkRule] = {}

    def apply(self, config: NetworkConfig) -> None:
        if config.enable:
            self.default = config.default
            self.rules |= {rule.network: rule for rule in config.rules}

    def filter(self, address: IPv4Address) -> FilterAction:
        decided = decide(address, self.rules.values())
        return self.default.filter if decided is None else decided


def decide(address: IPv4Address, rules: Any) -> FilterAction | None:
    """By the narrowest rule; None without one."""
    found = [rule for rule in rules if address in rule.network]
    return max(found, key=lambda rule: rule.network.prefixlen).filter if found else None


def wanted(link: Link, address: IPv4Address) -> FilterAction:
    for rules in (link.partition, link.rules):
        if (decided := decide(address, rules)) is not None:
            return decided
    return link.shape.filter


NETWORK = IPv4Network("16.0.0.0/28")
SUBNETS = [str(subnet) for length in (28, 29, 30, 32) for subnet in NETWORK.subnets(new_prefix=length)]
FILTERS = st.sampled_from(list(FilterAction))
RULES = st.lists(
    st.builds(lambda subnet, action: LinkRule(subnet=subnet, filter=action), st.sampled_from(SUBNETS), FILTERS),
    max_size=4,
    unique_by=lambda rule: rule.subnet,
).map(tuple)
CHANGES = st.one_of(
    st.fixed_dictionaries({"rules": RULES}),
    st.fixed_dictionaries({"partition": RULES}),
    st.fixed_dictionaries({"filter": FILTERS}),
    st.fixed_dictionaries({"enable": st.booleans()}),
)


@given(st.lists(CHANGES, max_size=8))
def test_after_any_changes_the_sidecar_filters_as_the_link_says(changes: list[dict[str, Any]]) -> None:
    link, sidecar = Link(), Sidecar()
    for change in [*changes, {"enable": True}]:
        before = link
        partitioned = "partition" in change
        link = (dataclasses.replace(link, **change) if partitioned else link.changed(change)).after(before)
        sidecar.apply(link.config(before, "done", 1))
    sidecar_filters = {str(address): sidecar.filter(address) for address in NETWORK}
    assert sidecar_filters == {str(address): wanted(link, address) for address in NETWORK}


def test_what_is_not_named_stays() -> None:
    rule = LinkRule.to("16.0.0.9", loss="5%")
    link = Link().changed({"latency": "100ms", "rules": [rule], "routing_policy": "allow_all", "ipv4": "16.0.0.3/16"})
    link = link.changed({"bandwidth": "20Mbit"}).changed({"enable": False})
    assert link == Link(
        enable=False,
        ipv4="16.0.0.3/16",
        shape=LinkShape(latency=0.1, bandwidth=20_000_000),
        rules=(rule,),
        routing_policy=RoutingPolicy.ALLOW_ALL,
    )
    assert link.changed({"latency": 0, "bandwidth": 0, "rules": (), "enable": True}).shape == LinkShape()


def test_what_arrives_has_a_shape_of_its_own_which_changes_as_a_whole() -> None:
    link = Link().changed({"latency": "1ms", "ingress": {"latency": "50ms", "loss": "1%"}})
    assert link.changed({"latency": 0}).ingress == LinkShape(latency=0.05, loss=1)
    assert link.changed({"ingress": LinkShape.of(bandwidth="1Mbit")}).ingress == LinkShape(bandwidth=1_000_000)
    assert link.changed({"ingress": None}) == link.changed({"ingress": {}}) == Link(shape=LinkShape(latency=0.001))
    by_hand = NetworkConfig(callback_state="s", callback_target=1, ingress=LinkShape(loss=2))
    assert link.configured(by_hand).config(link, "s", 1) == by_hand


def test_a_rule_that_is_gone_is_lifted_once() -> None:
    first = Link().changed({"rules": [LinkRule.to("16.0.0.9", filter="drop")]}).after(Link())
    second = first.changed({"rules": []}).after(first)
    third = second.changed({"latency": "1ms"}).after(second)
    assert list(second.config(first, "s", 1).rules) == [LinkRule(subnet="16.0.0.9/32")]
    assert list(third.config(second, "s", 1).rules) == []


def test_a_partition_wins_over_narrower_rules_until_it_heals() -> None:
    near = LinkRule.to("16.0.0.9", latency="1ms")
    plain = Link(rules=(near,))
    cut = dataclasses.replace(plain, partition=(LinkRule.to("16.0.0.8/31", filter="drop"),)).after(plain)
    assert decide(IPv4Address("16.0.0.9"), cut.config(plain, "s", 1).rules) is DROP
    healed = dataclasses.replace(cut, partition=()).after(cut)
    assert list(healed.config(cut, "s", 1).rules) == [LinkRule(subnet="16.0.0.8/31"), near]


def test_a_configuration_made_by_hand_is_known_afterwards() -> None:
    first = Link(rules=(LinkRule.to("16.0.0.9", filter="drop"), LinkRule.to("16.0.0.7", filter="drop")))
    rule = LinkRule(subnet="16.0.0.9/32", latency=1)
    config = NetworkConfig(callback_state="s", default=LinkShape(loss=1), rules=[rule], ipv4="16.0.0.4/16")
    link = first.configured(config)
    assert (link.shape, link.rules, link.ipv4) == (LinkShape(loss=1), (first.rules[1], rule), "16.0.0.4/16")


def test_of_and_to_read_texts() -> None:
    assert LinkShape.of(
        latency="100ms", jitter=0.002, bandwidth="1Mibit", loss="1.5%", corrupt_corr="25%"
    ) == LinkShape(latency=0.1, jitter=0.002, bandwidth=1 << 20, loss=1.5, corrupt_corr=25)
    assert LinkRule.to("16.0.0.9", filter="reject") == LinkRule(subnet="16.0.0.9/32", filter=REJECT)
    assert LinkRule.to("16.0.1.9/24").subnet == "16.0.1.0/24"
    assert LinkRule.to(ip_network("fd00::/64")).subnet == "fd00::/64"
    assert LinkRule.to(NetworkPeer("g", "16.0.0.5")).subnet == "16.0.0.5/32"


@pytest.mark.parametrize(
    ("make", "error", "complaint"),
    [
        (lambda: LinkShape.of(latency="-1ms"), ValueError, "latency is -0.001: it cannot be negative"),
        (lambda: LinkShape.of(loss="101%"), ValueError, "loss is 101.0: it is a percentage, 0 to 100"),
        (lambda: LinkShape(latency=float("nan")), ValueError, "latency is nan: it must be finite"),
        (lambda: LinkShape.of(reorder="1%"), ValueError, "reorder is 1.0: without a latency there is nothing to overt"),
        (lambda: LinkShape.of(latancy="1s"), TypeError, "a link has no 'latancy'; did you mean 'latency'?"),
        (lambda: LinkShape.of(reorder="1%", jitter="1s"), ValueError, "reorder is 1.0: without a latency there is "),
        (
            lambda: LinkShape.of(jitter="3s", latency=1),
            ValueError,
            "jitter is 3.0: the widest that a link can have is 2.1",
        ),
        (lambda: LinkShape.of(jitter=3), ValueError, "jitter is 3: the widest"),
        (
            lambda: LinkShape.of(bandwidth=1),
            ValueError,
            "bandwidth is 1: the least that a link can have is 202 ",
        ),
        (lambda: LinkShape.of(bandwidth="8bit"), ValueError, "bandwidth is 8: the least"),
        (lambda: Link().changed({"ingress": {"latancy": 1}}), TypeError, "a link has no 'latancy'; did you mean"),
        (lambda: Link().changed({"ingress": {"filter": "drop"}}), ValueError, "ingress has the filter drop: "),
        (lambda: Link().changed({"ingress": {"reorder": 1}}), ValueError, "reorder is 1: without a latency"),
        (lambda: NetworkConfig(callback_state="s", ingress=LinkShape(filter=DROP)), ValueError, "ingress has a filter"),
        (lambda: LinkRule.to("nowhere"), ValueError, "the target is 'nowhere': "),
        (lambda: LinkRule.to("16.0.0.0/8", filter="block"), ValueError, "filter is 'block': there is no such thing"),
        (lambda: Link().changed({"enabled": True}), TypeError, "a link has no 'enabled'; did you mean 'enable'?"),
        (
            lambda: Link().changed({"rules": ["16.0.0.3"]}),
            ValueError,
            "rules[0] is '16.0.0.3': it is a LinkRule, such as LinkRule.to(peer, ",
        ),
        (
            lambda: Link().changed({"rules": [{"subnet": "16.0.0.3/32"}]}),
            ValueError,
            "rules[0] is {'subnet': '16.0.0.3/32'}: it is a LinkRule",
        ),
        (
            lambda: Link().changed({"rules": LinkRule.to("16.0.0.3")}),
            ValueError,
            "rules is one rule, towards 16.0.0.3/32: it is a list of rules",
        ),
        (lambda: Link().changed({"rules": "16.0.0.3"}), ValueError, "rules is '16.0.0.3': it is a list of rules"),
        (lambda: Link().changed({"rules": {"subnet": 1}}), ValueError, "rules is {'subnet': 1}: it is a list of rules"),
        (lambda: Link().changed({"rules": None}), ValueError, "rules is None: it is a list of rules"),
        (lambda: NetworkConfig(callback_state="s", rules=["x"]), ValueError, "rules[0] is 'x': it is a LinkRule"),
        (lambda: Link().changed({"ingress": "5ms"}), ValueError, "ingress is '5ms': it is a dict such as "),
        (lambda: Link().changed({"ingress": 0}), ValueError, "ingress is 0: it is a dict such as "),
        (lambda: Link().changed({1: 2}), TypeError, "a link has no '1'"),
        (lambda: Link().changed({"ingress": {1: 2}}), TypeError, "a link has no '1'"),
        (lambda: Link().changed({"enable": None}), ValueError, "enable is None: it is True or False"),
        (lambda: Link().changed({"enable": 1}), ValueError, "enable is 1: it is True or False"),
        (
            lambda: Link().changed({"routing_policy": None}),
            ValueError,
            "routing_policy is None: there is no such thing",
        ),
        (lambda: LinkShape.of(latency=None), ValueError, "latency is None: it is a number of seconds, or a text such"),
        (
            lambda: LinkShape.of(bandwidth=[]),
            ValueError,
            "bandwidth is []: it is a number of bits per second, or a text",
        ),
        (lambda: LinkShape.of(loss=True), ValueError, "loss is True: it is a number of percent, or a text such as 1%"),
        (lambda: LinkShape.of(filter=None), ValueError, "filter is None: there is no such thing; there is: accept, "),
        (
            lambda: LinkShape(latency="1s"),
            ValueError,
            "latency is '1s': it is a number of seconds; LinkShape.of reads texts",
        ),
        (
            lambda: LinkRule(subnet="16.0.0.3/32", loss="1%"),
            ValueError,
            "loss is '1%': it is a number of percent; LinkRule.to reads texts",
        ),
        (lambda: LinkShape(filter="drop"), ValueError, "filter is 'drop': it is a FilterAction"),
        (lambda: LinkRule(subnet=None), ValueError, "subnet is None: it is a text such as '16.0.0.9/32'"),
        (lambda: LinkRule(subnet="fe80::1%eth0/64"), ValueError, "subnet is 'fe80::1%eth0/64': it has a scope"),
        (
            lambda: NetworkConfig(callback_state="s", ipv6="fd00::1%eth0/64"),
            ValueError,
            "ipv6 is 'fd00::1%eth0/64': it has a scope",
        ),
        (lambda: NetworkConfig(callback_state="s", ipv6=5), ValueError, "ipv6 is 5: it is a text such as 'fd00::2/64'"),
        (lambda: NetworkConfig(callback_state=5), ValueError, "callback_state is 5: it is a text"),
        (
            lambda: NetworkConfig(callback_state="s", callback_target="3"),
            ValueError,
            "callback_target is '3': it is a ",
        ),
        (lambda: NetworkConfig(callback_state="s", enable=None), ValueError, "enable is None: it is True or False"),
        (lambda: NetworkConfig(callback_state="s", default={}), ValueError, "default is {}: it is a LinkShape"),
        (
            lambda: Link().changed({"routing_policy": "deny"}),
            ValueError,
            "routing_policy is 'deny': there is no such thing; did you mean 'deny_all'?",
        ),
        (
            lambda: NetworkConfig(callback_state="s", ipv6="fd00::2"),
            ValueError,
            "ipv6 is 'fd00::2': it needs a mask, such as fd00::2/64",
        ),
    ],
)
def test_what_cannot_be_asked_for(make: Callable[[], object], error: type[Exception], complaint: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(complaint)}"):
        make()


def test_no_address_keeps_the_one_there_is() -> None:
    link = Link(ipv4="16.0.0.4/16", ipv6="fd00::4/64")
    assert link.changed({"ipv4": None, "ipv6": None}) == link


def test_rules_of_any_iterable() -> None:
    rule = LinkRule.to("16.0.0.9")
    assert Link().changed({"rules": {rule}}).rules == Link().changed({"rules": iter([rule])}).rules == (rule,)


def test_numbers_of_other_kinds() -> None:
    assert LinkShape.of(latency=Decimal("0.1"), loss=Fraction(1, 2)).wire() == LinkShape(latency=0.1, loss=0.5).wire()


def test_many_rules_fit_into_a_message() -> None:
    rules = [LinkRule.to(IPv4Address(0x10000000 + 2 * number), filter="reject") for number in range(700)]
    config = NetworkConfig(callback_state="s", rules=rules)
    payload = msgspec.json.encode(config.wire())
    assert len(payload) < 32_000
    assert msgspec.json.decode(payload)["rules"][1] == {"filter": 1, "subnet": "16.0.0.2/32"}
    few = NetworkConfig(callback_state="s", rules=rules[:MANY_RULES])
    assert few.wire()["rules"][1] == rules[1].wire()
