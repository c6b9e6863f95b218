"""Two instances over TCP: the first listens, the second measures how long a line takes there and back."""

import asyncio
import time

from testground.sdk import Failed, InitContext, RunEnv, Topic, invoke_map

ADDRESS = Topic("address", tuple[str, int])


async def ping_pong(env: RunEnv, init: InitContext) -> None:
    if init.global_seq == 1:
        await pong(env, init)
    else:
        await ping(env, init)


async def pong(env: RunEnv, init: InitContext) -> None:
    """Send every line back until the other side is done."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            writer.write(line)
        writer.close()

    async with await asyncio.start_server(echo, init.net.get_data_network_ip(), port=0) as server:
        host, port = server.sockets[0].getsockname()
        await init.sync.publish(ADDRESS, (host, port))
        env.record_message(f"listening on {host}:{port}")
        await init.sync.barrier("done", 1)


async def ping(env: RunEnv, init: InitContext) -> None:
    [(host, port)] = await init.sync.subscribe(ADDRESS).take(1)
    reader, writer = await asyncio.open_connection(host, port)
    padding = "." * env.size_param("size")
    trips = []
    for number in range(env.int_param("rounds")):
        line = f"{number}{padding}\n".encode()
        start = time.perf_counter()
        writer.write(line)
        answer = await reader.readline()
        trips.append(time.perf_counter() - start)
        if answer != line:
            raise Failed(f"round {number}: {len(line)} bytes went out, other {len(answer)} bytes came back")
        env.R().record_point("rtt_ms", trips[-1] * 1000)
    writer.close()
    await writer.wait_closed()
    env.record_message(f"{len(trips)} round trips, the median took {sorted(trips)[len(trips) // 2] * 1000:.3f} ms")
    await init.sync.signal_entry("done")


if __name__ == "__main__":
    invoke_map({"ping-pong": ping_pong})
