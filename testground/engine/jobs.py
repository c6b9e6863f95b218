"""What a task does, as straight lines: a build, a run. No queue, no store; errors are `TestgroundError`s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from anyio import to_thread

from testground import health, plugins
from testground.api.composition import Composition, Run
from testground.api.manifest import Manifest
from testground.api.task import Outcome, RunResult, TaskInput
from testground.config import EnvConfig
from testground.engine import builds
from testground.engine.builds import BuildCache
from testground.errors import CompositionError, PlanError, RequestError, RunError
from testground.plan import instances, prepare
from testground.plugins import Output, RunGroupInput, RunInput, Runner, Stop
from testground.sync.server import SyncServer


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all jobs of a daemon share."""

    env: EnvConfig
    sync: SyncServer
    cache: BuildCache


@dataclass(frozen=True, slots=True)
class Job:
    """One task's work: its request, where it reports to, and how it is asked to end."""

    task_id: str
    input: TaskInput
    output: Output
    stop: Stop


async def build(workshop: Workshop, job: Job) -> list[str]:
    """Build every group. Returns the artifacts in group order."""
    manifest = _manifest(job.input)
    prepare.validate_for_build(job.input.composition)
    composition = prepare.prepare_for_build(job.input.composition, manifest)
    if job.input.sources is None or not job.input.sources.plan_dir:
        raise RequestError("plan directory not present")
    ids = [group.id for group in composition.groups or []]
    artifacts = await builds.build_groups(composition, ids, job.input.sources, workshop.env, job.output, workshop.cache)
    return [artifacts[group_id] for group_id in ids]


async def prepare_run(workshop: Workshop, job: Job) -> Composition:
    """Check everything that can be checked, then build what needs building.

    Returns the prepared composition with its artifacts.
    """
    env, request = workshop.env, job.input
    manifest = _manifest(request)
    runner_id = request.composition.global_.runner
    if env.runner_disabled(runner_id):
        raise RunError("runner is disabled by config")
    composition = prepare.generate_default_run(request.composition)
    to_build = _groups_to_build(composition, request.build_groups)
    run_id = _run_id(request.run_ids)
    # Thousands of groups take seconds, in which the daemon and the sync service must go on.
    prepared, warnings = await to_thread.run_sync(_prepare, composition, manifest, run_id)
    for warning in warnings:
        job.output.warn(warning)
    runner = plugins.runner(runner_id)
    plugins.check(runner.id, runner.config_model, _options(prepared, runner.id, env))
    if to_build:
        artifacts = await _build_for_run(workshop, job, composition, manifest, to_build)
        for group in prepared.groups or []:
            group.run.artifact = artifacts.get(group.id, group.run.artifact)
    return prepared


def _prepare(composition: Composition, manifest: Manifest, run_id: str) -> tuple[Composition, list[str]]:
    prepare.validate_for_run(composition)
    prepared = prepare.prepare_for_run(composition, manifest)
    prepare.frame_for_run(prepared, run_id)
    return prepared, prepare.warnings(prepared, manifest)


async def run(workshop: Workshop, job: Job, composition: Composition) -> RunResult:
    """Carry out the requested run of a prepared composition."""
    env, output = workshop.env, job.output
    run_id = _run_id(job.input.run_ids)
    framed = prepare.frame_for_run(composition, run_id)
    runner = plugins.runner(framed.global_.runner)
    await _check_health(runner, env, output)
    config = plugins.configure(runner.id, runner.config_model, _options(framed, runner.id, env), output)
    case = framed.global_.case.replace("/", "-")
    plan = framed.global_.plan.replace("/", "-")
    chosen = (framed.runs or [Run()])[0]
    groups = _run_groups(framed, chosen)
    total = sum(group.instances for group in groups)
    output.info("starting run", run_id=job.task_id, plan=plan, case=case, runner=runner.id, instances=total)
    result = await runner.run(
        RunInput(
            run_id=job.task_id,
            plan=plan,
            case=case,
            groups=groups,
            disable_metrics=framed.global_.disable_metrics,
            config=config,
            env=env,
            output=output,
            sync=workshop.sync,
            stop=job.stop,
        )
    )
    result = _proven(result, groups, output)
    output.info(f"run finished with {result}", run_id=job.task_id)
    return result


def _options(composition: Composition, runner_id: str, env: EnvConfig) -> list[dict[str, Any] | None]:
    """What is said about a runner, highest precedence first."""
    return [composition.global_.run_config, env.runners.get(runner_id)]


def _proven(result: RunResult, groups: Sequence[RunGroupInput], output: Output) -> RunResult:
    """A success only if the runner counted every instance as one: runners come from elsewhere, too."""
    expected = {group.id: group.instances for group in groups if group.instances}
    passed = {
        name: outcome.ok for name, outcome in result.outcomes.items() if outcome.ok == outcome.total and outcome.ok
    }
    if result.outcome is not Outcome.SUCCESS or (expected and passed == expected):
        return result
    output.error("the runner reported a success, but not of every instance", expected=expected, succeeded=passed)
    return result.model_copy(update={"outcome": Outcome.FAILURE})


def _manifest(request: TaskInput) -> Manifest:
    if not request.manifest.name:
        raise PlanError("the manifest has no name; review manifest.toml")
    return request.manifest


def _run_id(run_ids: Sequence[str] | None) -> str:
    if not run_ids:
        raise RequestError("missing run ids")
    if len(run_ids) > 1:
        raise RequestError("cannot specify multiple run ids for now")
    return run_ids[0]


def _groups_to_build(composition: Composition, indices: Sequence[int] | None) -> list[str]:
    groups = composition.groups or []
    for index in indices or []:
        if not 0 <= index < len(groups):
            raise CompositionError(f"invalid group index {index}; the composition has {len(groups)} groups")
    return [groups[index].id for index in indices or []]


async def _build_for_run(
    workshop: Workshop, job: Job, composition: Composition, manifest: Manifest, group_ids: Sequence[str]
) -> dict[str, str]:
    sources = job.input.sources
    if sources is None or not sources.plan_dir:
        raise RequestError("plan dir required for build")
    prepared = prepare.prepare_for_build(composition, manifest)
    return await builds.build_groups(prepared, group_ids, sources, workshop.env, job.output, workshop.cache)


async def _check_health(runner: Runner, env: EnvConfig, output: Output) -> None:
    checks = [check for check in runner.checks(env) if not check.on_demand]
    report = await health.examine(checks, fix=True)
    if report.fixes_failed:
        raise RunError(f"healthcheck fixes failed; aborting:\n{report}")
    if report.checks_failed:
        output.warn("some healthchecks failed, but continuing")
    else:
        output.info("healthcheck: ok")


def _run_groups(composition: Composition, chosen: Run) -> list[RunGroupInput]:
    groups = []
    known = composition.groups_by_id()
    for run_group, count in zip(chosen.groups or [], instances.counts(chosen), strict=True):
        group = known.get(run_group.effective_group_id)
        if group is None:
            raise CompositionError(f"run {chosen.id}: group {run_group.effective_group_id} is gone")
        groups.append(
            RunGroupInput(
                id=run_group.id,
                instances=count,
                artifact=group.run.artifact,
                parameters=dict(run_group.test_params or {}),
                profiles=dict(run_group.profiles or {}),
                resources=run_group.resources,
            )
        )
    return groups
