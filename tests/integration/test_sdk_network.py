"""The SDK's network client against the sync service, with a sidecar that applies, refuses or says nothing."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import IPv4Network
from typing import Any

import anyio
import pytest

from testground.errors import NetworkError, SyncError, SyncLostError
from testground.sdk import (
    BlockingInitContext,
    LinkRule,
    LinkShape,
    NetworkConfig,
    NetworkPeer,
    NetworkRefusedError,
    RunEnv,
    SyncClient,
)
from testground.sdk.context import InitContext, initialise
from testground.sync.server import SyncServer, open_server
from testground.sync.service import Member, Service

RUN = "c0ffee0000000000000g"
KEY = f"run:{RUN}:plan:tplan:case:net:"
NO_KERNEL = "default.latency: this kernel has no netem (CONFIG_NET_SCH_NETEM)"
DEADLINE = 10


class World:
    """A run on this machine's hostname, and what its sidecar was told."""

    server: SyncServer

    def __init__(self, service: Service) -> None:
        self.applied: list[dict[str, Any]] = []
        self.arrived = anyio.Event()
        self.refusal = ""
        self.answers = self.signals = True
        self._member = Member(RUN, "single", 0)
        self.service = service
        service.begin_run(RUN, [self._member], lambda *_: None, on_config=self._configure)
        for _ in range(4):
            self._signal("network-initialized")

    def _configure(self, hostname: str, payload: bytes, answer: Callable[[str], None]) -> None:
        assert hostname == socket.gethostname()
        if self.refusal:
            answer(self.refusal)
            return
        self.applied.append(json.loads(payload))
        self.arrived.set()
        if self.answers:
            answer("")
        if self.signals:
            self._signal(self.applied[-1]["callback_state"])

    def _signal(self, state: str) -> None:
        self.service.signal(self._member, f"{KEY}states:{state}")

    @asynccontextmanager
    async def instance(self, count: int = 1, group: str = "single", **changes: Any) -> AsyncIterator[InitContext]:
        env = RunEnv(
            plan="tplan",
            case="net",
            run=RUN,
            group=group,
            instance_count=count,
            group_instance_count=1,
            sync_host="127.0.0.1",
            sync_port=self.server.port,
            **{"sidecar": True, "subnet": IPv4Network("127.0.0.0/8"), **changes},
        )
        async with SyncClient.open(env) as sync:
            yield await initialise(env, sync)

    def shapes(self) -> list[dict[str, Any]]:
        """What differs from the network as it is, of each configuration."""
        return [{name: value for name, value in config["default"].items() if value} for config in self.applied]

    def rules(self) -> list[dict[str, int]]:
        return [{rule["subnet"]: rule["filter"] for rule in config["rules"] or ()} for config in self.applied]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World(Service())
    with anyio.fail_after(DEADLINE):
        async with open_server(world.service, "127.0.0.1", 0) as world.server:
            yield world


async def test_a_configuration_with_units(world: World) -> None:
    async with world.instance() as init:
        far = LinkRule.to("16.0.1.0/24", latency="200ms", loss="5%")
        await init.net.configure(latency="100ms", jitter="5ms", bandwidth="20Mbit", loss="1%", rules=[far])
        await init.net.configure(bandwidth=0, corrupt=0.5, corrupt_corr="25%", routing_policy="allow_all")
    first, second = world.applied
    assert re.fullmatch("network-configured-[0-9a-f]{16}", first.pop("callback_state"))
    zero = LinkShape().wire()
    shape = {**zero, "latency": 100_000_000, "jitter": 5_000_000, "bandwidth": 20_000_000, "loss": 1}
    assert first == {
        "network": "default",
        "IPv4": None,
        "IPv6": None,
        "enable": True,
        "default": shape,
        "rules": [{**zero, "latency": 200_000_000, "loss": 5, "subnet": "16.0.1.0/24"}],
        "routing_policy": "deny_all",
    }
    assert second["default"] == {**shape, "bandwidth": 0, "corrupt": 0.5, "corrupt_corr": 25}
    assert (second["rules"], second["routing_policy"]) == (first["rules"], "allow_all")


