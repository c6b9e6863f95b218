"""Filling a Python environment with uv."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import uv
from anyio import to_thread

from testground.builders import common
from testground.builders.requirements import PROVIDED, Requirements, normalise
from testground.errors import BuildError
from testground.plugins import Output

SDK_DEPENDENCIES = ("msgspec", "websockets")

_NAMED = re.compile(r"[^A-Za-z0-9._-]")

_NETWORK = re.compile(r"failed to (fetch|download|connect)|error sending request|timed out", re.IGNORECASE)


def sdk_dependencies() -> list[str]:
    """What the SDK needs, at the versions that the daemon itself runs with."""
    return [f"{name}=={metadata.version(name)}" for name in SDK_DEPENDENCIES]


async def create(path: Path, python: str, output: Output) -> None:
    """Make an empty environment. `python`: a version request for uv, empty for the daemon's own interpreter."""
    options = ["--no-project", "--quiet", "--python", python or sys.executable]
    await _uv("venv", *options, path, cwd=path.parent, output=output)


async def install(path: Path, packages: Path, requirements: Requirements, *, own: bool, output: Output) -> None:
    """Install what the SDK and the plan need into the environment at `path`, whose site-packages are `packages`.

    With `own`, the interpreter is the daemon's, so that the SDK's dependencies can be copied; uv does the rest.
    """
    seeded = own and await to_thread.run_sync(_seed, packages)
    if seeded and not requirements.lines:
        return
    with tempfile.TemporaryDirectory(dir=path) as directory:  # which is cleared if the daemon is killed meanwhile
        files = _write_lists(Path(directory), requirements)
        install = ["pip", "install", "--python", path / "bin" / "python", *files]
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
