"""The sync client: states, barriers and typed topics of a run (contract §5.3)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import msgspec

from testground.sdk.environ import SYNC_HOST
from testground.sdk.journal import Event
from testground.sdk.runenv import RunEnv

if TYPE_CHECKING:
    from testground.sync.client import SyncConnection, SyncSubscription

Value = TypeVar("Value")
CONNECT_TIMEOUT = 30.0
"""Seconds; generous, because hundreds of instances may start on a few processors at once."""


class Topic(Generic[Value]):
    """A named, ordered list of values that all instances of a run append to and read from its beginning.

    Values travel as JSON and are checked against `type` on both ends: a builtin type, `list[int]`, a dataclass, a
    TypedDict, a msgspec struct, or a union of these: `Topic("peers", Peer)`.
    """

    @overload
    def __init__(self, name: str, type: type[Value]) -> None: ...

    @overload
    def __init__(self: Topic[Any], name: str, type: Any = Any) -> None: ...

    def __init__(self, name: str, type: Any = Any) -> None:
        self.name = name
        self.type = type
        self._decoder: msgspec.json.Decoder[Value] = msgspec.json.Decoder(type)

    def __repr__(self) -> str:
        return f"Topic({self.name!r}, {getattr(self.type, '__name__', self.type)})"

    def encode(self, value: Value) -> bytes:
        """Raises `TypeError` for a value that is not of the topic's type."""
        try:
            payload = msgspec.json.encode(value)
            self._decoder.decode(payload)
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            raise TypeError(f"{self!r} cannot carry {value!r}: {error}") from error
        return payload

    def decode(self, payload: str | bytes) -> Value:
        """Raises `ValueError` for a payload that is not of the topic's type."""
        try:
            return self._decoder.decode(payload)
        except (msgspec.MsgspecError, ValueError) as error:
            raise ValueError(f"{self!r}: {error}") from error


class Subscription(Generic[Value]):
    """Iterates over the values of a topic from its first, without end. What is not of the topic's type is skipped

    with a warning. Raises `PeerLostError` when the instances that are left cannot publish what is awaited, and
    `SyncLostError` when the service is gone.
    """

    def __init__(self, payloads: SyncSubscription, topic: Topic[Value], env: RunEnv) -> None:
        self._payloads = payloads
        self._topic = topic
        self._env = env
        self._loop = asyncio.get_running_loop()

    def __aiter__(self) -> Subscription[Value]:
        return self

    async def __anext__(self) -> Value:
        while True:
            payload = await anext(self._payloads)
            try:
                return self._topic.decode(payload)
            except ValueError as error:
                self._env.logger.warn("skipped a message", topic=self._topic.name, reason=str(error))

    async def take(self, count: int) -> list[Value]:
        """The next `count` values; fewer only if the subscription is cancelled meanwhile."""
        values: list[Value] = []
        while len(values) < count:
            try:
                values.append(await anext(self))
            except StopAsyncIteration:
                break
        return values

    def cancel(self) -> None:
        """End the iteration; a waiting one ends at once."""
        self._payloads.cancel()

    def __del__(self) -> None:
        """A subscription that nobody holds any more is cancelled: nobody waits for it."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and with it the connection
            self._loop.call_soon_threadsafe(self._payloads.cancel)


class SyncClient:
    """A connection to the sync service that knows its run's keys. All methods may run concurrently.

    Each raises `SyncLostError` when the connection is lost, `PeerLostError` when an instance died without which it can
    never succeed, and `SyncError` when the service refuses.
    """

    def __init__(self, connection: SyncConnection, env: RunEnv) -> None:
        self._connection = connection
        self._env = env
        self._prefix = f"run:{env.run}:plan:{env.plan}:case:{env.case}:"

    @classmethod
    @asynccontextmanager
    async def open(cls, env: RunEnv, *, timeout: float = CONNECT_TIMEOUT) -> AsyncIterator[SyncClient]:
        """One more connection, for a plain case that wants one. Raises `SyncLostError` naming the address."""
        from testground.sync.client import SyncConnection

        host = env.sync_host or SYNC_HOST
        async with SyncConnection.open(host, env.sync_port, timeout=timeout) as connection:
            yield cls(connection, env)

    async def publish(self, topic: Topic[Value], value: Value) -> int:
        """Append a value; returns its place in the topic, from 1. Raises `TypeError` for a value of another type."""
        return await self._connection.publish(self._topic_key(topic.name), topic.encode(value))

    def subscribe(self, topic: Topic[Value]) -> Subscription[Value]:
        """All values of a topic, also those published before: `async for value in sync.subscribe(topic)`."""
        return Subscription(self._connection.subscribe(self._topic_key(topic.name)), topic, self._env)

    async def publish_subscribe(self, topic: Topic[Value], value: Value) -> tuple[int, Subscription[Value]]:
        subscription = self.subscribe(topic)
        try:
            return await self.publish(topic, value), subscription
        except BaseException:
            subscription.cancel()
            raise

    async def publish_and_wait(self, topic: Topic[Value], value: Value, state: str, target: int) -> int:
        """Publish, then signal `state` and wait until `target` have; returns the value's place in the topic."""
        seq = await self.publish(topic, value)
        await self.signal_and_wait(state, target)
        return seq

    async def signal_entry(self, state: str) -> int:
        """Say that this instance reached `state`; returns how many have, from 1."""
        return await self._connection.signal(self._state_key(state))

    async def barrier(self, state: str, target: int) -> None:
        """Wait until `target` instances have signalled `state`; limit it with `asyncio.timeout`."""
        if target <= 0:
            self._env.logger.warn("a barrier for nobody is met at once", state=state, target=target)
            return
        await self._connection.barrier(self._state_key(state), target)

    async def signal_and_wait(self, state: str, target: int) -> int:
        """Signal `state` and wait until `target` have; returns what `signal_entry` did."""
        seq = await self.signal_entry(state)
        await self.barrier(state, target)
        return seq

    async def signal_event(self, event: Event) -> None:
        """Publish on the topic that runners follow."""
        await self._connection.publish(f"{self._prefix}run_events", msgspec.json.encode(event))

    def subscribe_events(self) -> Subscription[Event]:
        """The lifecycle events of all instances of the run."""
        events: Topic[Event] = Topic("run_events", Event)
        return Subscription(self._connection.subscribe(f"{self._prefix}run_events"), events, self._env)

    async def wait_lost(self) -> str:
        """Wait until the connection is gone; returns the reason."""
        return await self._connection.wait_lost()

    def _topic_key(self, name: str) -> str:
        return f"{self._prefix}topics:{name}"

    def _state_key(self, name: str) -> str:
        return f"{self._prefix}states:{name}"
