"""The SDK's clients on the wire: frames as other SDKs send them (contract §7.2, §7.3), with a sidecar."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from websockets.asyncio.server import ServerConnection, serve

from testground.errors import SyncLostError
from testground.sdk import FilterAction, LinkRule, LinkShape, NetworkConfig, RunEnv, SyncClient, Topic
from testground.sdk.context import InitContext, initialise
from testground.sync.client import SyncConnection
from testground.sync.server import SyncServer, open_server
from testground.sync.service import Service

RUN = "c0ffee0000000000000g"
KEY = f"run:{RUN}:plan:tplan:case:pubsub:"
DEADLINE = 10


def make_env(port: int, **changes: Any) -> RunEnv:
    fields: dict[str, Any] = {"instance_count": 1, "group_instance_count": 1, **changes}
    return RunEnv(plan="tplan", case="pubsub", run=RUN, group="single", sync_host="127.0.0.1", sync_port=port, **fields)


@asynccontextmanager
async def record() -> AsyncIterator[tuple[int, list[str]]]:
    """A port whose service answers everything with success, and the frames that came in."""
    frames: list[str] = []

    async def answer(connection: ServerConnection) -> None:
        async for frame in connection:
            assert isinstance(frame, str)
            frames.append(frame)
            request = json.loads(frame)
            seq = {"seq": 1}
            reply = {
                "id": request["id"],
                "error": "",
                "publish": seq if "publish" in request else None,
                "subscribe": "",
                "signal_entry": seq if "signal_entry" in request else None,
            }
            await connection.send(json.dumps(reply))

    async with serve(answer, "127.0.0.1", 0) as server:
        yield next(iter(server.sockets)).getsockname()[1], frames


@asynccontextmanager
async def connect(env: RunEnv) -> AsyncIterator[InitContext]:
    with anyio.fail_after(DEADLINE):
        async with SyncClient.open(env) as sync:
            yield await initialise(env, sync)


async def test_7_2_frames_of_an_initialised_case() -> None:
    peers: Topic[Any] = Topic("peers")
    async with record() as (port, frames), connect(make_env(port)) as init:
        assert (init.global_seq, init.group_seq) == (1, 1)
        await init.sync.publish(peers, {"ID": "<a&b>", "addrs": ["/ip4/1"], "N": 9007199254740993})
        held = init.sync.subscribe(peers)
        await init.sync.signal_and_wait("done", 2)
        await init.sync.barrier("done", 0)
        await init.wait_all_instances_initialized()
    assert held
    stage = '{"name":"network-initialized","group":"single"}'
    assert frames == [
        f'{{"id":"0","is_cancel":false,"publish":{{"topic":"{KEY}run_events",'
        f'"payload":{{"stage_start_event":{stage}}}}}}}',
        f'{{"id":"1","is_cancel":false,"publish":{{"topic":"{KEY}run_events",'
        f'"payload":{{"stage_end_event":{stage}}}}}}}',
        f'{{"id":"2","is_cancel":false,"signal_entry":{{"state":"{KEY}states:initialized_global"}}}}',
        f'{{"id":"3","is_cancel":false,"signal_entry":{{"state":"{KEY}states:initialized_group_single"}}}}',
        f'{{"id":"4","is_cancel":false,"publish":{{"topic":"{KEY}topics:peers",'
        '"payload":{"ID":"<a&b>","addrs":["/ip4/1"],"N":9007199254740993}}}',
        f'{{"id":"5","is_cancel":false,"subscribe":{{"topic":"{KEY}topics:peers"}}}}',
        f'{{"id":"6","is_cancel":false,"signal_entry":{{"state":"{KEY}states:done"}}}}',
        f'{{"id":"7","is_cancel":false,"barrier":{{"state":"{KEY}states:done","target":2}}}}',
        f'{{"id":"8","is_cancel":false,"barrier":{{"state":"{KEY}states:initialized_global","target":1}}}}',
    ]


async def test_7_3_frames_with_a_sidecar() -> None:
    async with record() as (port, frames), connect(make_env(port, sidecar=True, instance_count=2)) as init:
        await init.net.configure_network(NetworkConfig(callback_state="network-configured", callback_target=1))
        await init.net.configure_network(NetworkConfig(callback_state="again"))
    requests = [json.loads(frame) for frame in frames]
    assert requests[1]["barrier"] == {"state": f"{KEY}states:network-initialized", "target": 2}
    assert requests[5]["publish"]["topic"] == f"{KEY}topics:network:{socket.gethostname()}"
    assert requests[5]["publish"]["payload"]["callback_state"] == "network-configured"
    assert requests[6]["barrier"] == {"state": f"{KEY}states:network-configured", "target": 1}
    assert requests[8]["barrier"] == {"state": f"{KEY}states:again", "target": 2}


async def test_a_sidecar_applies_what_is_asked_for() -> None:
    """Its half is played as contract §3.7 and §4.4 tell."""
    applied: list[dict[str, Any]] = []

    async def sidecar(port: int) -> None:
        async with SyncConnection.open("127.0.0.1", port) as connection:
            await connection.signal(f"{KEY}states:network-initialized")
            async for payload in connection.subscribe(f"{KEY}topics:network:{socket.gethostname()}"):
                applied.append(json.loads(payload))
                await connection.signal(f"{KEY}states:{applied[-1]['callback_state']}")

    async with open_server(Service(), "127.0.0.1", 0) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(sidecar, server.port)
        async with connect(make_env(server.port, sidecar=True)) as init:
            shape = LinkShape(latency=0.05, jitter=0.001)
            rule = LinkRule(subnet="16.0.0.0/24", filter=FilterAction.REJECT)
            await init.net.configure_network(NetworkConfig(callback_state="slow", default=shape, rules=[rule]))
        tasks.cancel_scope.cancel()
    [config] = applied
    assert (config["default"]["latency"], config["default"]["jitter"]) == (50_000_000, 1_000_000)
    assert (config["rules"][0]["filter"], config["rules"][0]["subnet"]) == (1, "16.0.0.0/24")


async def test_a_failed_initialisation_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    service, staged = Service(), anyio.Event()
    service.begin_run(RUN, [], lambda member, event: staged.set())

    async def stop(server: SyncServer) -> None:
        await staged.wait()
        await server.stop()

    async with open_server(service, "127.0.0.1", 0) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(stop, server)
        with pytest.raises(SyncLostError, match="the sync service is going away"):
            async with connect(make_env(server.port, sidecar=True)):
                pytest.fail("initialised without a sidecar")
    assert "network initialisation failed" in capsys.readouterr().out


@dataclass
class Item:
    number: int


ITEMS = Topic("items", Item)


async def test_topics_replay_from_the_first_value() -> None:
    async with open_server(Service(), "127.0.0.1", 0) as server, connect(make_env(server.port)) as init:
        for number in range(3):
            assert await init.sync.publish(ITEMS, Item(number)) == number + 1
        seq, subscription = await init.sync.publish_subscribe(ITEMS, Item(3))
        assert seq == 4
        assert await subscription.take(4) == [Item(0), Item(1), Item(2), Item(3)]
        assert await init.sync.publish_and_wait(ITEMS, Item(4), "done", 1) == 5
        async for item in subscription:
            assert item == Item(4)
            subscription.cancel()
        assert await subscription.take(1) == []


async def test_a_subscription_that_nobody_holds_is_cancelled() -> None:
    """`await sync.subscribe(topic).take(n)` must not look like waiting for more, in the verdict of a failed run."""
    async with open_server(Service(), "127.0.0.1", 0) as server, connect(make_env(server.port)) as init:
        await init.sync.publish(ITEMS, Item(1))
        assert await init.sync.subscribe(ITEMS).take(1) == [Item(1)]
        await init.sync.signal_entry("after")  # answered after the cancellation was heard
        assert server.service.waiting(RUN) == []


async def test_events_of_the_run_can_be_followed() -> None:
    async with open_server(Service(), "127.0.0.1", 0) as server, connect(make_env(server.port)) as init:
        await init.sync.signal_event({"message_event": {"message": "hello"}})
        events = await init.sync.subscribe_events().take(3)
    assert [next(iter(event)) for event in events] == ["stage_start_event", "stage_end_event", "message_event"]


async def test_a_cancelled_barrier_leaves_the_connection_usable() -> None:
    async with open_server(Service(), "127.0.0.1", 0) as server, connect(make_env(server.port)) as init:
        with anyio.move_on_after(0.05):
            await init.sync.barrier("never", 2)
        assert await init.sync.signal_entry("next") == 1


async def test_a_lost_connection_ends_every_wait() -> None:
    ended: list[str] = []

    async def wait_for(name: str, call: Any) -> None:
        with pytest.raises(SyncLostError):
            await call
        ended.append(name)

    async with open_server(Service(), "127.0.0.1", 0) as server, connect(make_env(server.port)) as init:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_for, "barrier", init.sync.barrier("never", 2))
            tasks.start_soon(wait_for, "subscription", init.sync.subscribe(ITEMS).take(1))
            await init.sync.signal_entry("sent after them")
            await server.stop()
        assert await init.sync.wait_lost() == "the service closed it with code 1001: the sync service is going away"
    assert sorted(ended) == ["barrier", "subscription"]
