"""A websocket of an instance: the Sans-I/O protocol of `websockets` on an asyncio transport.

No task reads it: frames arrive in the event loop's callback and are handed on at once, so nothing that a plan does or
leaves undone can keep replies from being read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

CLOSE_DEADLINE = 5.0
"""Seconds for the other side to answer a close."""


class NotWebsocketError(Exception):
    """Something answers at the address, but it is no websocket server."""


class Socket(asyncio.Protocol):
    """`on_message` gets every message, `on_lost` the reason, once, when the socket is gone."""

    def __init__(self, url: str, on_message: Callable[[bytes], None], on_lost: Callable[[str], None]) -> None:
        self._protocol = ClientProtocol(parse_uri(url), max_size=None)
        self._on_message = on_message
        self._on_lost = on_lost
        self._fragments: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._end: str | None = None
        loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()

    async def wait_open(self) -> None:
        """Raises `NotWebsocketError`, or `ConnectionError` when the other side hangs up before it answers."""
        await self._opened

    def send(self, message: bytes) -> None:
        """Send, unless the end has begun: `on_lost` tells of that."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_text(message)
            self._flush()

    async def close(self) -> None:
        """Close with code 1000; drop the connection on cancellation, or when no answer comes in time."""
        try:
            if self._end is None and self._opened.done() and not self._gone.done():
                self._end = "it was closed"
                self._protocol.send_close(1000)
                self._flush()
                await asyncio.wait([self._gone], timeout=CLOSE_DEADLINE)
        finally:
            self.abort("it was closed")

    def abort(self, reason: str) -> None:
        """Drop the connection without a word; `reason` is what `on_lost` gets, unless there was one before."""
        self._end = self._end or reason
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        self._receive()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._receive()

    def connection_lost(self, error: Exception | None) -> None:
        reason = self._reason(error)
        if not self._opened.done():
            self._opened.set_exception(self._refusal() or ConnectionError(reason))
        self._gone.set_result(None)
        self._on_lost(reason)

    def _receive(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._on_frame(event)
            elif not self._protocol.handshake_exc and not self._opened.done():
                self._opened.set_result(None)
        self._flush()
        if self._protocol.close_rcvd or (self._end is None and self._protocol.close_expected()):
            self._close_transport()

    def _on_frame(self, frame: Frame) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        self._fragments.append(bytes(frame.data))
        if frame.fin:
            message = b"".join(self._fragments)
            self._fragments.clear()
            self._on_message(message)

    def _flush(self) -> None:
        """Write what the protocol has ready; an empty piece is its way to ask for the end of the stream."""
        if self._transport is None or self._transport.is_closing():
            return
        for piece in self._protocol.data_to_send():
            if piece:
                self._transport.write(piece)
            else:
                self._close_transport()

    def _close_transport(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _refusal(self) -> NotWebsocketError | None:
        """What spoke against the handshake, unless the other side just hung up."""
        error = self._protocol.handshake_exc
        if error is None or isinstance(error.__cause__, EOFError):
            return None
        return NotWebsocketError(str(error))

    def _reason(self, error: Exception | None) -> str:
        if self._end is not None:
            return self._end
        close = self._protocol.close_rcvd
        if close is None:
            return str(error) if error else "the service dropped it without a close"
        return f"the service closed it with code {close.code}" + (f": {close.reason}" if close.reason else "")
