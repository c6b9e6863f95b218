"""Python environments of plans: one for each set of requirements, made at its final place.

An environment holds the SDK, the SDK's own dependencies and what the plan asks for. It is whole when its note is
there, which is written last.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio import to_thread

from testground.builders import bundle, common, installer
from testground.builders.requirements import Requirements
from testground.config import EnvConfig
from testground.drivers import tools
from testground.errors import BuildError
from testground.plugins import Output

DIRECTORY = "python-envs"

OLDEST_PYTHON = (3, 11)

_NOTE = "testground.json"

_FOREIGN = r"/(\.git|\.venv|venv|node_modules)/"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides over an environment. `python`: a version request for uv, empty for the daemon's own."""

    requirements: Requirements
    python: str
    sdk: Path
    """The package to take the SDK from."""

    def digest(self) -> str:
        sdk = [bundle.digest(self.sdk), *installer.sdk_dependencies()]
        parts = [self.requirements.identity, interpreter(self.python), sdk]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def interpreter(python: str) -> str:
    """The interpreter of a recipe, for digests: versions and place of the daemon's own, else the request."""
    return python or f"{sys.implementation.cache_tag} {sys.version} {sys.platform} {sys.base_prefix}"


def executable(environment: Path) -> Path:
    return environment / "bin" / "python"


def is_whole(environment: Path) -> bool:
    """Whether an environment was finished, and its interpreter is still there."""
    return (environment / _NOTE).is_file() and executable(environment).exists()


class Environments:
    """All environments of the daemon: each is made once, even if several builds need it at the same time."""

    def __init__(self) -> None:
        self._locks: dict[Path, anyio.Lock] = {}
        self._used: Counter[Path] = Counter()

    @asynccontextmanager
    async def use(self, recipe: Recipe, env: EnvConfig, output: Output) -> AsyncIterator[Path]:
        """The environment of a recipe, safe from being purged inside the block. Raises `BuildError`."""
        path = env.home.work / DIRECTORY / await to_thread.run_sync(recipe.digest)
        self._used[path] += 1
        try:
            async with self._locks.setdefault(path, anyio.Lock()):
                if not await to_thread.run_sync(is_whole, path):
                    await _create(path, recipe, output)
            yield path
        finally:
            self._used[path] -= 1

    async def purge(self, env: EnvConfig, referred: Iterable[Path]) -> int:
        """Remove the environments that nothing refers to. Returns how many."""
        removed = 0
        for path in await to_thread.run_sync(_listed, env.home.work / DIRECTORY):
            async with self._locks.setdefault(path, anyio.Lock()):
                if path not in referred and not self._used[path]:
                    await to_thread.run_sync(common.remove, path)
                    removed += 1
        return removed


async def precompile(environment: Path, directory: Path, file: str | None = None) -> tools.ToolResult:
    """Compile all modules below a directory, or one of them, now and not in every instance.

    What runs never changes, so compiled files are not checked against their sources. Some modules of a package are
    not meant to compile: whether that matters is up to the caller.
    """
    options = ["-f", "-q", "-j", "0", "-x", _FOREIGN, "--invalidation-mode", "unchecked-hash"]
    argv: list[str | Path] = [executable(environment), "-I", "-m", "compileall", *options, f"./{file or ''}"]
    return await tools.run_tool(argv, cwd=directory)


async def _create(path: Path, recipe: Recipe, output: Output) -> None:
    output.info("creating a Python environment", requirements=len(recipe.requirements.names), path=str(path))
    finished = False
    try:
        await to_thread.run_sync(_clear, path)
        await installer.create(path, recipe.python, output)
        packages = await to_thread.run_sync(_site_packages, path)
        await installer.install(path, packages, recipe.requirements, own=not recipe.python, output=output)
        await to_thread.run_sync(bundle.copy, recipe.sdk, packages)
        await precompile(path, packages)
        _write_note(path, recipe)
        finished = True
    finally:
        if not finished:
            with anyio.move_on_after(common.CLEANUP_SECONDS, shield=True):
                await to_thread.run_sync(common.remove, path, abandon_on_cancel=True)


def _clear(path: Path) -> None:
    common.remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)


def _site_packages(path: Path) -> Path:
    """Raises `BuildError` if the interpreter is too old for the SDK."""
    packages = next(path.glob("lib/*/site-packages"))
    version = re.search(r"(\d+)\.(\d+)", packages.parent.name)
    if version and tuple(map(int, version.groups())) < OLDEST_PYTHON:
        raise BuildError(f"exec:python: Python {version[0]} is too old for the SDK; it needs 3.11 or newer")
    return packages


def _write_note(path: Path, recipe: Recipe) -> None:
    note = {"python": recipe.python, "requirements": recipe.requirements.identity}
    partial = path / f"{_NOTE}.partial"
    partial.write_text(json.dumps(note, indent=1), encoding="utf-8")
    partial.replace(path / _NOTE)


def _listed(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []
