"""A websocket client that does exactly what it is told, frame by frame, and knows nothing better."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


class Raw:
    def __init__(self, stream: SocketStream) -> None:
        self.stream = stream
        self.buffer = BufferedByteReceiveStream(stream)

    async def shake(self, *headers: str, path: str = "/") -> list[str]:
        """Returns the lines of the answer."""
        await self.stream.send("\r\n".join([f"GET {path} HTTP/1.1", *headers, "", ""]).encode("latin-1"))
        return (await self.buffer.receive_until(b"\r\n\r\n", 4096)).decode().split("\r\n")

    async def send(self, opcode: int, payload: bytes = b"", *, fin: bool = True) -> None:
        await self.stream.send(frame(opcode, payload, fin=fin))

    async def receive(self) -> tuple[int, bytes]:
        """The first byte of a frame, and its payload."""
        first, size = await self.buffer.receive_exactly(2)
        if size == 126:
            size = int.from_bytes(await self.buffer.receive_exactly(2), "big")
        return first, await self.buffer.receive_exactly(size) if size else b""

    async def text(self) -> str:
        first, payload = await self.receive()
        assert first == 0x80 | TEXT
        return payload.decode()

    async def reply(self) -> dict[str, Any]:
        reply: dict[str, Any] = json.loads(await self.text())
        return reply

    async def ask(self, request_id: str, **request: Any) -> dict[str, Any]:
        await self.send(TEXT, json.dumps({"id": request_id, **request}).encode())
        return await self.reply()

    async def closed(self) -> int:
        """The code with which the service closes; 0 when it drops the connection without one."""
        try:
            first, payload = await self.receive()
        except (anyio.IncompleteRead, anyio.BrokenResourceError):
            return 0
        assert first == 0x80 | CLOSE, payload
        return int.from_bytes(payload[:2], "big")

    async def ended(self) -> bool:
        try:
            await self.buffer.receive_exactly(1)
        except (anyio.IncompleteRead, anyio.BrokenResourceError):
            return True
        return False


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = True) -> bytes:
    """Masked with zeros, if at all. `reserved` holds the three reserved bits."""
    size = len(payload)
    mask = 0x80 if masked else 0
    if size < 126:
        length = bytes((mask | size,))
    elif size < 1 << 16:
        length = bytes((mask | 126,)) + size.to_bytes(2, "big")
    else:
        length = bytes((mask | 127,)) + size.to_bytes(8, "big")
    first = bytes((opcode | reserved << 4 | (0x80 if fin else 0),))
    return first + length + (bytes(4) if masked else b"") + payload


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Raw]:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        client = Raw(stream)
        assert "101" in (await client.shake("Host: sync", *HANDSHAKE))[0]
        yield client
