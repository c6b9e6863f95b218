"""The instance's side of the sync service: raw keys, JSON payloads (contract §5.3)."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Raw

from testground.errors import PeerLostError, SyncError, SyncLostError
from testground.sync import wire
from testground.sync.transport import NotWebsocketError, Socket

FIRST_RETRY, LAST_RETRY = 0.02, 1.0
"""Seconds between attempts to connect; they double from the first to the last."""


class SyncConnection:
    """One websocket to the service. All calls may run concurrently; each raises

    `SyncLostError` when the connection is or gets lost, `PeerLostError` when an instance died without which the request
    cannot be met, and `SyncError` when the service refuses for another reason.
    """

    lost: str | None = None
    """Why the connection is gone; None as long as it is there."""

    def __init__(self, host: str, port: int) -> None:
        self._address = f"{host}:{port}"
        self._ids = map(str, itertools.count())
        self._pending: dict[str, asyncio.Future[wire.Response]] = {}
        self._subscriptions: dict[str, SyncSubscription] = {}
        self._gone = asyncio.Event()
        url_host = f"[{host}]" if ":" in host else host
        self._socket = Socket(f"ws://{url_host}:{port}/", self._on_message, self._on_lost)

    @classmethod
    @asynccontextmanager
    async def open(cls, host: str, port: int, *, timeout: float = 30) -> AsyncIterator[SyncConnection]:
        """Connect; retries for `timeout` seconds while nobody listens. Raises `SyncLostError` naming the address."""
        connection = await _connect(host, port, timeout)
        try:
            yield connection
        finally:
            await connection.close()

    async def publish(self, topic_key: str, payload: bytes) -> int:
        """Append `payload`, the text of one JSON value, to a topic; returns its 1-based place there."""
        publish = wire.Publish(topic_key, Raw(payload))
        return _seq((await self._request(wire.Call(next(self._ids), publish=publish))).publish)

    async def signal(self, state_key: str) -> int:
        """Count a state up by one; returns the new count."""
        signal_entry = wire.SignalEntry(state_key)
        return _seq((await self._request(wire.Call(next(self._ids), signal_entry=signal_entry))).signal_entry)

    async def barrier(self, state_key: str, target: int) -> None:
        """Wait until a state has been signalled `target` times; zero and less is met without asking."""
        if target <= 0:
            self._check()
            return
        call = wire.Call(next(self._ids), barrier=wire.Barrier(state_key, target))
        try:
            await self._request(call)
        except asyncio.CancelledError:
            self._forget(call.id)
            raise

    def subscribe(self, topic_key: str) -> SyncSubscription:
        """All messages of a topic from its first, in its order, without end."""
        subscription = SyncSubscription(self, next(self._ids))
        self._send(wire.Call(subscription.id, subscribe=wire.Subscribe(topic_key)))
        self._subscriptions[subscription.id] = subscription
        return subscription

    async def close(self) -> None:
        """Close with code 1000. What is still pending raises `SyncLostError`."""
        await self._socket.close()

    async def wait_lost(self) -> str:
        """Wait until the connection is gone, be it by `close`; returns the reason."""
        await self._gone.wait()
        return self.lost or ""

    async def _request(self, call: wire.Call) -> wire.Response:
        self._send(call)
        reply: asyncio.Future[wire.Response] = asyncio.get_running_loop().create_future()
        self._pending[call.id] = reply
        try:
            response = await reply
        finally:
            self._pending.pop(call.id, None)
        if response.error:
            raise _refusal(response.error)
        return response

    def _send(self, call: wire.Call) -> None:
        self._check()
        try:
            self._socket.send(wire.encode_call(call))
        except wire.WireError as error:
            raise SyncError(error.reason) from error

    def _forget(self, request_id: str) -> None:
        """Tell the service that nobody waits for this barrier or subscription any more."""
        self._subscriptions.pop(request_id, None)
        if self.lost is None:
            self._send(wire.Call(request_id, is_cancel=True))

    def _check(self) -> None:
        if self.lost is not None:
            raise self._lost_error()

    def _lost_error(self) -> SyncLostError:
        return SyncLostError(f"the connection to the sync service at {self._address} is gone: {self.lost}")

    def _on_message(self, message: bytes) -> None:
        try:
            response = wire.decode_response(message)
        except wire.WireError as error:
            self._socket.abort(error.reason)
            return
        subscription = self._subscriptions.get(response.id)
        if subscription is not None:
            subscription._receive(response)
            if response.error:
                del self._subscriptions[response.id]
            return
        reply = self._pending.get(response.id)
        if reply is not None and not reply.done():
            reply.set_result(response)

    def _on_lost(self, reason: str) -> None:
        self.lost = reason
        self._gone.set()
        for reply in self._pending.values():
            if not reply.done():
                reply.set_exception(self._lost_error())
        for subscription in self._subscriptions.values():
            subscription._fail(self._lost_error())
        self._subscriptions.clear()

    async def _connect_once(self) -> None:
        """One attempt. Raises `OSError` when nobody listens, `NotWebsocketError` when somebody else does."""
        host, _, port = self._address.rpartition(":")
        await asyncio.get_running_loop().create_connection(lambda: self._socket, host, int(port))
        try:
            await self._socket.wait_open()
        except BaseException:
            self._socket.abort("the handshake failed")
            raise


class SyncSubscription:
    """Iterates over the payloads, each the text of a JSON value. Its queue has no bound: reading never waits for it."""

    def __init__(self, connection: SyncConnection, request_id: str) -> None:
        self.id = request_id
        self._connection = connection
        self._payloads: deque[str] = deque()
        self._end: Exception | None = None
        self._changed = asyncio.Event()

    def __aiter__(self) -> SyncSubscription:
        return self

    async def __anext__(self) -> str:
        """What arrived before the end is delivered first. Raises as the methods of `SyncConnection` do."""
        while not self._payloads:
            if self._end is not None:
                raise self._end
            self._changed.clear()
            await self._changed.wait()
        return self._payloads.popleft()

    def cancel(self) -> None:
        """End the iteration at once and the deliveries with it; harmless when it has ended."""
        if self._end is None:
            self._connection._forget(self.id)
        self._payloads.clear()
        self._fail(StopAsyncIteration())

    def _receive(self, response: wire.Response) -> None:
        if response.error:
            self._fail(_refusal(response.error))
        else:
            self._payloads.append(response.subscribe)
            self._changed.set()

    def _fail(self, error: Exception) -> None:
        self._end = error
        self._changed.set()


async def _connect(host: str, port: int, timeout: float) -> SyncConnection:
    deadline = time.monotonic() + timeout
    delay = FIRST_RETRY
    while True:
        connection = SyncConnection(host, port)
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                await connection._connect_once()
            return connection
        except NotWebsocketError as error:
            raise SyncLostError(f"what answers at {host}:{port} is no sync service: {error}") from error
        except OSError as error:
            if time.monotonic() + delay >= deadline:
                raise SyncLostError(_unreachable(host, port, timeout, error)) from error
        await asyncio.sleep(delay)
        delay = min(delay * 2, LAST_RETRY)


def _unreachable(host: str, port: int, timeout: float, error: OSError) -> str:
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error) or "no answer"
    return f"cannot reach the sync service at {host}:{port}: {reason} (tried for {timeout:g} s)"


def _refusal(error: str) -> SyncError:
    return PeerLostError(error) if wire.CANNOT_BE_MET in error else SyncError(error)


def _seq(result: Any) -> int:
    if not isinstance(result, wire.Seq):
        raise SyncError("the sync service answered without a sequence number")
    return result.seq
