"""What is asked for becomes a task, if it can be carried out at all."""

from __future__ import annotations

from testground import plugins
from testground.api import xid
from testground.api.manifest import Manifest
from testground.api.rpc import BuildRequest, RunRequest
from testground.api.task import Sources, Task, TaskInput, TaskType
from testground.errors import RequestError, did_you_mean


def build(request: BuildRequest, manifest: Manifest, sources: Sources) -> Task:
    """Raises `RequestError` when the plan's sources are missing."""
    if not sources.plan_dir:
        raise RequestError("plan directory not present")
    return Task(
        priority=request.priority,
        id=xid.new(),
        type=TaskType.BUILD,
        created_by=request.created_by,
        input=_input(request, manifest, sources),
    )


def run(request: RunRequest, manifest: Manifest, sources: Sources | None) -> Task:
    """Its id is also that of the run.

    Raises `UnknownError` for the runner, `RequestError` when runner and builders do not fit or the plan's sources are
    missing.
    """
    composition = request.composition
    _check_compatible(request)
    if request.build_groups and (sources is None or not sources.plan_dir):
        raise RequestError("plan dir required for build")
    return Task(
        priority=request.priority,
        id=xid.new(),
        runner=composition.global_.runner,
        plan=composition.global_.plan,
        case=composition.global_.case,
        type=TaskType.RUN,
        composition=composition,
        created_by=request.created_by,
        input=_input(request, manifest, sources),
    )


def _check_compatible(request: RunRequest) -> None:
    composition = request.composition
    runner = plugins.runner(composition.global_.runner)
    groups = composition.groups or []
    for name in dict.fromkeys(composition.builder_of(group) for group in groups) or [composition.global_.builder]:
        if name not in runner.compatible_builders:
            hint = did_you_mean(name, runner.compatible_builders)
            raise RequestError(f"runner {runner.id} is incompatible with builder {name}{hint}")


def _input(request: BuildRequest | RunRequest, manifest: Manifest, sources: Sources | None) -> TaskInput:
    return TaskInput(
        sources=sources,
        build_groups=request.build_groups if isinstance(request, RunRequest) else None,
        composition=request.composition,
        created_by=request.created_by,
        manifest=manifest,
        priority=request.priority,
        run_ids=request.run_ids if isinstance(request, RunRequest) else None,
    )
