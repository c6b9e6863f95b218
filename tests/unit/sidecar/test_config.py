"""Configurations as the SDKs spell them (contract §4.1, §7.3)."""

from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testground.errors import NetworkError
from testground.sdk import network_units as units
from testground.sidecar.config import SLOWEST, Filter, LinkShape, parse

ZERO = {
    "latency": 0,
    "jitter": 0,
    "bandwidth": 0,
    "filter": 0,
    "loss": 0,
    "corrupt": 0,
    "corrupt_corr": 0,
    "reorder": 0,
    "reorder_corr": 0,
    "duplicate": 0,
    "duplicate_corr": 0,
}
GO = {
    "network": "default",
    "IPv4": "16.0.1.1/16",
    "IPv6": None,
    "enable": True,
    "default": ZERO | {"latency": 100000000, "bandwidth": 1048576, "loss": 1.5},
    "rules": [ZERO | {"filter": 2, "subnet": "16.0.0.9/32"}],
    "callback_state": "network-configured",
    "routing_policy": "deny_all",
}
JS = {
    "network": "default",
    "enable": True,
    "default": {"latency": 100000000, "bandwidth": 1048576},
    "callback_state": "network-configured",
    "callback_target": 1,
    "IPv4": "16.0.1.1/16",
    "routing_policy": "deny_all",
}
RUST = {
    "network": "default",
    "IPv4": "16.0.1.1/24",
    "IPv6": None,
    "enable": True,
    "default": ZERO | {"latency": 1000000, "loss": 0.0},
    "rules": None,
    "callback_state": "latency-reduced",
    "routing_policy": "deny_all",
}


def test_the_go_sdk_is_understood():
    config = parse(GO)
    assert config.ipv4 == IPv4Interface("16.0.1.1/16")
    assert config.ipv6 is None
    assert config.enable
    assert config.default == LinkShape(latency=100_000_000, bandwidth=1 << 20, loss=1.5)
    assert [(rule.subnet, rule.filter) for rule in config.rules] == [(IPv4Network("16.0.0.9/32"), Filter.DROP)]
    assert config.callback_state == "network-configured"
    assert not config.external


def test_the_js_sdk_is_understood():
    config = parse(JS)
    assert config.default == LinkShape(latency=100_000_000, bandwidth=1 << 20)
    assert config.rules == ()
    assert config.ipv4 == IPv4Interface("16.0.1.1/16")


def test_the_rust_sdk_is_understood():
    config = parse(RUST)
    assert config.default == LinkShape(latency=1_000_000)
    assert config.rules == ()
    assert config.callback_state == "latency-reduced"


@pytest.mark.parametrize(
    "shape",
    [
        {"latency": round(units.LONGEST * 1e9), "jitter": round(units.WIDEST * 1e9)},
        {"latency": 4_294_967_295_000, "jitter": 2**31 - 1},
        {"latency": 1, "jitter": 5},
        {"bandwidth": 202},
        {"bandwidth": 2**64 - 1},
        {"latency": 1, "reorder": 100},
        {"loss": 0.00001, "corrupt": 12.5, "duplicate": 100},
        {"corrupt": 1},
        {"duplicate_corr": 5},
    ],
)
def test_what_is_just_possible(shape):
    assert parse({"network": "default", "default": shape}).default == LinkShape(**shape)


def test_keys_in_any_letter_case_of_which_the_last_counts():
    config = parse(
        {"NETWORK": "default", "Default": {"latency": 1, "Latency": 2, "LATENCY": None}, "ipv4": "16.0.1.1/16"}
    )
    assert config.default.latency == 2
    assert config.ipv4 == IPv4Interface("16.0.1.1/16")


def test_what_is_not_said_is_zero():
    config = parse({"network": "default"})
    assert not config.enable
    assert config.default.plain
    assert config.callback_state == ""


