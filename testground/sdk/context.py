"""`InitContext`: what an initialised case is given beside its environment (contract §3.7)."""

from __future__ import annotations

from dataclasses import dataclass

from testground.sdk.network import NetworkClient
from testground.sdk.runenv import RunEnv
from testground.sdk.sync import SyncClient


@dataclass(frozen=True, slots=True)
class InitContext:
    """Ready to use: the network is initialised, and the instance has its numbers."""

    env: RunEnv
    sync: SyncClient
    net: NetworkClient
    global_seq: int
    """A number of this instance alone in the run, from 1, in the order of arrival."""
    group_seq: int
    """The same in its group."""

    async def wait_all_instances_initialized(self) -> None:
        await self.sync.barrier("initialized_global", self.env.instance_count)

    async def wait_group_instances_initialized(self) -> None:
        await self.sync.barrier(f"initialized_group_{self.env.group}", self.env.group_instance_count)


async def initialise(env: RunEnv, sync: SyncClient) -> InitContext:
    """The steps of every SDK, in their order. Raises `SyncError`."""
    net = NetworkClient(sync, env)
    env.record_message("waiting for network to initialize")
    await net.wait_network_initialized()
    env.record_message("network initialization complete")
    global_seq = await sync.signal_entry("initialized_global")
    group_seq = await sync.signal_entry(f"initialized_group_{env.group}")
    env.record_message(f"claimed sequence numbers; global={global_seq}, group({env.group})={group_seq}")
    return InitContext(env, sync, net, global_seq, group_seq)
