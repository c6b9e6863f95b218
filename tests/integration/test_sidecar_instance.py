"""One instance's network, changed in a real kernel: what gets through afterwards, and how fast."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if sys.platform != "linux":
    pytest.skip("networks are isolated on Linux only", allow_module_level=True)

import socket

from testground.errors import NetworkError
from testground.sidecar import measuring
from testground.sidecar.peer import SECONDS, Peer
from tests.networks import networks

TC = shutil.which("tc", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or "tc"

LEAST, MOST = 0.7, 1.07
"""Of a rate: how much a busy machine manages at least, and what comes of measuring for less than a second."""

CHECKOUT = Path(__file__).parents[2]
IN_ITS_OWN_NAMESPACE = "TESTGROUND_TESTS_IN_A_USER_NAMESPACE"
QUICK = "not bandwidth and not netem and not queues"
ENTER = """
import os, sys
sys.path.insert(0, os.getcwd())
from testground.drivers import launcher
launcher.own_user_namespace()
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""

SILENCE = 0.2
"""Seconds after which what would be there at once is not there."""


pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="these tests enter namespaces as root")]


@pytest.fixture
def three():
    with networks(3) as peers:
        yield peers


def reaches(here: Peer, there: Peer, address: str | None = None, within: float = SECONDS) -> bool:
    """Raises what the sender is told."""
    family = socket.AF_INET6 if address and ":" in address else socket.AF_INET
    with there.socket(family=family) as ear, here.socket(family=family) as mouth:
        ear.bind(("", 0))
        mouth.sendto(b"x", (address or there.ip, ear.getsockname()[1]))
        ear.settimeout(within)
        try:
            return ear.recv(10) == b"x"
        except TimeoutError:
            return False


def told(here: Peer, there: Peer) -> int | None:
    with pytest.raises(OSError) as caught:
        reaches(here, there)
    return caught.value.errno


def test_instances_reach_each_other_and_not_through_the_control_network(three):
    here, there, _ = three
    assert reaches(here, there)
    with pytest.raises(OSError):
        reaches(here, there, str(there.space.control.ip))


def test_a_rejected_subnet_is_an_error_and_others_are_reached(three):
    here, there, elsewhere = three
    here.apply(rules=[{"subnet": f"{there.ip}/32", "filter": 1}])
    assert told(here, there) == errno.EACCES
    assert reaches(here, elsewhere)
    assert reaches(there, here)


def test_a_dropped_subnet_is_not_reached(three):
    here, there, elsewhere = three
    here.apply(rules=[{"subnet": f"{there.ip}/32", "filter": 2}])
    assert told(here, there) == errno.EINVAL  # what Linux says of a blackhole, as with the original
    assert reaches(here, elsewhere)


def test_rules_stay_until_one_for_their_subnet_takes_them_back(three):
    here, there, elsewhere = three
    here.apply(rules=[{"subnet": f"{there.ip}/32", "filter": 1}])
    here.apply(rules=[{"subnet": f"{elsewhere.ip}/32", "filter": 1}])
    assert told(here, there) == told(here, elsewhere) == errno.EACCES
    here.apply(rules=[{"subnet": f"{there.ip}/32", "filter": 0}])
    assert reaches(here, there)
    assert told(here, elsewhere) == errno.EACCES


def test_the_default_filter_blocks_all_but_what_a_rule_accepts(three):
    here, there, elsewhere = three
    here.apply(default={"filter": 1}, rules=[{"subnet": f"{there.ip}/32"}])
    assert reaches(here, there)
    assert told(here, elsewhere) == errno.EACCES
    here.apply(default={"filter": 2})
    assert told(here, there) == errno.EINVAL
    here.apply()
    assert reaches(here, there)
    assert reaches(here, elsewhere)


def test_a_blocked_instance_still_reaches_the_services(three):
    here, _, _ = three
    here.apply(rules=[{"subnet": "0.0.0.0/0", "filter": 2}])
    refused = pytest.raises(ConnectionRefusedError)  # by somebody who is there
    with here.socket(socket.SOCK_STREAM) as caller, refused:
        caller.connect(("192.18.0.1", 9))


