"""Members of configurations that nothing reads, and what the log says of them (contract §4.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testground.errors import NetworkError
from testground.sidecar.config import parse
from testground.sidecar.misspelt import MOST_WARNINGS, warnings
from tests.unit.sidecar.test_config import GO, JS, KEYS, RUST


@pytest.mark.parametrize("payload", [GO, JS, RUST, {"NETWORK": "default", "Default": {"Latency": 1}, "rules": None}])
def test_nothing_is_said_of_what_sdks_send(payload):
    assert warnings(payload) == []


@pytest.mark.parametrize(
    ("members", "warning"),
    [
        ({"default": {"bandwith": 5}}, "unknown member 'default.bandwith'; did you mean 'bandwidth'?"),
        ({"Ingress": {"Latencey": 5}}, "unknown member 'ingress.Latencey'; did you mean 'latency'?"),
        ({"rules": [{"subnets": "x"}, {"subnets": "y"}]}, "unknown member 'rules[].subnets'; did you mean 'subnet'?"),
        ({"default": {"subnet": "x"}}, "unknown member 'default.subnet'; there is: bandwidth, "),
        ({"enabled": None}, "unknown member 'enabled'; did you mean 'enable'?"),
        ({"ENABEL": False}, "unknown member 'ENABEL'; did you mean 'enable'?"),
        ({"callback_targets": 1}, "unknown member 'callback_targets'; did you mean 'callback_target'?"),
        ({"routing_policy": "allow"}, "routing_policy 'allow' counts as 'deny_all'; did you mean 'allow_all'?"),
        ({"routing_policy": "ALLOW_ALL"}, "routing_policy 'ALLOW_ALL' counts as 'deny_all'; did you mean 'allow_all'?"),
    ],
)
def test_what_nothing_reads_is_told_with_the_nearest_name(members, warning):
    [told] = warnings({"network": "default", **members})
    assert told.startswith(warning)


@pytest.mark.parametrize("policy", ["", "allow_all", "deny_all", None])
def test_policies_that_there_are(policy):
    assert warnings({"network": "default", "routing_policy": policy}) == []


def test_many_and_long_ones_make_few_and_short_messages():
    rules = [{"subnet": "16.0.0.9/32", f"{number}" * 500: 1, "\ud800": 1} for number in range(300)]
    told = warnings({"network": "default", "routing_policy": "x" * 30_000, "rules": rules})
    assert len(told) == MOST_WARNINGS
    assert all(len(warning.encode()) < 500 for warning in told)


VALUES = st.none() | st.integers(0, 9) | st.text(max_size=3)
OBJECTS = VALUES | st.dictionaries(st.sampled_from([*KEYS, "Latency", "latencey"]), VALUES, max_size=3)


@given(st.dictionaries(st.sampled_from([*KEYS, "Rules", "DEFAULT", "x"]), OBJECTS | st.lists(OBJECTS, max_size=3)))
def test_whatever_can_be_parsed_can_be_warned_of(members):
    payload = {"network": "default"} | members
    try:
        parse(payload)
    except NetworkError:
        return
    assert all(isinstance(warning, str) for warning in warnings(payload))
