"""`local:exec`: instances are processes of this machine, on its own network.

Every instance gets a door of its own to the sync service (`SYNC_SERVICE_PORT`), so that the service knows who signals,
who waits and who is missing when one dies, with any SDK.
"""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import anyio
from anyio import to_thread

from testground.api.task import RunResult
from testground.config import EnvConfig, Home
from testground.drivers import leftovers, process, reaper, trees
from testground.errors import RunError, UnknownError, unwrapped
from testground.health import Check
from testground.plugins import ComponentConfig, Output, RunGroupInput, RunInput, Stop
from testground.runners import environment, events, outputs, verdict
from testground.runners.events import Event, Kind
from testground.runners.instance import Listener, Spool, Stage, name_spooled
from testground.runners.verdict import Ledger
from testground.sync.service import Member, Wait

SUBNET = "127.1.0.0/16"
STARTS_AT_ONCE = 16
STOP_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""

TERMINATE_SECONDS = 30.0
"""How long `terminate` waits for the runs that it has asked to end."""

MOST_INSTANCES = 20_000
"""Each takes a port for its door; a machine gives out less than thirty thousand."""

WAITING = "waiting"
STATES = ("running", "ok", "failed")


class LocalExecConfig(ComponentConfig):
    """Options of `local:exec`."""

    network: Literal["host"] = "host"
    """The instances share the machine's network."""


class LocalExec:
    """The runner; it knows its runs under way, so that `terminate` can end them."""

    id = "local:exec"
    compatible_builders = frozenset(("exec:go", "exec:python", "exec:generic"))
    config_model = LocalExecConfig

    def __init__(self) -> None:
        self._running: dict[Stop, anyio.Event] = {}
        """Each run's event is set once nothing of it is left."""

    async def run(self, run: RunInput) -> RunResult:
        _check(run)
        work = _make_work_directory(run.run_id)
        reaper.shared.watch(run.run_id, work)
        ended = self._running[run.stop] = anyio.Event()
        try:
            return await _Run(run, work).carry_out()
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(_clean, run.run_id, work)
            reaper.shared.forget(run.run_id)
            del self._running[run.stop]
            ended.set()

    def checks(self, env: EnvConfig) -> Sequence[Check]:
        directory = env.home.outputs / "local_exec"

        async def probe() -> tuple[bool, str]:
            there = directory.is_dir()
            return there, "directory exists." if there else "directory does not exist. can recreate."

        async def fix() -> str:
            directory.mkdir(parents=True, exist_ok=True)
            return "directory created successfully."

        return [Check("local-outputs-dir", probe, fix)]

    async def terminate(self, env: EnvConfig, output: Output) -> None:
        running = dict(self._running)
        output.info(f"terminating all jobs on component: {self.id}", runs=len(running))
        for stop in running:
            stop.request("terminated by request")
        with anyio.move_on_after(TERMINATE_SECONDS) as scope:
            for ended in running.values():
                await ended.wait()
        if scope.cancelled_caught:
            raise RunError(f"the runs on {self.id} have not ended within {TERMINATE_SECONDS:g} seconds")
        output.info(f"all jobs terminated on component: {self.id}")

    def collect(self, run_id: str, env: EnvConfig) -> AsyncIterator[bytes]:
        return outputs.archive(outputs.find(env.home, self.id, run_id))

    async def reap(self, run_ids: Sequence[str], env: EnvConfig) -> list[str]:
        ended = await to_thread.run_sync(leftovers.kill, list(run_ids))
        for run_id in run_ids:
            await to_thread.run_sync(_tidy, env.home, run_id)
        return [f"ended {len(ended)} leftover processes of interrupted runs"] if ended else []

    async def close(self) -> None:
        await to_thread.run_sync(reaper.shared.close)