def test_a_rule_in_the_control_network_is_refused(three):
    with pytest.raises(NetworkError, match=r"rules\[1\]\.subnet: 192\.18\.0\.1/32 lies in the control network"):
        three[0].apply(rules=[{"subnet": "16.0.0.9/32"}, {"subnet": "192.18.0.1/32", "filter": 2}])


def test_a_disabled_network_is_unreachable_until_it_is_enabled(three):
    here, there, _ = three
    here.apply(rules=[{"subnet": "16.0.7.0/24", "filter": 2}])
    here.apply(enable=False)
    assert told(here, there) == errno.ENETUNREACH
    assert not reaches(there, here, within=SILENCE)
    here.apply()
    assert reaches(here, there)
    assert reaches(there, here)


def test_the_policy_opens_and_closes_the_control_network(three):
    here, there, _ = three
    there.apply(routing_policy="allow_all")
    here.apply(routing_policy="allow_all")
    here.apply(routing_policy="allow_all")
    assert reaches(here, there, str(there.space.control.ip))
    here.apply(routing_policy="deny_all")
    with pytest.raises(OSError):
        reaches(here, there, str(there.space.control.ip))


def test_an_address_changes_whatever_its_mask(three):
    here, there, _ = three
    old = here.ip
    assert reaches(there, here)
    here.apply(IPv4="16.0.9.9/12")
    assert reaches(there, here, "16.0.9.9")
    assert not reaches(there, here, old, within=SILENCE)
    assert reaches(here, there)


def test_instances_swap_addresses_and_are_found_at_once(three):
    here, there, elsewhere = three
    mine, yours = here.ip, there.ip
    assert reaches(elsewhere, here)
    assert reaches(elsewhere, there)
    here.apply(IPv4="16.0.9.9/16")
    there.apply(IPv4=f"{mine}/16")
    here.apply(IPv4=f"{yours}/16")
    assert reaches(elsewhere, here, yours)
    assert reaches(elsewhere, there, mine)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("17.0.0.9/16", "IPv4: 17.0.0.9 is not in the data network 16.0.0.0/16"),
        ("16.0.0.1/16", "IPv4: 16.0.0.1 is an address of the data network itself"),
        ("16.0.255.255/16", "IPv4: 16.0.255.255 is an address of the data network itself"),
        ("16.0.0.3/16", "IPv4: 16.0.0.3 is the address of another instance, 000000000001"),
    ],
)
def test_an_address_that_cannot_be_had_is_refused_and_nothing_changes(three, address, reason):
    here, there, _ = three
    with pytest.raises(NetworkError) as refused:
        here.apply(IPv4=address, rules=[{"subnet": f"{there.ip}/32", "filter": 1}])
    assert str(refused.value).startswith(reason)
    assert reaches(here, there)


def test_instances_reach_each_other_over_ipv6(three):
    here, there, _ = three
    here.apply(IPv6="fd00::2/64")
    there.apply(IPv6="fd00::3/64")
    assert reaches(here, there, "fd00::3")
    here.apply(enable=False)
    here.apply()
    assert reaches(here, there, "fd00::3")
    here.apply(rules=[{"subnet": "fd00::3/128", "filter": 1}])
    with pytest.raises(PermissionError):
        reaches(here, there, "fd00::3")
    here.apply(IPv6="fd00::4/64", rules=[{"subnet": "fd00::3/128"}])
    assert reaches(there, here, "fd00::4")


@pytest.mark.parametrize("address", ["fe80::1/64", "ff02::1/64", "::/64", "::1/128"])
def test_an_ipv6_address_for_something_else_is_refused(three, address):
    with pytest.raises(NetworkError, match=r"IPv6: .* cannot be the address of an instance"):
        three[0].apply(IPv6=address)


