"""exec:python: a plan becomes a directory with a launcher that runs its entry point in its environment."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread
from pydantic import Field

from testground.builders import bundle, common, environments, installer, requirements
from testground.builders.environments import Environments, Recipe
from testground.config import EnvConfig
from testground.errors import BuildError, did_you_mean
from testground.plugins import BuildInput, ComponentConfig, Output

_FUNCTION = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<function>[^\W\d]\w*)")

_NOTE = ".testground.json"

_FLAGS = ("-u", "-B")
"""Unbuffered, so that nothing an instance said is lost when it is killed; no writing of compiled files."""


class PythonConfig(ComponentConfig):
    entrypoint: str = "main.py"
    """A script of the plan, or `module:function`."""
    requirements: list[str] = Field(default_factory=list)
    """Lines as in a requirements.txt; added to those of requirements.txt and of `project.dependencies`."""
    python: str = ""
    """A version request for uv, such as `3.12`. Empty: the interpreter that runs the daemon."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a launcher runs: a script of the plan, and for a function the two lines of that script."""

    script: str
    module: str = ""
    function: str = ""

    @property
    def source(self) -> str:
        return f"import sys\n\nfrom {self.module} import {self.function}\n\nsys.exit({self.function}())\n"


class ExecPython:
    """Plans with equal requirements share an environment, which lives until no artifact refers to it."""

    id = "exec:python"
    config_model = PythonConfig

    def __init__(self) -> None:
        self._environments = Environments()

    async def toolchain(self, config: ComponentConfig, env: EnvConfig) -> str:
        assert isinstance(config, PythonConfig)
        sdk = await to_thread.run_sync(bundle.digest, bundle.own())
        return " ".join([environments.interpreter(config.python), sdk, *installer.sdk_dependencies()])

    async def build(self, build: BuildInput) -> str:
        config = build.config
        assert isinstance(config, PythonConfig)
        if build.selectors:
            build.output.warn("exec:python has no use for selectors; it ignores them")
        entry = parse_entry(config.entrypoint, build.sources.plan)
        recipe = await to_thread.run_sync(_recipe, build, config, _sdk(build))
        async with self._environments.use(recipe, build.env, build.output) as environment:
            await _compile(environment, build.sources.plan, entry)
            async with common.partial(build.target, build.build_id) as tree:
                launcher = await to_thread.run_sync(_assemble, build, tree, environment, entry)
                await to_thread.run_sync(common.publish, tree, build.target)
        return str(build.target / launcher)

    def is_cached(self, artifact: str) -> bool:
        launcher = Path(artifact)
        environment = _environment_of(launcher.parent)
        return common.is_executable(launcher) and environment is not None and environments.is_whole(environment)

    async def purge(self, plan: str, env: EnvConfig, output: Output) -> None:
        await common.purge(self.id, plan, env, output)
        referred = await to_thread.run_sync(_referred, self.id, env.home.work)
        if removed := await self._environments.purge(env, referred):
            output.info(f"removed {removed} Python environments that no artifact needs")


def parse_entry(text: str, plan: Path) -> Entry:
    """Raises `BuildError` for a script that the plan does not have, with the nearest name."""
    if function := _FUNCTION.fullmatch(text):
        return Entry(".testground-main.py", function["module"], function["function"])
    script = common.relative(text, "entrypoint")
    if (plan / script).is_file():
        return Entry(script)
    found = [file.relative_to(plan).as_posix() for file in plan.glob("**/*.py")]
    raise BuildError(f"exec:python: the plan has no entry point '{text}'{did_you_mean(text, found)}")


def _sdk(build: BuildInput) -> Path:
    linked = common.linked_sdk(build, "Python", lambda sdk: bundle.linked(sdk) is not None)
    return (linked and bundle.linked(linked)) or bundle.own()


def _recipe(build: BuildInput, config: PythonConfig, sdk: Path) -> Recipe:
    needed = requirements.gather(build.sources, config.requirements, build.dependencies)
    python = common.argument(config.python, "python")
    return Recipe(needed, python, sdk)


async def _compile(environment: Path, plan: Path, entry: Entry) -> None:
    """All modules; one that does not compile fails the build only if the plan starts with it."""
    await environments.precompile(environment, plan)
    first = entry.module.replace(".", "/") + ".py" if entry.module else entry.script
    if not await to_thread.run_sync((plan / first).is_file):
        return
    result = await environments.precompile(environment, plan, first)
    if result.returncode != 0:
        raise BuildError(f"exec:python: {first} does not compile:\n{common.tail(result.output)}")


def _assemble(build: BuildInput, tree: Path, environment: Path, entry: Entry) -> str:
    """Move the plan to `tree` and add the launcher. Returns the launcher's name in it."""
    common.move(build.sources.plan, tree)
    if entry.module:
        (tree / entry.script).write_text(entry.source, encoding="utf-8")
    name = "run" if not (tree / "run").exists() else ".testground-run"
    launcher = tree / name
    launcher.write_text(_launcher(environment, build.target, entry), encoding="utf-8")
    launcher.chmod(0o755)
    (tree / _NOTE).write_text(json.dumps({"environment": str(environment)}), encoding="utf-8")
    return name


def _launcher(environment: Path, target: Path, entry: Entry) -> str:
    """A script stands on the import path with its own directory; in a sub-directory it also gets the plan's."""
    lines = ["#!/bin/sh"]
    if "/" in entry.script:
        lines.append(f"export PYTHONPATH={shlex.quote(str(target))}${{PYTHONPATH:+:$PYTHONPATH}}")
    command = shlex.join([str(environments.executable(environment)), *_FLAGS, str(target / entry.script)])
    return "\n".join([*lines, f'exec {command} "$@"', ""])


def _referred(builder: str, work: Path) -> set[Path]:
    found = (_environment_of(target) for target in common.artifacts(builder, None, work))
    return {environment for environment in found if environment is not None}


def _environment_of(target: Path) -> Path | None:
    try:
        return Path(json.loads((target / _NOTE).read_bytes())["environment"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