@pytest.mark.parametrize("empty", [None, ""])
def test_an_empty_address_is_none(empty):
    config = parse({"network": "default", "IPv4": empty, "IPv6": empty, "default": None, "rules": None})
    assert config.ipv4 is None
    assert config.ipv6 is None


def test_the_mask_of_a_subnet_covers_its_address():
    config = parse({"network": "default", "rules": [{"subnet": "16.0.3.9/24"}, {"subnet": "fd00::7/64"}]})
    assert [rule.subnet for rule in config.rules] == [IPv4Network("16.0.3.0/24"), IPv6Network("fd00::/64")]


def test_ipv6_addresses_are_understood():
    assert parse({"network": "default", "IPv6": "fd00::2/64"}).ipv6 == IPv6Interface("fd00::2/64")


@pytest.mark.parametrize("policy", ["", "deny_all", "allow", None])
def test_every_policy_but_one_denies(policy):
    assert not parse({"network": "default", "routing_policy": policy}).external
    assert parse({"network": "default", "routing_policy": "allow_all"}).external


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"network": "other"}, "network: unsupported network: 'other'"),
        ({"network": 5}, "network: a string is needed"),
        ({"enable": 1}, "enable: true or false is needed"),
        ({"IPv4": "16.0.0.9"}, "IPv4: '16.0.0.9' has no mask; it could be '16.0.0.9/16'"),
        ({"IPv4": "fd00::1/64"}, "IPv4: "),
        (
            {"IPv4": {"IP": "16.0.0.1", "Mask": "//8AAA=="}},
            "IPv4: a string such as '16.0.1.1/16' is needed; it is an object",
        ),
        ({"IPv6": "16.0.0.9/16"}, "IPv6: "),
        ({"default": 7}, "default: a JSON object is needed; it is 7"),
        ({"default": {"latency": 1.5}}, "default.latency: a whole number is needed, in nanoseconds; it is 1.5"),
        ({"default": {"latency": -1}}, "default.latency: at least 0 is needed, in nanoseconds; it is -1"),
        ({"default": {"jitter": "5ms"}}, "default.jitter: a whole number is needed, in nanoseconds; it is '5ms'"),
        ({"default": {"bandwidth": -1}}, "default.bandwidth: at least 0 is needed, in bits per second; it is -1"),
        ({"default": {"loss": 100.5}}, "default.loss: at most 100 is needed, in percent; it is 100.5"),
        ({"default": {"loss": "5"}}, "default.loss: a number is needed, in percent; it is '5'"),
        ({"default": {"corrupt_corr": -0.1}}, "default.corrupt_corr: at least 0"),
        ({"default": {"filter": 3}}, "default.filter: 0 (accept), 1 (reject) or 2 (drop) is needed"),
        ({"default": {"filter": True}}, "default.filter: 0 (accept), 1 (reject) or 2 (drop) is needed; it is true"),
        ({"default": {"latency": 4_294_967_295_001}}, "default.latency: at most 4294967295000 is needed"),
        ({"default": {"latency": 1, "jitter": 2**31}}, "default.jitter: at most 2147483647 is needed"),
        (
            {"default": {"bandwidth": 1}},
            "default.bandwidth: 0 for no limit, or at least 202 is needed, in bits per second; it is 1",
        ),
        ({"default": {"bandwidth": 2**64}}, "default.bandwidth: at most 18446744073709551615 is needed"),
        ({"default": {"bandwidth": 1e300}}, "default.bandwidth: at most 18446744073709551615 is needed"),
        ({"default": {"loss": float("nan")}}, "default.loss: a number is needed"),
        ({"default": {"latency": float("inf")}}, "default.latency: a whole number is needed"),
        ({"default": {"reorder": 5}}, "default.reorder: without a latency there is nothing to overtake"),
        ({"default": {"reorder": 5, "jitter": 1}}, "default.reorder: without a latency"),
        ({"rules": [{"subnet": "16.0.0.9/32", "reorder": 5}]}, "rules[0].reorder: without a latency"),
        ({"rules": {}}, "rules: a list is needed; it is an object"),
        ({"rules": [{"filter": 2}]}, "rules[0].subnet: "),
        ({"IPv6": "fd00::2"}, "IPv6: 'fd00::2' has no mask; it could be 'fd00::2/64'"),
        ({"IPv6": "fd00::1%eth0/64"}, "IPv6: 'fd00::1%eth0/64' has a scope ('%'); an address without one is needed"),
        ({"rules": [{"subnet": "fd00::1%eth0/64"}]}, "rules[0].subnet: 'fd00::1%eth0/64' has a scope"),
        ({"rules": [{"subnet": "16.0.0.9"}]}, "rules[0].subnet: '16.0.0.9' has no mask; one address is '16.0.0.9/32'"),
        ({"rules": [{"subnet": "fd00::9"}]}, "rules[0].subnet: 'fd00::9' has no mask; one address is 'fd00::9/128'"),
        ({"rules": [{"subnet": "16.0.0.9/33"}]}, "rules[0].subnet: "),
        ({"rules": [{"subnet": "16.0.0.9/32"}, {"subnet": "x"}]}, "rules[1].subnet: 'x' has no mask"),
        ({"rules": [None]}, "rules[0]: a JSON object is needed; it is null"),
        ({"callback_state": 1}, "callback_state: a string is needed; it is 1"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(members, message):
    with pytest.raises(NetworkError) as refusal:
        parse({"network": "default", "enable": True} | members)
    assert message in str(refusal.value)


@pytest.mark.parametrize("value", ["x" * 30_000, "x" * 30_000 + "/8", [[]] * 10_000, 10**4000, "\ud800" * 9])
@pytest.mark.parametrize("name", ["network", "IPv4", "enable", "default", "rules"])
def test_values_never_make_a_long_message(name, value):
    with pytest.raises(NetworkError) as refusal:
        parse({"network": "default", name: value})
    assert len(str(refusal.value)) < 500
    str(refusal.value).encode()


@pytest.mark.parametrize("payload", [None, [], "default", 1])
def test_only_an_object_is_a_configuration(payload):
    with pytest.raises(NetworkError, match="cannot be read"):
        parse(payload)


def test_a_configuration_without_a_network_is_refused():
    with pytest.raises(NetworkError, match="unsupported network: ''"):
        parse({"enable": True})


@given(st.integers(SLOWEST, 2**53))
def test_integral_floats_are_integers(number):
    shape = {"bandwidth": float(number)}
    assert parse({"network": "default", "default": shape}).default == LinkShape(bandwidth=number)


PERCENTAGES = [name for name in ZERO if name not in ("latency", "jitter", "bandwidth", "filter")]
KEYS = [*GO, *ZERO, "subnet", "ingress"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=10,
)


@given(st.sampled_from(PERCENTAGES), st.floats(0, 100))
def test_every_percentage_is_kept(name, percent):
    assert getattr(parse({"network": "default", "default": {"latency": 1, name: percent}}).default, name) == percent


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # to make examples takes a busy machine long
@given(st.dictionaries(st.sampled_from([*GO, "ingress", "callback_target", "extra"]), JSON, max_size=5))
def test_any_json_is_read_or_refused(members):
    try:
        parse({"network": "default"} | members)
    except NetworkError as refusal:
        assert str(refusal).startswith("the network configuration cannot be read: ")


def test_what_arrives_has_a_shape_of_its_own():
    config = parse(GO | {"ingress": {"latency": 5, "bandwidth": 1000}})
    assert (config.ingress, config.default.latency) == (LinkShape(latency=5, bandwidth=1000), 100_000_000)


@pytest.mark.parametrize("none", [{}, {"ingress": None}, {"ingress": {}}])
def test_what_arrives_is_as_it_is_unless_asked_for(none):
    assert parse(GO | none).ingress.plain
