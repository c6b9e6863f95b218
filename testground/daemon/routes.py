"""The verbs on components and tasks (client-daemon §1.2, §1.4). Thin: read, ask the engine, answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from anyio import to_thread

from testground.api import rpc
from testground.api.model import WireModel
from testground.daemon.exchange import Exchange, Handler, Refusal, failing
from testground.errors import RequestError

DONE = "Done"


@dataclass(frozen=True, slots=True)
class Route:
    path: str
    handler: Handler
    model: type[WireModel]
    statuses: tuple[int, ...] = ()
    """Answers besides the chunk stream."""
    multipart: bool = False


ROUTES: list[Route] = []


def post(path: str, model: type[WireModel], *statuses: int, multipart: bool = False) -> Callable[[Handler], Handler]:
    """Register a handler; the first line of its docstring is its summary in the API document."""

    def register(handler: Handler) -> Handler:
        ROUTES.append(Route(path, handler, model, statuses, multipart))
        return handler

    return register


@post("/build/purge", rpc.PurgeRequest)
async def purge(exchange: Exchange) -> str:
    """Remove what builds of a plan left behind."""
    request = await exchange.json(rpc.PurgeRequest, "build purge")
    with failing("build purge error; err: "):
        await exchange.engine.purge(request.builder, request.testplan, exchange)
    return "build purge succeeded"


@post("/outputs", rpc.OutputsRequest, 400)
async def outputs(exchange: Exchange) -> bool:
    """The outputs of a run, as binary chunks of one .tgz, then `true`."""
    try:
        request = await exchange.json(rpc.OutputsRequest, "outputs")
    except RequestError as error:
        raise Refusal(400) from error
    with failing("cannot collect outputs; err: "):
        async for piece in exchange.engine.collect(request.run_id):
            await exchange.send(rpc.binary(piece))
    return True


@post("/terminate", rpc.TerminateRequest)
async def terminate(exchange: Exchange) -> str:
    """End all runs of a runner, or all builds of a builder."""
    request = await exchange.json(rpc.TerminateRequest, "terminate")
    if request.runner and request.builder:
        raise RequestError("cannot terminate a runner and a builder at the same time")
    with failing("terminate error; err: "):
        await exchange.engine.terminate(request.runner, request.builder, exchange)
    return DONE


@post("/healthcheck", rpc.HealthcheckRequest)
async def healthcheck(exchange: Exchange) -> dict[str, Any]:
    """Check what a runner needs, and with `fix` mend what is missing."""
    request = await exchange.json(rpc.HealthcheckRequest, "healthcheck")
    with failing("healthcheck error; err: "):
        report = await exchange.engine.healthcheck(request.runner, request.fix, exchange)
    return report.wire()


@post("/tasks", rpc.TasksRequest)
async def tasks(exchange: Exchange) -> list[dict[str, Any]] | None:
    """Tasks by type, state, time and plan; newest first."""
    request = await exchange.json(rpc.TasksRequest, "tasks")
    if any(moment is not None and moment.tzinfo is None for moment in (request.after, request.before)):
        raise RequestError("tasks json decode; err: After, Before: a time needs a zone, such as Z")
    with failing("tasks error; err: "):
        return await to_thread.run_sync(_listed, exchange, request)


@post("/status", rpc.TaskRequest)
async def status(exchange: Exchange) -> dict[str, Any]:
    """One task."""
    request = await exchange.json(rpc.TaskRequest, "status")
    with failing("could not fetch status; err: "):
        return exchange.engine.task(request.task_id).wire()


@post("/logs", rpc.LogsRequest)
async def logs(exchange: Exchange) -> dict[str, Any]:
    """The log of a task, with `follow` to its end, then the task.

    With `cancel_with_context` the task is killed when the client goes away.
    """
    request = await exchange.json(rpc.LogsRequest, "logs")
    engine, task_id = exchange.engine, request.task_id
    with failing("error while getting task; err: "):
        engine.task(task_id)
        if request.cancel_with_context:
            exchange.on_disconnect(lambda: engine.kill(task_id, "the client that waited for it went away"))
        await exchange.begin()
        async for lines in engine.logs(task_id, request.follow):
            await exchange.send(lines)
        return engine.task(task_id).wire()


@post("/cancel", rpc.TaskRequest)
async def cancel(exchange: Exchange) -> str:
    """End a task, whether it waits or runs; one that has ended stays as it is."""
    request = await exchange.json(rpc.TaskRequest, "cancel")
    with failing("cannot cancel task; err: "):
        exchange.engine.task(request.task_id)
        exchange.engine.kill(request.task_id, "canceled on request")
    return DONE


@post("/delete", rpc.TaskRequest)
async def delete(exchange: Exchange) -> str:
    """End a task and forget it with its log."""
    request = await exchange.json(rpc.TaskRequest, "delete")
    with failing("cannot delete task; err: "):
        exchange.engine.delete(request.task_id)
    return DONE


def _listed(exchange: Exchange, request: rpc.TasksRequest) -> list[dict[str, Any]] | None:
    """In a thread: to read thousands of tasks takes seconds."""
    return [task.wire() for task in exchange.engine.tasks(request)] or None
