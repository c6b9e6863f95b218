"""Clients read and write a replicated key-value store; a checker decides whether what they saw can be explained."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import linearizability
import store
from linearizability import OPEN, Operation
from replica import Replica

from testground.sdk import Failed, InitContext, NetworkPeer, RunEnv, Topic, invoke_map


@dataclass(frozen=True)
class Member:
    group: str
    address: tuple[str, int] | None = None
    """Of a replica."""


MEMBERS = Topic("members", Member)
HISTORY = Topic("history", Operation)
LENGTHS = Topic("lengths", int)
"""How many operations each client publishes."""
GIVE_UP = 5
"""Operations without a majority, in a phase, after which a client waits for the next phase."""


async def splitbrain(env: RunEnv, init: InitContext) -> None:
    """The same with a network that parts a minority of the replicas, and half of the clients, from the rest."""
    if not env.sidecar:
        raise Failed('nothing parts the network of this run; it needs network = "isolated"')
    await init.net.meet()
    await linearizable(env, init)


async def linearizable(env: RunEnv, init: InitContext) -> None:
    roles = {"replicas": replicate, "clients": use, "checker": check}
    if env.group not in roles:
        raise Failed(f"there is no role for group '{env.group}'; its name must be one of {', '.join(roles)}")
    await roles[env.group](env, init)


async def replicate(env: RunEnv, init: InitContext) -> None:
    replica = Replica(env.duration_param("max_delay"))
    async with await asyncio.start_server(replica.serve, init.net.get_data_network_ip(), port=0) as server:
        await meet(env, init, Member(env.group, server.sockets[0].getsockname()))
        for phase in phases(env):
            await enter(env, init, phase)
        await init.sync.signal_and_wait("done", env.instance_count)


async def use(env: RunEnv, init: InitContext) -> None:
    members = await meet(env, init, Member(env.group))
    addresses = [member.address for member in members if member.address]
    workload = random.Random(env.int_param("seed") * 1000 + init.group_seq)
    history: list[Operation] = []
    async with store.connect(init.group_seq, addresses, store.Bug(env.string_param("bug"))) as connected:
        for phase in phases(env):
            await enter(env, init, phase)
            connected.patience = env.duration_param("patience") if phase == "parted" else store.PATIENCE
            history += await work(env, connected, init.group_seq, workload, phase, len(history))
    # A read that got no answer says nothing; a write may have been heard nevertheless.
    told = [operation for operation in history if operation.kind == "write" or operation.end != OPEN]
    await init.sync.publish(LENGTHS, len(told))
    for operation in told:
        if operation.end != OPEN:
            env.R().timer(operation.kind).update((operation.end - operation.start) / 1e9)
        await init.sync.publish(HISTORY, operation)
    await init.sync.signal_entry("done")


async def work(
    env: RunEnv, connected: store.Store, client: int, workload: random.Random, phase: str, first: int
) -> list[Operation]:
    """The operations of one phase, numbered from `first`."""
    done: list[Operation] = []
    unavailable = 0
    while len(done) < env.int_param("operations") and unavailable < GIVE_UP:
        key = f"k{workload.randrange(env.int_param('keys'))}"
        value = f"{client}-{first + len(done)}" if workload.random() < 0.5 else None
        done.append(await operate(connected, client, key, value))
        unavailable += done[-1].end == OPEN
        if unavailable and phase != "parted":
            raise Failed(f"operation {first + len(done)} found no majority of the replicas")
    if unavailable:
        env.record_message(f"{phase}: {unavailable} operations found no majority of the replicas")
    return done


def phases(env: RunEnv) -> Sequence[str]:
    return ("before", "parted", "healed") if env.case == "splitbrain" else ("whole",)


async def enter(env: RunEnv, init: InitContext, phase: str) -> None:
    """All instances together; who returns knows that the network of all is as the phase has it."""
    if phase == "whole":
        return
    await init.sync.signal_and_wait(f"ready for {phase}", env.instance_count)
    if phase == "parted":
        await init.net.partition(*sides(init.net.peers), callback_state=phase)
    elif phase == "healed":
        await init.net.heal(callback_state=phase)


def sides(peers: Sequence[NetworkPeer]) -> tuple[list[NetworkPeer], list[NetworkPeer]]:
    """A majority of the replicas and every other client; the rest of both. The checker is on no side."""
    replicas, clients = ([peer for peer in peers if peer.group == group] for group in ("replicas", "clients"))
    majority = len(replicas) // 2 + 1
    return replicas[:majority] + clients[::2], replicas[majority:] + clients[1::2]


async def operate(connected: store.Store, client: int, key: str, value: str | None) -> Operation:
    """Write `value`, or read if there is none. The end is open if too few replicas answered."""
    start = time.monotonic_ns()
    kind: Literal["read", "write"] = "read" if value is None else "write"
    try:
        if value is None:
            value = await connected.read(key)
        else:
            await connected.write(key, value)
    except TimeoutError:
        return Operation(client, kind, key, value, start, OPEN)
    return Operation(client, kind, key, value, start, time.monotonic_ns())


async def check(env: RunEnv, init: InitContext) -> None:
    members = await meet(env, init, Member(env.group))
    clients = sum(member.group == "clients" for member in members)
    for phase in phases(env):
        await enter(env, init, phase)
    lengths = await init.sync.subscribe(LENGTHS).take(clients)
    history = await init.sync.subscribe(HISTORY).take(sum(lengths))
    await init.sync.signal_entry("done")
    env.record_message(f"checking a history of {len(history)} operations")
    origin = min(operation.start for operation in history)
    violations = linearizability.violations(history)
    if violations:
        shown = [f"key {key}:\n{linearizability.describe(calls, origin)}" for key, calls in violations.items()]
        raise Failed("not linearizable: no order of these operations explains what was read\n" + "\n".join(shown))
    env.record_message("linearizable")


async def meet(env: RunEnv, init: InitContext, member: Member) -> Sequence[Member]:
    """Learn who takes part: all instances of the run."""
    await init.sync.publish(MEMBERS, member)
    return await init.sync.subscribe(MEMBERS).take(env.instance_count)


if __name__ == "__main__":
    invoke_map({"linearizable": linearizable, "splitbrain": splitbrain})
