"""Addresses and sockets."""

from __future__ import annotations

import socket

import pytest

from testground.daemon import server
from testground.errors import ConfigError


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("localhost:8042", ("localhost", 8042)),
        (":8042", ("", 8042)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::1]:8042", ("::1", 8042)),
        (" localhost:1 ", ("localhost", 1)),
    ],
)
def test_split_address(address: str, parts: tuple[str, int]) -> None:
    assert server.split_address(address, "daemon.listen") == parts


@pytest.mark.parametrize("address", ["", "localhost", "localhost:", "localhost:http", "8042", "x:99999", "x:-1", "x:²"])
def test_an_address_that_is_none_is_named_with_its_setting(address: str) -> None:
    with pytest.raises(ConfigError, match=r"daemon\.listen: .* is not an address; write HOST:PORT"):
        server.split_address(address, "daemon.listen")


def test_an_address_in_use_is_named() -> None:
    with server.bind("127.0.0.1:0", "daemon.listen") as first:
        address = f"127.0.0.1:{first.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"daemon.listen: cannot listen on {address}: .*already in use"):
            server.bind(address, "daemon.listen")


def test_a_host_that_cannot_be_resolved_or_is_not_ours() -> None:
    with pytest.raises(ConfigError, match="cannot resolve"):
        server.bind("no-such-host.invalid:0", "daemon.listen")
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:0"):
        server.bind("192.0.2.1:0", "daemon.listen")


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("localhost:0", "http://localhost:"),
        ("127.0.0.1:0", "http://127.0.0.1:"),
        ("0.0.0.0:0", "http://127.0.0.1:"),
        (":0", "http://127.0.0.1:"),
    ],
)
def test_endpoint_can_be_connected_to(address: str, prefix: str) -> None:
    with server.bind(address, "daemon.listen") as sock:
        endpoint = server.endpoint_of(sock, address, "daemon.listen")
        port = sock.getsockname()[1]
        assert endpoint == f"{prefix}{port}"
        with socket.create_connection((endpoint.removeprefix("http://").rpartition(":")[0], port), timeout=5):
            pass


def test_small_answers_are_not_held_back() -> None:
    """asyncio turns Nagle's algorithm off for sockets that name their protocol: 40 ms per answer."""
    with server.bind("127.0.0.1:0", "daemon.listen") as sock:
        assert sock.proto == socket.IPPROTO_TCP


def test_endpoint_of_an_ipv6_address_has_brackets() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 in this Python")
    try:
        sock = server.bind("[::1]:0", "daemon.listen")
    except ConfigError:
        pytest.skip("no IPv6 loopback on this machine")
    with sock:
        assert server.endpoint_of(sock, "[::1]:0", "daemon.listen") == f"http://[::1]:{sock.getsockname()[1]}"
