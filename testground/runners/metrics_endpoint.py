"""`daemon.influxdb_endpoint` for isolated instances: they find it at the address of their services.

The daemon passes their connections on. So a machine needs nothing for it, and of its loopback addresses nothing but
this one port is open to plans.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from testground.drivers import relay
from testground.plugins import Output

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

NAME = "testground-influxdb"


@dataclass(frozen=True, slots=True)
class Endpoint:
    host: str
    port: int
    name: str
    """What instances call it. With HTTPS its own, for which it has a certificate."""
    url: str
    """For instances."""


def parse(url: str) -> Endpoint:
    """Raises `ValueError`."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"'{url}' is not the URL of a server, such as http://localhost:8086")
    parts.hostname.encode("idna")  # a resolver would, and raise in the middle of the run
    port = parts.port or (80 if parts.scheme == "http" else 443)
    name = parts.hostname if parts.scheme == "https" and not _local(parts.hostname) else NAME
    return Endpoint(parts.hostname, port, name, _renamed(parts, name, port))


def serve(endpoint: Endpoint, listening: socket.socket, tasks: TaskGroup, output: Output) -> None:
    """Until `tasks` are cancelled; `output` hears once when the endpoint does not answer."""
    tasks.start_soon(relay.serve, listening, endpoint.host, endpoint.port, _once(partial(_warn, output, endpoint)))


def _warn(output: Output, endpoint: Endpoint, reason: str) -> None:
    output.warn(f"daemon.influxdb_endpoint does not answer: {endpoint.host}:{endpoint.port}: {reason}")


def _once(tell: Callable[[str], None]) -> Callable[[str], None]:
    told: list[str] = []

    def hear(reason: str) -> None:
        if not told:
            told.append(reason)
            tell(reason)

    return hear


def _renamed(parts: SplitResult, name: str, port: int) -> str:
    user, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}{at}{name}:{port}").geturl()


def _local(host: str) -> bool:
    """Whether an instance means itself by it, or it is no name at all."""
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return True
