"""Tasks and results as every client sees them (client-daemon §5.1, §5.2)."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, PlainSerializer, model_serializer

from testground.api.composition import Composition
from testground.api.manifest import Manifest
from testground.api.model import Int, Str, WireModel


class State(StrEnum):
    SCHEDULED = "scheduled"
    PROCESSING = "processing"
    COMPLETE = "complete"
    CANCELED = "canceled"


class Outcome(StrEnum):
    UNKNOWN = "unknown"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELED = "canceled"


class TaskType(StrEnum):
    BUILD = "build"
    RUN = "run"


def rfc3339(moment: datetime) -> str:
    """RFC 3339 in UTC with the `Z` that Go writes."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


Moment = Annotated[datetime, PlainSerializer(rfc3339, return_type=str, when_used="json")]


class CreatedBy(WireModel):
    user: Str = ""
    repo: Str = ""
    branch: Str = ""
    commit: Str = ""

    @model_serializer
    def _without_empty(self) -> dict[str, str]:
        pairs = (("user", self.user), ("repo", self.repo), ("branch", self.branch), ("commit", self.commit))
        return {key: value for key, value in pairs if value}


class DatedState(WireModel):
    created: Moment
    state: State


class GroupOutcome(WireModel):
    ok: Int = 0
    total: Int = 0


class Journal(WireModel):
    events: dict[str, str] = Field(default_factory=dict)
    pods_statuses: dict[str, dict[str, Any]] = Field(default_factory=dict)


class InstanceFailure(WireModel):
    """Why one instance did not succeed; an extension that other clients ignore."""

    instance: str = ""
    """`group[000]`"""
    reason: str = ""
    seconds: float = 0
    """Since the start of the run."""
    last_lines: list[str] = Field(default_factory=list)


class RunResult(WireModel):
    """What a runner returns. `failures` is ours, first failure first; the rest is upstream's."""

    outcome: Outcome = Outcome.UNKNOWN
    outcomes: dict[str, GroupOutcome] = Field(default_factory=dict)
    journal: Journal = Field(default_factory=Journal)
    failures: list[InstanceFailure] = Field(default_factory=list)

    def __str__(self) -> str:
        groups = " ".join(f"{name}:{o.ok}/{o.total}" for name, o in sorted(self.outcomes.items()))
        return f"outcome = {self.outcome} ({groups})"


class Sources(WireModel):
    """Directories below the daemon's work directory; empty when the part was not sent."""

    base_dir: str = ""
    extra_dir: str = ""
    plan_dir: str = ""
    sdk_dir: str = ""


class TaskInput(WireModel):
    """The request as it came, plus where its sources were unpacked."""

    sources: Sources | None = Field(default=None, alias="Sources")
    build_groups: list[Int] | None = None
    composition: Composition = Field(default_factory=Composition)
    created_by: CreatedBy = Field(default_factory=CreatedBy)
    manifest: Manifest = Field(default_factory=Manifest)
    priority: Int = 0
    run_ids: list[Str] | None = None


class Task(WireModel):
    version: Int = 0
    priority: Int = 0
    id: Str = ""
    runner: Str = ""
    plan: Str = ""
    case: Str = ""
    states: list[DatedState] = Field(default_factory=list)
    type: TaskType = TaskType.BUILD
    composition: Composition | None = None
    input: TaskInput | None = None
    result: Any = None
    error: Str = ""
    created_by: CreatedBy = Field(default_factory=CreatedBy)

    @property
    def state(self) -> State:
        return self.states[-1].state

    @property
    def created(self) -> datetime:
        return self.states[0].created

    @property
    def updated(self) -> datetime:
        return self.states[-1].created

    @property
    def finished(self) -> bool:
        return self.state in (State.COMPLETE, State.CANCELED)

    @property
    def outcome(self) -> Outcome:
        """As CLI and pages show it. A result that cannot be read is `unknown`; upstream's null result is a success."""
        if self.state is State.CANCELED:
            return Outcome.CANCELED
        if self.state is not State.COMPLETE:
            return Outcome.UNKNOWN
        if self.type is TaskType.BUILD:
            return Outcome.SUCCESS
        if self.result is None:
            return Outcome.SUCCESS
        value = self.result.get("outcome") if isinstance(self.result, dict) else None
        return Outcome(value) if value in list(Outcome) else Outcome.UNKNOWN
