"""The hosts file of an instance, and the order of sources that makes it count."""

from ipaddress import IPv4Address

import pytest

from testground.runners import names

KNOWN = {"testground-sync-service": "127.3.2.1", "here": "127.0.0.1"}
OWN = "127.3.2.1      \ttestground-sync-service\n127.0.0.1      \there\n"


@pytest.mark.parametrize(
    ("machine", "rest"),
    [
        ("", ""),
        ("# a comment\n\n127.0.0.1 localhost # another\n", "127.0.0.1\tlocalhost\n"),
        ("127.0.1.1 here.example here\n", "127.0.1.1\there.example\n"),
        ("10.0.0.1 testground-sync-service\n::1 localhost ip6", "::1\tlocalhost\tip6\n"),
    ],
)
def test_known_names_come_first_and_win(machine: str, rest: str) -> None:
    assert names.hosts(machine, KNOWN) == OWN + rest


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("", ""),
        ("hosts: files dns\n", "hosts: files dns\n"),
        ("hosts:\tfiles mdns4 [NOTFOUND=return] dns\n", "hosts:\tfiles mdns4 [NOTFOUND=return] dns\n"),
        ("hosts: resolve [!UNAVAIL=return] files myhostname", "hosts: files resolve [!UNAVAIL=return] myhostname"),
        ("passwd: x\nhosts: dns files [SUCCESS=continue] y\nrpc: db", "passwd: x\nhosts: files dns y\nrpc: db"),
        ("hosts: dns", "hosts: files dns"),
    ],
)
def test_the_hosts_file_is_asked_first(machine: str, expected: str) -> None:
    assert names.files_first(machine) == expected


def test_written_files_are_those_that_differ(tmp_path, monkeypatch) -> None:
    order = tmp_path / "nsswitch.conf.machine"
    order.write_text("hosts: dns files\n")
    monkeypatch.setattr(names, "ORDER", str(order))
    written = names.write(tmp_path, KNOWN)
    assert written[names.HOSTS].read_text().startswith(OWN)
    assert written[str(order)].read_text() == "hosts: files dns\n"
    order.write_text("hosts: files dns\n")
    assert names.write(tmp_path, KNOWN).keys() == {names.HOSTS}


def test_a_name_moves_within_its_file(tmp_path):
    """Readers that have it open see the new address in the place of the old one."""
    file = names.write(tmp_path, {"near": "16.0.0.2", "nearby": "16.0.0.3"})[names.HOSTS]
    before = file.read_text()
    with file.open() as reader:
        names.move(file, "nearby", "16.0.111.222")
        after = reader.read()
    assert after == before.replace("16.0.0.3    ", "16.0.111.222")
    names.move(file, "nearby", "16.0.0.9")
    names.move(file, "unknown", "16.0.0.8")
    assert file.read_text() == before.replace("16.0.0.3", "16.0.0.9")


def test_another_nameserver_takes_the_place_of_the_machines():
    machine = "# a comment\nsearch example\nnameserver 10.0.0.1\nnameserver ::1\noptions edns0\n"
    assert names.resolver(machine, IPv4Address("192.0.2.3")) == (
        "# a comment\nsearch example\noptions edns0\nnameserver 192.0.2.3\n"
    )
