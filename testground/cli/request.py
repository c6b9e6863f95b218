"""What a build or a run request is made of: a composition, its plan, and the sources that go with it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from testground.api.composition import Composition, Group
from testground.api.manifest import Manifest
from testground.api.rpc import BuildRequest, RunRequest
from testground.api.task import CreatedBy
from testground.cli.grammar import UsageError
from testground.cli.session import Session
from testground.errors import CompositionError, did_you_mean
from testground.plan import composition as compositions
from testground.plan import manifest as manifests
from testground.plan import prepare

if TYPE_CHECKING:
    from testground.client import Client
    from testground.plan.sources import Upload

SYNTHETIC = 'created a synthetic composition file for this job; all instances will run under singleton group "single"'


@dataclass(frozen=True, slots=True)
class Job:
    """A composition with the plan that it names, found and read."""

    composition: Composition
    manifest: Manifest
    plan_dir: Path
    sdk_dir: Path | None
    created_by: CreatedBy

    def run_ids(self, wanted: Sequence[str]) -> list[str]:
        """The wanted runs in their order, or all of them sorted. Raises `CompositionError` with the nearest id."""
        known = [run.id for run in self.composition.runs or []]
        for run_id in wanted:
            if run_id not in known:
                raise CompositionError(f"unknown run id {run_id}{did_you_mean(run_id, known)}")
        return list(wanted) or sorted(known)

    def unbuilt(self) -> list[int]:
        """Indices of the groups without an artifact."""
        return [index for index, group in enumerate(self.composition.groups or []) if not group.run.artifact]

    def with_artifacts(self, artifacts: Sequence[str]) -> Job:
        """`artifacts` is in the order of the groups; an empty one changes nothing."""
        groups = self.composition.groups or []
        changed = [_with_artifact(group, artifact) for group, artifact in zip(groups, artifacts, strict=True)]
        return replace(self, composition=self.composition.model_copy(update={"groups": changed}))


def load(session: Session, file: Path, check: Callable[[Composition], Composition]) -> Composition:
    """A composition file with its default run, checked before a daemon is bothered. Raises `CompositionError`."""
    document = compositions.read(file)
    for warning in (*compositions.unknown_keys(document), *compositions.missing_values(document)):
        session.output.log("warn", f"{file}: {warning}")
    composition = prepare.generate_default_run(compositions.parse(document, file))
    try:
        return check(composition)
    except CompositionError as error:
        raise CompositionError(f"invalid composition file: {error}") from error


def job(session: Session, composition: Composition, link_sdk: str, created_by: CreatedBy | None = None) -> Job:
    """Find and read what the composition names. Raises `PlanError` with the nearest name."""
    home = session.env.home
    plan_dir = manifests.find_plan(home, composition.global_.plan)
    manifest = manifests.with_absolute_sources(manifests.load(plan_dir), plan_dir)
    for warning in (*manifests.unknown_keys(plan_dir), *prepare.warnings(composition, manifest)):
        session.output.log("warn", warning)
    sdk_dir = manifests.resolve_sdk(home, link_sdk) if link_sdk else None
    created_by = created_by or CreatedBy()
    created_by = created_by.model_copy(update={"user": session.env.client.user})
    return Job(composition, manifest, plan_dir, sdk_dir, created_by)


def submit_build(session: Session, client: Client, work: Job, *, priority: int) -> str:
    """Queue a build of all groups; returns the task's id."""
    request = BuildRequest(
        priority=priority,
        composition=prepare.prepare_for_build(work.composition, work.manifest),
        manifest=work.manifest,
        created_by=work.created_by,
    )
    with _body(session, client, work, request, with_sources=True) as body, session.output.answer() as show:
        return client.build(body, show)


def submit_run(
    session: Session, client: Client, work: Job, run_id: str, *, build_groups: list[int], priority: int
) -> str:
    """Queue one run, with the sources if something is to be built; returns the task's id."""
    if client.original:
        _check_repo(work.created_by.repo)
    request = RunRequest(
        priority=priority,
        build_groups=build_groups,
        run_ids=[run_id],
        composition=work.composition,
        manifest=work.manifest,
        created_by=work.created_by,
    )
    with_sources = bool(build_groups)
    with _body(session, client, work, request, with_sources=with_sources) as body, session.output.answer() as show:
        return client.run(body, show)


def _check_repo(repo: str) -> None:
    """The Go daemon ends when it is to report the state of anything else to GitHub (client-daemon §7.1 no. 1)."""
    if repo and "/" not in repo:
        raise UsageError(f"--metadata-repo {repo}: write OWNER/NAME; the Go daemon may crash on anything else")


def _with_artifact(group: Group, artifact: str) -> Group:
    if not artifact:
        return group
    return group.model_copy(update={"run": group.run.model_copy(update={"artifact": artifact})})


@contextlib.contextmanager
def _body(
    session: Session, client: Client, work: Job, request: BuildRequest | RunRequest, *, with_sources: bool
) -> Iterator[Upload]:
    from testground.plan import sources

    text = json.dumps(request.wire(), separators=(",", ":"), ensure_ascii=False).encode()
    if not with_sources:
        with sources.pack(text) as body:
            yield body
        return
    builders = [work.composition.builder_of(group) for group in work.composition.groups or []]
    extra = manifests.extra_dirs(work.manifest, builders, work.plan_dir)
    keep_links = not client.original
    with (
        session.output.upload() as advance,
        sources.pack(text, work.plan_dir, work.sdk_dir, extra, advance, keep_links=keep_links) as body,
    ):
        yield body
