"""The hub's ends of the instances' links: many with IPv6, addresses that come and go, shapes of what arrives."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("networks are isolated on Linux only", allow_module_level=True)

from testground.errors import NetworkError
from testground.sidecar import ports, topology
from testground.sidecar.peer import SECONDS, Peer
from tests.integration.test_sidecar_instance import LEAST, MOST, SILENCE, kernel_has_netem, rate, reaches
from tests.networks import networks

SO_RCVBUFFORCE = 33
MANY = 60
"""All of them and all of their peers are 3540 neighbours; Linux remembers 1024."""

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="these tests enter namespaces as root")]


@pytest.fixture
def three():
    with networks(3) as peers:
        yield peers


def test_sixty_instances_all_reach_each_other_over_ipv6():
    with networks(MANY) as peers:
        for number, peer in enumerate(peers):
            peer.apply(IPv6=f"fd00::{number + 2:x}/64")
        ears = [peer.socket(family=socket.AF_INET6) for peer in peers]
        for ear in ears:
            ear.bind(("::", 7))
            ear.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20)
        for peer in peers:
            with peer.socket(family=socket.AF_INET6) as mouth:
                for number in range(MANY):
                    mouth.sendto(b"x", (f"fd00::{number + 2:x}", 7))
        for ear in ears:
            with ear:
                assert len({ear.recvfrom(9)[1][0] for _ in range(MANY)}) == MANY


def test_ipv6_networks_of_which_an_instance_has_no_address_are_out_of_reach(three):
    here, there, _ = three
    here.apply(IPv6="fd00::2/64")
    there.apply(IPv6="fd01::2/64")
    with pytest.raises(OSError) as caught:
        reaches(here, there, "fd01::2")
    assert caught.value.errno == errno.ENETUNREACH


def test_an_ipv6_address_of_another_instance_is_refused_until_that_one_gives_it_up(three):
    here, there, elsewhere = three
    there.apply(IPv6="fd00::3/64")
    with pytest.raises(NetworkError, match="IPv6: fd00::3 is the address of another instance, 000000000001"):
        here.apply(IPv6="fd00::3/64", rules=[{"subnet": f"{elsewhere.ip}/32", "filter": 1}])
    assert reaches(here, elsewhere)
    there.apply(IPv6="fd00::4/64")
    here.apply(IPv6="fd00::3/64")
    elsewhere.apply(IPv6="fd00::5/64")
    assert reaches(elsewhere, here, "fd00::3")
    assert reaches(elsewhere, there, "fd00::4")


def test_an_instance_moves_to_another_ipv6_network(three):
    here, there, _ = three
    here.apply(IPv6="fd00::2/64")
    there.apply(IPv6="fd01::3/64")
    here.apply(IPv6="fd01::2/64")
    assert reaches(here, there, "fd01::3")
    with pytest.raises(OSError) as caught:
        reaches(here, there, "fd00::3")
    assert caught.value.errno == errno.ENETUNREACH


def test_an_address_that_was_given_up_leads_nowhere(three):
    here, there, _ = three
    old = here.ip
    here.apply(IPv4="16.0.9.9/16", IPv6="fd00::2/64")
    there.apply(IPv6="fd00::3/64")
    here.apply(IPv6="fd00::4/64")
    shown = there.instance._port.ports._kernel.inside(neighbours)
    assert "16.0.9.9" in shown and "fd00::4" in shown
    assert old not in shown.split() and "fd00::2" not in shown.split()


def neighbours() -> str:
    return subprocess.run(["ip", "neighbour", "show"], capture_output=True, text=True, check=True).stdout


def test_others_hear_nothing_of_an_unplugged_instance(three):
    """No error either: it is as if somebody had pulled a cable."""
    here, there, _ = three
    here.apply(IPv6="fd00::2/64")
    there.apply(IPv6="fd00::3/64")
    here.apply(enable=False)
    with there.socket(socket.SOCK_STREAM) as caller:
        caller.settimeout(SILENCE)
        with pytest.raises(TimeoutError):
            caller.connect((here.ip, 7))
    for address in (here.ip, "fd00::2"):
        assert not reaches(there, here, address, within=SILENCE)


def test_the_bandwidth_of_what_arrives(three):
    here, there, elsewhere = three
    here.apply(ingress={"bandwidth": 5_000_000})
    assert 5_000_000 * LEAST < rate(there, here) < 5_000_000 * MOST
    assert rate(here, there) > 60_000_000
    assert rate(there, elsewhere) > 60_000_000
    here.apply(ingress={"bandwidth": 20_000_000})
    assert 20_000_000 * LEAST < rate(there, here) < 20_000_000 * MOST
    here.apply(enable=False)
    here.apply(ingress={"bandwidth": 5_000_000})
    assert 5_000_000 * LEAST < rate(there, here) < 5_000_000 * MOST
    here.apply()
    assert rate(there, here) > 60_000_000


def test_both_directions_have_a_shape_of_their_own(three):
    here, there, _ = three
    here.apply(default={"bandwidth": 20_000_000}, ingress={"bandwidth": 5_000_000})
    assert 5_000_000 * LEAST < rate(there, here) < 5_000_000 * MOST
    assert 20_000_000 * LEAST < rate(here, there) < 20_000_000 * MOST


def test_what_arrives_at_a_slow_link_comes_one_packet_at_a_time(three):
    """Otherwise 40 of them would share a turn and a fate."""
    here, there, _ = three

    def most_at_once() -> int:
        hub = here.instance._port.ports
        argv = ["ip", "-d", "link", "show", "cut"]
        shown = hub._kernel.inside(lambda: subprocess.run(argv, capture_output=True, text=True, check=True))
        return int(shown.stdout.partition("gso_max_segs ")[2].split()[0])

    here.apply(ingress={"bandwidth": 5_000_000})
    there.apply(ingress={"bandwidth": 100_000_000})
    assert most_at_once() == 1
    here.apply()
    assert 1 < most_at_once() < 40
    there.apply()
    assert most_at_once() > 40


def test_a_shape_for_what_arrives_that_cannot_be_had_is_refused_and_the_rest_undone(three):
    here, there, _ = three
    if kernel_has_netem(here):
        pytest.skip("this kernel has netem; tests/uml measures it")
    here.apply(ingress={"bandwidth": 5_000_000})
    with pytest.raises(NetworkError, match="no netem .*, which latency would need"):
        rules = [{"subnet": f"{there.ip}/32", "filter": 1}]
        here.apply(IPv4="16.0.9.9/16", ingress={"latency": 1_000_000}, rules=rules)
    assert 5_000_000 * LEAST < rate(there, here) < 5_000_000 * MOST
    assert reaches(here, there)


def test_what_arrives_cannot_be_filtered(three):
    with pytest.raises(NetworkError, match=r"ingress\.filter: what an instance sends can be filtered"):
        three[0].apply(ingress={"filter": 2})
    assert reaches(three[1], three[0])


@pytest.mark.parametrize("room", [500, 2])
def test_nobody_else_gets_what_is_sent_to_an_instance_that_has_said_nothing(monkeypatch, room):
    """A bridge sends to all of its ports what it does not know, at a price for all of a run."""
    monkeypatch.setattr(topology, "PORTS", room)
    with networks(6) as peers:
        for here, there in ((0, 5), (5, 1), (2, 3)):
            with peers[there].socket() as ear, peers[here].socket() as mouth:
                ear.bind(("", 7))
                before = [received(peer) for peer in peers]
                for _ in range(20):
                    mouth.sendto(b"x", (peers[there].ip, 7))
                    ear.recv(9)
                got = [received(peer) - had for peer, had in zip(peers, before, strict=True)]
            assert got == [20 if number == there else 0 for number in range(6)]


def received(peer: Peer) -> int:
    """Packets at its link, also those that are not for it."""

    def read() -> int:
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
        return next(int(line.split(":")[1].split()[1]) for line in lines if "eth1" in line)

    return peer.inside(read)


def test_a_link_that_is_plugged_in_again_carries_the_very_next_packet(three, monkeypatch):
    """The hub's kernel takes notice of it some time after the instance's; a change is in force when both have."""
    here, there, _ = three
    with here.socket() as ear, there.socket() as mouth:
        ear.bind(("", 7))
        for _ in range(20):
            here.apply(enable=False)
            here.apply()
            mouth.sendto(b"x", (here.ip, 7))
            assert ear.recv(9) == b"x"
    here.apply(enable=False)
    monkeypatch.setattr(ports, "_SETTLE_SECONDS", 0)
    with pytest.raises(TimeoutError, match="the other end of the link does not notice"):
        here.instance._port.settle()


def test_who_waits_for_a_link_hears_that_it_is_up(three, monkeypatch):
    """From the kernel, once: nobody asks it again and again."""
    here, _, _ = three
    asked = threading.Event()
    sends, times = ports.Ports._sends, []

    def ask(hub, index):
        times.append(index)
        found = sends(hub, index)
        if len(times) == 2:  # it has subscribed by now, and waits
            asked.set()
        return found

    here.apply(enable=False)
    monkeypatch.setattr(ports.Ports, "_sends", ask)
    with ThreadPoolExecutor(1) as threads:
        settled = threads.submit(here.instance._port.settle)
        assert asked.wait(SECONDS)
        here.instance._data.set_up(True)
        settled.result(SECONDS)
    assert len(times) <= 6, "a link that comes up is a few pieces of news"
    monkeypatch.undo()
    here.apply()


def test_an_instance_is_found_wherever_it_moves_while_what_it_receives_is_shaped(three):
    """The way to it is another one than to the others."""
    here, there, elsewhere = three
    slow = {"bandwidth": 5_000_000}
    there.apply(IPv6="fd00::3/64")
    here.apply(ingress=slow)
    here.apply(IPv6="fd00::2/64", ingress=slow)
    elsewhere.apply(IPv6="fd00::5/64", ingress=slow)
    for address in (here.ip, "fd00::2"):
        assert reaches(there, here, address)
        assert reaches(elsewhere, here, address)
    old = here.ip
    here.apply(IPv4="16.0.9.9/16", IPv6="fd00::4/64", ingress=slow)
    for address in ("16.0.9.9", "fd00::4"):
        assert reaches(there, here, address)
    elsewhere.apply(IPv4=f"{old}/16", IPv6="fd00::2/64")
    for address in (old, "fd00::2"):
        assert reaches(here, elsewhere, address)
    here.apply()
    for address in ("16.0.9.9", "fd00::4"):
        assert reaches(there, here, address)


def test_a_slow_way_to_one_instance_does_not_slow_down_others(three):
    """Packets are cut for that one, which takes three quarters of the speed where it is done for all."""
    here, there, elsewhere = three

    def packets() -> float:
        """How many a megabyte arrives in."""
        before = received(there)
        with there.socket(socket.SOCK_STREAM) as door, here.socket(socket.SOCK_STREAM) as sender:
            door.bind((there.ip, 0))
            door.listen()
            sender.connect(door.getsockname())
            taker, _ = door.accept()
            with taker:
                pump = threading.Thread(target=sender.sendall, args=[bytes(1 << 20)])
                pump.start()
                left = 1 << 20
                while left:
                    left -= len(taker.recv(left))
                pump.join()
        return received(there) - before

    elsewhere.apply(ingress={"bandwidth": 5_000_000})
    assert packets() < 400, "whole ones would be 720"
    there.apply(ingress={"bandwidth": 50_000_000})
    assert packets() >= 720
