"""The network client: what an instance asks of its data network (contract §4.1, §4.2).

await init.net.configure(latency="100ms", jitter="5ms", bandwidth="20Mbit", loss="1%")
await init.net.configure(ingress={"latency": "50ms", "bandwidth": "100Mbit"})  # of what arrives

async with init.net.shaped(latency="1s"):  # afterwards the link is as before
    ...

peers = await init.net.meet()  # all instances of the run
await init.net.configure(rules=[LinkRule.to(peers[0], latency="200ms")])
await init.net.partition("left", "right")  # groups or lists of peers; all instances call it
await init.net.heal()
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from testground.errors import NetworkError, PeerLostError, SyncError, SyncLostError
from testground.sdk.network_address import address_in, with_mask
from testground.sdk.network_config import NetworkConfig
from testground.sdk.network_link import Link
from testground.sdk.network_peers import NetworkPeer, Side, across, rules_against
from testground.sdk.network_shape import FilterAction
from testground.sdk.network_units import chosen
from testground.sdk.runenv import RunEnv
from testground.sdk.sync import SyncClient, Topic

if TYPE_CHECKING:
    from typing import Unpack

    from testground.sdk.network_link import Configuration, LinkChange

NETWORK_INITIALIZED = "network-initialized"


class NetworkRefusedError(NetworkError, SyncError):
    """The runner or its sidecar does not make a change of the network; the message is its reason."""

    code = "network-refused"


class NetworkClient:
    """Configures the data network through the sidecar. Without one it says so in the log and changes nothing.

    A change is in force when its call returns. A call raises `ValueError` for what cannot be asked for, also where
    there is no sidecar, `NetworkRefusedError` for what is not made, and what every call of `SyncClient` raises.
    """

    def __init__(self, sync: SyncClient, env: RunEnv) -> None:
        self._sync = sync
        self._env = env
        self._link = Link()
        self._publishing = asyncio.Lock()
        self._meetings = 0
        self._me: NetworkPeer | None = None
        self.peers: list[NetworkPeer] = []
        """Those who took part in the last `meet`."""

    async def wait_network_initialized(self) -> None:
        """Wait until the sidecar has prepared every instance. An initialised case has done so already."""
        stage = {"name": NETWORK_INITIALIZED, "group": self._env.group}
        await self._sync.signal_event({"stage_start_event": stage})
        try:
            if self._env.sidecar:
                await self._sync.barrier(NETWORK_INITIALIZED, self._env.instance_count)
        except SyncError:
            self._env.record_message("network initialisation failed")
            raise
        self._env.record_message("network initialisation successful")
        await self._sync.signal_event({"stage_end_event": stage})

    async def configure(self, **change: Unpack[Configuration]) -> None:
        """Change the link. What is not named stays as it is.

        Of what the instance sends: `latency` and `jitter` as `100ms` or in seconds; `bandwidth` as `20Mbit` or in bits
        per second, 0 for no limit; `loss`, `corrupt`, `reorder`, `duplicate`, and of the last three the correlations
        `corrupt_corr` and so on, as `1%` or in percent; `filter`, which is `accept`, `reject` or `drop`. 0 takes one
        back.

        `ingress` is the same of what the instance receives, without a filter, as a whole: `{"latency": "50ms"}`, or
        None to take it back. Where the runner's sidecar is the original's, it does nothing.

        `rules` are what is different towards subnets and peers, in place of earlier ones: `LinkRule.to(peer,
        latency="200ms")`. `enable=False` unplugs the instance. `ipv4` and `ipv6` give it another address,
        None keeps the one there is; `routing_policy` is `allow_all` or `deny_all`.

        With a `callback_state`, the call waits until `callback_target` instances, or else all, have named that state
        and are configured. Without one it waits for its own change only.
        """
        if change.get("ipv4") is not None:
            change["ipv4"] = with_mask(change["ipv4"], self._env.subnet)
        fields, callback = _apart(change)
        await self._change(lambda link: link.changed(fields), *callback)

    @asynccontextmanager
    async def shaped(self, **change: Unpack[LinkChange]) -> AsyncIterator[None]:
        """`configure` for the length of a block; then the link is as before, however the block ends.

        Partitions of within the block end with it, addresses stay. If the block raises and the link cannot be restored,
        the block's exception has a note of it.
        """
        for name in ("ipv4", "ipv6"):
            if name in change:
                raise TypeError(f"shaped() does not take back addresses: give {name} to configure()")
        async with self._publishing:
            before = self._link
        try:
            await self.configure(**change)
            yield
        except BaseException as error:
            await self._restore_after(error, before)
            raise
        await self._restore(before)

    async def meet(self) -> list[NetworkPeer]:
        """Learn the groups and addresses of all instances, in the same order for all. Waits until each has called it.

        Once is enough, unless addresses change.
        """
        self._meetings += 1
        topic = Topic(f"network-peers-{self._meetings}", NetworkPeer)
        announced = NetworkPeer(self._env.group, self.get_data_network_ip(), self._link.ipv6 or "")
        seq, subscription = await self._sync.publish_subscribe(topic, announced)
        arrived = await subscription.take(self._env.instance_count)
        subscription.cancel()
        self.peers = [dataclasses.replace(peer, number=number) for number, peer in enumerate(arrived, 1)]
        self._me = self.peers[seq - 1]
        return list(self.peers)

    async def partition(
        self,
        *sides: Side,
        filter: FilterAction | str = FilterAction.DROP,
        callback_state: str = "",
        callback_target: int = 0,
    ) -> None:
        """Part the instances; each has called `meet` before. In place of the partition there was.

        A side is a group's id, a peer, or several of both; the other side of a single one is all the rest. An instance
        on a side does to what it sends to the other sides what `filter` says: `drop`, `reject` or `accept`. Who is on
        no side reaches all. Everybody has to call it, and it waits for its own change only, unless there is a
        `callback_state`; see `configure`.
        """
        if self._me is None:
            raise ValueError(f"sides are {sides}: who is on them is known after all instances have called meet()")
        rules = rules_against(across(sides, self.peers, self._me), chosen("filter", filter, FilterAction))
        await self._change(lambda link: dataclasses.replace(link, partition=rules), callback_state, callback_target)

    async def heal(self, *, callback_state: str = "", callback_target: int = 0) -> None:
        """End the partition; the rules of `configure` are in force as they were."""
        await self._change(lambda link: dataclasses.replace(link, partition=()), callback_state, callback_target)

    async def configure_network(self, config: NetworkConfig) -> None:
        """Have a change made as it is, and wait until it is in force for `callback_target` instances."""
        await self._send(lambda link: (config, link.configured(config)))

    def get_data_network_ip(self) -> str:
        """The instance's address in the data network; 127.0.0.1 without a sidecar. Raises `OSError` for none."""
        if not self._env.sidecar:
            return "127.0.0.1"
        found = address_in(self._env.subnet) if self._env.subnet else None
        if found is None:
            raise OSError(f"no interface has an address in the data network {self._env.subnet}")
        return found

    async def _restore(self, before: Link) -> None:
        def restore(link: Link) -> Link:
            return dataclasses.replace(before, ipv4=link.ipv4, ipv6=link.ipv6, lifted=link.lifted)

        if restore(self._link) != self._link:
            await self._change(restore)

    async def _restore_after(self, error: BaseException, before: Link) -> None:
        try:
            await self._restore(before)
        except SyncError as failure:
            error.add_note(f"then the link could not be restored: {failure}")
            self._env.logger.error("the link could not be restored", reason=str(failure))

    async def _change(self, change: Callable[[Link], Link], state: str = "", target: int = 0) -> None:
        if target and not state:
            raise ValueError(f"callback_target is {target}: it needs a callback_state, the same for all who wait")
        if not state:
            state, target = f"network-configured-{os.urandom(8).hex()}", 1

        def step(link: Link) -> tuple[NetworkConfig, Link]:
            changed = change(link).after(link)
            return changed.config(link, state, target), changed

        await self._send(step)

    async def _send(self, step: Callable[[Link], tuple[NetworkConfig, Link]]) -> None:
        async with self._publishing:
            config, link = step(self._link)
            if not self._env.sidecar:
                self._env.logger.warn("ignoring a network configuration: this runner has no sidecar")
                return
            await self._publish(config, link)
        await self._sync.barrier(config.callback_state, config.callback_target or self._env.instance_count)

    async def _publish(self, config: NetworkConfig, link: Link) -> None:
        """Only an error tells that the link is as before: who stops to wait for the answer has changed it."""
        topic: Topic[dict[str, Any]] = Topic(f"network:{socket.gethostname()}", dict[str, Any])
        before, self._link = self._link, link
        try:
            await self._sync.publish(topic, config.wire())
        except (SyncLostError, PeerLostError):
            self._link = before
            raise
        except SyncError as error:
            self._link = before
            raise NetworkRefusedError(str(error)) from None


def _apart(change: Configuration) -> tuple[dict[str, Any], tuple[str, int]]:
    fields: dict[str, Any] = dict(change)
    return fields, (fields.pop("callback_state", ""), fields.pop("callback_target", 0))
