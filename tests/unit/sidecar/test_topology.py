"""Room in a run's networks, and hardware addresses; what needs a kernel is tested with real instances."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from testground.sidecar import topology
from testground.sidecar.topology import Hub, TopologyError


def test_more_instances_than_addresses():
    """Known before anything is made."""
    with pytest.raises(TopologyError, match="the data network 16.0.0.0/29 has addresses for 5 instances, not for 6"):
        Hub(6, data=IPv4Network("16.0.0.0/29"))


def test_no_two_links_have_the_same_hardware_address():
    hosts = [IPv4Address(f"{network}.{a}.{b}") for network in ("192.18", "16.0") for a in (0, 1) for b in (1, 2, 255)]
    bridges = [
        topology._mac(network[1], number) for network in (topology.CONTROL, topology.DATA) for number in (10, 11)
    ]
    macs = [*(topology._mac(host) for host in hosts), *bridges]
    assert len(set(macs)) == len(macs)
    assert all(mac[0] == 2 and len(mac) == 6 for mac in macs), "locally administered, of one interface"


def test_a_kernel_without_bridges_is_named():
    error = OSError(95, "Operation not supported", "a bridge (10)")
    assert topology._missing(error) == "; this kernel lacks CONFIG_BRIDGE"
    assert topology._missing(OSError(95, "", "a veth pair (c0)")) == "; this kernel lacks CONFIG_VETH"
    assert topology._missing(OSError(1, "", "a bridge (10)")) == ""
