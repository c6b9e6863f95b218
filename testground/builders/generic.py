"""exec:generic: any build command, or none, and any executable: C, Rust, Node, a shell script, a ready-made binary."""

from __future__ import annotations

import os
import platform
import shlex
import stat
import sys
from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from pydantic import BeforeValidator, Field

from testground.api.model import Text
from testground.builders import common
from testground.config import EnvConfig
from testground.errors import BuildError, did_you_mean
from testground.plugins import BuildInput, ComponentConfig, Output

USUAL_ARTIFACTS = ("main", "run")

_EXECUTABLE_MAGIC = (b"#!", b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")


def _commands(value: Any) -> Any:
    """`"make all"`, `["make", "all"]` and `[["make"], ["make", "all"]]` all become a list of argument lists."""
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"cannot be split into arguments: {error}") from error
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        value = [value]
    if isinstance(value, list) and not all(isinstance(part, list) and part for part in value):
        raise ValueError("a command is a list of arguments; several commands are a list of such lists")
    return value


COMPILER_SETTINGS = ("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "RUSTFLAGS", "GOFLAGS", "NODE_OPTIONS")
"""Variables of the daemon that build commands inherit and that decide over what they make."""


class GenericConfig(ComponentConfig):
    build: Annotated[list[list[str]], BeforeValidator(_commands)] = Field(default_factory=list)
    """Commands, run one after the other without a shell. None: the artifact is ready-made."""
    artifact: str = ""
    """The executable, relative to the plan directory. Empty: an executable named `main` or `run`."""
    env: dict[str, Text] = Field(default_factory=dict)
    """Added to the environment of the commands."""
    path: str = ""
    """Sub-directory of the plan to build in."""


class ExecGeneric:
    """Builds in the plan directory and keeps all of it: an artifact may need the files beside it.

    The commands find in their environment: TESTGROUND_SDK and TESTGROUND_EXTRA, the directories of a linked SDK and
    of extra sources, if any; TESTGROUND_SELECTORS, comma-separated; TESTGROUND_TARGET, where the plan directory will
    be when it runs; TESTGROUND_CACHE, a directory for what may help the next build of the plan: who needs it makes it,
    and it stays until a purge.
    """

    id = "exec:generic"
    config_model = GenericConfig

    async def toolchain(self, config: ComponentConfig, env: EnvConfig) -> str:
        assert isinstance(config, GenericConfig)
        tools = [common.identity(command[0]) for command in config.build]  # one of the plan is part of the sources
        settings = [f"{name}={os.environ[name]}" for name in COMPILER_SETTINGS if name in os.environ]
        return " ".join([sys.platform, platform.machine(), *settings, *tools])

    async def build(self, build: BuildInput) -> str:
        config = build.config
        assert isinstance(config, GenericConfig)
        if build.dependencies:
            build.output.warn("exec:generic does not know how to replace dependencies; it ignores them")
        directory = _directory(build.sources.plan, config.path)
        env = _environment(build, config)
        for command in config.build:
            build.output.info(f"running {shlex.join(command)}")
            await common.run(shlex.join(command), command, cwd=directory, env=env, output=build.output)
        async with common.partial(build.target, build.build_id) as tree:
            artifact = await to_thread.run_sync(_finish, build.sources.plan, tree, config)
            await to_thread.run_sync(common.publish, tree, build.target)
        return str(build.target / artifact)

    def is_cached(self, artifact: str) -> bool:
        return common.is_executable(Path(artifact))

    async def purge(self, plan: str, env: EnvConfig, output: Output) -> None:
        await common.purge(self.id, plan, env, output)
        await to_thread.run_sync(common.remove, _cache(plan, env))


def _cache(plan: str, env: EnvConfig) -> Path:
    return env.home.work / "exec-generic-cache" / plan.replace("/", "-")


def _directory(plan: Path, path: str) -> Path:
    directory = plan / common.relative(path, "path")
    if not directory.is_dir():
        raise BuildError(f"exec:generic: path = '{path}' is not a directory of the plan")
    return directory


def _environment(build: BuildInput, config: GenericConfig) -> dict[str, str]:
    env = {
        **os.environ,
        "TESTGROUND_CACHE": str(_cache(build.plan, build.env)),
        "TESTGROUND_SELECTORS": ",".join(build.selectors),
        "TESTGROUND_TARGET": str(build.target),
    }
    for name, directory in (("TESTGROUND_SDK", build.sources.sdk), ("TESTGROUND_EXTRA", build.sources.extra)):
        if directory is not None:
            env[name] = str(directory)
    return env | config.env


def _finish(plan: Path, tree: Path, config: GenericConfig) -> str:
    """Move the plan to `tree` and check the artifact there, where a link into the place of the build is dead."""
    common.move(plan, tree)
    artifact = common.relative(config.artifact, "artifact") if config.artifact else _usual_artifact(tree, config.path)
    _make_executable(tree, artifact)
    return artifact


def _usual_artifact(tree: Path, path: str) -> str:
    for directory in dict.fromkeys((path, "")):
        for name in USUAL_ARTIFACTS:
            candidate = os.path.normpath(Path(directory) / name)
            if (tree / candidate).is_file():
                return candidate
    raise BuildError(
        "exec:generic: the plan has no executable named 'main' or 'run'; set 'artifact' to the path of what it runs"
    )


def _make_executable(tree: Path, artifact: str) -> None:
    """Modes get lost on the way: what starts like an executable is made one."""
    file = tree / artifact
    if not file.is_file():
        siblings = [entry.name for entry in file.parent.iterdir()] if file.parent.is_dir() else []
        hint = did_you_mean(file.name, siblings)
        raise BuildError(f"exec:generic: the build left no file '{artifact}' in the plan directory{hint}")
    if os.access(file, os.X_OK):
        return
    with file.open("rb") as opened:
        if not opened.read(4).startswith(_EXECUTABLE_MAGIC):
            raise BuildError(f"exec:generic: artifact '{artifact}' is neither executable nor starts with '#!'")
    file.chmod(file.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
