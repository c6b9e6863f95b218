"""The Python instances of the run that ../mixed.toml describes."""

from __future__ import annotations

from testground.sdk import InitContext, RunEnv, Topic, invoke_map

GREETINGS = Topic("greetings", dict[str, str])


async def meet(env: RunEnv, init: InitContext) -> None:
    """What meet in ../src/main.rs does."""
    await init.sync.publish(GREETINGS, {"From": f"python-{init.group_seq}", "Text": env.string_param("greeting")})
    received = await init.sync.subscribe(GREETINGS).take(env.instance_count)
    env.record_message("heard " + " ".join(sorted(greeting["From"] for greeting in received)))
    await init.sync.signal_and_wait("done", env.instance_count)


if __name__ == "__main__":
    invoke_map({"meet": meet})
