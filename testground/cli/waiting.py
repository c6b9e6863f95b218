"""Tasks from their submission to what is said about their end (client-daemon §6.3)."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testground.api.composition import Composition
from testground.api.task import Outcome, State, Task
from testground.cli import request
from testground.cli.collecting import collect
from testground.cli.interrupt import Interrupted
from testground.cli.request import Job
from testground.cli.session import Daemon, Session
from testground.errors import CanceledError, StreamError, TestgroundError

EXIT_FAILED = 1
EXIT_NOT_COLLECTED = 3

WHOLE_NUMBER = "cannot load TOML value of type float64 into a Go integer"
WHOLE_NUMBER_HINT = (
    "this is the Go daemon, which takes whole numbers as options of builders and runners only from its own .env.toml"
)
"""What it says, and what helps (client-daemon §7.1 no. 3)."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What is to happen besides the run itself."""

    wait: bool = False
    collect: bool = False
    collect_file: str = ""
    run_ids: Sequence[str] = ()
    ignore_artifacts: bool = False
    result_file: str = ""
    write_to: Path | None = None
    """The composition file that gets the artifacts."""


def build(session: Session, job: Job, *, wait: bool, write_to: Path | None = None) -> None:
    """Queue a build; when waiting, follow it and name its artifacts. Raises what the build raised."""
    with session.daemon() as daemon:
        wait = wait or daemon.embedded
        if wait:
            _check_write_back(write_to, job.composition)
        task_id = request.submit_build(session, daemon.client, job, priority=int(wait))
        session.output.log("info", f"build queued with ID: {task_id}")
        if not wait:
            _warn_unwritten(session, write_to)
            return
        task = _follow(session, daemon, task_id, f"build {task_id}")
        artifacts = _artifacts(task, len(job.composition.groups or []))
        for group, artifact in zip(job.composition.groups or [], artifacts, strict=True):
            session.output.log("info", "generated build artifact", group=group.id, artifact=artifact)
        session.output.verdict(f"build of {job.composition.global_.plan}", task)
        if write_to is not None:
            _write_back(session, write_to, job.with_artifacts(artifacts).composition)


def run(session: Session, job: Job, choices: Choices) -> int:
    """Submit runs one after the other; when waiting, follow and collect them. Returns the exit status."""
    run_ids = job.run_ids(choices.run_ids)
    for what, file in (("result file", choices.result_file), ("outputs", choices.collect_file)):
        _check_place(what, Path(file))
    with session.daemon() as daemon:
        wait = choices.wait or choices.collect or len(run_ids) > 1 or daemon.embedded
        if wait:
            _check_write_back(choices.write_to, job.composition)
        sequence = _Sequence(session, daemon, job, choices, run_ids, wait)
        try:
            sequence.run()
        finally:
            sequence.report()
        return sequence.status()


@dataclass
class _Sequence:
    session: Session
    daemon: Daemon
    job: Job
    choices: Choices
    run_ids: list[str]
    wait: bool
    finished: list[tuple[str, Task]] = field(default_factory=list)
    uncollected: list[str] = field(default_factory=list)
    failed: bool = False

    def run(self) -> None:
        """A run whose instances fail does not stop the next ones; one that could not be carried out does."""
        self.failed = True
        for run_id in self.run_ids if self.wait else self.run_ids[:1]:
            task_id = self._submit(run_id)
            self.session.output.log("info", f"run is queued with ID: {task_id}")
            if not self.wait:
                _warn_unwritten(self.session, self.choices.write_to)
                break
            try:
                task = _follow(self.session, self.daemon, task_id, f"run {run_id} {task_id}")
            except CanceledError:
                self._tell_what_is_left(task_id)
                raise
            self.session.output.log("info", f"finished run with ID: {task_id}")
            self.finished.append((run_id, task))
            self._keep_artifacts(task)
            self.session.output.verdict(f"{task.plan}:{task.case} run {run_id}", task)
            if self.choices.collect:
                self._collect(run_id, task_id)
        self.failed = False

    def report(self) -> None:
        """A line per finished run, and the result file, whether all runs came to their end or not."""
        output = self.session.output
        for run_id, task in self.finished:
            output.log("info", f"result {run_id}[{task.id}]: {task.outcome}")
        for run_id, task in self.finished:
            if not _passed(task):
                output.note(f'run "{run_id}" failed')
        if self.choices.result_file:
            self._write_results(Path(self.choices.result_file))

    def status(self) -> int:
        if self.uncollected:
            return EXIT_NOT_COLLECTED
        return 0 if all(_passed(task) for _, task in self.finished) else EXIT_FAILED

    def _submit(self, run_id: str) -> str:
        everything = self.choices.ignore_artifacts and not self.finished
        build_groups = list(range(len(self.job.composition.groups or []))) if everything else self.job.unbuilt()
        return request.submit_run(
            self.session, self.daemon.client, self.job, run_id, build_groups=build_groups, priority=int(self.wait)
        )

    def _keep_artifacts(self, task: Task) -> None:
        """What the first run built, the next ones use. Only the artifacts: the daemon's composition is prepared."""
        if task.composition is not None:
            self.job = self.job.with_artifacts(_built(self.job.composition, task.composition))
        if len(self.finished) == 1 and self.choices.write_to is not None:
            _write_back(self.session, self.choices.write_to, self.job.composition)

    def _tell_what_is_left(self, task_id: str) -> None:
        """Of a run that came to no result, but whose instances may have started."""
        if self.choices.collect:
            runner = self.job.composition.global_.runner
            command = f"testground collect {task_id} --runner {runner}"
            self.session.output.note(f"nothing was collected; what its instances wrote, if any started: {command}")

    def _collect(self, run_id: str, task_id: str) -> None:
        name = self.choices.collect_file or task_id
        if len(self.run_ids) > 1:
            name = f"{self.choices.collect_file or 'multiple'}-{run_id}-{task_id}"
        target, runner = Path(f"{name}.tgz"), self.job.composition.global_.runner
        try:
            collected = collect(self.session, self.daemon.client, runner, task_id, target)
        except TestgroundError as error:
            self.session.output.error(error)
            collected = False
        if not collected:
            self.uncollected.append(run_id)

    def _write_results(self, file: Path) -> None:
        rows = [(run_id, task.id, str(task.outcome), "") for run_id, task in self.finished]
        if self.failed:
            rows += [(run_id, "N/A", "canceled", "canceled") for run_id in self.run_ids[len(self.finished) :]]
        try:
            with file.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                writer.writerow(("run_id", "task_id", "outcome", "error"))
                writer.writerows(rows)
        except OSError as error:
            raise TestgroundError(f"cannot write the result file {file}: {error.strerror or error}") from error


