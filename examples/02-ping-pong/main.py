"""Two instances over TCP: the first listens, the second measures how long a message takes there and back."""

import asyncio
import random
import statistics
import time

from testground.sdk import Failed, InitContext, RunEnv, Topic, invoke_map

ADDRESS = Topic("address", tuple[str, int])


async def ping_pong(env: RunEnv, init: InitContext) -> None:
    if init.global_seq == 1:
        await pong(env, init)
    else:
        await ping(env, init)


async def pong(env: RunEnv, init: InitContext) -> None:
    """Send everything back until the other side is done."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(echo, init.net.get_data_network_ip(), port=0) as server:
        host, port = server.sockets[0].getsockname()
        await init.sync.publish(ADDRESS, (host, port))
        env.record_message(f"listening on {host}:{port}")
        await init.sync.signal_and_wait("done", env.instance_count)


async def ping(env: RunEnv, init: InitContext) -> None:
    [(host, port)] = await init.sync.subscribe(ADDRESS).take(1)
    reader, writer = await asyncio.open_connection(host, port)
    message = random.randbytes(env.size_param("size"))
    trips = []
    for number in range(env.int_param("rounds")):
        start = time.perf_counter()
        writer.write(message)
        answer = await reader.readexactly(len(message))
        trips.append(time.perf_counter() - start)
        if answer != message:
            raise Failed(f"what came back in round {number} is not what was sent")
        env.R().record_point("rtt_ms", trips[-1] * 1000)
    writer.close()
    await writer.wait_closed()
    env.record_message(f"{len(trips)} round trips, the median took {statistics.median(trips) * 1000:.3f} ms")
    await init.sync.signal_entry("done")


if __name__ == "__main__":
    invoke_map({"ping-pong": ping_pong})
