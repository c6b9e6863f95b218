"""What the kernel is told, byte by byte: the layouts of linux/pkt_sched.h and linux/rtnetlink.h, written out."""

import math
import struct
import sys
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testground.sidecar.config import Filter, LinkShape
from testground.sidecar.rtsocket import attributes

if sys.platform != "linux":
    pytest.skip("networks are shaped on Linux only", allow_module_level=True)

from testground.sidecar import exits, messages, netlink

CREATE_EXCLUSIVE, CREATE, CREATE_REPLACE = 0x600, 0x400, 0x500
KIND, OPTIONS = 1, 2
ALL = 2**32 - 1
MAC = bytes.fromhex("020010000002")


def hexadecimal(text: str) -> bytes:
    return bytes.fromhex("".join(line.partition("#")[0] for line in text.splitlines()))


def netem(shape):
    """The fixed part of a queue's options, and the attributes after it."""
    options = dict(attributes(messages.queue(5, 2, shape)[36:]))[OPTIONS]
    return struct.unpack("=IIIIII", options[:24]), dict(attributes(options[24:]))


def test_the_root_of_the_tree():
    assert messages.tree(5) == hexadecimal("""
        48000000 2400 0006 00000000 00000000    # RTM_NEWQDISC, create, exclusively
        00 00 0000 05000000 00000100 ffffffff 00000000
        0800 0100 68746200                      # htb
        1c00 0200 1800 0200                     # TCA_HTB_INIT
        03000000 0a000000 02000000 00000000 00000000
    """)


def test_a_class_of_twenty_megabits():
    assert messages.branch(5, 2, LinkShape(bandwidth=20_000_000)) == hexadecimal("""
        60000000 2800 0004 00000000 00000000    # RTM_NEWTCLASS, create or change
        00 00 0000 05000000 02000100 00000100 00000000
        0800 0100 68746200                      # htb
        3400 0200 3000 0100                     # TCA_HTB_PARMS
        03 01 0000 ffff 0000 a0252600           # Ethernet, 2 500 000 bytes a second
        03 01 0000 ffff 0000 a0252600
        19640000 19640000                       # the time of 4100 bytes in ticks of 64 ns
        ea050000 00000000 00000000
    """)


def test_a_rate_beyond_32_bits():
    options = dict(attributes(messages.branch(5, 2, LinkShape(bandwidth=80_000_000_000))[36:]))[OPTIONS]
    found = dict(attributes(options))
    assert struct.unpack_from("=I", found[1], 8)[0] == ALL
    assert found[6] == found[7] == struct.pack("=Q", 10_000_000_000)


def test_a_queue_with_everything():
    shape = LinkShape(
        latency=100_000_000, jitter=5_000_000, bandwidth=512_000, loss=1.5, corrupt=0.5, corrupt_corr=25, reorder=10,
        reorder_corr=50, duplicate=2, duplicate_corr=75,
    )  # fmt: skip
    assert messages.queue(5, 2, shape) == hexadecimal("""
        8c000000 2400 0005 00000000 00000000    # RTM_NEWQDISC, create or replace
        00 00 0000 05000000 00000200 02000100 00000000
        0a00 0100 6e6574656d000000              # netem
        5c00 0200
        84d71700 51040000 3d0ad703 01000000 52b81e05 2d310100   # delay, limit, loss, gap, duplicate, jitter
        1000 0100 00000000 00000000 ffffffbf    # TCA_NETEM_CORR
        0c00 0300 9a999919 00000080             # TCA_NETEM_REORDER
        0c00 0400 14ae4701 00000040             # TCA_NETEM_CORRUPT
        0c00 0a00 00e1f50500000000              # TCA_NETEM_LATENCY64
        0c00 0b00 404b4c0000000000              # TCA_NETEM_JITTER64
    """)


def test_a_plain_queue_takes_back_all_that_one_before_asked_for():
    fixed, options = netem(LinkShape())
    assert fixed == (0, 1000, 0, 0, 0, 0)
    assert all(not any(content) for content in options.values())
    assert sorted(options) == [1, 3, 4, 10, 11]


def test_latencies_beyond_32_bits_of_ticks():
    hour = 3600 * 10**9
    fixed, options = netem(LinkShape(latency=hour))
    assert fixed[0] == ALL
    assert options[10] == struct.pack("=q", hour)


def test_a_correlation_without_its_probability_is_dropped():
    _, options = netem(LinkShape(latency=1, corrupt_corr=50, reorder_corr=50, duplicate_corr=50))
    assert not any(options[1] + options[3] + options[4])


@given(st.floats(0, 100))
def test_fractions_of_percent_are_kept(percent):
    fixed, _ = netem(LinkShape(loss=percent, duplicate=percent))
    assert abs(fixed[2] / ALL * 100 - percent) < 1e-7
    assert fixed[4] == fixed[2]


