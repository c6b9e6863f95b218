"""Network configurations as the sidecar reads them (contract §4.1, §7.3)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from testground.sdk import (
    FilterAction,
    LinkRule,
    LinkShape,
    NetworkClient,
    NetworkConfig,
    RoutingPolicy,
    RunEnv,
    network_address,
)

MakeEnv = Callable[..., RunEnv]

NO_SHAPE = (
    '"latency":0,"jitter":0,"bandwidth":0,"filter":%d,"loss":0,"corrupt":0,"corrupt_corr":0,"reorder":0,'
    '"reorder_corr":0,"duplicate":0,"duplicate_corr":0'
)


def encoded(config: NetworkConfig) -> str:
    return msgspec.json.encode(config.wire()).decode()


def test_7_3_the_payload_is_that_of_other_sdks() -> None:
    config = NetworkConfig(
        ipv4="16.0.1.1/16",
        default=LinkShape(latency=0.1, bandwidth=1 << 20, loss=1.5),
        rules=[LinkRule(subnet="16.0.0.9/32", filter=FilterAction.DROP)],
        callback_state="network-configured",
        callback_target=1,
        routing_policy=RoutingPolicy.DENY_ALL,
    )
    assert encoded(config) == (
        '{"network":"default","IPv4":"16.0.1.1/16","IPv6":null,"enable":true,"default":{"latency":100000000,"jitter":0,'
        '"bandwidth":1048576,"filter":0,"loss":1.5,"corrupt":0,"corrupt_corr":0,"reorder":0,"reorder_corr":0,'
        '"duplicate":0,"duplicate_corr":0},"rules":[{' + NO_SHAPE % 2 + ',"subnet":"16.0.0.9/32"}],'
        '"callback_state":"network-configured","routing_policy":"deny_all"}'
    )


def test_the_least_configuration() -> None:
    config = NetworkConfig(callback_state="done", enable=False, routing_policy=RoutingPolicy.ALLOW_ALL)
    assert encoded(config) == (
        '{"network":"default","IPv4":null,"IPv6":null,"enable":false,"default":{' + NO_SHAPE % 0 + '},"rules":null,'
        '"callback_state":"done","routing_policy":"allow_all"}'
    )


@pytest.mark.parametrize(("seconds", "nanoseconds"), [(0.1, 10**8), (1e-9, 1), (2, 2 * 10**9), (0.0015, 1_500_000)])
def test_latencies_are_whole_nanoseconds(seconds: float, nanoseconds: int) -> None:
    wire = LinkShape(latency=seconds, jitter=seconds).wire()
    assert (wire["latency"], wire["jitter"]) == (nanoseconds, nanoseconds)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: LinkShape(latency=-1), "latency is -1: it cannot be negative"),
        (lambda: LinkShape(bandwidth=-8), "bandwidth is -8: it cannot be negative"),
        (lambda: LinkShape(loss=101), "loss is 101: it is a percentage, 0 to 100"),
        (lambda: LinkShape(corrupt=float("nan")), "corrupt is nan: it is a percentage, 0 to 100"),
        (lambda: LinkRule(subnet="16.0.0.9"), "subnet is '16.0.0.9': it needs a mask, such as 16.0.0.9/32"),
        (lambda: LinkRule(subnet="x/8"), "subnet is 'x/8': "),
        (lambda: LinkRule(subnet="16.0.0.0/8", duplicate=-1), "duplicate is -1: it is a percentage, 0 to 100"),
        (lambda: NetworkConfig(callback_state=""), "failed to configure network; no callback state provided"),
        (lambda: NetworkConfig(callback_state="s", ipv4="16.0.1.1"), "ipv4 is '16.0.1.1': it needs a mask"),
    ],
)
def test_what_cannot_be_configured(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}"):
        make()


class NoSync:
    """Without a sidecar nothing must be sent."""

    def __getattr__(self, name: str) -> Any:
        pytest.fail(f"{name} was called")


async def test_without_a_sidecar(make_env: MakeEnv, capsys: pytest.CaptureFixture[str]) -> None:
    client = NetworkClient(NoSync(), make_env())  # type: ignore[arg-type]
    await client.configure_network(NetworkConfig(callback_state="s"))
    assert "ignoring a network configuration" in capsys.readouterr().out
    assert client.get_data_network_ip() == "127.0.0.1"


@pytest.mark.parametrize(
    ("address", "complaint"),
    [(5, "ipv4 is 5: it is a text such as '16.0.1.1/16'"), ("17.0.0.1", "ipv4 is '17.0.0.1': it is not in the data")],
)
async def test_addresses_that_cannot_be_given(make_env: MakeEnv, address: Any, complaint: str) -> None:
    client = NetworkClient(NoSync(), make_env())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}"):
        await client.configure(ipv4=address)


async def test_no_address_keeps_the_one_there_is(make_env: MakeEnv, capsys: pytest.CaptureFixture[str]) -> None:
    client = NetworkClient(NoSync(), make_env())  # type: ignore[arg-type]
    await client.configure(ipv4=None, ipv6=None)
    assert "ignoring a network configuration" in capsys.readouterr().out


def test_the_address_in_the_data_network(make_env: MakeEnv) -> None:
    env = make_env(TEST_SIDECAR="true", TEST_SUBNET="127.0.0.0/8")
    try:
        found = network_address.addresses()
    except (ImportError, OSError) as error:
        pytest.skip(f"this system does not list its addresses as Linux does: {error}")
    assert "127.0.0.1" in found
    assert NetworkClient(NoSync(), env).get_data_network_ip() == "127.0.0.1"  # type: ignore[arg-type]


def test_no_address_in_the_data_network(make_env: MakeEnv) -> None:
    env = make_env(TEST_SIDECAR="true", TEST_SUBNET="240.1.0.0/16")
    with pytest.raises(OSError, match=r"no interface has an address in the data network 240\.1\.0\.0/16"):
        NetworkClient(NoSync(), env).get_data_network_ip()  # type: ignore[arg-type]
