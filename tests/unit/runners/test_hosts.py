from ipaddress import IPv4Address

import pytest

from testground.errors import RequestError
from testground.plugins import configure
from testground.runners import hosts
from testground.runners.hosts import Host
from testground.runners.local_run import LocalExecConfig

DATABASE = Host("database.example", IPv4Address("10.0.0.7"))


def options(value: object) -> LocalExecConfig:
    config = configure("local:exec", LocalExecConfig, [{"additional_hosts": value}], None)  # type: ignore[arg-type]
    assert isinstance(config, LocalExecConfig)
    return config


@pytest.mark.parametrize(
    "value", ["a,database.example=10.0.0.7", ["a", "database.example=10.0.0.7"], " a , a,database.example=10.0.0.7,"]
)
def test_hosts_are_listed_or_separated_by_commas(value):
    assert hosts.parse(options(value).additional_hosts) == [Host("a"), DATABASE]


BAD = {
    "a b": "the name of a host is needed",
    "=10.0.0.7": "the name of a host is needed",
    "a:10.0.0.7": "the name of a host is needed",
    "10.0.0.7": "10.0.0.7 is an address; give it a name, as in 'database=10.0.0.7'",
    "a=fd00::1": "'fd00::1' is not an IPv4 address",
    "a=": "'' is not an IPv4 address",
    "a=0.0.0.0": "0.0.0.0 is not the address of a host",
    "a=255.255.255.255": "255.255.255.255 is not the address of a host",
    "a=224.0.0.1": "224.0.0.1 is not the address of a host",
    "a=16.0.0.7": "16.0.0.7 lies in 16.0.0.0/16, a network of the run itself",
    "a=192.18.0.7": "192.18.0.7 lies in 192.18.0.0/16, a network of the run itself",
    "a=192.0.2.3": "192.0.2.3 lies in 192.0.2.0/24, a network of the run itself",
    "testground-sync-service": "testground-sync-service is a service of the run",
    "a=127.0.0.2": "of this machine's loopback addresses, 127.0.0.1 can be reached",
    "localhost": "localhost is the instance itself; name the service, as in 'web=127.0.0.1'",
}


@pytest.mark.parametrize("value", BAD)
def test_a_bad_value_is_named_with_its_option(value):
    with pytest.raises(RequestError) as caught:
        options(["fine", value])
    assert "local:exec: additional_hosts" in str(caught.value)
    assert f"'{value}': {BAD[value]}" in str(caught.value)


def test_one_name_has_one_address():
    with pytest.raises(RequestError, match="'a=10.0.0.8': a has another address in the same list"):
        options(["a=10.0.0.7", "a=10.0.0.8"])


@pytest.mark.parametrize("value", [7, True, {"a": "10.0.0.7"}, [7]])
def test_other_types_are_refused(value):
    with pytest.raises(RequestError, match="additional_hosts"):
        options(value)