async def test_addresses_are_given_with_the_mask_of_the_network(world: World) -> None:
    async with world.instance() as init:
        await init.net.configure(ipv4="127.0.1.1", ipv6="fd00::2/64")
        await init.net.configure(enable=False)
        with pytest.raises(ValueError, match=r"^ipv4 is '16\.0\.0\.9': it is not in the data network 127\.0\.0\.0/8$"):
            await init.net.configure(ipv4="16.0.0.9")
        with pytest.raises(ValueError, match="^ipv4 is 'here': "):
            await init.net.configure(ipv4="here")
        with pytest.raises(TypeError, match="does not take back addresses: give ipv4 to configure"):
            async with init.net.shaped(ipv4="127.0.1.2"):  # type: ignore[call-arg]
                pytest.fail("has an address that it cannot give back")
    assert [(config["IPv4"], config["IPv6"], config["enable"]) for config in world.applied] == [
        ("127.0.1.1/8", "fd00::2/64", True),
        ("127.0.1.1/8", "fd00::2/64", False),
    ]


async def test_callback_states_are_for_one_instance_unless_named(world: World) -> None:
    async with world.instance(2) as one, world.instance(2) as other, asyncio.TaskGroup() as tasks:
        await one.net.configure(latency="1ms")
        await one.net.configure(latency="2ms")
        tasks.create_task(one.net.configure(latency="3ms", callback_state="both"))
        tasks.create_task(other.net.configure(latency="4ms", callback_state="both", callback_target=2))
    states = [config["callback_state"] for config in world.applied]
    assert len(set(states[:2])) == 2 and states[2:] == ["both", "both"]
    with pytest.raises(
        ValueError, match="^callback_target is 2: it needs a callback_state, the same for all who wait$"
    ):
        await one.net.configure(callback_target=2)


async def test_a_named_state_is_waited_for_until_all_are_configured(world: World) -> None:
    async with world.instance(2) as one:
        with anyio.move_on_after(0.05) as waiting:
            await one.net.configure(latency="1ms", callback_state="both")
    assert waiting.cancelled_caught and len(world.applied) == 1


async def test_a_block_is_shaped_and_the_link_restored(world: World) -> None:
    async with world.instance() as init:
        await init.net.configure(bandwidth="1Mbit")
        async with init.net.shaped(latency="100ms", rules=[LinkRule.to("16.0.0.9", filter="drop")]):
            async with init.net.shaped(latency="1s"):
                await init.net.configure(loss=1, ipv4="127.0.0.9")
            assert len(world.applied) == 5
    rate, short, long = {"bandwidth": 1_000_000}, {"latency": 100_000_000}, {"latency": 10**9}
    assert world.shapes() == [rate, rate | short, rate | long, rate | long | {"loss": 1}, rate | short, rate]
    cut = {"16.0.0.9/32": 2}
    assert world.rules() == [{}, cut, cut, cut, cut, {"16.0.0.9/32": 0}]
    assert [config["IPv4"] for config in world.applied[-2:]] == ["127.0.0.9/8"] * 2


async def test_a_block_that_raises_is_restored_before_that_is_seen(world: World) -> None:
    async with world.instance() as init:
        with pytest.raises(ZeroDivisionError) as raised:
            async with init.net.shaped(enable=False):
                raise ZeroDivisionError
    assert [config["enable"] for config in world.applied] == [False, True]
    assert not hasattr(raised.value, "__notes__")


async def test_a_block_that_runs_out_of_time_is_restored(world: World) -> None:
    async with world.instance() as init:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), init.net.shaped(latency="1s"):
                await init.sync.barrier("never", 2)
    assert world.shapes() == [{"latency": 10**9}, {}]


async def test_a_block_in_a_scope_that_is_cancelled_is_restored(world: World) -> None:
    """Such a scope goes on to cancel whatever is awaited within it."""
    async with world.instance() as init:
        with anyio.move_on_after(0.05) as scope:
            async with init.net.shaped(latency="1s"), init.net.shaped(ingress={"loss": "1%"}):
                await init.sync.barrier("never", 2)
        assert scope.cancelled_caught
    assert world.shapes() == [{"latency": 10**9}] * 3 + [{}]
    assert ["ingress" in config for config in world.applied] == [False, True, False, False]
    assert world.applied[1]["ingress"] == LinkShape(loss=1).wire()


