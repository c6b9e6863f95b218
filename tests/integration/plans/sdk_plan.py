"""A plan whose cases end in every way; the tests of the SDK start it as a process."""

import asyncio
import logging
import os
import sys
import threading
import time
from dataclasses import dataclass

from testground.sdk import (
    BlockingInitContext,
    Failed,
    InitContext,
    NetworkConfig,
    ParamError,
    RunEnv,
    SyncClient,
    Topic,
    invoke_map,
)


@dataclass
class Peer:
    seq: int
    address: str


PEERS = Topic("peers", Peer)
STRANGE = Topic("peers", dict)


async def succeed(env: RunEnv) -> None:
    print("no line end", end="")
    env.record_message("hello")
    print("printed")
    env.logger.info("logged", number=1)
    env.R().counter("count").inc(3)
    env.R().record_point("point", 1.5)


def succeed_in_thread(env: RunEnv) -> None:
    assert threading.current_thread() is not threading.main_thread()
    env.record_message("from a thread")


async def fail(env: RunEnv) -> None:
    raise Failed("intentional oops")


async def fail_in_group(env: RunEnv) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fail(env))
        tasks.create_task(asyncio.sleep(100))


def assert_(env: RunEnv) -> None:
    assert env.instance_count == 99


async def bad_param(env: RunEnv) -> None:
    env.int_param("numbr")


async def crash(env: RunEnv) -> None:
    raise ValueError("intentional \udcff crash")


def crash_in_thread(env: RunEnv) -> None:
    raise ValueError("intentional crash")


async def crash_in_side_thread(env: RunEnv) -> None:
    threading.Thread(target=lambda: [][0], name="side").start()
    await asyncio.sleep(100)


async def exit_(env: RunEnv) -> None:
    sys.exit(0)


async def cancel_itself(env: RunEnv) -> None:
    raise asyncio.CancelledError


async def return_error(env: RunEnv) -> Exception:
    return Failed("returned, not raised")


async def fail_early(env: RunEnv) -> None:
    env.record_failure("seen early")
    env.record_message("going on")


async def succeed_too_early(env: RunEnv) -> None:
    env.record_success()
    raise ValueError("after all")


async def leave_thread(env: RunEnv) -> None:
    threading.Thread(target=time.sleep, args=(100,), name="forgotten").start()


async def flood(env: RunEnv) -> None:
    def work() -> None:
        for _ in range(20):
            print("print")
            env.record_message("x" * 100_000)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(asyncio.to_thread(work))


async def route_logging(env: RunEnv) -> None:
    env.route_logging()
    logging.getLogger("library").warning("from a library")


async def own_connection(env: RunEnv) -> None:
    async with SyncClient.open(env) as sync:
        env.record_message(f"signalled {await sync.signal_entry('own')}")


async def meet(env: RunEnv, init: InitContext) -> None:
    if init.global_seq == 1:
        await init.sync.publish(STRANGE, {"seq": "not a number"})
    _, subscription = await init.sync.publish_subscribe(PEERS, Peer(init.global_seq, init.net.get_data_network_ip()))
    peers = await subscription.take(env.instance_count)
    subscription.cancel()
    if sorted(peer.seq for peer in peers) != [*range(1, env.instance_count + 1)]:
        raise Failed(f"met {peers}")
    await init.wait_all_instances_initialized()
    await init.wait_group_instances_initialized()
    await init.net.configure_network(NetworkConfig(callback_state="configured"))
    await init.sync.signal_and_wait("met", env.instance_count)
    env.record_message(f"met {len(peers)}")


def meet_blocking(env: RunEnv, init: BlockingInitContext) -> None:
    _, subscription = init.sync.publish_subscribe(PEERS, Peer(init.global_seq, init.net.get_data_network_ip()))
    assert len(subscription.take(env.instance_count)) == env.instance_count
    subscription.cancel()
    again = init.sync.subscribe(PEERS)
    for number, peer in enumerate(again, 1):
        assert isinstance(peer, Peer)
        if number == env.instance_count:
            again.cancel()
    init.wait_all_instances_initialized()
    init.wait_group_instances_initialized()
    init.net.configure_network(NetworkConfig(callback_state="configured"))
    init.sync.publish(PEERS, Peer(0, ""))
    init.sync.publish_and_wait(PEERS, Peer(0, ""), "published", env.instance_count)
    assert init.sync.signal_entry("alone") <= env.instance_count
    init.sync.barrier("alone", env.instance_count)
    init.sync.signal_and_wait("met", env.instance_count)


async def wait_in_vain(env: RunEnv, init: InitContext) -> None:
    env.record_message("waiting")
    await init.sync.barrier("never", 2)


async def sleep(env: RunEnv, init: InitContext) -> None:
    env.record_message("waiting")
    try:
        await asyncio.sleep(100)
    finally:
        env.record_message("cleaned up")


def sleep_blocking(env: RunEnv, init: BlockingInitContext) -> None:
    env.record_message("waiting")
    time.sleep(100)


async def end_slowly(env: RunEnv) -> None:
    """Metrics are read after the case has ended; a signal comes while they are."""

    def gauge() -> float:
        env.record_message("waiting")
        time.sleep(0.5)
        return 1.0

    env.R().set_frequency(0)
    env.R().gauge_f("slow", gauge)


async def sleep_in_loop(env: RunEnv) -> None:
    env.record_message("waiting")
    time.sleep(100)


async def stubborn(env: RunEnv, init: InitContext) -> None:
    env.record_message("waiting")
    while True:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            env.record_message("not me")


async def handle_loss(env: RunEnv, init: InitContext) -> None:
    env.record_message("waiting")
    try:
        await init.sync.barrier("never", 2)
    except Exception as error:
        env.record_message(f"ignored {type(error).__name__}")


async def large_crash(env: RunEnv, init: InitContext) -> None:
    raise ValueError("x" * 100_000)


async def bad_topic(env: RunEnv, init: InitContext) -> None:
    await init.sync.publish(Topic("numbers", int), "one")  # type: ignore[arg-type]


def three_parameters(env: RunEnv, init: InitContext, more: object) -> None:
    raise ParamError("never called")


cases = {name.rstrip("_"): value for name, value in list(globals().items()) if callable(value)}

if __name__ == "__main__":
    os.chdir("/")
    invoke_map(cases)
