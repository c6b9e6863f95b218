"""Builds of a composition's groups: equal groups once, all at the same time, and none that was built before.

The artifact of a build lies at a path that ends in a hash of everything that decides over it (design §4), so the
question "was it built before?" is whether that path is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio import to_thread

from testground import __version__, plugins
from testground.api.composition import Composition, Group
from testground.api.task import Sources
from testground.config import EnvConfig
from testground.drivers import trees
from testground.errors import TestgroundError, unwrapped
from testground.plan import digest, prepare
from testground.plugins import Builder, BuildInput, BuildSources, ComponentConfig, Output


@dataclass(frozen=True, slots=True)
class _Unit:
    """One build: the groups that share it, and what it is made of."""

    groups: tuple[str, ...]
    builder: Builder
    config: ComponentConfig
    group: Group


@dataclass(frozen=True, slots=True)
class _Order:
    """What all builds of one request have in common. `shared`: several builds need the same sources."""

    plan: str
    sources: Sources
    env: EnvConfig
    output: Output
    cache: BuildCache
    shared: bool


@dataclass(slots=True)
class BuildCache:
    """One lock per artifact, so that two tasks never build the same thing at the same time."""

    _locks: dict[Path, anyio.Lock] = field(default_factory=dict)

    def lock(self, target: Path) -> anyio.Lock:
        return self._locks.setdefault(target, anyio.Lock())


async def build_groups(
    composition: Composition,
    group_ids: Sequence[str],
    sources: Sources,
    env: EnvConfig,
    output: Output,
    cache: BuildCache,
) -> dict[str, str]:
    """Build these groups of a prepared composition. Returns group id → artifact; the first failure cancels the rest."""
    units = _units(composition, group_ids, env, output)
    output.info("performing build for groups", plan=composition.global_.plan, groups=list(group_ids), builds=len(units))
    source_digest = await to_thread.run_sync(_digest, sources)
    limit = composition.global_.concurrent_builds
    slots = anyio.CapacityLimiter(limit if limit > 0 else max(1, len(units)))
    order = _Order(composition.global_.plan, sources, env, output, cache, shared=len(units) > 1)
    artifacts: dict[str, str] = {}

    async def build(unit: _Unit) -> None:
        try:
            async with slots:
                artifact = await _build(unit, order, source_digest)
        except TestgroundError as error:
            output.error("build failed", groups=list(unit.groups), error=error.headline)
            raise
        artifacts.update(dict.fromkeys(unit.groups, artifact))

    with unwrapped():
        async with anyio.create_task_group() as tasks:
            for unit in units:
                tasks.start_soon(build, unit)
    return artifacts


def _units(composition: Composition, group_ids: Sequence[str], env: EnvConfig, output: Output) -> list[_Unit]:
    by_key: dict[str, list[Group]] = {}
    for group in composition.groups or []:
        if group.id in group_ids:
            by_key.setdefault(prepare.build_key(composition, group), []).append(group)
    units = []
    for groups in by_key.values():
        name = composition.builder_of(groups[0])
        builder = plugins.builder(name)
        config = plugins.configure(name, builder.config_model, [groups[0].build_config, env.builders.get(name)], output)
        units.append(_Unit(tuple(group.id for group in groups), builder, config, groups[0]))
    return units


async def _build(unit: _Unit, order: _Order, source_digest: str) -> str:
    started, output = time.monotonic(), order.output
    toolchain = await unit.builder.toolchain(unit.config, order.env)
    name = f"{unit.builder.id}--{order.plan}".replace(":", "-").replace("/", "-")
    target = order.env.home.work / f"{name}-{_key(unit, source_digest, toolchain)}"
    groups = ",".join(unit.groups)
    async with order.cache.lock(target):
        cached = await to_thread.run_sync(_cached, unit.builder, target)
        if cached:
            output.info("build skipped: nothing has changed", groups=groups, artifact=cached)
            return cached
        artifact = await _build_afresh(unit, target, order)
        await to_thread.run_sync(_remember, target, artifact)
    took = f"{time.monotonic() - started:.1f}s"
    output.info("build succeeded", groups=groups, artifact=artifact, took=took)
    return artifact


async def _build_afresh(unit: _Unit, target: Path, order: _Order) -> str:
    """Over the request's sources, or a copy of them when several builds share these; the copy is always removed."""
    build_id = secrets.token_hex(6)
    base = Path(f"{order.sources.base_dir}-{build_id}")
    try:
        copy = await to_thread.run_sync(_copy, order.sources, base) if order.shared else order.sources
        return await unit.builder.build(
            BuildInput(
                build_id=build_id,
                plan=order.plan.replace("/", "-"),
                target=target,
                sources=_directories(copy),
                config=unit.config,
                selectors=tuple(unit.group.build.selectors or ()),
                dependencies=tuple(unit.group.build.dependencies or ()),
                env=order.env,
                output=order.output,
            )
        )
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(_discard, base)


def _key(unit: _Unit, source_digest: str, toolchain: str) -> str:
    build = unit.group.build
    parts = {
        "builder": unit.builder.id,
        "config": unit.config.model_dump(mode="json"),
        "sources": source_digest,
        "selectors": sorted(build.selectors or []),
        "dependencies": sorted([d.module, d.target, d.version] for d in build.dependencies or []),
        "toolchain": toolchain,
        "testground": __version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _digest(sources: Sources) -> str:
    parts = [
        digest.digest(Path(part)) if part else "" for part in (sources.plan_dir, sources.sdk_dir, sources.extra_dir)
    ]
    return " ".join(parts)


def _cached(builder: Builder, target: Path) -> str | None:
    """The artifact that an earlier build left a note of, if it is still whole."""
    try:
        artifact = _note(target).read_text(encoding="utf-8")
    except OSError:
        return None
    return artifact if builder.is_cached(artifact) else None


def _remember(target: Path, artifact: str) -> None:
    note = _note(target)
    partial = note.with_name(f"{note.name}.partial-note")
    partial.write_text(artifact, encoding="utf-8")
    partial.replace(note)


def _note(target: Path) -> Path:
    return target.with_name(f"{target.name}.artifact")


def _copy(sources: Sources, base: Path) -> Sources:
    base.mkdir()
    copied = {"base_dir": str(base)}
    for name in ("plan", "sdk", "extra"):
        if source := getattr(sources, f"{name}_dir"):
            copied[f"{name}_dir"] = str(shutil.copytree(source, base / name, symlinks=True))
    return Sources(**copied)


def _discard(base: Path) -> None:
    with contextlib.suppress(OSError):
        trees.remove(base)


def _directories(sources: Sources) -> BuildSources:
    return BuildSources(
        base=Path(sources.base_dir),
        plan=Path(sources.plan_dir),
        sdk=Path(sources.sdk_dir) if sources.sdk_dir else None,
        extra=Path(sources.extra_dir) if sources.extra_dir else None,
    )
