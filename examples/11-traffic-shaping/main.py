"""Two instances measure round trips before, while and after both have slowed their links down."""

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable

from testground.sdk import Failed, InitContext, LinkShape, RunEnv, Topic, invoke_map

ADDRESS = Topic("address", tuple[str, int])
PHASES = ("before", "shaped", "after")


async def ping_pong(env: RunEnv, init: InitContext) -> None:
    if not env.sidecar:
        raise Failed('nothing shapes the network of this run; add --run-cfg network="isolated"')
    await (pong if init.global_seq == 1 else ping)(env, init)


async def pong(env: RunEnv, init: InitContext) -> None:
    """Send everything back, until the other side has closed the connection."""
    over = asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()
        over.set()

    async with await asyncio.start_server(echo, init.net.get_data_network_ip(), port=0) as server:
        await init.sync.publish(ADDRESS, server.sockets[0].getsockname())
        await in_phases(env, init, lambda phase: init.sync.barrier(f"measured {phase}", 1))
        await over.wait()


async def ping(env: RunEnv, init: InitContext) -> None:
    [(host, port)] = await init.sync.subscribe(ADDRESS).take(1)
    reader, writer = await asyncio.open_connection(host, port)
    message = random.randbytes(env.size_param("size"))
    medians = {}

    async def measure(phase: str) -> None:
        trips = [await trip(reader, writer, message) for _ in range(env.int_param("rounds"))]
        medians[phase] = statistics.median(trips)
        env.R().record_point(f"rtt_ms_{phase}", medians[phase] * 1000)
        env.record_message(f"{phase}: the median round trip took {medians[phase] * 1000:.3f} ms")
        await init.sync.signal_entry(f"measured {phase}")

    await in_phases(env, init, measure)
    writer.close()
    await writer.wait_closed()
    check(medians, least=least_trip(env, len(message)))


async def in_phases(env: RunEnv, init: InitContext, act: Callable[[str], Awaitable[None]]) -> None:
    """Both instances go through the phases together; in the second, what each of them sends is slow."""
    for phase in PHASES:
        async with init.net.shaped(**(asked(env) if phase == "shaped" else {})):
            await init.sync.signal_and_wait(f"ready {phase}", env.instance_count)
            await act(phase)
            await init.sync.signal_and_wait(f"done {phase}", env.instance_count)


def asked(env: RunEnv) -> dict[str, str]:
    given = {name: env.string_param(name) for name in ("latency", "bandwidth", "loss")}
    return {name: value for name, value in given.items() if value != "none"}


def least_trip(env: RunEnv, size: int) -> float:
    """Seconds. The other side sends back what it has while the rest is still coming, so the size counts once."""
    shape = LinkShape.of(**asked(env))
    return 2 * shape.latency + (size * 8 / shape.bandwidth if shape.bandwidth else 0)


async def trip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes) -> float:
    start = time.perf_counter()
    writer.write(message)
    if await reader.readexactly(len(message)) != message:
        raise Failed("what came back is not what was sent")
    return time.perf_counter() - start


def check(medians: dict[str, float], least: float) -> None:
    """A tenth less is let pass: a link may send a burst at once."""
    if medians["shaped"] < least * 0.9:
        raise Failed(f"shaped, a round trip took {medians['shaped'] * 1000:.3f} ms, less than {least * 1000:.3f} ms")
    for phase in ("before", "after"):
        if medians[phase] > least / 2:
            raise Failed(f"{phase}, a round trip took {medians[phase] * 1000:.3f} ms, as if the link were shaped")


if __name__ == "__main__":
    invoke_map({"ping-pong": ping_pong})
