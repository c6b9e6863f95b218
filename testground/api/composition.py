"""The composition: which groups are built how, and which runs they make (client-daemon §3.1).

Field order is wire order. `None` means "not given", which is not the same as empty: an explicit empty parameter wins
over a default.
"""

from __future__ import annotations

import json
import tomllib
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer

from testground.api.model import Bool, Int, Item, Str, Text, UInt, WireModel, or_zero


def _number(value: float) -> float | int:
    """Go writes `0`, not `0.0`."""
    return int(value) if value == int(value) else value


def _table(value: Any) -> Any:
    """A config table; documented clients send it as a string of JSON or TOML (client-daemon §7.3)."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        parsed = json.loads(value)
    except ValueError:
        try:
            parsed = tomllib.loads(value)
        except tomllib.TOMLDecodeError as error:
            raise ValueError("a table is needed, or a string that holds one as JSON or TOML") from error
    return parsed


Params = dict[str, Text] | None
Table = Annotated[dict[str, Any] | None, BeforeValidator(_table)]


class Metadata(WireModel):
    name: Str = ""
    author: Str = ""


class Dependency(WireModel):
    """Replace `module` by `target` (default: itself) at `version`."""

    module: Str = ""
    target: Str = ""
    version: Str = ""


class Build(WireModel):
    selectors: list[Item] | None = None
    dependencies: list[Annotated[Dependency, or_zero({})]] | None = None


class GlobalRun(WireModel):
    artifact: Str = ""
    test_params: Params = None
    profiles: Params = None


class Global(WireModel):
    plan: Str = ""
    case: Str = ""
    total_instances: UInt = 0
    concurrent_builds: Int = 0
    builder: Str = ""
    build_config: Table = None
    build: Build | None = None
    runner: Str = ""
    run_config: Table = None
    run: GlobalRun | None = None
    disable_metrics: Bool = False


class Resources(WireModel):
    memory: Str = ""
    cpu: Str = ""


class Instances(WireModel):
    count: UInt = 0
    percentage: Annotated[
        float, Field(ge=0, allow_inf_nan=False, strict=True), PlainSerializer(_number, when_used="json")
    ] = 0.0
    """A fraction of the run's total: 0.5 is half."""

    @property
    def given(self) -> bool:
        return self.count > 0 or self.percentage > 0


class Group(WireModel):
    id: Str = ""
    builder: Str = ""
    build_config: Table = None
    build: Build = Field(default_factory=Build)
    resources: Resources = Field(default_factory=Resources)
    instances: Instances = Field(default_factory=Instances)
    run: GlobalRun = Field(default_factory=GlobalRun)


class RunGroup(WireModel):
    id: Str = ""
    group_id: Str = ""
    resources: Resources = Field(default_factory=Resources)
    instances: Instances = Field(default_factory=Instances)
    test_params: Params = None
    profiles: Params = None

    @property
    def effective_group_id(self) -> str:
        return self.group_id or self.id


class Run(WireModel):
    id: Str = ""
    test_params: Params = None
    total_instances: UInt = 0
    groups: list[RunGroup] | None = None


class Composition(WireModel):
    metadata: Metadata = Field(default_factory=Metadata)
    global_: Global = Field(default_factory=Global, alias="global")
    groups: list[Group] | None = None
    runs: list[Run] | None = None

    def groups_by_id(self) -> dict[str, Group]:
        """Of several with one id, which validation refuses, the first."""
        return {group.id: group for group in reversed(self.groups or [])}

    def run(self, run_id: str) -> Run | None:
        return next((run for run in self.runs or [] if run.id == run_id), None)

    def builder_of(self, group: Group) -> str:
        return group.builder or self.global_.builder
