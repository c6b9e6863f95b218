"""What a builder and a runner are: the protocols, what they are given and what they return.

Built-in and foreign components register through the same door: entry points in the groups `testground.builders` and
`testground.runners`, whose names are the ids that manifests and compositions use.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol, cast

import anyio
from pydantic import BaseModel, ConfigDict, ValidationError

from testground.api.composition import Dependency, Resources
from testground.api.model import explain
from testground.api.task import RunResult
from testground.config import EnvConfig
from testground.errors import ConfigError, RequestError, UnknownError, did_you_mean
from testground.health import Check
from testground.sync.server import SyncServer


class Output(Protocol):
    """Where a component reports to: the log of its task, and through it every client that follows."""

    def info(self, message: str, **fields: Any) -> None: ...

    def warn(self, message: str, **fields: Any) -> None: ...

    def error(self, message: str, **fields: Any) -> None: ...

    def write(self, data: bytes) -> None:
        """Raw text, such as a compiler's output or an instance's line; `data` ends where the caller's text ends."""

    def states(self, group: str, counts: dict[str, int]) -> None:
        """Live state of a group's instances, e.g. `{"total": 5, "running": 3, "ok": 2, "failed": 0}`."""


class ComponentConfig(BaseModel):
    """Base of every builder's and runner's options. Unknown keys are reported as a warning, never silently dropped."""

    model_config = ConfigDict(extra="ignore", frozen=True)


@dataclass(frozen=True, slots=True)
class BuildSources:
    """Unpacked sources of one request. `base` holds `plan/`, and `sdk/` and `extra/` when they were sent."""

    base: Path
    plan: Path
    sdk: Path | None = None
    extra: Path | None = None


@dataclass(frozen=True, slots=True)
class BuildInput:
    """One build: a group's effective configuration over the request's sources.

    `sources` belongs to this build alone: a builder may write into it.
    `target` is the path, below the work directory, that the artifact must have; the engine chose it by content hash.
    """

    build_id: str
    plan: str
    target: Path
    sources: BuildSources
    config: ComponentConfig
    selectors: Sequence[str]
    dependencies: Sequence[Dependency]
    env: EnvConfig
    output: Output


class Builder(Protocol):
    """Turns a plan's sources into an artifact: an executable path or an image id."""

    id: str
    config_model: type[ComponentConfig]

    async def toolchain(self, config: ComponentConfig, env: EnvConfig) -> str:
        """What else decides over the result, such as `go version`; part of the cache key.

        Raises `BuildError` that says how to get the tool when it is missing.
        """

    async def build(self, build: BuildInput) -> str:
        """Build at `build.target` and return the artifact. Raises `BuildError` with the tool's output."""

    def is_cached(self, artifact: str) -> bool:
        """Whether an artifact of an earlier build is still there and whole."""

    async def purge(self, plan: str, env: EnvConfig, output: Output) -> None:
        """Remove what builds of a plan left behind."""


@dataclass(frozen=True, slots=True)
class RunGroupInput:
    """`id` is the run group's; `artifact` comes from the group it refers to."""

    id: str
    instances: int
    artifact: str
    parameters: dict[str, str] = field(default_factory=dict)
    profiles: dict[str, str] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)


class Stop:
    """Asks for an early end: by timeout, kill, terminate or shutdown. The first request wins."""

    def __init__(self) -> None:
        self._requested = anyio.Event()
        self.timed_out = False
        self.reason = ""

    @property
    def requested(self) -> bool:
        return self._requested.is_set()

    def request(self, reason: str, *, timed_out: bool = False) -> None:
        if not self.requested:
            self.reason, self.timed_out = reason, timed_out
            self._requested.set()

    async def wait(self) -> None:
        await self._requested.wait()


@dataclass(frozen=True, slots=True)
class RunInput:
    """One run. `plan` and `case` have `/` replaced by `-` (runners-builders §1.1)."""

    run_id: str
    plan: str
    case: str
    groups: Sequence[RunGroupInput]
    disable_metrics: bool
    config: ComponentConfig
    env: EnvConfig
    output: Output
    sync: SyncServer
    stop: Stop

    @property
    def total_instances(self) -> int:
        return sum(group.instances for group in self.groups)


class Runner(Protocol):
    """Carries out a run and says how it ended."""

    id: str
    compatible_builders: frozenset[str]
    config_model: type[ComponentConfig]

    async def run(self, run: RunInput) -> RunResult:
        """Run to the end, or until `run.stop` is requested; then say how far it came.

        When it returns or is cancelled, nothing of the run is left but its outputs.
        """

    def checks(self, env: EnvConfig) -> Sequence[Check]:
        """What must hold before a run."""

    async def terminate(self, env: EnvConfig, output: Output) -> None:
        """End all runs of this runner at once."""

    def collect(self, run_id: str, env: EnvConfig) -> AsyncIterator[bytes]:
        """The outputs of a run as a gzip-compressed tar. `UnknownError` before the first byte if there are none."""

    async def reap(self, run_ids: Sequence[str], env: EnvConfig) -> list[str]:
        """Remove what runs of a daemon that died left behind; says what it removed, a sentence each."""

    async def close(self) -> None:
        """The daemon ends, and all runs have ended."""


def builder_ids() -> list[str]:
    """Ids of all registered builders."""
    return sorted(_registered("testground.builders"))


def runner_ids() -> list[str]:
    """Ids of all registered runners."""
    return sorted(_registered("testground.runners"))


def builder(name: str) -> Builder:
    """The one instance of a builder. Raises `UnknownError` with the nearest name."""
    return cast(Builder, _component("testground.builders", name, "unrecognized builder"))


def runner(name: str) -> Runner:
    """The one instance of a runner. Raises `UnknownError` with the nearest name."""
    return cast(Runner, _component("testground.runners", name, "unknown runner"))


def configure(
    component: str, model: type[ComponentConfig], layers: Sequence[dict[str, Any] | None], output: Output
) -> ComponentConfig:
    """Merge config tables, highest precedence first and top-level keys only, into a component's model (§4.3).

    Warns about unknown keys with the nearest valid name. Raises `RequestError` for a value of the wrong type.
    """
    merged = _merged(layers)
    known = {field.alias or name for name, field in model.model_fields.items()}
    for key in sorted(merged.keys() - known):
        output.warn(f"{component}: unknown option '{key}'{did_you_mean(key, known)}")
    return _read(component, model, merged)


def check(component: str, model: type[ComponentConfig], layers: Sequence[dict[str, Any] | None]) -> None:
    """Raises what `configure` would: early, before anything is built."""
    _read(component, model, _merged(layers))


def _merged(layers: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        merged.update(layer or {})
    for decorative in ("enabled", "disabled"):
        merged.pop(decorative, None)
    return merged


def _read(component: str, model: type[ComponentConfig], merged: dict[str, Any]) -> ComponentConfig:
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        raise RequestError(f"error while coalescing configuration values: {component}: {explain(error)}") from error


def _component(group: str, name: str, complaint: str) -> object:
    known = _registered(group)
    if name not in known:
        raise UnknownError(f"{complaint}: {name}{did_you_mean(name, known)}")
    return _load(group, name)


@cache
def _load(group: str, name: str) -> object:
    try:
        return _registered(group)[name].load()()
    except ImportError as error:
        raise ConfigError(f"{name} is registered but cannot be loaded: {error}") from error


@cache
def _registered(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}
