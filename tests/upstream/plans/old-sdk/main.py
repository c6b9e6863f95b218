"""The new side: what it hears from instances on sdk-go 0.2.7, and what they hear from it."""

from testground.sdk import InitContext, RunEnv, Topic, invoke_map

PEERS = Topic("peers", str)


async def meet(env: RunEnv, init: InitContext) -> None:
    await init.sync.publish(PEERS, f"peer {init.global_seq} of {env.group}")
    for peer in await init.sync.subscribe(PEERS).take(env.instance_count):
        env.record_message(f"heard {peer}")
    await init.sync.signal_and_wait("done", env.instance_count)


if __name__ == "__main__":
    invoke_map({"meet": meet})
