"""Python environments of plans: one for each set of requirements, made with uv at its final place.

An environment holds the SDK's own dependencies, what the plan asks for, and a `.pth` file with the place of the SDK.
It is whole when its note is there, which is written last.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import anyio
import uv
from anyio import to_thread

from testground.builders import bundle, common
from testground.builders.requirements import PROVIDED, Requirements, normalise
from testground.config import EnvConfig
from testground.drivers import tools
from testground.errors import BuildError
from testground.plugins import Output

DIRECTORY = "python-envs"

SDK_DEPENDENCIES = ("msgspec", "websockets")

OLDEST_PYTHON = (3, 11)

_NOTE = "testground.json"

_FOREIGN = r"/(\.git|\.venv|venv|node_modules)/"

_NAMED = re.compile(r"[^A-Za-z0-9._-]")

_NETWORK = re.compile(r"failed to (fetch|download|connect)|error sending request|timed out", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides over an environment. `python`: a version request for uv, empty for the daemon's own."""

    requirements: Requirements
    python: str
    sdk: Path
    """The SDK's bundle."""

    @property
    def digest(self) -> str:
        parts = [self.requirements.identity, interpreter(self.python), sdk_dependencies(), self.sdk.name]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def interpreter(python: str) -> str:
    """The interpreter of a recipe, for digests: versions and place of the daemon's own, else the request."""
    return python or f"{sys.implementation.cache_tag} {sys.version} {sys.platform} {sys.base_prefix}"


def sdk_dependencies() -> list[str]:
    """What the SDK needs, at the versions that the daemon itself runs with."""
    return [f"{name}=={metadata.version(name)}" for name in SDK_DEPENDENCIES]


def executable(environment: Path) -> Path:
    return environment / "bin" / "python"


def is_whole(environment: Path) -> bool:
    """Whether an environment was finished, and its interpreter and SDK are still there."""
    sdk = _sdk_of(environment)
    return sdk is not None and sdk.is_dir() and executable(environment).exists()


class Environments:
    """All environments of the daemon: each is made once, even if several builds need it at the same time."""

    def __init__(self) -> None:
        self._locks: dict[Path, anyio.Lock] = {}
        self._used: Counter[Path] = Counter()

    @asynccontextmanager
    async def use(self, recipe: Recipe, env: EnvConfig, output: Output) -> AsyncIterator[Path]:
        """The environment of a recipe, safe from being purged inside the block. Raises `BuildError`."""
        path = env.home.work / DIRECTORY / recipe.digest
        self._used[path] += 1
        try:
            async with self._locks.setdefault(path, anyio.Lock()):
                if not await to_thread.run_sync(is_whole, path):
                    await _create(path, recipe, output)
            yield path
        finally:
            self._used[path] -= 1

    async def purge(self, env: EnvConfig, referred: Iterable[Path]) -> int:
        """Remove the environments, and then the SDK bundles, that nothing refers to. Returns how many environments."""
        removed = 0
        for path in await to_thread.run_sync(_listed, env.home.work / DIRECTORY):
            async with self._locks.setdefault(path, anyio.Lock()):
                if path not in referred and not self._used[path]:
                    await to_thread.run_sync(common.remove, path)
                    removed += 1
        if not +self._used:
            await to_thread.run_sync(_purge_bundles, env.home.work)
        return removed


async def precompile(environment: Path, directory: Path, file: str | None = None) -> tools.ToolResult:
    """Compile all modules below a directory, or one of them, now and not in every instance.

    What runs never changes, so compiled files are not checked against their sources. Some modules of a package are
    not meant to compile: whether that matters is up to the caller.
    """
    options = ["-q", "-j", "0", "-x", _FOREIGN, "--invalidation-mode", "unchecked-hash"]
    argv: list[str | Path] = [executable(environment), "-I", "-m", "compileall", *options, file or "."]
    return await tools.run_tool(argv, cwd=directory)


async def _create(path: Path, recipe: Recipe, output: Output) -> None:
    output.info("creating a Python environment", requirements=len(recipe.requirements.names), path=str(path))
    finished = False
    try:
        await to_thread.run_sync(_clear, path)
        interpreter = recipe.python or sys.executable
        await _uv("venv", "--no-project", "--quiet", "--python", interpreter, path, cwd=path.parent, output=output)
        packages = await to_thread.run_sync(_site_packages, path)
        await _install(path, packages, recipe, output)
        (packages / "testground-sdk.pth").write_text(f"{recipe.sdk}\n", encoding="utf-8")
        for directory in (packages, recipe.sdk):
            await precompile(path, directory)
        _write_note(path, recipe)
        finished = True
    finally:
        if not finished:
            with anyio.move_on_after(common.CLEANUP_SECONDS, shield=True):
                await to_thread.run_sync(common.remove, path, abandon_on_cancel=True)


