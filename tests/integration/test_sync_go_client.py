"""The published Go SDK against our service: it dies of a frame of more than 32768 bytes (contract §3.1).

The instance is that of examples/06-go-ping; this test plays the other one, whose address it subscribes to.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketListener
from anyio.streams.buffered import BufferedByteReceiveStream
from msgspec import Raw

from testground.errors import SyncError
from testground.sync import wire
from testground.sync.client import SyncConnection
from testground.sync.server import SyncServer, open_server
from testground.sync.service import Service

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed"),
]
PLAN = Path(__file__).parents[2] / "examples" / "06-go-ping"
BUILD_DEADLINE = 280
KEY = "run:r:plan:p:case:ping:"
ADDRESSES = f"{KEY}topics:addresses"
LARGEST = wire.MAX_DELIVERY_TAIL - len(r',"error":"","publish":null,"subscribe":"\"\"","signal_entry":null}')
"""Letters of the largest text that a subscription with any id can get."""


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("go") / "ping"
    command = ["go", "build", "-buildvcs=false", "-o", str(target), "."]
    subprocess.run(command, cwd=PLAN, check=True, capture_output=True, timeout=BUILD_DEADLINE)
    return target


@pytest.fixture
async def server() -> AsyncIterator[SyncServer]:
    async with open_server(Service(), "127.0.0.1", 0) as server:
        yield server


def variables(port: int, outputs: Path) -> dict[str, str]:
    values = {
        "PLAN": "p",
        "CASE": "ping",
        "RUN": "r",
        "GROUP_ID": "g",
        "GROUP_INSTANCE_COUNT": "2",
        "INSTANCE_COUNT": "2",
        "INSTANCE_PARAMS": "rounds=2",
        "OUTPUTS_PATH": str(outputs),
        "SIDECAR": "false",
        "SUBNET": "127.1.0.0/16",
    }
    named = {f"TEST_{name}": value for name, value in values.items()}
    return {**named, "SYNC_SERVICE_HOST": "127.0.0.1", "SYNC_SERVICE_PORT": str(port), "PATH": os.defpath}


@asynccontextmanager
async def echoed_by_hand() -> AsyncIterator[tuple[SocketListener, str]]:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    [single] = listener.listeners
    async with single:
        yield single, f"127.0.0.1:{single.extra(anyio.abc.SocketAttribute.local_port)}"


@pytest.mark.parametrize("length", [LARGEST, LARGEST - 1, 30000])
async def test_a_go_subscriber_survives_the_largest_message(
    server: SyncServer, instance: Path, tmp_path: Path, length: int
) -> None:
    async def publish(sync: SyncConnection) -> None:
        for refused in (LARGEST + 1, 32600, 40000):
            with pytest.raises(SyncError, match="message too large|32768 at most"):
                await sync.publish(ADDRESSES, json.dumps("x" * refused).encode())
        assert await sync.publish(ADDRESSES, json.dumps("x" * length).encode()) == 2

    exit_code, said = await ping(server, instance, tmp_path, publish)
    assert b'"success_event"' in said, said
    assert (exit_code, (tmp_path / "run.err").read_bytes()) == (0, b"")


@pytest.mark.parametrize(("size", "survives"), [(32768, True), (32769, False)])
async def test_why_larger_messages_are_refused(
    server: SyncServer, instance: Path, tmp_path: Path, size: int, survives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the refusal, a frame of one byte more than it can read ends it without an outcome."""
    monkeypatch.setattr(wire, "MAX_DELIVERY_TAIL", 1 << 20)
    quotes = '"' * 1000  # they take twice the bytes in the delivery, so that the request is not too large itself
    least = wire.delivery_head("4") + wire.delivery_tail(Raw(json.dumps(quotes).encode()))

    async def publish(sync: SyncConnection) -> None:
        assert await sync.publish(ADDRESSES, json.dumps(quotes + "x" * (size - len(least))).encode()) == 2

    exit_code, said = await ping(server, instance, tmp_path, publish)
    assert (exit_code == 0, b'"success_event"' in said) == (survives, survives), said


async def ping(
    server: SyncServer, instance: Path, outputs: Path, publish: Callable[[SyncConnection], Awaitable[None]]
) -> tuple[int, bytes]:
    """Exit code and standard output of an instance that reads what `publish` sends while it waits for its last echo."""
    with anyio.fail_after(60):
        async with SyncConnection.open("127.0.0.1", server.port) as sync, echoed_by_hand() as (listener, address):
            assert await sync.signal(f"{KEY}states:initialized_global") == 1  # so that the instance is the second
            await sync.publish(ADDRESSES, json.dumps(address).encode())
            environment = variables(server.port, outputs)
            async with await anyio.open_process([instance], env=environment, cwd=outputs, stderr=None) as process:
                async with await listener.accept() as stream:
                    lines = BufferedByteReceiveStream(stream)
                    await stream.send(await lines.receive_until(b"\n", 100) + b"\n")
                    last = await lines.receive_until(b"\n", 100)
                    await publish(sync)
                    await sync.signal(f"{KEY}states:done")
                    with suppress(anyio.BrokenResourceError):
                        await stream.send(last + b"\n")
                assert process.stdout is not None
                said = b"".join([data async for data in process.stdout])
                return await process.wait(), said
