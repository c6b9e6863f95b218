"""The engine: queue, workers, supervision of tasks, recovery after a crash. The work of a task is in `attempt`."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.lowlevel
from anyio import to_thread
from anyio.abc import TaskGroup, TaskStatus

from testground import health, plugins
from testground.api import rpc
from testground.api.manifest import Manifest
from testground.api.rpc import BuildRequest, RunRequest, TasksRequest
from testground.api.task import Sources, State, Task, TaskType
from testground.config import EnvConfig
from testground.drivers import tools
from testground.engine import cleanup, series, submissions
from testground.engine.attempt import attempt, canceled_text
from testground.engine.builds import BuildCache
from testground.engine.jobs import Workshop
from testground.engine.log import TaskLog, pieces
from testground.engine.notifications import Notifier
from testground.engine.store import Store, enter
from testground.engine.supervision import Supervision
from testground.errors import (
    ConfigError,
    QueueFullError,
    RequestError,
    RunError,
    UnknownError,
    did_you_mean,
)
from testground.plugins import Output
from testground.sync.server import SyncServer

log = logging.getLogger(__name__)

CLOSE_SECONDS = 15.0

PATIENCE_SECONDS = 1.0
"""How long a follower waits for the start of a task before it is told what the task waits for."""

REPLACED = "a newer run of the same branch took its place in the queue"
INTERRUPTED = "the daemon was interrupted while the task was processing"


class _Milestones:
    """Moments of an unfinished task that followers wait for."""

    def __init__(self) -> None:
        self.started = anyio.Event()
        self.finished = anyio.Event()


class Engine:
    """One per daemon. All methods but `tasks` are called from its event loop; `serve` does the work."""

    def __init__(self, env: EnvConfig, sync: SyncServer) -> None:
        self._env = env
        self._config = env.daemon.scheduler
        self._timeout = (self._config.task_timeout_min or 10) * 60
        self._store = Store(_store_path(env))
        self._workshop = Workshop(env, sync, BuildCache())
        self._notifier = Notifier(env.daemon)
        self._active: dict[str, Supervision] = {}
        self._milestones: dict[str, _Milestones] = {}
        self._work_there = anyio.Event()
        self._workers: TaskGroup

    async def serve(self, *, idle: bool = False, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Recover from the last daemon's end, then work until cancelled. Interrupted tasks are stored as canceled.

        When `idle`, what an earlier daemon left waiting goes on waiting until something is queued.
        """
        async with anyio.create_task_group() as group:
            await group.start(self._notifier.serve)
            try:
                await self._recover()
                async with anyio.create_task_group() as self._workers:
                    for _ in range(self._config.workers):
                        self._workers.start_soon(self._worker, idle)
                    task_status.started()
            finally:
                self._notifier.close()
                self._store.close()
                with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                    await cleanup.close_runners()

    # -- requests ---------------------------------------------------------------------------------------------

    def queue_build(self, request: BuildRequest, manifest: Manifest, sources: Sources) -> str:
        """Queue a build. Returns the task id. Raises as `submissions.build`, and `QueueFullError`."""
        return self._queue(submissions.build(request, manifest, sources))

    def queue_run(self, request: RunRequest, manifest: Manifest, sources: Sources | None) -> str:
        """Queue a run. Returns the task id, which is also the run id.

        Raises as `submissions.run`, and `QueueFullError`.
        """
        return self._queue(submissions.run(request, manifest, sources))

    def task(self, task_id: str) -> Task:
        """Raises `UnknownError`."""
        return self._store.get(task_id)

    def tasks(self, wanted: TasksRequest) -> list[Task]:
        """States in the order asked for, newest first inside each; canceled ones count as complete (§1.4).

        Takes a moment for thousands of tasks: call it in a thread.
        """
        lower = wanted.before.timestamp() if wanted.before else 0.0
        upper = wanted.after.timestamp() if wanted.after else math.inf
        found: dict[str, Task] = {}
        for state in dict.fromkeys(wanted.states or []):
            for task in self._store.between(_stored_as(state), lower, upper):
                if task.type in (wanted.types or []) and _matches(task, wanted):
                    found.pop(task.id, None)  # it went on to this state while we looked
                    found[task.id] = task
        return list(found.values())

    async def logs(self, task_id: str, follow: bool) -> AsyncIterator[bytes]:
        """Whole chunk lines of the task's log; with `follow`, until its final state is stored.

        A follower of a task that waits for long is told why. Raises `UnknownError`.
        """
        task = self.task(task_id)
        if follow and not task.finished:
            milestones = self._milestones.setdefault(task.id, _Milestones())
            with anyio.move_on_after(PATIENCE_SECONDS):
                await milestones.started.wait()
            if not milestones.started.is_set():
                yield self._why_waiting(task.id)
                await milestones.started.wait()
            if supervision := self._active.get(task.id):
                async for lines in supervision.log.follow():
                    yield lines
                await milestones.finished.wait()
                return
        async for lines in pieces(self._log_path(task.id)):
            yield lines

    def kill(self, task_id: str, reason: str) -> None:
        """End a task: a waiting one is canceled at once, a processing one is asked to stop. Repeating it is harmless.

        Raises `UnknownError`.
        """
        task = self.task(task_id)
        if task.finished:
            return
        supervision = self._active.get(task.id)
        if supervision is not None:
            supervision.stop.request(reason)
            return
        task.error = canceled_text(task, reason)
        self._finish(task, State.CANCELED)
        self._discard_sources(task)

    def delete(self, task_id: str) -> None:
        """Kill a task and remove it from the store, with its log. Raises `UnknownError`."""
        task = self.task(task_id)
        self.kill(task.id, "deleted")
        self._store.delete(task.id)
        self._log_path(task.id).unlink(missing_ok=True)

    async def healthcheck(self, runner: str, fix: bool, output: Output) -> health.Report:
        """Raises `UnknownError` for the runner."""
        component = plugins.runner(runner)
        report = await health.examine(component.checks(self._env), fix=fix)
        output.info("healthcheck finished", runner=runner, checks=len(report.checks))
        return report

    async def terminate(self, runner: str, builder: str, output: Output) -> None:
        """End all jobs of a runner. Raises `UnknownError`, `RequestError` (texts of client-daemon §1.4)."""
        if runner and builder:
            raise RequestError("cannot terminate a runner and a builder at the same time")
        kind, name = ("runner", runner) if runner else ("builder", builder) if builder else ("", "")
        if builder in plugins.builder_ids():
            raise RequestError(f"component {builder} is not terminatable")
        known = plugins.runner_ids()
        if name not in known:
            hint = did_you_mean(name, known) if name else ""
            raise UnknownError(f"unknown component: {name} (type: {kind}){hint}")
        await plugins.runner(name).terminate(self._env, output)

    async def purge(self, builder: str, plan: str, output: Output) -> None:
        """Remove what builds of a plan left behind. Raises `UnknownError` for the builder."""
        await plugins.builder(builder).purge(plan, self._env, output)

    def collect(self, run_id: str) -> AsyncIterator[bytes]:
        """The outputs of a run as a tgz, in pieces. Raises `UnknownError` before the first when there are none."""
        task = self.task(run_id)
        if task.type is not TaskType.RUN:
            raise UnknownError(f"task {task.id} is a build; only runs have outputs")
        return plugins.runner(task.runner).collect(task.id, self._env)

    async def series(self, name: str) -> list[list[str]]:
        """The values of a metric over the runs of the last days, see `series.table`. Raises `RequestError`."""
        since = time.time() - series.DAYS * 86400
        return await to_thread.run_sync(
            lambda: series.table(name, self._store.runs_since(since), self._env.home, since)
        )

    # -- work -------------------------------------------------------------------------------------------------

    async def _worker(self, idle: bool) -> None:
        if idle:
            await self._work_there.wait()
        while True:
            await anyio.lowlevel.checkpoint()  # a shutdown leaves what waits to the next daemon
            task = self._next()
            if task is None:
                await self._work_there.wait()
            else:
                await self._process(task)

    def _next(self) -> Task | None:
        try:
            return self._store.next_waiting()
        except RunError as error:
            log.error("no task can be taken from the queue: %s", error)
            return None

    async def _process(self, task: Task) -> None:
        """From waiting to its final state, which is stored whatever happens."""
        enter(task, State.PROCESSING)
        self._store.save(task)
        self._notifier.changed(task)
        supervision = self._active[task.id] = Supervision(TaskLog(self._log_path(task.id)))
        self._milestones.setdefault(task.id, _Milestones()).started.set()
        tools.task.set(task.id)
        state = State.CANCELED
        task.error = canceled_text(task, "the daemon was shut down")
        try:
            state = await attempt(task, self._workshop, supervision, self._timeout)
        finally:
            if task.result is not None:  # its work was done when the shutdown came
                state, task.error = State.COMPLETE, ""
            await self._wind_up(task, state, supervision)

    async def _wind_up(self, task: Task, state: State, supervision: Supervision) -> None:
        try:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(cleanup.after, task, state)
        except Exception:
            log.exception("what task %s left behind could not be removed", task.id)
        finally:
            supervision.log.close()
            del self._active[task.id]
            self._finish(task, state)

    def _finish(self, task: Task, state: State) -> None:
        """Store the final state, then let followers know."""
        enter(task, state)
        self._store.save(task)
        self._notifier.changed(task)
        self._tell_followers(task)

    def _tell_followers(self, task: Task) -> None:
        if milestones := self._milestones.pop(task.id, None):
            milestones.started.set()
            milestones.finished.set()

    def _discard_sources(self, task: Task) -> None:
        self._workers.start_soon(to_thread.run_sync, cleanup.discard_sources, task)

    def _why_waiting(self, task_id: str) -> bytes:
        ahead = self._store.waiting_ahead(task_id)
        line = rpc.console_line("info", "waiting for a free worker", {"processing": len(self._active), "ahead": ahead})
        return rpc.progress(line.encode()) + b"\n"

    # -- queue ------------------------------------------------------------------------------------------------

    def _queue(self, task: Task) -> str:
        replaced = self._replaced_by(task)
        if self._store.count_waiting() - len(replaced) >= self._config.queue_size:
            raise QueueFullError(f"queue full: daemon.scheduler.queue_size = {self._config.queue_size} is reached")
        enter(task, State.SCHEDULED)
        for old in replaced:
            old.error = canceled_text(old, REPLACED)  # without one, upstream's client takes it for a success
            enter(old, State.CANCELED)
        self._store.replace(replaced, task)
        for old in replaced:
            self._explain_replacement(old, task)
            self._tell_followers(old)
            self._discard_sources(old)
        self._wake()
        return task.id

    def _replaced_by(self, task: Task) -> list[Task]:
        """The waiting runs of the same branch, which a newer run makes pointless (client-daemon §5.5)."""
        repo, branch = task.created_by.repo, task.created_by.branch
        if task.type is not TaskType.RUN or not repo or not branch:
            return []
        return self._store.waiting_of_branch(repo, branch)

    def _explain_replacement(self, old: Task, task: Task) -> None:
        task_log = TaskLog(self._log_path(old.id))
        branch = {"repo": task.created_by.repo, "branch": task.created_by.branch}
        task_log.warn(f"run canceled: {REPLACED}", by=task.id, **branch)
        task_log.close()

    def _wake(self) -> None:
        work_there, self._work_there = self._work_there, anyio.Event()
        work_there.set()

    async def _recover(self) -> None:
        """Tasks that were processing when the last daemon died: canceled, and what they left behind removed."""
        interrupted = self._store.in_state(State.PROCESSING)
        removed = await cleanup.after_crash(interrupted, self._env)
        for task in interrupted:
            task.error = canceled_text(task, INTERRUPTED)
            task_log = TaskLog(self._log_path(task.id))
            task_log.error(INTERRUPTED, cleanup=removed)
            task_log.close()
            self._finish(task, State.CANCELED)
        waiting = self._store.in_state(State.SCHEDULED)
        await to_thread.run_sync(cleanup.remove_strays, self._env.home.work, waiting)

    def _log_path(self, task_id: str) -> Path:
        return self._env.home.daemon / f"{task_id}.out"


def _store_path(env: EnvConfig) -> Path | None:
    kind = env.daemon.scheduler.task_repo_type
    if kind == "memory":
        return None
    if kind != "disk":
        key = "daemon.scheduler.task_repo_type"
        raise ConfigError(f"{env.home.env_file}: {key}: unknown task repo type: {kind}; there is: disk, memory")
    return env.home.daemon / "tasks.db"


def _matches(task: Task, wanted: TasksRequest) -> bool:
    return wanted.test_plan in ("", task.plan) and wanted.test_case in ("", task.case)


def _stored_as(state: State) -> tuple[State, ...]:
    if state is State.COMPLETE:
        return State.COMPLETE, State.CANCELED
    return () if state is State.CANCELED else (state,)
