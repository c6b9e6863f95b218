"""Publishing the lifecycle events of an instance on the topic that runners follow (contract §2.2, §3.6)."""

from __future__ import annotations

import asyncio
from typing import Any

from testground.errors import SyncError, SyncLostError
from testground.sdk.journal import Event
from testground.sdk.runenv import RunEnv
from testground.sdk.sync import SyncClient

DEADLINE = 5.0
"""Seconds for what is left to publish when the case has ended."""

MAX_TEXT = 4000
"""Characters of a text in an event on the wire: Go clients die of large messages (contract §3.1). stdout has it all."""


class Announcer:
    """Queues events from any thread and publishes them in their order. Trouble with it is logged, never raised."""

    def __init__(self, env: RunEnv) -> None:
        self._env = env
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        env._journal.listeners.append(self.submit)

    def submit(self, event: Event) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, event)

    async def publish_all(self, sync: SyncClient) -> None:
        """Until `finish` is called or the connection is lost."""
        while (event := await self._queue.get()) is not None:
            try:
                await sync.signal_event(_bounded(event))
            except SyncLostError as error:
                self._env.logger.warn("events are no longer published", reason=str(error))
                return
            except SyncError as error:
                self._env.logger.warn("an event was not published", reason=str(error))

    async def finish(self, publishing: asyncio.Task[None]) -> None:
        """Wait, with a deadline, until all is published."""
        self._loop.call_soon(self._queue.put_nowait, None)
        await asyncio.wait([publishing], timeout=DEADLINE)
        if publishing.cancel():
            self._env.logger.warn("events were not published", reason=f"no answer within {DEADLINE:g} s")


def _bounded(value: Any) -> Any:
    """With long texts cut in the middle: what they say first and last is what helps."""
    if isinstance(value, dict):
        return {key: _bounded(item) for key, item in value.items()}
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return f"{value[: MAX_TEXT // 4]}\n…\n{value[-3 * MAX_TEXT // 4 :]}"
    return value
