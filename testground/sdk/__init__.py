"""The SDK for test plans written in Python.

A plan is a program with a function per test case; every instance of a run is one process of it:

    from dataclasses import dataclass
    from testground.sdk import Failed, InitContext, RunEnv, Topic, invoke_map

    @dataclass
    class Peer:
        seq: int
        address: str

    async def meet(env: RunEnv, init: InitContext) -> None:
        peers = Topic("peers", Peer)
        await init.sync.publish(peers, Peer(init.global_seq, init.net.get_data_network_ip()))
        everybody = await init.sync.subscribe(peers).take(env.instance_count)
        with env.R().timer("greeting").time():
            await init.sync.signal_and_wait("greeted", env.instance_count)
        if len({peer.seq for peer in everybody}) < env.instance_count:
            raise Failed("two instances have the same number")

    if __name__ == "__main__":
        invoke_map({"meet": meet})

**Cases.** `async def` or `def`; with `(env)` plain, with `(env, init)` initialised, that is connected and numbered. A
plain `def` runs in a thread of its own and gets a `BlockingInitContext`, whose methods wait instead of being awaited.

**How it ends.** Returning is success. `Failed`, a failed `assert`, a bad parameter (`ParamError`) or a dead peer
(`PeerLostError`) is a failure. Every other exception, in a thread too, is a crash, as are SIGTERM and a lost connection
to the sync service. The exit code is 0, 1 or 2. Other SDKs exit with 0 whatever happened, so runners look at the events
first.

**Units.** Durations are seconds, sizes bytes, bandwidths bits per second, losses percent. Those of the network may be
text with their unit.

**Waiting.** Nothing has a timeout of its own: use `asyncio.timeout`. When an instance dies, what the others wait for in
vain raises `PeerLostError`, which says who is missing.

**Network.** Where there is a sidecar, `init.net.configure(latency="100ms", bandwidth="20Mbit", loss="1%")` shapes what
the instance sends, `async with init.net.shaped(…)` does so for a block, and `init.net.partition("left", "right")` parts
groups after all have called `init.net.meet()`.

**Output.** `env.record_message` tells those who watch, `env.logger` writes structured lines, `print` works. What is
written below `env.outputs_path` is collected; `env.R()` and `env.D()` write metrics there.
"""

from __future__ import annotations

from testground.errors import PeerLostError, SyncError, SyncLostError
from testground.sdk.blocking import (
    BlockingInitContext,
    BlockingNetworkClient,
    BlockingSubscription,
    BlockingSyncClient,
)
from testground.sdk.context import InitContext
from testground.sdk.entry import invoke, invoke_map
from testground.sdk.environ import EnvError
from testground.sdk.instruments import Counter, Ewma, FunctionGauge, Gauge, Histogram, Meter, Timer
from testground.sdk.journal import Logger
from testground.sdk.metrics import Metrics
from testground.sdk.network import NetworkClient, NetworkRefusedError
from testground.sdk.network_config import NetworkConfig, RoutingPolicy
from testground.sdk.network_peers import NetworkPeer
from testground.sdk.network_shape import FilterAction, LinkRule, LinkShape
from testground.sdk.params import ParamError, Rate
from testground.sdk.runenv import RunEnv
from testground.sdk.samples import ExpDecaySample, UniformSample
from testground.sdk.sync import Subscription, SyncClient, Topic
from testground.sdk.verdict import Failed

__all__ = [
    "BlockingInitContext",
    "BlockingNetworkClient",
    "BlockingSubscription",
    "BlockingSyncClient",
    "Counter",
    "EnvError",
    "Ewma",
    "ExpDecaySample",
    "Failed",
    "FilterAction",
    "FunctionGauge",
    "Gauge",
    "Histogram",
    "InitContext",
    "LinkRule",
    "LinkShape",
    "Logger",
    "Meter",
    "Metrics",
    "NetworkClient",
    "NetworkConfig",
    "NetworkPeer",
    "NetworkRefusedError",
    "ParamError",
    "PeerLostError",
    "Rate",
    "RoutingPolicy",
    "RunEnv",
    "Subscription",
    "SyncClient",
    "SyncError",
    "SyncLostError",
    "Timer",
    "Topic",
    "UniformSample",
    "invoke",
    "invoke_map",
]
