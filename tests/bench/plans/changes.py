"""Instances that change their links: one alone, then all others at once; each time once first, then often.

The milliseconds that each change takes, from the call to its return, are in the outputs.
"""

import json
import time
from pathlib import Path

from testground.sdk import InitContext, RunEnv, invoke_map

RATES = (10_000_000, 20_000_000)


async def ok(env: RunEnv, init: InitContext) -> None:
    alone, together = env.int_param("alone"), env.int_param("together")
    everybody = env.instance_count
    found = {}
    await init.sync.signal_and_wait("ready", everybody)
    if init.global_seq == 1:
        found["first alone"] = await changes(init, 1)
        found["alone"] = await changes(init, alone)
    await init.sync.signal_and_wait("alone", everybody)
    if init.global_seq != 1:
        found["first together"] = await changes(init, 1)
        await init.sync.signal_and_wait("first", everybody - 1)
        found["together"] = await changes(init, together)
    await init.sync.signal_and_wait("done", everybody)
    Path(env.outputs_path, "took.json").write_text(json.dumps(found))


async def changes(init: InitContext, count: int) -> list[float]:
    times = []
    for number in range(count):
        began = time.perf_counter()
        await init.net.configure(bandwidth=RATES[number % 2])
        times.append((time.perf_counter() - began) * 1000)
    return times


if __name__ == "__main__":
    invoke_map({"ok": ok})
