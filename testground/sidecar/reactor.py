"""One instance's network: what it starts with, and every change that its plan asks for (contract §4.4, §4.5)."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address

from testground.sidecar.config import NetworkConfig


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """A link of an instance that exists, is up and has its address when the `Instance` is made."""

    name: str
    """In the instance's namespace: `eth0`, `eth1`."""
    address: IPv4Interface
    """With the prefix length of its network, such as `16.0.0.2/16`."""


class Instance:
    """The links of one instance. One call at a time; calls take well under ten milliseconds and do not wait."""

    def __init__(
        self,
        hostname: str,
        netns: int,
        *,
        control: LinkInfo,
        data: LinkInfo,
        services: Sequence[IPv4Address],
        taken: MutableMapping[IPv4Address | IPv6Address, str],
    ) -> None:
        """`netns` is the namespace's file descriptor; it is not kept.

        `services` stay reachable through the control link whatever a plan asks for. `taken` is shared by the run's
        instances: who has which data address, by hostname; it is kept up to date here.
        """

    async def initialise(self) -> None:
        """Leave the data network and the services reachable, and nothing else. Raises `NetworkError`."""
        raise NotImplementedError

    async def apply(self, config: NetworkConfig) -> None:
        """Carry out one change. Raises `NetworkError`; then the network is as it was before, or the error says how not."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the namespace. Its addresses are free again."""
