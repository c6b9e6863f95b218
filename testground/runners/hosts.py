"""Hosts that stay reachable from isolated instances whatever their plan asks for: the option `additional_hosts`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from socket import AF_INET, SOCK_STREAM, gaierror

import anyio

from testground.drivers import slirp
from testground.runners.host_network import SYNC_SERVICE
from testground.sidecar import addressing

REDIS = "testground-redis"
SERVICES = (SYNC_SERVICE, REDIS)
NETWORKS = (addressing.CONTROL, addressing.DATA, slirp.NETWORK)

MACHINE = IPv4Address("127.0.0.1")

RESOLVE_SECONDS = 15.0
"""For all names together. A nameserver that is down takes a system ten."""

_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?")


@dataclass(frozen=True, slots=True)
class Host:
    """As it stands in the option."""

    name: str
    address: IPv4Address | None = None
    """None: whatever the machine finds for the name."""


def parse(values: Sequence[str]) -> list[Host]:
    """`name` or `name=address`. Raises `ValueError` that names the entry."""
    found: dict[str, Host] = {}
    for value in values:
        host = _parse(value)
        if host.name in SERVICES:
            raise ValueError(f"'{value}': {host.name} is a service of the run")
        if host.name == "localhost":
            raise ValueError(f"'{value}': localhost is the instance itself; name the service, as in 'web=127.0.0.1'")
        if host.address and (reason := _unfit(host.address)):
            raise ValueError(f"'{value}': {reason}")
        if host.address and host.address.is_loopback and host.address != MACHINE:
            raise ValueError(f"'{value}': of this machine's loopback addresses, {MACHINE} can be reached")
        if found.setdefault(host.name, host) != host:
            raise ValueError(f"'{value}': {host.name} has another address in the same list")
    return list(found.values())


async def resolve(hosts: Sequence[Host], warn: Callable[[str], None]) -> dict[str, IPv4Address]:
    """Their addresses, by name. Of what has none, `warn` hears why."""
    found: dict[str, IPv4Address | str] = {host.name: host.address or "it took too long" for host in hosts}
    with anyio.move_on_after(RESOLVE_SECONDS):
        async with anyio.create_task_group() as tasks:
            for host in hosts:
                if host.address is None:
                    tasks.start_soon(_look_up, host.name, found)
    addresses = {}
    for name, address in found.items():
        if isinstance(address, IPv4Address):
            addresses[name] = address
        else:
            warn(f"additional_hosts: '{name}' is left out, as its address cannot be found: {address}")
    return addresses


async def _look_up(name: str, found: dict[str, IPv4Address | str]) -> None:
    try:
        answers = await anyio.getaddrinfo(name, None, family=AF_INET, type=SOCK_STREAM)
    except (gaierror, UnicodeError) as error:
        found[name] = error.strerror if isinstance(error, gaierror) and error.strerror else str(error)
        return
    address = IPv4Address(answers[0][4][0])
    found[name] = _unfit(address) or address


def _unfit(address: IPv4Address) -> str:
    """Why an address cannot be that of a host outside; empty when it can."""
    if address.is_unspecified or address.is_multicast or address.is_reserved:
        return f"{address} is not the address of a host"
    for network in NETWORKS:
        if address in network:
            return f"{address} lies in {network}, a network of the run itself"
    return ""


def _parse(value: str) -> Host:
    name, equals, address = value.partition("=")
    if _is_address(name):
        raise ValueError(f"'{value}': {name} is an address; give it a name, as in 'database={name}'")
    if not _NAME.fullmatch(name):
        raise ValueError(f"'{value}': the name of a host is needed, or its name and address, as in 'database=10.0.0.7'")
    if not equals:
        return Host(name)
    try:
        return Host(name, IPv4Address(address))
    except AddressValueError as error:
        raise ValueError(f"'{value}': '{address}' is not an IPv4 address") from error


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True
