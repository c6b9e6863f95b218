"""A rumour spreads: whoever knows it tells a few random peers in every round, until all have heard it."""

import asyncio
import random
import time
from dataclasses import dataclass

from testground.sdk import Failed, InitContext, RunEnv, Topic, invoke_map

Address = tuple[str, int]


@dataclass(frozen=True)
class Peer:
    group: str
    address: Address


PEERS = Topic("peers", Peer)


class Gossip(asyncio.DatagramProtocol):
    """Tells others once it has been told. The rumour is the number of times it was passed on."""

    def __init__(self) -> None:
        self.hops = 0
        self.heard = asyncio.Event()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport
        self.address: Address = transport.get_extra_info("sockname")

    def datagram_received(self, data: bytes, sender: Address) -> None:
        if not self.heard.is_set():
            self.hear(int(data))

    def hear(self, hops: int) -> None:
        self.hops = hops
        self.heard.set()

    async def spread(self, peers: list[Address], fanout: int, interval: float) -> None:
        """Without end. Needs to have heard the rumour itself."""
        await self.heard.wait()
        while True:
            for peer in random.sample(peers, min(fanout, len(peers))):
                self._transport.sendto(str(self.hops + 1).encode(), peer)
            await asyncio.sleep(interval)


async def coverage(env: RunEnv, init: InitContext) -> None:
    loop = asyncio.get_running_loop()
    transport, gossip = await loop.create_datagram_endpoint(Gossip, (init.net.get_data_network_ip(), 0))
    await init.sync.publish(PEERS, Peer(env.group, gossip.address))
    known = await init.sync.subscribe(PEERS).take(env.instance_count)
    others = [peer.address for peer in known if peer.address != gossip.address]
    await init.sync.signal_and_wait("ready", env.instance_count)

    async with asyncio.TaskGroup() as tasks:
        spreading = tasks.create_task(gossip.spread(others, env.int_param("fanout"), env.duration_param("interval")))
        start = time.perf_counter()
        if init.global_seq == 1:
            gossip.hear(0)
        await all_have_heard(env, init, gossip)
        seconds = time.perf_counter() - start
        spreading.cancel()
    transport.close()

    env.R().record_point("hops", gossip.hops)
    if init.global_seq == 1:
        env.R().record_point("coverage_ms", seconds * 1000)
        env.record_message(f"all {env.instance_count} instances had heard it after {seconds * 1000:.1f} ms")


async def all_have_heard(env: RunEnv, init: InitContext, gossip: Gossip) -> None:
    try:
        async with asyncio.timeout(env.duration_param("deadline")):
            await gossip.heard.wait()
            await init.sync.signal_and_wait("heard", env.instance_count)
    except TimeoutError:
        state = "it did not reach all others" if gossip.heard.is_set() else "it did not arrive here"
        raise Failed(f"the rumour is too slow: {state} within {env.string_param('deadline')}") from None


if __name__ == "__main__":
    invoke_map({"coverage": coverage})
