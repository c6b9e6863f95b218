"""A composition and its manifest become a composition with nothing left to default (client-daemon §3.2–§3.7).

No function changes what it is given, and what prepare and frame return shares nothing with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from testground.api.composition import (
    Build,
    Composition,
    Dependency,
    GlobalRun,
    Group,
    Resources,
    Run,
    RunGroup,
)
from testground.api.manifest import Manifest, TestCase
from testground.errors import CompositionError, PlanError, TestgroundError, did_you_mean
from testground.plan import gojson, instances, parameters, validate
from testground.plan.suggest import nearest

validate_for_build = validate.for_build
validate_for_run = validate.for_run


def generate_default_run(composition: Composition) -> Composition:
    """The run `default` with all groups, if the composition has no runs."""
    if composition.runs:
        return composition
    members = [_default_member(group) for group in composition.groups or []]
    run = Run(id="default", total_instances=composition.global_.total_instances, groups=members)
    return composition.model_copy(update={"runs": [run]})


def prepare_for_build(composition: Composition, manifest: Manifest) -> Composition:
    """Fill in builders, their options and build settings. Raises `CompositionError`, `PlanError`."""
    settings = composition.global_.model_copy(update={"plan": _plan_name(manifest)})
    if not manifest.builders:
        raise PlanError("plan supports no builders; review the manifest")
    groups = [_prepared_group(group, composition, manifest) for group in composition.groups or []]
    return composition.model_copy(update={"global_": settings, "groups": groups}).model_copy(deep=True)


def prepare_for_run(composition: Composition, manifest: Manifest) -> Composition:
    """Fill in every run: parameters, profiles, resources, instance counts. Raises `CompositionError`, `PlanError`.

    Precedence: run group, run, group, global, manifest. What is given but empty is given (§7.1 no. 8).
    """
    composition = generate_default_run(composition)
    settings = composition.global_
    case = _case(settings.case, manifest)
    config = _filled(settings.run_config, (_runner_config(settings.runner, manifest),))
    settings = settings.model_copy(update={"plan": _plan_name(manifest), "run_config": config})
    groups = composition.groups_by_id()
    runs = [_prepared_run(run, groups, settings.run or GlobalRun(), case) for run in composition.runs or []]
    prepared = composition.model_copy(update={"global_": settings, "runs": runs})
    parameters.check(prepared)
    return prepared.model_copy(deep=True)


def frame_for_run(composition: Composition, run_id: str) -> Composition:
    """Only the named run and the groups it uses. Raises `CompositionError` with the nearest run or group id."""
    failure = f"error while framing composition for run: {run_id}"
    run = composition.run(run_id)
    if run is None:
        known = [run.id for run in composition.runs or []]
        raise CompositionError(
            f"{failure}: invalid run id {run_id}: unknown run id {run_id}{did_you_mean(run_id, known)}"
        )
    used = {member.effective_group_id for member in run.groups or []}
    groups = [group for group in composition.groups or [] if group.id in used]
    for group_id in sorted(used - {group.id for group in groups}):
        known = [group.id for group in composition.groups or []]
        raise CompositionError(
            f"{failure}: invalid group id {group_id}: unknown group id {group_id}{did_you_mean(group_id, known)}"
        )
    return composition.model_copy(update={"runs": [run], "groups": groups}).model_copy(deep=True)


def build_key(composition: Composition, group: Group) -> str:
    """Groups of a prepared composition with equal keys share one build (§3.7).

    As upstream, plus the target of a dependency where it is another module (§7.1 no. 7).
    """
    selectors = ",".join(sorted(group.build.selectors or []))
    dependencies = sorted(group.build.dependencies or [], key=lambda dependency: dependency.module)
    packed = "".join(f"{_replacement(dependency)}|" for dependency in dependencies)
    parts = (
        ("builder", composition.builder_of(group)),
        ("build_config", group.build_config),
        ("build_as_key", f"selectors={selectors};dependencies={packed}"),
    )
    return "{" + ",".join(f'"{name}":{gojson.dumps(value)}' for name, value in parts) + "}"


def warnings(composition: Composition, manifest: Manifest) -> list[str]:
    """What is allowed but most likely a mistake, a sentence each."""
    return parameters.undeclared(composition, manifest) + parameters.half_carried(composition)


# -- build ------------------------------------------------------------------------------------------------------


def _default_member(group: Group) -> RunGroup:
    copy = group.model_copy(deep=True)
    return RunGroup(
        id=copy.id,
        group_id=copy.id,
        resources=copy.resources,
        instances=copy.instances,
        test_params=copy.run.test_params,
        profiles=copy.run.profiles,
    )


def _plan_name(manifest: Manifest) -> str:
    """It names directories of outputs and artifacts, with `/` turned into `-`."""
    if not manifest.name:
        raise PlanError("the manifest gives no name to its plan")
    if manifest.name in (".", "..") or not manifest.name.isprintable() or len(manifest.name.encode()) > 200:
        raise PlanError(f"the manifest names its plan {manifest.name!r}, which cannot be the name of a directory")
    return manifest.name


def _prepared_group(group: Group, composition: Composition, manifest: Manifest) -> Group:
    builder = composition.builder_of(group)
    known = manifest.builders or {}
    if builder not in known:
        raise CompositionError(
            f"error preparing group {group.id}: plan does not support builder '{builder}'; "
            f"supported: {_listed(known)}{nearest(builder, known)}"
        )
    config = _filled(group.build_config, (composition.global_.build_config, known[builder]))
    build = _prepared_build(group.build, composition.global_.build)
    return group.model_copy(update={"builder": builder, "build_config": config, "build": build})


def _prepared_build(own: Build, common: Build | None) -> Build:
    if common is None:
        return own
    return Build(
        selectors=own.selectors or common.selectors,
        dependencies=_merged_dependencies(own.dependencies, common.dependencies),
    )


def _merged_dependencies(own: list[Dependency] | None, common: list[Dependency] | None) -> list[Dependency] | None:
    if not own or not common:
        return own or common
    modules = {dependency.module for dependency in own}
    added = {dependency.module: dependency for dependency in common if dependency.module not in modules}
    return own + list(added.values())


def _replacement(dependency: Dependency) -> str:
    if dependency.target in ("", dependency.module):
        return f"{dependency.module}:{dependency.version}"
    return f"{dependency.module}={dependency.target}:{dependency.version}"


# -- run --------------------------------------------------------------------------------------------------------


def _case(name: str, manifest: Manifest) -> TestCase:
    case = manifest.case(name)
    if case is None:
        known = [case.name for case in manifest.testcases or []]
        raise CompositionError(f"test case {name} not found in plan {manifest.name}{did_you_mean(name, known)}")
    return case


def _runner_config(runner: str, manifest: Manifest) -> dict[str, Any]:
    known = manifest.runners
    if not known:
        raise PlanError("plan supports no runners; review the manifest")
    if runner not in known:
        raise CompositionError(
            f"plan does not support runner '{runner}'; supported: {_listed(known)}{nearest(runner, known)}"
        )
    return known[runner]


def _prepared_run(run: Run, groups: Mapping[str, Group], common: GlobalRun, case: TestCase) -> Run:
    defaults = parameters.defaults(case)
    try:
        members = [
            _prepared_member(member, run, validate.referenced(member, run, groups), common, defaults)
            for member in run.groups or []
        ]
        counted = instances.resolve(run.model_copy(update={"groups": members}))
        _check_bounds(counted, case)
    except TestgroundError as error:
        raise CompositionError(f"error preparing run {run.id}: {error}") from error
    return counted


def _prepared_member(
    member: RunGroup, run: Run, group: Group, common: GlobalRun, defaults: Mapping[str, str]
) -> RunGroup:
    layers = (run.test_params, group.run.test_params, common.test_params, defaults)
    return member.model_copy(
        update={
            "resources": _filled_resources(member.resources, group.resources),
            "instances": instances.inherit(member, group),
            "test_params": _filled(member.test_params, layers) or {},
            "profiles": _filled(member.profiles, (group.run.profiles, common.profiles)),
        }
    )


def _check_bounds(run: Run, case: TestCase) -> None:
    total, bounds = run.total_instances, case.instances
    if not bounds.minimum <= total <= bounds.maximum:
        raise CompositionError(
            f"total instance count ({total}) outside of allowable range "
            f"[{bounds.minimum}, {bounds.maximum}] for test case {case.name}{_HINT if not bounds.maximum else ''}"
        )
    if total == 0:
        raise CompositionError("a run without instances proves nothing; set the instances of its groups")


_HINT = ", whose manifest sets no instances.max"


def _filled_resources(own: Resources, common: Resources) -> Resources:
    return Resources(memory=own.memory or common.memory, cpu=own.cpu or common.cpu)


# -- both -------------------------------------------------------------------------------------------------------


def _filled(own: Mapping[str, Any] | None, layers: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Add the keys that are missing, from the first layer that has them. Shallow; None if nobody gives a table."""
    given = [table for table in (own, *layers) if table is not None]
    if not given:
        return None
    return {key: value for table in reversed(given) for key, value in table.items()}


def _listed(names: Mapping[str, Any]) -> str:
    return f"[{', '.join(sorted(names))}]"
