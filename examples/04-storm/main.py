"""Every instance dials every other and sends it data; in the end all that was sent must have been received."""

import asyncio
import time

from testground.sdk import Failed, InitContext, RunEnv, Topic, invoke_map

ADDRESSES = Topic("addresses", tuple[str, int])


class Receiver:
    """Counts what comes in, and tells each sender how much came from it."""

    def __init__(self) -> None:
        self.connections = 0
        self.bytes = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        received = 0
        while data := await reader.read(1 << 16):
            received += len(data)
        self.bytes += received
        writer.write(b"%d\n" % received)
        writer.close()


async def storm(env: RunEnv, init: InitContext) -> None:
    receiver = Receiver()
    per_peer, size = env.int_param("connections"), env.size_param("size")
    at_once = asyncio.Semaphore(env.int_param("at_once"))

    async def send(host: str, port: int) -> None:
        async with at_once:
            with env.R().timer("connection").time():
                await transmit(host, port, bytes(size))

    async with await asyncio.start_server(receiver.serve, init.net.get_data_network_ip(), port=0) as server:
        own = server.sockets[0].getsockname()
        await init.sync.publish(ADDRESSES, own)
        addresses = await init.sync.subscribe(ADDRESSES).take(env.instance_count)
        await init.sync.signal_and_wait("listening", env.instance_count)

        start = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for host, port in addresses:
                if (host, port) != own:
                    for _ in range(per_peer):
                        tasks.create_task(send(host, port))
        seconds = time.perf_counter() - start
        await init.sync.signal_and_wait("sent", env.instance_count)

    expected = per_peer * (env.instance_count - 1)
    if (receiver.connections, receiver.bytes) != (expected, expected * size):
        raise Failed(
            f"expected {expected} connections with {expected * size} bytes, "
            f"got {receiver.connections} with {receiver.bytes}"
        )
    env.R().record_point("connections", receiver.connections)
    env.R().record_point("bytes", receiver.bytes)
    env.R().record_point("sent_bytes_per_second", expected * size / seconds)
    env.record_message(f"received {receiver.bytes} bytes over {receiver.connections} connections in {seconds:.2f} s")


async def transmit(host: str, port: int, data: bytes) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(data)
    writer.write_eof()
    received = int(await reader.readline())
    writer.close()
    if received != len(data):
        raise Failed(f"{host}:{port} received {received} of {len(data)} bytes")


if __name__ == "__main__":
    invoke_map({"storm": storm})
