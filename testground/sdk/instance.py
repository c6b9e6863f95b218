"""Carrying out one case: beside it, what can end it from outside; after it, exactly one verdict."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from testground.errors import PlanError, SyncError, SyncLostError
from testground.sdk import runtime
from testground.sdk.announce import Announcer
from testground.sdk.blocking import BlockingInitContext
from testground.sdk.context import initialise
from testground.sdk.profiles import Profiles
from testground.sdk.runenv import RunEnv
from testground.sdk.sync import SyncClient
from testground.sdk.verdict import SUCCESS, Verdict, crash, format_stack, judge

Case = Callable[..., Any]
"""`(env)` or `(env, init)`; a coroutine function or a plain one."""

Outcome = tuple[Any, BaseException | None]

GRACE = 1.0
"""Seconds that a case has to clean up after it was told to end; runners kill after two or more."""

PLAIN_CONNECT_TIMEOUT = 3.0
"""Seconds. A plain case needs no sync service, so it does not wait long for one."""


class Interruption:
    """Ends the case from outside, from any thread: a signal, a lost connection, an exception in a thread."""

    def __init__(self, env: RunEnv) -> None:
        self.raised = False
        self.closed = False
        """The case has ended by itself: what comes now is no part of it any more."""
        self._env = env
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event = asyncio.Event()

    def interrupt(self, verdict: Verdict) -> None:
        """Record the verdict at once: whatever the case does from now on, it cannot be lost."""
        if self.closed:
            return
        self._env._journal.end(verdict)
        self.raised = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended in the meantime
                self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self) -> None:
        self._loop = asyncio.get_running_loop()
        if not self.raised:
            await self._event.wait()


class Instance:
    """One execution of a case. `leave` is called when the case does not end although it was told to."""

    def __init__(self, env: RunEnv, case: Case, interruption: Interruption, leave: Callable[[str], NoReturn]) -> None:
        self._env = env
        self._case = case
        self._interruption = interruption
        self._leave = leave
        self._profiles = Profiles(env.profiles, env.outputs_path, env.logger)

    async def run(self) -> None:
        announcer = Announcer(self._env)
        self._env.record_start()
        runtime.register(self._env.D())
        self._profiles.start()
        run = self._run_initialised if arity(self._case) == 2 else self._run_plain
        async with asyncio.TaskGroup() as tasks:
            await run(tasks, announcer)

    async def _run_initialised(self, tasks: asyncio.TaskGroup, announcer: Announcer) -> None:
        try:
            async with SyncClient.open(self._env) as sync:
                publishing = tasks.create_task(announcer.publish_all(sync))
                watching = tasks.create_task(self._watch(sync))
                await self._supervise(tasks, self._call_initialised(sync))
                watching.cancel()
                await announcer.finish(publishing)
        except SyncLostError as error:
            self._end(crash(str(error)))

    async def _run_plain(self, tasks: asyncio.TaskGroup, announcer: Announcer) -> None:
        """Connected for those runners that read events off the sync service, where there is a hint of one."""
        if not self._env.sync_host and not self._env.sidecar:
            await self._supervise(tasks, self._call(self._env))
            return
        publishing = tasks.create_task(self._announce_plain(announcer))
        await asyncio.sleep(0)  # loads the library now, not in the middle of what the case measures
        await self._supervise(tasks, self._call(self._env))
        await announcer.finish(publishing)

    async def _announce_plain(self, announcer: Announcer) -> None:
        try:
            async with SyncClient.open(self._env, timeout=PLAIN_CONNECT_TIMEOUT) as sync:
                await announcer.publish_all(sync)
        except SyncError as error:
            self._env.logger.debug("events are not published", reason=str(error))

    async def _watch(self, sync: SyncClient) -> None:
        """A plan may wait for anything when the service goes; without it the run cannot go on."""
        reason = await sync.wait_lost()
        self._interruption.interrupt(crash(f"lost the connection to the sync service: {reason}"))

    async def _supervise(self, tasks: asyncio.TaskGroup, case: Coroutine[Any, Any, Verdict]) -> None:
        running = tasks.create_task(case)
        interrupted = tasks.create_task(self._interruption.wait())
        await asyncio.wait([running, interrupted], return_when=asyncio.FIRST_COMPLETED)
        interrupted.cancel()
        if not running.done():
            running.cancel()
            await asyncio.wait([running], timeout=GRACE)
        if not running.done():
            self._leave(f"the case did not end within {GRACE:g} s after it was told to")
        self._end(crash("the case ended by cancelling itself") if running.cancelled() else running.result())

    def _end(self, verdict: Verdict) -> None:
        """Results are complete before the verdict is told: a runner may stop the instance right after it."""
        self._interruption.closed = True
        self._profiles.stop()
        self._env._close_metrics()
        self._env._journal.end(verdict)

    async def _call_initialised(self, sync: SyncClient) -> Verdict:
        try:
            init = await initialise(self._env, sync)
        except SyncError as error:
            return judge(error)
        if _is_async(self._case):
            return await self._call(self._env, init)
        return await self._call(self._env, BlockingInitContext(asyncio.get_running_loop(), init))

    async def _call(self, *arguments: object) -> Verdict:
        try:
            if _is_async(self._case):
                with self._profiles.cpu():
                    result = await self._case(*arguments)
            else:
                result = await self._call_in_thread(*arguments)
            if inspect.isawaitable(result):
                result = await result
            if isinstance(result, BaseException):
                raise result
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # sys.exit within a case included: it is no way to succeed
            verdict = judge(error)
            if verdict.stacktrace or isinstance(error, AssertionError):
                sys.stderr.write(format_stack(error))
            return verdict
        return SUCCESS

    async def _call_in_thread(self, *arguments: object) -> Any:
        """In a thread that does not keep the process alive: a plain function cannot be cancelled, only left behind."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Outcome] = loop.create_future()

        def call() -> None:
            try:
                with self._profiles.cpu():
                    outcome: Outcome = self._case(*arguments), None
            except BaseException as error:
                outcome = None, error
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(_resolve, ended, outcome)

        threading.Thread(target=call, name="testground-case", daemon=True).start()
        result, error = await ended
        if error is not None:
            raise error
        return result


def arity(case: Case) -> int:
    """1 for a plain case, 2 for an initialised one. Raises `PlanError` for what is neither."""
    parameters = inspect.signature(case).parameters.values()
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(required) not in (1, 2) or any(p.kind is p.KEYWORD_ONLY for p in required):
        name = getattr(case, "__name__", repr(case))
        raise PlanError(f"the case function {name}{inspect.signature(case)} takes neither (env) nor (env, init)")
    return len(required)


def _is_async(case: Case) -> bool:
    return inspect.iscoroutinefunction(case) or inspect.iscoroutinefunction(getattr(case, "__call__", None))  # noqa: B004


def _resolve(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)
