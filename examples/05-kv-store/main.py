"""Clients read and write a replicated key-value store; a checker decides whether what they saw can be explained."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import linearizability
import store
from linearizability import Operation
from replica import Replica

from testground.sdk import Failed, InitContext, RunEnv, Topic, invoke_map


@dataclass(frozen=True)
class Member:
    group: str
    address: tuple[str, int] | None = None
    """Of a replica."""


MEMBERS = Topic("members", Member)
HISTORY = Topic("history", Operation)


async def linearizable(env: RunEnv, init: InitContext) -> None:
    roles = {"replicas": replicate, "clients": use, "checker": check}
    if env.group not in roles:
        raise Failed(f"there is no role for group '{env.group}'; its name must be one of {', '.join(roles)}")
    await roles[env.group](env, init)


async def replicate(env: RunEnv, init: InitContext) -> None:
    replica = Replica(env.duration_param("max_delay"))
    async with await asyncio.start_server(replica.serve, init.net.get_data_network_ip(), port=0) as server:
        await meet(env, init, Member(env.group, server.sockets[0].getsockname()))
        await init.sync.signal_and_wait("done", env.instance_count)


async def use(env: RunEnv, init: InitContext) -> None:
    members = await meet(env, init, Member(env.group))
    addresses = [member.address for member in members if member.address]
    workload = random.Random(env.int_param("seed") * 1000 + init.group_seq)
    history: list[Operation] = []
    async with store.connect(init.group_seq, addresses, store.Bug(env.string_param("bug"))) as connected:
        for number in range(env.int_param("operations")):
            key = f"k{workload.randrange(env.int_param('keys'))}"
            value = f"{init.group_seq}-{number}" if workload.random() < 0.5 else None
            history.append(await operate(connected, init.group_seq, key, value))
    for operation in history:
        env.R().timer(operation.kind).update((operation.end - operation.start) / 1e9)
        await init.sync.publish(HISTORY, operation)
    await init.sync.signal_entry("done")


async def operate(connected: store.Store, client: int, key: str, value: str | None) -> Operation:
    """Write `value`, or read if there is none."""
    start = time.monotonic_ns()
    if value is None:
        value = await connected.read(key)
        return Operation(client, "read", key, value, start, time.monotonic_ns())
    await connected.write(key, value)
    return Operation(client, "write", key, value, start, time.monotonic_ns())


async def check(env: RunEnv, init: InitContext) -> None:
    members = await meet(env, init, Member(env.group))
    clients = sum(member.group == "clients" for member in members)
    history = await init.sync.subscribe(HISTORY).take(clients * env.int_param("operations"))
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
    invoke_map({"linearizable": linearizable})
