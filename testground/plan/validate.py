"""What a composition must hold before it is built or run, with upstream's texts (client-daemon §3.6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from testground.api.composition import Composition, Group, Run, RunGroup
from testground.errors import CompositionError
from testground.plan import instances, parameters
from testground.plan.suggest import nearest


def for_build(composition: Composition) -> Composition:
    """Returns the same composition. Raises `CompositionError`."""
    _required(composition, ("Plan", "Groups"))
    _groups(composition)
    return composition


def for_run(composition: Composition) -> Composition:
    """Returns the same composition. Raises `CompositionError`. Expects that the default run was generated."""
    _required(composition, ("Plan", "Case", "Runner", "Groups", "Runs"))
    _groups(composition)
    _runs(composition)
    parameters.check(composition)
    return composition


def referenced(member: RunGroup, run: Run, groups: Mapping[str, Group]) -> Group:
    """The group, of those by id, that a run group is made of. Raises `CompositionError` with the nearest id."""
    group = groups.get(member.effective_group_id)
    if group is None:
        raise CompositionError(
            f"run {run.id}:{member.id} references non-existent group {member.effective_group_id}"
            f"{nearest(member.effective_group_id, groups)}"
        )
    return group


def _required(composition: Composition, names: Iterable[str]) -> None:
    settings = composition.global_
    fields = {
        "Plan": ("Composition.Global.Plan", settings.plan),
        "Case": ("Composition.Global.Case", settings.case),
        "Runner": ("Composition.Global.Runner", settings.runner),
        "Groups": ("Composition.Groups", composition.groups),
        "Runs": ("Composition.Runs", composition.runs),
    }
    problems = []
    for name in names:
        key, value = fields[name]
        if not value:
            rule = "gt" if value == [] else "required"
            problems.append(f"Key: '{key}' Error:Field validation for '{name}' failed on the '{rule}' tag")
    if problems:
        raise CompositionError("\n".join(problems))


def _groups(composition: Composition) -> None:
    groups = composition.groups or []
    _unique("group ids", (group.id for group in groups))
    for group in groups:
        if not composition.builder_of(group):
            raise CompositionError(f"group {group.id} is missing a builder")


def _runs(composition: Composition) -> None:
    runs = composition.runs or []
    _unique("runs ids", (run.id for run in runs))
    groups = composition.groups_by_id()
    for run in runs:
        _run_groups(run, groups)
    for run in runs:
        _instances(run, groups)


def _run_groups(run: Run, groups: Mapping[str, Group]) -> None:
    members = run.groups or []
    for member in members:
        referenced(member, run, groups)
    _unique("group ids", (f"{run.id}:{member.id}" for member in members))
    for member in members:
        _directory_name("group", member.id)
    if run.id:
        _directory_name("run", run.id)


def _instances(run: Run, groups: Mapping[str, Group]) -> None:
    """Upstream counts before groups pass their instances on, and so refuses what is right (§7.1 no. 9)."""
    members = [
        member.model_copy(update={"instances": instances.inherit(member, referenced(member, run, groups))})
        for member in run.groups or []
    ]
    try:
        instances.resolve(run.model_copy(update={"groups": members}))
    except CompositionError as error:
        raise CompositionError(f"{error} (run '{run.id}')") from error


def _unique(what: str, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise CompositionError(f"{what} not unique; found duplicate: {name}")
        seen.add(name)


def _directory_name(what: str, name: str) -> None:
    """Ids become names of directories and files of the outputs."""
    if name in ("", ".", "..") or "/" in name or not name.isprintable() or len(name.encode()) > 200:
        raise CompositionError(f"{what} id {name!r} cannot be the name of a directory")
