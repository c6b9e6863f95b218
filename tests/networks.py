"""A run's networks for tests, without a daemon: a hub, and instances that a test enters to send and receive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

from testground.sidecar.peer import Peer
from testground.sidecar.topology import Hub


@contextmanager
def networks(count: int) -> Iterator[list[Peer]]:
    """That many instances of one run."""
    with ThreadPoolExecutor(1) as namespaces, ExitStack() as held:
        hub = namespaces.submit(Hub, count).result()
        held.callback(os.close, hub._netns)
        held.callback(hub._channel.close)
        held.callback(hub._ports.close)
        taken: dict[Any, str] = {}
        peers = []
        for number in range(count):
            space = namespaces.submit(hub.add, number).result()
            held.callback(os.close, space.netns)
            peer = Peer(hub, number, space, taken)
            held.callback(peer.instance.close)
            peers.append(peer)
        yield peers
