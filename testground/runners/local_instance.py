"""One instance of `local:exec`: a process, from its door and directories to its ledger."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from testground.drivers import namespaces, process
from testground.plugins import RunGroupInput
from testground.runners import events, verdict
from testground.runners.events import Event, Kind
from testground.runners.instance import Listener, Spool
from testground.runners.verdict import Ledger
from testground.sync.service import Member

if TYPE_CHECKING:
    from testground.runners.local_run import LocalRun, Prepared

STOP_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""

WAITING = "waiting"


class LocalInstance:
    """One process: from its door and directories to its ledger."""

    def __init__(self, whole: LocalRun, group: RunGroupInput, index: int) -> None:
        self._whole, self.group = whole, group
        self.member = Member(whole.run.run_id, group.id, index)
        self.ledger = Ledger(self.member)
        self.listener: Listener
        self.state = WAITING
        self._tag = f"{group.id}[{index:03}]"

    async def live(self, starts: anyio.CapacityLimiter) -> None:
        async with starts:
            with anyio.CancelScope(shield=True):  # a start takes milliseconds; half of one could not be undone
                running = await self._start()
        if running is None:
            return
        self._whole.enter(self, "running")
        try:
            code = await running.wait()
        except BaseException:
            with anyio.CancelScope(shield=True):
                if await running.stop(STOP_GRACE):
                    self.ledger.ended(await running.wait(), self._elapsed())
            raise
        finally:
            self.listener.close()
        self._end(code)

    async def _start(self) -> process.Process | None:
        whole, artifact = self._whole, self.group.artifact
        try:
            prepared = await whole.prepare(self.member, self.group)
            running = await self._spawn(prepared)
        except OSError as error:
            self._never_started(f"{error.filename or artifact}: {error.strerror or error}")
            return None
        whole.network.started(self.member)
        return running

    async def _spawn(self, prepared: Prepared) -> process.Process:
        self.listener = Listener(self.ledger, self._tag, self._whole.stage, Spool(prepared.outputs))
        try:
            return await namespaces.spawn(
                [self.group.artifact],
                files=prepared.files,
                home=prepared.home,
                env=prepared.variables,
                cwd=prepared.temp,
                stdout=self.listener.stdout,
                stderr=self.listener.stderr,
            )
        except OSError:
            self.listener.close()
            raise

    def _never_started(self, reason: str) -> None:
        whole = self._whole
        self.ledger.never_started(reason, self._elapsed())
        event = Event(Kind.INCOMPLETE, f"failed to start: {reason}")
        whole.run.output.write(events.display(event, self._tag, self._elapsed()))
        whole.died(self, f"failed to start: {reason}")
        self._whole.enter(self, "failed")

    def _end(self, code: int) -> None:
        self.ledger.ended(code, self._elapsed())
        reason = self.ledger.reason
        if not self.ledger.said_ok and not self.ledger.complaint:
            self.listener.show(Event(Kind.INCOMPLETE, verdict.exit_text(code)))
        if reason is None:
            self._whole.run.sync.service.member_ended(self.member, None)
        else:
            self._whole.died(self, reason)
        self._whole.enter(self, "ok" if reason is None else "failed")

    def _elapsed(self) -> float:
        return time.monotonic() - self._whole.stage.started
