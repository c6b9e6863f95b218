"""A run's networks for tests, without a daemon: a hub, and instances that a test enters to send and receive."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from testground.sidecar import config, rtsocket
from testground.sidecar.reactor import Instance, LinkInfo
from testground.sidecar.topology import Hub, Space

T = TypeVar("T")
SECONDS = 10


class Peer:
    """One instance, initialised."""

    def __init__(self, hub: Hub, number: int, space: Space, taken: dict[Any, str], services: list[Any]) -> None:
        self.space = space
        self._hub, self._number = hub, number
        self.ip = str(space.data.ip)
        self.host = f"{number:012x}"
        links = {"control": LinkInfo("eth0", space.control), "data": LinkInfo("eth1", space.data)}
        self.instance = Instance(self.host, space.netns, services=services, taken=taken, **links)
        asyncio.run(self.instance.initialise())

    def apply(self, **members: Any) -> None:
        """`default`, `rules` and other members of a configuration; it is enabled and default unless they say so."""
        change = config.parse({"network": "default", "enable": True} | members)
        asyncio.run(self.instance.apply(change))
        if change.ipv4:
            self.ip = str(change.ipv4.ip)
            self._hub.locate(self._number, change.ipv4.ip)

    def inside(self, call: Callable[[], T]) -> T:
        return rtsocket.inside(self.space.netns, call)

    def socket(self, kind: int = socket.SOCK_DGRAM, family: int = socket.AF_INET, protocol: int = 0) -> socket.socket:
        made = self.inside(lambda: socket.socket(family, kind, protocol))
        made.settimeout(SECONDS)
        return made


@contextmanager
def networks(count: int) -> Iterator[list[Peer]]:
    """That many instances of one run."""
    with ThreadPoolExecutor(1) as namespaces, ExitStack() as held:
        hub = namespaces.submit(Hub, count).result()
        held.callback(os.close, hub._netns)
        held.callback(hub._channel.close)
        taken: dict[Any, str] = {}
        peers = []
        for number in range(count):
            space = namespaces.submit(hub.add, number).result()
            held.callback(os.close, space.netns)
            peer = Peer(hub, number, space, taken, [hub.control[1]])
            held.callback(peer.instance.close)
            peers.append(peer)
        yield peers