async def _install(path: Path, packages: Path, recipe: Recipe, output: Output) -> None:
    """The SDK's dependencies come from the daemon's own environment where they fit; the rest comes through uv."""
    seeded = not recipe.python and await to_thread.run_sync(_seed, packages)
    if seeded and not recipe.requirements.lines:
        return
    with tempfile.TemporaryDirectory(prefix="testground-") as directory:
        files = _write_lists(Path(directory), recipe.requirements)
        install = ["pip", "install", "--python", executable(path), *files]
        try:
            await _uv(*install, cwd=path.parent, output=output)
        except BuildError as error:
            if not _NETWORK.search(error.message):
                raise
            await _install_offline(install, path.parent, error, output)


async def _install_offline(install: list[str | Path], cwd: Path, error: BuildError, output: Output) -> None:
    """What was installed once is in uv's cache. Raises the first error if that is not enough."""
    try:
        await _uv(*install, "--offline", cwd=cwd, output=None)
    except BuildError:
        raise BuildError(f"{error.message}\nuv is configured by UV_DEFAULT_INDEX or uv.toml, not as pip is") from None
    output.warn("no package index can be reached; the requirements were met from uv's cache")


async def _uv(*arguments: str | Path, cwd: Path, output: Output | None) -> None:
    """Outside the plan, whose uv configuration must not decide over an environment that plans share."""
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    what = "uv " + " ".join(map(str, arguments[: 2 if arguments[0] == "pip" else 1]))
    await common.run(what, [_find_uv(), *arguments], cwd=cwd, env={**env, "NO_COLOR": "1"}, output=output)


def _find_uv() -> str:
    try:
        return uv.find_uv_bin()
    except FileNotFoundError:
        found = shutil.which("uv")
    if found is None:
        raise BuildError("exec:python needs uv, which is not beside the daemon; install it with 'pip install uv'")
    return found


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


def _seed(packages: Path) -> bool:
    """Copy the SDK's dependencies from the daemon's environment, so that a plain plan needs no package index."""
    for name in SDK_DEPENDENCIES:
        distribution = metadata.distribution(name)
        for file in distribution.files or ():
            source = Path(str(distribution.locate_file(file)))
            if ".." in file.parts or "__pycache__" in file.parts or not source.is_file():
                continue
            copy = packages / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
        if not (packages / name).is_dir():  # a distribution without a list of its files
            return False
    return True


def _write_lists(directory: Path, requirements: Requirements) -> list[str | Path]:
    """As files, because requirement lines may hold options; returns the arguments that name them."""
    wanted, overrides = directory / "requirements.txt", directory / "overrides.txt"
    lines = [line.text for line in requirements.lines]
    wanted.write_text("\n".join([*lines, *_sdk_requirements(requirements)]), encoding="utf-8")
    if not requirements.overrides:
        return ["-r", wanted]
    overrides.write_text("\n".join(requirements.overrides), encoding="utf-8")
    return ["-r", wanted, "--overrides", overrides]


def _sdk_requirements(requirements: Requirements) -> list[str]:
    """Pinned, except where the plan has a word of its own about one: then whatever suits both."""
    ranges = {normalise(_NAMED.split(line)[0]): line for line in metadata.requires(PROVIDED) or () if ";" not in line}
    return [
        ranges[name] if name in requirements.names else pin
        for name, pin in zip(SDK_DEPENDENCIES, sdk_dependencies(), strict=True)
    ]


def _write_note(path: Path, recipe: Recipe) -> None:
    note = {"sdk": str(recipe.sdk), "python": recipe.python, "requirements": recipe.requirements.identity}
    partial = path / f"{_NOTE}.partial"
    partial.write_text(json.dumps(note, indent=1), encoding="utf-8")
    partial.replace(path / _NOTE)


def _listed(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _purge_bundles(work: Path) -> None:
    used = {_sdk_of(environment) for environment in _listed(work / DIRECTORY)}
    for path in _listed(work / bundle.DIRECTORY):
        if path not in used:
            common.remove(path)


def _sdk_of(environment: Path) -> Path | None:
    try:
        return Path(json.loads((environment / _NOTE).read_bytes())["sdk"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
