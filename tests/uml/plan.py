"""A plan: one of two instances measures the way to the other while its link changes."""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import threading
import time
from pathlib import Path

from testground.sdk import InitContext, RunEnv, Topic, invoke

LATENCIES = (20, 100)
LOSS = 10
PACKETS = 1000
RATE = 2_000_000
PORT = 7000
SECONDS = 60
QUIET_SECONDS = 0.2
WARM_SECONDS, WINDOW_SECONDS, WINDOWS = 1.0, 0.5, 9

ADDRESS = Topic("address", str)


async def case(env: RunEnv, init: InitContext) -> None:
    await (serve if init.global_seq == 1 else measure)(env, init)


async def serve(env: RunEnv, init: InitContext) -> None:
    ip = init.net.get_data_network_ip()
    with socket.socket(type=socket.SOCK_DGRAM) as packets, socket.create_server((ip, PORT)) as door:
        packets.bind((ip, PORT))
        threading.Thread(target=echo, args=[packets], daemon=True).start()
        await init.sync.publish(ADDRESS, ip)
        await asyncio.to_thread(count, door)
        await init.sync.barrier("measured", 1)


async def measure(env: RunEnv, init: InitContext) -> None:
    [there] = await init.sync.subscribe(ADDRESS).take(1)
    found = {}
    with socket.socket(type=socket.SOCK_DGRAM) as packets:
        packets.connect((there, PORT))
        found["unshaped_ms"] = shortest_trip(packets)
        for latency in LATENCIES:
            await init.net.configure(latency=f"{latency}ms")
            found[f"latency_{latency}_ms"] = shortest_trip(packets)
        await init.net.configure(latency=0, loss=f"{LOSS}%")
        found["lost"] = sorted(PACKETS - survivors(packets) for _ in range(3))
    await init.net.configure(loss=0, bandwidth=RATE)
    found["rate"] = await asyncio.to_thread(rate, there)
    Path(env.outputs_path, "measured.json").write_text(json.dumps(found))
    await init.sync.signal_entry("measured")


def echo(packets: socket.socket) -> None:
    """Until the socket is closed."""
    try:
        while True:
            packets.sendto(*packets.recvfrom(100))
    except OSError:
        return


def shortest_trip(packets: socket.socket) -> float:
    """Milliseconds. A busy machine only adds to what the link takes."""
    packets.settimeout(SECONDS)
    return min(trip(packets) for _ in range(11))


def trip(packets: socket.socket) -> float:
    began = time.perf_counter()
    packets.send(b"ping")
    packets.recv(100)
    return (time.perf_counter() - began) * 1000


def survivors(packets: socket.socket) -> int:
    """Of the packets, how many come back; the way back is perfect. In small lots, which fit into sockets."""
    packets.settimeout(QUIET_SECONDS)
    came = 0
    for _ in range(PACKETS // 100):
        for _ in range(100):
            packets.send(b"ping")
        try:
            for _ in range(100):
                packets.recv(100)
                came += 1
        except TimeoutError:
            continue
    return came


def count(door: socket.socket) -> None:
    """Tell one sender how fast its bytes come, per second.

    The median of some windows: while a busy machine halts this one for long, the link sends nothing, and it never
    makes up for it.
    """
    door.settimeout(SECONDS)
    taker, _ = door.accept()
    with taker:
        taker.settimeout(SECONDS)
        read_for(taker, WARM_SECONDS)
        rates = [payload / elapsed for payload, elapsed in (read_for(taker, WINDOW_SECONDS) for _ in range(WINDOWS))]
        taker.sendall(str(statistics.median(rates)).encode())
        taker.shutdown(socket.SHUT_WR)
        while taker.recv(1 << 16):
            pass


def read_for(taker: socket.socket, seconds: float) -> tuple[int, float]:
    taker.recv(1 << 16)
    began = now = time.perf_counter()
    payload = 0
    while now < began + seconds:
        payload += len(taker.recv(1 << 16))
        now = time.perf_counter()
    return payload, now - began


def rate(there: str) -> float:
    """Bits per second on the link: with what the headers add to segments of 1448 bytes."""
    with socket.create_connection((there, PORT), timeout=SECONDS) as sender:
        ends = time.monotonic() + WARM_SECONDS + WINDOWS * WINDOW_SECONDS + 1
        while time.monotonic() < ends:
            sender.send(bytes(1 << 14))
        sender.shutdown(socket.SHUT_WR)
        return float(sender.recv(100)) * 8 * 1514 / 1448


if __name__ == "__main__":
    invoke(case)
