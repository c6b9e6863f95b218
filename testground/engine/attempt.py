"""The work of one task, from its begin to the state in which it ends; its result or error is left in the task."""

from __future__ import annotations

import logging
import traceback

from testground.api.composition import Composition
from testground.api.task import State, Task, TaskType
from testground.engine import jobs
from testground.engine.jobs import Job, Workshop
from testground.engine.supervision import Supervision
from testground.errors import TestgroundError

log = logging.getLogger(__name__)


async def attempt(task: Task, workshop: Workshop, supervision: Supervision, timeout: float) -> State:
    """Do the work, in at most `timeout` seconds. Returns how it ended; whatever it raises is an outcome, too."""
    output = supervision.log
    try:
        async with supervision.deadline(timeout):
            await _work(task, workshop, supervision)
    except (TestgroundError, OSError) as error:
        message = _sentence(error)
        task.error = canceled_text(task, message)
        output.error(f"{task.type} finished in error", error=message.partition("\n")[0])
        return State.CANCELED
    except Exception as error:
        task.error = canceled_text(task, f"internal error: {type(error).__name__}: {error}")
        output.error("internal error; this is a bug in testground", trace=traceback.format_exc())
        return State.CANCELED
    if output.lost:
        output.warn(output.lost)
        log.warning("task %s: %s", task.id, output.lost)
    task.error = ""
    return State.COMPLETE


def canceled_text(task: Task, cause: str) -> str:
    """The error of a task that has no result."""
    return f"task of type {task.type} cancelled: {cause}"


async def _work(task: Task, workshop: Workshop, supervision: Supervision) -> None:
    assert task.input is not None
    job = Job(task.id, task.input, supervision.log, supervision.stop)
    if task.type is TaskType.BUILD:
        await supervision.abruptly(_build, task, workshop, job)
        return
    prepared = await supervision.abruptly(jobs.prepare_run, workshop, job)
    task.composition = _for_the_client(prepared, task.plan)
    await supervision.gently(_run, task, workshop, job, prepared)


async def _build(task: Task, workshop: Workshop, job: Job) -> None:
    task.result = await jobs.build(workshop, job)


async def _run(task: Task, workshop: Workshop, job: Job, composition: Composition) -> None:
    task.result = (await jobs.run(workshop, job, composition)).wire()


def _for_the_client(prepared: Composition, plan: str) -> Composition:
    """With the plan as the client named it, which may be another name than the manifest's: a client that writes the
    composition to a file would not find the plan again (client-daemon §7.1 no. 5)."""
    return prepared.model_copy(update={"global_": prepared.global_.model_copy(update={"plan": plan})})


def _sentence(error: TestgroundError | OSError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
