"""An instance without a program: whoever made the hub shapes its link, and sends and receives there itself."""

from __future__ import annotations

import socket
from collections.abc import Callable, MutableMapping
from typing import Any, TypeVar

from testground.sidecar import config, rtsocket
from testground.sidecar.reactor import Instance, LinkInfo
from testground.sidecar.topology import Hub, Space

T = TypeVar("T")

SECONDS = 10.0
"""How long a socket waits for what should be there at once."""


class Peer:
    """One instance, initialised."""

    def __init__(self, hub: Hub, number: int, space: Space, taken: MutableMapping[Any, str]) -> None:
        """`taken` is shared by the peers of a hub, as with `Instance`."""
        self.space = space
        self.ip = str(space.data.ip)
        self.host = f"{number:012x}"
        self.instance = Instance(
            self.host,
            space.netns,
            control=LinkInfo("eth0", space.control),
            data=LinkInfo("eth1", space.data),
            services=[hub.control[1]],
            taken=taken,
            port=hub.port(number),
        )
        self.instance.initialise()

    def apply(self, **members: Any) -> None:
        """`default`, `rules` and other members of a configuration; it is enabled and default unless they say so.

        Raises `NetworkError`.
        """
        change = config.parse({"network": "default", "enable": True} | members)
        self.instance.apply(change)
        if change.ipv4:
            self.ip = str(change.ipv4.ip)

    def inside(self, call: Callable[[], T]) -> T:
        """Call something within its namespace."""
        return rtsocket.inside(self.space.netns, call)

    def socket(self, kind: int = socket.SOCK_DGRAM, family: int = socket.AF_INET, protocol: int = 0) -> socket.socket:
        made = self.inside(lambda: socket.socket(family, kind, protocol))
        made.settimeout(SECONDS)
        return made