def test_the_bandwidth_limits_what_is_sent(three):
    here, there, _ = three
    here.apply(default={"bandwidth": 20_000_000})
    assert 20_000_000 * LEAST < rate(here, there) < 20_000_000 * MOST
    assert rate(there, here) > 60_000_000
    here.apply(default={"bandwidth": 5_000_000})
    assert 5_000_000 * LEAST < rate(here, there) < 5_000_000 * MOST
    here.apply(enable=False)
    here.apply(default={"bandwidth": 5_000_000})
    assert 5_000_000 * LEAST < rate(here, there) < 5_000_000 * MOST
    here.apply()
    assert rate(here, there) > 60_000_000


def test_a_rule_limits_the_bandwidth_towards_its_subnet(three):
    here, there, elsewhere = three
    here.apply(
        rules=[{"subnet": "16.0.0.0/30", "bandwidth": 50_000_000}, {"subnet": f"{there.ip}/32", "bandwidth": 5_000_000}]
    )
    assert 5_000_000 * LEAST < rate(here, there) < 5_000_000 * MOST
    assert rate(here, elsewhere) > 60_000_000
    here.apply(rules=[{"subnet": f"{there.ip}/32"}])
    assert 50_000_000 * LEAST < rate(here, there) < 50_000_000 * MOST


def test_what_netem_is_needed_for_is_refused_without_it_and_the_rest_undone(three):
    here, there, elsewhere = three
    if kernel_has_netem(here):
        pytest.skip("this kernel has netem; tests/uml measures it")
    here.apply(default={"bandwidth": 5_000_000})
    with pytest.raises(NetworkError) as refused:
        here.apply(
            routing_policy="allow_all",
            IPv4="16.0.9.9/16",
            default={"latency": 1_000_000, "loss": 1},
            rules=[{"subnet": f"{elsewhere.ip}/32", "filter": 1}],
        )
    wanted = "this kernel has no netem (CONFIG_NET_SCH_NETEM), which latency and loss would need"
    assert str(refused.value) == wanted
    assert 5_000_000 * LEAST < rate(here, there) < 5_000_000 * MOST
    assert reaches(there, here)
    assert reaches(here, elsewhere)
    with pytest.raises(OSError):
        reaches(here, there, str(there.space.control.ip))


def test_a_link_that_is_gone_is_an_error_with_its_name(three):
    here, _, _ = three
    here.inside(lambda: subprocess.run(["ip", "link", "delete", "eth1"], check=True))
    with pytest.raises(NetworkError, match=r"cannot enable eth1: No such device.*could not be undone"):
        here.apply(default={"bandwidth": 1_000_000})


def test_a_plan_that_removes_the_queues_gets_new_ones(three):
    here, there, _ = three
    here.apply(default={"bandwidth": 5_000_000})
    here.inside(lambda: subprocess.run([TC, "qdisc", "delete", "dev", "eth1", "root"], check=True))
    here.apply(default={"bandwidth": 5_000_000})
    assert 5_000_000 * LEAST < rate(here, there) < 5_000_000 * MOST


FILTERS = st.sampled_from([0, 1, 2])
BANDWIDTHS = st.sampled_from([0, 1_000_000])
SUBNETS = ["16.0.0.3/32", "16.0.0.4/32", "16.0.0.0/30", "16.0.0.0/24", "16.0.0.0/16", "0.0.0.0/0"]
RULES = st.builds(
    lambda subnet, filter_, bandwidth: {"subnet": subnet, "filter": filter_, "bandwidth": bandwidth},
    st.sampled_from(SUBNETS),
    FILTERS,
    BANDWIDTHS,
)
SHAPES = st.builds(lambda filter_, bandwidth: {"filter": filter_, "bandwidth": bandwidth}, FILTERS, BANDWIDTHS)
CHANGES = st.fixed_dictionaries(
    {"default": SHAPES, "rules": st.lists(RULES, max_size=3), "enable": st.sampled_from([True, True, True, False])},
    optional={"IPv4": st.sampled_from(["16.0.0.2/16", "16.0.9.9/16", "16.0.0.3/16", "17.0.0.1/16"])},
)
TOLD = {0: None, 1: errno.EACCES, 2: errno.EINVAL}


