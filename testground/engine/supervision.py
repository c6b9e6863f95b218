"""How a task under way can be ended: by its timeout, by a kill, by the daemon's shutdown."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

import anyio

from testground.engine.log import TaskLog
from testground.errors import CanceledError, unwrapped
from testground.plugins import Stop

P = ParamSpec("P")
R = TypeVar("R")

GENTLE_SECONDS = 60.0
"""How long a runner may take to end a run once it was asked to, before it is cancelled outright: then there is no
verdict. Hundreds of instances on a busy machine take ten seconds."""


class Supervision:
    """One processing task: its log, its stop signal, its deadline."""

    def __init__(self, log: TaskLog) -> None:
        self.log = log
        self.stop = Stop()

    @asynccontextmanager
    async def deadline(self, seconds: float) -> AsyncIterator[None]:
        """Request the stop when the block takes longer than this."""
        with unwrapped():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._stop_after, seconds)
                yield
                tasks.cancel_scope.cancel()

    async def abruptly(self, work: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do work that is cancelled as soon as a stop is requested. Raises `CanceledError` then."""
        return await self._until_stopped(0.0, work, *args, **kwargs)

    async def gently(self, work: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do work that watches `stop` itself, and is cancelled only if it does not end in time after that."""
        return await self._until_stopped(GENTLE_SECONDS, work, *args, **kwargs)

    async def _until_stopped(
        self, grace: float, work: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        results: list[R] = []
        with unwrapped():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._cancel_after_stop, grace, tasks.cancel_scope)
                results.append(await work(*args, **kwargs))
                tasks.cancel_scope.cancel()
        if not results:
            raise CanceledError(self.stop.reason)
        return results[0]

    async def _cancel_after_stop(self, grace: float, scope: anyio.CancelScope) -> None:
        await self.stop.wait()
        await anyio.sleep(grace)
        scope.cancel()

    async def _stop_after(self, seconds: float) -> None:
        await anyio.sleep(seconds)
        limit = f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"
        reason = f"the task timeout of {limit} was reached (daemon.scheduler.task_timeout_min)"
        self.stop.request(reason, timed_out=True)
