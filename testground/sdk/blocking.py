"""The clients for plain functions: the same methods, which wait instead of being awaited.

A plain case runs in a thread of its own while the SDK's event loop runs in the main thread; every call here is carried
out there. An asyncio case has no use for this module.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from testground.sdk.context import InitContext
from testground.sdk.network_config import NetworkConfig
from testground.sdk.network_peers import NetworkPeer, Side
from testground.sdk.network_shape import FilterAction
from testground.sdk.runenv import RunEnv
from testground.sdk.sync import Subscription, Topic

if TYPE_CHECKING:
    from typing import Unpack

    from testground.sdk.network_link import Configuration, LinkChange

Value = TypeVar("Value")


class BlockingSubscription(Generic[Value]):
    """`for value in subscription`, until it is cancelled; see `Subscription`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, subscription: Subscription[Value]) -> None:
        self._loop = loop
        self._subscription = subscription

    def __iter__(self) -> Iterator[Value]:
        while values := self.take(1):
            yield from values

    def take(self, count: int) -> list[Value]:
        """The next `count` values; fewer only if the subscription is cancelled meanwhile."""
        return _wait(self._loop, self._subscription.take(count))

    def cancel(self) -> None:
        self._loop.call_soon_threadsafe(self._subscription.cancel)


class BlockingSyncClient:
    """See `SyncClient`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, init: InitContext) -> None:
        self._loop = loop
        self._sync = init.sync

    def publish(self, topic: Topic[Value], value: Value) -> int:
        return _wait(self._loop, self._sync.publish(topic, value))

    def subscribe(self, topic: Topic[Value]) -> BlockingSubscription[Value]:
        async def subscribe() -> Subscription[Value]:
            return self._sync.subscribe(topic)

        return BlockingSubscription(self._loop, _wait(self._loop, subscribe()))

    def publish_subscribe(self, topic: Topic[Value], value: Value) -> tuple[int, BlockingSubscription[Value]]:
        seq, subscription = _wait(self._loop, self._sync.publish_subscribe(topic, value))
        return seq, BlockingSubscription(self._loop, subscription)

    def publish_and_wait(self, topic: Topic[Value], value: Value, state: str, target: int) -> int:
        return _wait(self._loop, self._sync.publish_and_wait(topic, value, state, target))

    def signal_entry(self, state: str) -> int:
        return _wait(self._loop, self._sync.signal_entry(state))

    def barrier(self, state: str, target: int) -> None:
        _wait(self._loop, self._sync.barrier(state, target))

    def signal_and_wait(self, state: str, target: int) -> int:
        return _wait(self._loop, self._sync.signal_and_wait(state, target))


class BlockingNetworkClient:
    """See `NetworkClient`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, init: InitContext) -> None:
        self._loop = loop
        self._net = init.net

    @property
    def peers(self) -> list[NetworkPeer]:
        return self._net.peers

    def configure(self, **change: Unpack[Configuration]) -> None:
        _wait(self._loop, self._net.configure(**change))

    @contextmanager
    def shaped(self, **change: Unpack[LinkChange]) -> Iterator[None]:
        block: Any = self._net.shaped(**change)
        _wait(self._loop, block.__aenter__())
        try:
            yield
        except BaseException as error:
            _wait(self._loop, block.__aexit__(type(error), error, error.__traceback__))
            raise
        _wait(self._loop, block.__aexit__(None, None, None))

    def meet(self) -> list[NetworkPeer]:
        return _wait(self._loop, self._net.meet())

    def partition(
        self,
        *sides: Side,
        filter: FilterAction | str = FilterAction.DROP,
        callback_state: str = "",
        callback_target: int = 0,
    ) -> None:
        callback: dict[str, Any] = {"callback_state": callback_state, "callback_target": callback_target}
        _wait(self._loop, self._net.partition(*sides, filter=filter, **callback))

    def heal(self, *, callback_state: str = "", callback_target: int = 0) -> None:
        _wait(self._loop, self._net.heal(callback_state=callback_state, callback_target=callback_target))

    def configure_network(self, config: NetworkConfig) -> None:
        _wait(self._loop, self._net.configure_network(config))

    def get_data_network_ip(self) -> str:
        return self._net.get_data_network_ip()


class BlockingInitContext:
    """See `InitContext`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, init: InitContext) -> None:
        self._loop = loop
        self._init = init
        self.env: RunEnv = init.env
        self.sync = BlockingSyncClient(loop, init)
        self.net = BlockingNetworkClient(loop, init)
        self.global_seq = init.global_seq
        self.group_seq = init.group_seq

    def wait_all_instances_initialized(self) -> None:
        _wait(self._loop, self._init.wait_all_instances_initialized())

    def wait_group_instances_initialized(self) -> None:
        _wait(self._loop, self._init.wait_group_instances_initialized())


def _wait(loop: asyncio.AbstractEventLoop, call: Coroutine[Any, Any, Value]) -> Value:
    return asyncio.run_coroutine_threadsafe(call, loop).result()