@settings(max_examples=40, deadline=None)
@given(st.lists(CHANGES, min_size=1, max_size=6))
def test_after_any_changes_the_kernel_filters_as_asked(changes):
    """Refused ones, here for their address, count for nothing; disabled networks take no notice of rules."""
    with networks(3) as (here, there, elsewhere):
        model, default, enabled = {}, 0, True
        for change in changes:
            try:
                here.apply(**change)
            except NetworkError:
                continue
            enabled = change["enable"]
            if not enabled:
                continue
            default = change["default"]["filter"]
            model = {subnet: rule for subnet, rule in model.items() if rule["filter"] or rule["bandwidth"]}
            model |= {rule["subnet"]: rule for rule in change["rules"]}
        for peer in (there, elsewhere):
            expected = TOLD[verdict(model, default, peer.ip)] or (None if enabled else errno.ENETUNREACH)
            with here.socket() as mouth:
                assert (mouth.connect_ex((peer.ip, 9)) or None) == expected


def verdict(rules, default, ip):
    """The filter of the narrowest subnet; the data network's own is the default's unless a rule has it."""
    known = {"16.0.0.0/16": default} | {subnet: rule["filter"] for subnet, rule in rules.items()}
    holding = [subnet for subnet in known if ip_address(ip) in ip_network(subnet)]
    return known[max(holding, key=lambda subnet: ip_network(subnet).prefixlen)]


def test_changes_take_less_than_ten_milliseconds(three):
    here, _, _ = three
    times = []
    for turn in range(50):
        rules = [{"subnet": f"16.0.{number}.0/24", "filter": turn % 3} for number in range(10)]
        began = time.perf_counter()
        here.apply(default={"bandwidth": 1_000_000 + turn}, rules=rules)
        times.append(time.perf_counter() - began)
    assert min(times) < 0.010  # others may keep the kernel busy


def test_programs_hand_a_slow_link_one_packet_at_a_time(three):
    """Otherwise 40 of them would share a turn and a fate."""
    here, _, _ = three

    def most_at_once():
        argv = ["ip", "-d", "link", "show", "eth1"]
        shown = here.inside(lambda: subprocess.run(argv, capture_output=True, text=True))
        return int(shown.stdout.partition("gso_max_segs ")[2].split()[0])

    unlimited = most_at_once()
    here.apply(default={"bandwidth": 5_000_000})
    assert most_at_once() == 1
    here.apply(default={"bandwidth": 100_000_000}, rules=[{"subnet": "16.0.9.0/24", "bandwidth": 50_000_000}])
    assert most_at_once() == 4
    here.apply(rules=[{"subnet": "16.0.9.0/24"}])
    assert most_at_once() == unlimited


@pytest.mark.skipif(IN_ITS_OWN_NAMESPACE in os.environ, reason="this is the inner run")
def test_what_is_quick_of_all_this_in_a_user_namespace(tmp_path):
    """There, root has no power over the machine: it is what an ordinary user's run has."""
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'inner'}", "-k", QUICK, __file__]
    done = subprocess.run(
        [sys.executable, "-c", ENTER, *tests], cwd=CHECKOUT, capture_output=True, text=True,
        env=os.environ | {IN_ITS_OWN_NAMESPACE: "yes"},
    )  # fmt: skip
    if "launcher.Failed" in done.stderr:
        pytest.skip("this machine allows no user namespaces")
    assert done.returncode == 0, done.stdout + done.stderr


def kernel_has_netem(peer: Peer) -> bool:
    try:
        peer.apply(default={"latency": 1})
    except NetworkError:
        return False
    peer.apply()
    return True


def rate(here: Peer, there: Peer) -> float:
    """Bits per second, once the burst is over."""
    return measuring.throughput(here, there, warm=0.3, seconds=0.8)