@given(st.integers(0, 10**11), st.integers(0, 10**12))
def test_the_queue_holds_what_is_under_way(latency, bandwidth):
    fixed, _ = netem(LinkShape(latency=latency, bandwidth=bandwidth))
    bytes_per_second = max(bandwidth // 8, 1) if bandwidth else 2**63
    under_way = latency * min(Fraction(bytes_per_second, 64), 2_000_000) / 10**9
    assert fixed[1] == min(1000 + math.ceil(under_way), 2**31)


@given(st.integers(1, 2**63 - 1))
def test_every_bandwidth_makes_a_class(bandwidth):
    assert len(messages.branch(1, 2, LinkShape(bandwidth=bandwidth))) in (96, 120)


def test_a_subnet_goes_to_its_class():
    assert messages.direct(5, IPv4Network("16.0.4.0/22"), 0x10) == hexadecimal("""
        5c000000 2c00 0006 00000000 00000000    # RTM_NEWTFILTER, create, exclusively
        00 00 0000 05000000 00000000 00000100 0800 0b00   # IPv4, asked as the 11th
        0800 0100 75333200                      # u32
        3000 0200
        0800 0100 10000100                      # to the class 1:10
        2400 0500 01 00 01 00 0000 0000 0000 0000 00000000
        fffffc00 10000400 10000000 00000000     # mask and value of the word at 16, the destination
    """)


def test_a_narrower_subnet_is_asked_earlier():
    def priority(text):
        network = IPv6Network(text) if ":" in text else IPv4Network(text)
        return struct.unpack_from("=I", messages.direct(5, network, 0x10), 32)[0] >> 16

    assert priority("16.0.0.9/32") < priority("16.0.0.0/24") < priority("0.0.0.0/0")
    assert priority("0.0.0.0/0") < priority("fd00::1/128") < priority("fd00::/64") < priority("::/0")


def test_the_words_of_an_ipv6_destination():
    found = messages.direct(5, IPv6Network("fd00:0:0:1::/64"), 0x10)
    assert found[-32:] == hexadecimal("""
        ffffffff fd000000 18000000 00000000
        ffffffff 00000001 1c000000 00000000
    """)


@pytest.mark.parametrize(("filter_", "kind"), [(Filter.ACCEPT, 9), (Filter.REJECT, 8), (Filter.DROP, 6)])
def test_verdicts_are_routes_of_a_table_of_their_own(filter_, kind):
    assert messages.verdict(IPv4Network("16.0.0.9/32"), filter_) == hexadecimal(f"""
        24000000 1800 0005 00000000 00000000    # RTM_NEWROUTE, create or replace
        02 20 00 00 4d 04 00 {kind:02x} 00000000
        0800 0100 10000009
    """)


def test_an_address_comes_with_its_broadcast_address():
    assert messages.add_address(5, IPv4Interface("16.0.1.1/16")) == hexadecimal("""
        30000000 1400 0006 00000000 00000000    # RTM_NEWADDR, create, exclusively
        02 10 00 00 05000000
        0800 0100 10000101
        0800 0200 10000101
        0800 0400 1000ffff
    """)


def test_an_ipv6_address_is_there_at_once_and_leads_nowhere():
    assert messages.add_address(5, IPv6Interface("fd00::9/64")) == hexadecimal("""
        48000000 1400 0006 00000000 00000000
        0a 40 00 00 05000000
        1400 0100 fd000000000000000000000000000009
        1400 0200 fd000000000000000000000000000009
        0800 0800 02020000                      # IFA_F_NODAD, IFA_F_NOPREFIXROUTE
    """)


def test_an_address_that_leads_nowhere():
    assert messages.add_address(2, IPv4Interface("192.18.0.2/16"), route=False) == hexadecimal("""
        38000000 1400 0006 00000000 00000000
        02 10 00 00 02000000
        0800 0100 c0120002
        0800 0200 c0120002
        0800 0400 c012ffff
        0800 0800 00020000
    """)


def test_links_are_switched_and_cut():
    assert messages.link_up(5, False) == hexadecimal("""
        20000000 1000 0000 00000000 00000000    # RTM_NEWLINK
        00 00 0000 05000000 00000000 01000000   # IFF_UP is to change
    """)
    assert messages.link_up(7, bridge=9) == hexadecimal("""
        28000000 1000 0000 00000000 00000000
        00 00 0000 07000000 01000000 01000000
        0800 0a00 09000000                      # IFLA_MASTER
    """)
    assert messages.link_segments(5, 7) == hexadecimal("""
        28000000 1000 0000 00000000 00000000
        00 00 0000 05000000 00000000 00000000
        0800 2800 07000000                      # IFLA_GSO_MAX_SEGS
    """)


def test_a_veth_pair_with_one_end_in_another_namespace():
    assert messages.pair("d5", 1010, "eth1", indices=(100_011, 3), mac=MAC, netns=42) == hexadecimal("""
        78000000 1000 0006 00000000 00000000
        00 00 0000 ab860100 01000000 01000000   # up
        0700 0300 64350000                      # d5
        0800 0a00 f2030000                      # IFLA_MASTER
        4800 1200                               # IFLA_LINKINFO
        0900 0100 7665746800000000              # veth
        3800 0200 3400 0100                     # VETH_INFO_PEER
        00 00 0000 03000000 00000000 01000000   # down
        0900 0300 6574683100000000              # eth1
        0a00 0100 0200100000020000
        0800 1c00 2a000000                      # IFLA_NET_NS_FD
    """)


def test_a_bridge_that_keeps_quiet():
    assert messages.bridge(10, "10", MAC) == hexadecimal("""
        58000000 1000 0006 00000000 00000000
        00 00 0000 0a000000 01000000 01000000
        0700 0300 31300000
        0a00 0100 0200100000020000
        2400 1200
        0b00 0100 6272696467650000              # bridge
        1400 0200
        0800 0100 00000000                      # IFLA_BR_FORWARD_DELAY
        0500 1700 00000000                      # IFLA_BR_MCAST_SNOOPING
    """)


def test_neighbours_and_what_is_beyond_a_port():
    assert messages.neighbour(2, IPv4Address("192.18.0.1"), MAC) == hexadecimal("""
        30000000 1c00 0005 00000000 00000000    # RTM_NEWNEIGH, create or replace
        02 000000 02000000 8000 00 00           # permanent
        0800 0100 c0120001
        0a00 0200 0200100000020000
    """)
    assert messages.no_neighbour(2, IPv6Address("fd00::1")) == hexadecimal("""
        30000000 1d00 0000 00000000 00000000
        0a 000000 02000000 0000 00 00
        1400 0100 fd000000000000000000000000000001
    """)
    assert messages.beyond(7, MAC) == hexadecimal("""
        28000000 1c00 0005 00000000 00000000
        07 000000 07000000 4000 04 00           # AF_BRIDGE, NUD_NOARP, NTF_MASTER
        0a00 0200 0200100000020000
    """)


def test_routes_on_a_link_and_by_a_gateway():
    assert messages.direct_route(5, IPv4Network("16.0.0.0/16"), IPv4Address("16.0.0.9")) == hexadecimal("""
        34000000 1800 0005 00000000 00000000
        02 10 00 00 fe 04 fd 01 00000000        # main table, static, of the link, unicast
        0800 0100 10000000
        0800 0400 05000000
        0800 0700 10000009                      # RTA_PREFSRC
    """)
    assert messages.no_route_by(5, IPv6Network("fd00::/64"), IPv6Address("fe80::1")) == hexadecimal("""
        4c000000 1900 0000 00000000 00000000    # RTM_DELROUTE
        0a 40 00 00 fe 04 00 01 00000000
        1400 0100 fd000000000000000000000000000000
        0800 0400 05000000
        1400 0500 fe800000000000000000000000000001
    """)


def test_rules_for_what_leads_out():
    rules = exits.rules(10, IPv4Network("16.0.0.0/16"), IPv4Address("10.0.0.1"))
    assert [rule.message for rule in rules] == [
        hexadecimal("""
            34000000 2000 0006 00000000 00000000    # RTM_NEWRULE, create, exclusively
            02 10 00 00 00 00 00 07 00000000        # FR_ACT_UNREACHABLE
            0800 0100 10000000
            0800 0600 64000000
            0700 0300 31300000                      # what comes by the link 10
        """),
        hexadecimal("""
            34000000 2000 0006 00000000 00000000
            02 20 00 00 fe 00 00 01 00000000        # FR_ACT_TO_TBL
            0800 0100 0a000001
            0800 0600 65000000
            0800 1800 35003500                      # port 53
        """),
        hexadecimal("""
            2c000000 2000 0006 00000000 00000000
            02 20 00 00 00 00 00 07 00000000
            0800 0100 0a000001
            0800 0600 66000000
        """),
    ]


@pytest.mark.parametrize(("version", "family"), [(4, "02"), (6, "0a")])
def test_the_rule_that_asks_the_verdicts(version, family):
    assert messages.ask_verdicts(version) == hexadecimal(f"""
        24000000 2000 0006 00000000 00000000
        {family} 00 00 00 4d 00 00 01 00000000
        0800 0600 4d000000
    """)


def test_what_the_kernel_tells_of_a_route():
    route = netlink.decode(messages.direct_route(5, IPv4Network("16.0.0.9/32")))
    assert (route["table"], route["type"], route["dst_len"]) == (netlink.MAIN_TABLE, netlink.UNICAST, 32)
    assert (route.get_attr("RTA_DST"), route.get_attr("RTA_OIF")) == ("16.0.0.9", 5)
    assert route.get_attr("RTA_GATEWAY") is None
