"""The messages that lay out a run's networks, byte by byte as pyroute2 understands them."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

pytest.importorskip("pyroute2", reason="Linux only")
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from testground.sidecar import layout

MAC = bytes.fromhex("020010000002")


def read(kind, request):
    message = kind(layout._framed(7, request))
    message.decode()
    return message


def test_a_veth_pair_with_one_end_in_another_namespace():
    request = layout.pair("d5", 1010, "eth1", indices=(100_011, 3), mac=MAC, netns=42)
    message = read(ifinfmsg, request)
    kind = message.get_attr("IFLA_LINKINFO")
    peer = kind.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert (message["index"], message["flags"] & 1, message["change"]) == (100_011, 1, 1)
    assert (message.get_attr("IFLA_IFNAME"), message.get_attr("IFLA_MASTER")) == ("d5", 1010)
    assert (kind.get_attr("IFLA_INFO_KIND"), peer["index"], peer["flags"] & 1) == ("veth", 3, 0)
    assert (peer.get_attr("IFLA_IFNAME"), peer.get_attr("IFLA_NET_NS_FD")) == ("eth1", 42)
    assert peer.get_attr("IFLA_ADDRESS") == "02:00:10:00:00:02"


def test_a_bridge_that_keeps_quiet():
    message = read(ifinfmsg, layout.bridge(10, "10", MAC))
    data = message.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
    assert (message["index"], message["flags"] & 1, message.get_attr("IFLA_IFNAME")) == (10, 1, "10")
    assert (data.get_attr("IFLA_BR_FORWARD_DELAY"), data.get_attr("IFLA_BR_MCAST_SNOOPING")) == (0, 0)


def test_addresses():
    message = read(ifaddrmsg, layout.address(2, IPv4Interface("192.18.0.2/16"), route=False))
    assert (message["index"], message["prefixlen"], message.get_attr("IFA_FLAGS")) == (2, 16, 0x200)
    assert {message.get_attr(name) for name in ("IFA_ADDRESS", "IFA_LOCAL")} == {"192.18.0.2"}
    assert message.get_attr("IFA_BROADCAST") == "192.18.255.255"
    assert read(ifaddrmsg, layout.address(3, IPv4Interface("16.0.0.2/16"))).get_attr("IFA_FLAGS") is None


def test_neighbours_and_routes():
    neighbour = read(ndmsg, layout.neighbour(2, IPv4Address("192.18.0.1"), MAC))
    assert (neighbour["ifindex"], neighbour["state"]) == (2, 0x80)
    assert neighbour.get_attr("NDA_DST") == "192.18.0.1"
    assert neighbour.get_attr("NDA_LLADDR") == "02:00:10:00:00:02"
    assert layout.no_neighbour(2, IPv4Address("192.18.0.1")).body.endswith(bytes([8, 0, 1, 0, 192, 18, 0, 1]))
    beyond = read(ndmsg, layout.beyond(100_001, MAC))
    assert (beyond["family"], beyond["ifindex"], beyond["state"], beyond["flags"]) == (7, 100_001, 0x40, 4)
    assert beyond.get_attr("NDA_LLADDR") == "02:00:10:00:00:02"
    route = read(rtmsg, layout.route(2, IPv4Address("192.18.0.1")))
    assert (route["dst_len"], route["scope"], route.get_attr("RTA_DST"), route.get_attr("RTA_OIF")) == (
        32,
        253,
        "192.18.0.1",
        2,
    )
    way = read(rtmsg, layout.way(3, IPv4Network("16.0.128.0/17"), IPv4Address("16.0.0.1")))
    assert (way["dst_len"], way["scope"], way.get_attr("RTA_OIF")) == (17, 0, 3)
    assert (way.get_attr("RTA_DST"), way.get_attr("RTA_GATEWAY")) == ("16.0.128.0", "16.0.0.1")
