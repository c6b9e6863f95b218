"""exec:go: a Go module becomes one executable (runners-builders §2.2).

Unlike upstream, the build is optimised: plans measure, and `-N -l` for all packages means compiling the standard
library again. `-trimpath` makes the compiler's cache independent of where a build's copy of the sources lies.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from anyio import to_thread

from testground.api.composition import Dependency
from testground.builders import common
from testground.config import EnvConfig
from testground.errors import BuildError
from testground.plugins import BuildInput, ComponentConfig, Output

SDK_MODULE = "github.com/testground/sdk-go"

_VARIABLES = (
    *("GOVERSION", "GOOS", "GOARCH", "GOAMD64", "GOARM64", "GOFLAGS", "GOEXPERIMENT", "CGO_ENABLED", "CC", "CXX"),
    *("CGO_CFLAGS", "CGO_CPPFLAGS", "CGO_CXXFLAGS", "CGO_LDFLAGS"),
)


class GoConfig(ComponentConfig):
    module_path: str = ""
    """Path of the module that `fresh_gomod` makes."""
    exec_pkg: str = ""
    """The main package: a directory of the plan or an import path. Empty: the root of the plan."""
    fresh_gomod: bool = False
    """Replace go.mod and go.sum by those of a new module."""


class ExecGo:
    """Builds with the `go` tool of the daemon's PATH; proxy, flags and caches are those of the daemon's environment."""

    id = "exec:go"
    config_model = GoConfig

    def __init__(self) -> None:
        self._toolchains: dict[str, str] = {}

    async def toolchain(self, config: ComponentConfig, env: EnvConfig) -> str:
        go = _find_go()
        identity = common.identity(go)
        if identity not in self._toolchains:
            said = await common.run("go env", [go, "env", *_VARIABLES], cwd=env.home.work)
            self._toolchains[identity] = said.decode("utf-8", "replace").strip()
        return self._toolchains[identity]

    async def build(self, build: BuildInput) -> str:
        config = build.config
        assert isinstance(config, GoConfig)
        await _Module(build, config, _find_go()).build()
        return str(build.target)

    def is_cached(self, artifact: str) -> bool:
        return common.is_executable(Path(artifact))

    async def purge(self, plan: str, env: EnvConfig, output: Output) -> None:
        await common.purge(self.id, plan, env, output)


class _Module:
    """One build in its private copy of the sources."""

    def __init__(self, build: BuildInput, config: GoConfig, go: str) -> None:
        self._build = build
        self._config = config
        self._plan = build.sources.plan
        self._argv = go
        self._env = _environment(self._plan)

    async def build(self) -> None:
        await self._make_module()
        replacements = self._replacements()
        if replacements:
            await self._go("mod", "edit", *(f"-replace={replacement}" for replacement in replacements))
        vendored = (self._plan / "vendor" / "modules.txt").is_file()
        untidy = None if vendored and not replacements else await self._tidy()
        flags = ["-mod=mod"] if vendored and replacements else []
        async with common.partial(self._build.target, self._build.build_id) as executable:
            try:
                await self._compile(executable, flags)
            except BuildError as error:
                raise BuildError(f"{error.message}\n{untidy.message}") if untidy else error from None
            await to_thread.run_sync(common.publish, executable, self._build.target)

    async def _make_module(self) -> None:
        if self._config.fresh_gomod:
            if not self._config.module_path:
                raise BuildError("exec:go: fresh_gomod needs module_path, the path of the new module")
            self._build.output.info("creating new go.mod")
            for name in ("go.mod", "go.sum"):
                (self._plan / name).unlink(missing_ok=True)
            await self._go("mod", "init", common.argument(self._config.module_path, "module_path"))
        elif not (self._plan / "go.mod").is_file():
            raise BuildError("exec:go: the plan has no go.mod; run 'go mod init' in it, or set fresh_gomod = true")

    def _replacements(self) -> list[str]:
        replacements = [_replacement(dependency) for dependency in self._build.dependencies]
        sdk = common.linked_sdk(self._build, "Go", lambda path: (path / "go.mod").is_file())
        if sdk is not None:
            replacements.append(f"{SDK_MODULE}={os.path.relpath(sdk, self._plan)}")
        return replacements

    async def _tidy(self) -> BuildError | None:
        """`go mod tidy` also looks at the tests of dependencies, so it can fail, as without a network, where the
        build will not. Its error counts only if the build fails too."""
        try:
            await self._go("mod", "tidy")
        except BuildError as error:
            self._build.output.warn("go mod tidy failed; building with go.mod as it is")
            return error
        return None

    async def _compile(self, executable: Path, flags: Sequence[str]) -> None:
        tags = ["-tags=" + ",".join(self._build.selectors)] if self._build.selectors else []
        package = _package(self._plan, self._config.exec_pkg)
        await self._go("build", "-trimpath", "-buildvcs=false", "-o", str(executable), *flags, *tags, package)
        if not os.access(executable, os.X_OK):
            raise BuildError(f"exec:go: {package} is not a main package; name one with exec_pkg")

    async def _go(self, *arguments: str) -> None:
        what = "go " + " ".join(arguments[: 2 if arguments[0] == "mod" else 1])
        await common.run(what, [self._argv, *arguments], cwd=self._plan, env=self._env, output=self._build.output)


def _find_go() -> str:
    go = shutil.which("go")
    if go is None:
        raise BuildError(
            "exec:go needs the go tool, which is not on the daemon's PATH; install Go 1.21 or newer, put its bin "
            "directory on the PATH and start the daemon again"
        )
    return go


def _environment(plan: Path) -> dict[str, str]:
    """The daemon's, but no workspace file above the plan's copy takes part."""
    env = dict(os.environ)
    if not (plan / "go.work").exists():
        env.setdefault("GOWORK", "off")
    return env


def _replacement(dependency: Dependency) -> str:
    """`module=target@version`; a target without a version is a directory."""
    target = dependency.target or dependency.module
    version = f"@{dependency.version}" if dependency.version else ""
    return f"{common.argument(dependency.module, 'module')}={target}{version}"


def _package(plan: Path, exec_pkg: str) -> str:
    """Go takes `cmd/x` for an import path; where it is a directory of the plan, that is meant."""
    package = common.argument(exec_pkg or ".", "exec_pkg")
    if not package.startswith((".", "/")) and (plan / package).is_dir():
        return f"./{package}"
    return package