@pytest.mark.parametrize("missing", ["answers", "signals"])
async def test_what_was_asked_for_when_time_ran_out_is_restored(world: World, missing: str) -> None:
    """The sidecar has the change, but nobody says that it is in force."""
    setattr(world, missing, False)

    async def stop_when_asked(scope: asyncio.Timeout) -> None:
        await world.arrived.wait()
        setattr(world, missing, True)
        scope.reschedule(asyncio.get_running_loop().time())

    async with world.instance() as init, asyncio.TaskGroup() as tasks:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(DEADLINE) as scope:
                tasks.create_task(stop_when_asked(scope))
                async with init.net.shaped(latency="1s"):
                    pytest.fail("in force, although nobody said so")
    assert world.shapes() == [{"latency": 10**9}, {}]


async def test_a_block_whose_link_cannot_be_restored(world: World) -> None:
    async with world.instance() as init:
        with pytest.raises(NetworkRefusedError, match=f"^{re.escape(NO_KERNEL)}$"):
            async with init.net.shaped(latency="1s"):
                world.refusal = NO_KERNEL
        assert init.net._link.shape == LinkShape(latency=1)


async def test_a_block_that_raises_and_cannot_be_restored(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    async with world.instance() as init:
        with pytest.raises(ZeroDivisionError) as raised:
            async with init.net.shaped(latency="1s"):
                world.refusal = "the sidecar has died"
                raise ZeroDivisionError
    assert raised.value.__notes__ == ["then the link could not be restored: the sidecar has died"]
    assert "the link could not be restored" in capsys.readouterr().out


async def test_a_refused_change_is_one_error_and_changes_nothing(world: World) -> None:
    async with world.instance() as init:
        await init.net.configure(bandwidth="1Mbit")
        world.refusal = NO_KERNEL
        for call in (
            init.net.configure(latency="1s"),
            init.net.configure_network(NetworkConfig(callback_state="s")),
            init.net.heal(),
        ):
            with pytest.raises(NetworkRefusedError, match=f"^{re.escape(NO_KERNEL)}$") as refused:
                await call
            assert isinstance(refused.value, NetworkError) and isinstance(refused.value, SyncError)
        with pytest.raises(NetworkRefusedError):
            async with init.net.shaped(latency="1s"):
                pytest.fail("shaped, although refused")
    assert len(world.applied) == 1
    assert init.net._link.shape == LinkShape(bandwidth=1_000_000)


async def test_a_lost_service_is_no_refusal(world: World) -> None:
    async with world.instance() as init:
        await world.server.stop()
        await init.sync.wait_lost()
        with pytest.raises(SyncLostError):
            await init.net.configure(latency="1s")


@asynccontextmanager
async def met(world: World, groups: str) -> AsyncIterator[list[InitContext]]:
    """An instance per letter, its group, at 16.0.0.2 and so on; all have met."""
    async with AsyncExitStack() as stack:
        instances = []
        for number, group in enumerate(groups, 2):
            init = await stack.enter_async_context(world.instance(len(groups), group))
            init.net.get_data_network_ip = lambda number=number: f"16.0.0.{number}"  # type: ignore[misc]
            instances.append(init)
        async with asyncio.TaskGroup() as tasks:
            meetings = [tasks.create_task(init.net.meet()) for init in instances]
        assert all(meeting.result() == instances[0].net.peers for meeting in meetings)
        yield instances


async def test_instances_meet(world: World) -> None:
    async with met(world, "aab") as (first, *_):
        peers = first.net.peers
    assert sorted((peer.group, peer.address) for peer in peers) == [
        ("a", "16.0.0.2"),
        ("a", "16.0.0.3"),
        ("b", "16.0.0.4"),
    ]
    assert [peer.number for peer in peers] == [1, 2, 3]


async def test_a_second_meeting_sees_new_addresses(world: World) -> None:
    async with met(world, "a") as (init,):
        await init.net.configure(ipv6="fd00::7/64")
        init.net.get_data_network_ip = lambda: "16.0.0.77"  # type: ignore[method-assign]
        assert await init.net.meet() == [NetworkPeer("a", "16.0.0.77", "fd00::7/64", 1)]


async def test_groups_are_parted_and_healed(world: World) -> None:
    async with met(world, "aabc") as (a1, _, b, c):
        lossy = LinkRule.to("16.0.0.4", loss="5%")
        await a1.net.configure(rules=[lossy])
        await a1.net.partition("a", "b")
        await b.net.partition("a", "b", filter="reject")
        await c.net.partition("a", "b")
        await a1.net.partition("a", filter="accept")
        await a1.net.heal()
    assert world.rules() == [
        {"16.0.0.4/32": 0},
        {"16.0.0.4/32": 2},
        {"16.0.0.2/31": 1},
        {},
        {"16.0.0.4/32": 0, "16.0.0.4/31": 0},
        {"16.0.0.4/31": 0, "16.0.0.4/32": 0},
    ]
    assert world.applied[-1]["rules"][-1] == lossy.wire()


async def test_peers_are_parted_when_all_are(world: World) -> None:
    async with met(world, "aabb") as instances:
        ordered = sorted(instances[0].net.peers, key=lambda peer: peer.address)
        left, right = ordered[::2], ordered[1::2]
        async with asyncio.TaskGroup() as tasks:
            for init in instances:
                tasks.create_task(init.net.partition(left, right, callback_state="split"))
    assert {config["callback_state"] for config in world.applied} == {"split"}
    lefts, rights = {"16.0.0.3/32": 2, "16.0.0.5/32": 2}, {"16.0.0.2/32": 2, "16.0.0.4/32": 2}
    assert sorted(world.rules(), key=list) == [rights, rights, lefts, lefts]


async def test_a_partition_ends_with_its_block(world: World) -> None:
    async with met(world, "ab") as (a, _), a.net.shaped():
        await a.net.partition("a", "b")
    assert world.rules() == [{}, {"16.0.0.3/32": 2}, {"16.0.0.3/32": 0}]


async def test_a_partition_needs_to_know_who_is_where(world: World) -> None:
    async with world.instance() as init:
        with pytest.raises(ValueError, match="known after all instances have called meet"):
            await init.net.partition("a", "b")
        await init.net.meet()
        with pytest.raises(ValueError, match="^no instance is in group 'sinlge'; did you mean 'single'"):
            await init.net.partition("sinlge")
        with pytest.raises(ValueError, match="^filter is 'block': there is no such thing"):
            await init.net.partition("single", filter="block")
    assert world.applied == []


async def test_without_a_sidecar_nothing_is_sent_but_mistakes_are_found(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    async with world.instance(sidecar=False) as init:
        assert [peer.address for peer in await init.net.meet()] == ["127.0.0.1"]
        await init.net.configure(latency="100ms")
        async with init.net.shaped(enable=False):
            pass
        await init.net.partition("single")
        await init.net.heal()
        with pytest.raises(ValueError, match="^latency is '100': it needs a unit"):
            await init.net.configure(latency="100")
    assert world.applied == []
    assert capsys.readouterr().out.count("ignoring a network configuration: this runner has no sidecar") == 4


def use_blocking(init: BlockingInitContext) -> None:
    init.net.configure(bandwidth="1Mbit")
    with init.net.shaped(latency="1s"):
        assert init.net.peers == []
    with pytest.raises(ZeroDivisionError), init.net.shaped(latency="2s"):
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="^loss is '1': "), init.net.shaped(loss="1"):
        pytest.fail("shaped, although it cannot be")
    assert init.net.meet() == init.net.peers
    init.net.partition("single", callback_state="split", callback_target=1)
    init.net.heal(callback_state="healed")


async def test_plain_functions_have_the_same(world: World) -> None:
    async with world.instance() as init:
        blocking = BlockingInitContext(asyncio.get_running_loop(), init)
        await anyio.to_thread.run_sync(use_blocking, blocking)
    rate = {"bandwidth": 1_000_000}
    one, two = rate | {"latency": 10**9}, rate | {"latency": 2 * 10**9}
    assert world.shapes() == [rate, one, rate, two, rate, rate, rate]
    assert [config["callback_state"] for config in world.applied[-2:]] == ["split", "healed"]