def _passed(task: Task) -> bool:
    return task.outcome is Outcome.SUCCESS and not task.error


def _check_place(what: str, file: Path) -> None:
    """It may be hours until the file is written; that it cannot be is known now."""
    if not file.parent.is_dir():
        raise TestgroundError(f"cannot write the {what} {file}: there is no directory {file.parent}")


def _follow(session: Session, daemon: Daemon, task_id: str, title: str) -> Task:
    """Wait for the end of a task. Raises `CanceledError` with the task's error unless it is complete."""
    try:
        with session.output.following(title) as show:
            task = daemon.client.logs(task_id, follow=True, cancel=True, on_progress=show)
    except Interrupted:
        _cancel(session, daemon, task_id)
        raise
    if daemon.client.original and WHOLE_NUMBER in task.error:
        session.output.note(WHOLE_NUMBER_HINT)
    if task.state is not State.COMPLETE:
        raise CanceledError(task.error or f"task {task_id} ended as {task.state}")
    return task


def _cancel(session: Session, daemon: Daemon, task_id: str) -> None:
    """The daemon sees the stream close and cancels by itself; asked as well, we can tell when that is done."""
    if daemon.client.original:
        session.output.note(f"interrupted: the daemon cancels task {task_id} when that logs its next line")
        return
    session.output.note(f"interrupted: canceling task {task_id}; interrupt again to leave at once")
    with contextlib.suppress(TestgroundError):
        daemon.client.cancel(task_id)
        task = daemon.client.logs(task_id, follow=True)
        session.output.note(f"task {task_id} is {task.state} (outcome {task.outcome})")


def _artifacts(task: Task, count: int) -> list[str]:
    """One per group, in their order. Raises `StreamError` for any other result: nothing unclear is a success."""
    found = task.result
    if not isinstance(found, list) or len(found) != count or not all(isinstance(item, str) for item in found):
        raise StreamError(f"build {task.id} is complete, but its result is not {count} artifacts: {found!r}")
    return list(found)


def _built(wanted: Composition, prepared: Composition) -> list[str]:
    """The artifacts of a prepared composition, in the order of the groups of the wanted one."""
    found: dict[str, Any] = {group.id: group.run.artifact for group in prepared.groups or []}
    return [found.get(group.id, "") for group in wanted.groups or []]


def _warn_unwritten(session: Session, write_to: Path | None) -> None:
    if write_to is not None:
        session.output.log("warn", f"artifacts are not written to {write_to}: that needs --wait")


def _check_write_back(file: Path | None, composition: Composition) -> None:
    if file is not None:
        from testground.plan import writeback  # an editor of TOML that only this needs

        writeback.check(file, composition)


def _write_back(session: Session, file: Path, composition: Composition) -> None:
    from testground.plan import writeback

    kept = writeback.write_back(file, composition)
    if kept is not None:
        session.output.log("warn", f"{file} now holds the expanded composition; what it held before is kept in {kept}")