class _Run:
    """One run under way."""

    def __init__(self, run: RunInput, work: Path) -> None:
        self._run, self._work = run, work
        self.stage = Stage(run.output, time.monotonic())
        self._start_time = datetime.now(UTC)
        self._outputs = outputs.directory(run.env.home, LocalExec.id, run.plan, run.run_id)
        self._instances = [_Instance(self, group, index) for group in run.groups for index in range(group.instances)]
        self._by_member = {instance.member: instance for instance in self._instances}
        self._states = {group.id: Counter({WAITING: group.instances}) for group in run.groups}
        self._first_waits: list[Wait] | None = None

    async def carry_out(self) -> RunResult:
        run = self._run
        run.sync.service.begin_run(run.run_id, self._by_member, self._on_event)
        try:
            with unwrapped():
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._stop_early, tasks.cancel_scope)
                    await self._live()
                    tasks.cancel_scope.cancel()
            return self._verdict()
        finally:
            run.sync.close_doors(run.run_id)
            run.sync.service.end_run(run.run_id)

    async def _live(self) -> None:
        starts = anyio.CapacityLimiter(STARTS_AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for instance in self._instances:
                tasks.start_soon(instance.live, starts)

    def enter(self, instance: _Instance, state: str) -> None:
        """Note an instance's new state, and tell clients how many of its group are in which."""
        group = instance.group
        states = self._states[group.id]
        states[instance.state] -= 1
        states[state] += 1
        instance.state = state
        self._run.output.states(group.id, {"total": group.instances, **{name: states[name] for name in STATES}})

    def died(self, instance: _Instance, reason: str) -> None:
        """Remember where the others stood when the first one died, then let the living know."""
        service = self._run.sync.service
        if self._first_waits is None:
            self._first_waits = [wait for wait in service.waiting(self._run.run_id) if wait.member != instance.member]
        service.member_ended(instance.member, reason)

    async def _stop_early(self, scope: anyio.CancelScope) -> None:
        stop = self._run.stop
        await stop.wait()
        if stop.timed_out:
            self._run.output.warn("run canceled after reaching the task timeout")
        else:
            self._run.output.warn("run canceled", reason=stop.reason)
        self._note_stop()
        scope.cancel()

    def _note_stop(self) -> None:
        """Say of each instance still running where it stood."""
        waits = self._run.sync.service.waiting(self._run.run_id)
        if self._first_waits is None:
            self._first_waits = waits
        by_member: dict[Member | None, list[Wait]] = {}
        for wait in waits:
            by_member.setdefault(wait.member, []).append(wait)
        for instance in self._instances:
            if instance.ledger.ended_after is None:
                place = verdict.waiting_text(by_member.get(instance.member, ()))
                where = f", waiting {place}" if place else ""
                what = "had not started" if instance.state == WAITING else f"was still running{where}"
                instance.ledger.stopped(f"{what} when the run was ended: {self._run.stop.reason}")

    def _verdict(self) -> RunResult:
        result = verdict.judge([instance.ledger for instance in self._instances], self._run.stop)
        for line in verdict.explain(result, self._first_waits or []):
            self._run.output.error(line)
        return result

    def _on_event(self, member: Member | None, payload: dict[str, Any]) -> None:
        if member is not None and member in self._by_member:
            self._by_member[member].ledger.note(events.parse_event(payload))

    def prepare(self, group: RunGroupInput, index: int, port: int) -> tuple[dict[str, str], Path, Path]:
        """Environment, outputs directory and private work directory of one instance."""
        target = self._outputs / group.id / str(index)
        target.mkdir(parents=True, exist_ok=True)
        private = self._work / group.id / str(index)
        temp = private / "temp"
        temp.mkdir(parents=True)
        variables = environment.test_variables(
            self._run,
            group,
            outputs=target,
            temp=temp,
            subnet=SUBNET,
            sidecar=False,
            start_time=self._start_time,
        )
        extras = {
            "HOME": os.environ.get("HOME", str(temp)),
            "HOSTNAME": platform.node(),
            "INFLUXDB_URL": self._run.env.daemon.influxdb_endpoint,
            "PATH": os.environ.get("PATH", os.defpath),
            "REDIS_HOST": "localhost",
            "SYNC_SERVICE_HOST": self._run.sync.host,
            "SYNC_SERVICE_PORT": str(port),
            "TMPDIR": str(temp),
        }
        return {**variables, **extras}, target, private

    @property
    def run(self) -> RunInput:
        return self._run


class _Instance:
    """One process: from its door and directories to its ledger."""

    def __init__(self, whole: _Run, group: RunGroupInput, index: int) -> None:
        self._whole, self.group, self._index = whole, group, index
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
            port = await whole.run.sync.open_door(self.member)
            variables, target, private = whole.prepare(self.group, self._index, port)
            self.listener = Listener(self.ledger, self._tag, whole.stage, Spool(target))
            return await process.spawn(
                [artifact],
                env=variables,
                cwd=private / "temp",
                stdout=self.listener.stdout,
                stderr=self.listener.stderr,
            )
        except OSError as error:
            self._never_started(f"{error.filename or artifact}: {error.strerror}")
            return None

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


def _check(run: RunInput) -> None:
    if run.total_instances > MOST_INSTANCES:
        raise RunError(f"local:exec runs at most {MOST_INSTANCES} instances, not {run.total_instances}")
    for group in run.groups:
        if group.resources.cpu or group.resources.memory:
            run.output.warn(f"group {group.id}: local:exec does not limit resources; cpu and memory are ignored")
        if not group.artifact:
            raise RunError(f"group {group.id} has no artifact: build it first")


def _make_work_directory(run_id: str) -> Path:
    work = _work_directory(run_id)
    try:
        work.mkdir(mode=0o700)
    except OSError as error:
        raise RunError(f"cannot create the temporary directory {work}: {error.strerror}") from error
    return work


def _work_directory(run_id: str) -> Path:
    """In the system's temporary directory, so that paths of sockets stay short."""
    return Path(tempfile.gettempdir()) / f"testground-{run_id}"


def _clean(run_id: str, work: Path) -> None:
    leftovers.kill([run_id])
    _remove(work)


def _tidy(home: Home, run_id: str) -> None:
    _remove(_work_directory(run_id))
    with contextlib.suppress(UnknownError, OSError):
        name_spooled(outputs.find(home, LocalExec.id, run_id))


def _remove(work: Path) -> None:
    with contextlib.suppress(OSError):
        trees.remove(work)
