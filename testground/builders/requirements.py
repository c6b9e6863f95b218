"""What a Python plan needs: options, requirements.txt and pyproject.toml, as one set of lines for uv.

Two plans with equal `identity` share an environment, wherever their sources lie.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from testground.api.composition import Dependency
from testground.errors import BuildError
from testground.plugins import BuildSources

PROVIDED = "testground"
"""The distribution that plans need not install: the environment has the SDK already."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_NAMED = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?P<extras>\[[^\]]*\])?")
_PATH = re.compile(r"\.{0,2}/|\.{1,2}(?=\[|\s|;|$)|[^\s\[;@:]+/")
_OPTION = re.compile(r"(--?[A-Za-z-]+?)(?:[=\s]\s*|(?<=^-[a-z]))(\S.*)")
_PATH_OPTIONS = {"-c": "-c", "--constraint": "-c", "-f": "-f", "--find-links": "-f"}


@dataclass(frozen=True, slots=True)
class Line:
    """`text` is for uv; `identity` says the same without naming a place on this machine."""

    text: str
    identity: str

    @property
    def is_option(self) -> bool:
        return self.text.startswith("-")

    @property
    def name(self) -> str:
        """Normalised name of the distribution; empty for options and paths."""
        named = _NAMED.match(self.text)  # options start with a dash, paths with a slash
        return normalise(named["name"]) if named and "://" not in named["name"] else ""


@dataclass(frozen=True, slots=True)
class Requirements:
    """`lines`: options in their order, then requirements sorted. `overrides`: versions that win everywhere."""

    lines: tuple[Line, ...] = ()
    overrides: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        return frozenset(line.name for line in self.lines if line.name)

    @property
    def identity(self) -> tuple[str, ...]:
        return (*(line.identity for line in self.lines), *self.overrides)


def gather(sources: BuildSources, listed: Sequence[str], dependencies: Sequence[Dependency]) -> Requirements:
    """All requirements of a plan with its dependency overrides applied. Raises `BuildError` naming file and line."""
    plan, reader = sources.plan, _Reader(sources.base.resolve())
    lines = [*reader.lines("\n".join(listed), plan, "requirements")]
    if (plan / "requirements.txt").is_file():
        lines += reader.file(plan / "requirements.txt", "requirements.txt")
    lines += reader.lines("\n".join(_project_dependencies(plan)), plan, "pyproject.toml")
    overrides: set[str] = set()
    for dependency in dependencies:
        replacement = _replacement(dependency, lines)
        lines = [line for line in lines if line.name != normalise(dependency.module)]
        lines += reader.lines(replacement, plan, f"dependency '{dependency.module}'")
        if _wins_everywhere(dependency):
            overrides.add(replacement)
    unique = {line.text: line for line in lines if line.name != PROVIDED}.values()
    options = [line for line in unique if line.is_option]
    needed = sorted((line for line in unique if not line.is_option), key=lambda line: line.identity)
    return Requirements((*options, *needed), tuple(sorted(overrides)))


def normalise(name: str) -> str:
    """As package indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


class _Reader:
    """Reads requirement lines. Files and directories that they refer to must lie below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: list[Path] = []

    def file(self, path: Path, shown: str) -> Iterator[Line]:
        if path in self._open:
            raise BuildError(f"{shown}: includes itself")
        self._open.append(path)
        try:
            yield from self.lines(path.read_text(encoding="utf-8-sig"), path.parent, shown)
        except (OSError, UnicodeDecodeError) as error:
            raise BuildError(f"{shown}: cannot be read: {error}") from error
        finally:
            self._open.pop()

    def lines(self, text: str, base: Path, shown: str) -> Iterator[Line]:
        """Logical lines: continued ones joined, comments dropped, included files in place, paths made absolute."""
        for line in re.sub(r"\\\r?\n", " ", text).splitlines():
            line = re.sub(r"(^|\s)#.*", "", line).strip()
            if line.startswith("-"):
                yield from self._option(line, base, shown)
            elif _PATH.match(line) and "://" not in line:
                yield self._local(line, base, shown)
            elif line:
                yield Line(line, line)

    def _option(self, line: str, base: Path, shown: str) -> Iterator[Line]:
        """An editable requirement is installed like any other: an artifact never changes."""
        option, value = found.groups() if (found := _OPTION.fullmatch(line)) else (line, "")
        if option in ("-r", "--requirement"):
            yield from self.file(self._find(value, base, shown), f"{shown}: {value}")
        elif option in ("-e", "--editable"):
            yield from self.lines(value if "/" in value or value.startswith(".") else f"./{value}", base, shown)
        elif option in _PATH_OPTIONS and "://" not in value:
            local = self._local(value, base, shown)
            option = _PATH_OPTIONS[option]
            yield Line(f"{option} {local.text}", f"{option} {local.identity}")
        else:
            yield Line(line, line)

    def _local(self, line: str, base: Path, shown: str) -> Line:
        """A file or directory, perhaps with extras or a marker behind it; its content is its identity."""
        path = re.split(r"[\[\s;]", line, maxsplit=1)[0]
        local, rest = self._find(path, base, shown), line[len(path) :]
        return Line(f"{local}{rest}", f"{_digest(local)}{rest}")

    def _find(self, path: str, base: Path, shown: str) -> Path:
        missing = BuildError(f"{shown}: there is no file or directory '{path}'")
        if not path:
            raise missing
        try:
            local = (base / path).resolve(strict=True)
        except (OSError, ValueError) as error:  # also a name that no file system takes
            raise missing from error
        if not local.is_relative_to(self._root):
            raise BuildError(f"{shown}: '{path}' is not a path inside the plan")
        return local


def _digest(path: Path) -> str:
    """Of a file, or of all files below a directory with their names."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(path)}\0{_digest(file)}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _project_dependencies(plan: Path) -> list[str]:
    path = plan / "pyproject.toml"
    if not path.is_file():
        return []
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError, RecursionError) as error:
        raise BuildError(f"pyproject.toml: {error}") from error
    dependencies = project.get("dependencies", []) if isinstance(project, dict) else None
    if not isinstance(dependencies, list) or not all(isinstance(item, str) for item in dependencies):
        raise BuildError("pyproject.toml: project.dependencies: a list of strings is needed")
    return dependencies


def _replacement(dependency: Dependency, lines: Sequence[Line]) -> str:
    """`name==1.0`; `name>=1.0` when the version has an operator; `name @ url@version`; or a path in the plan."""
    module, version = dependency.module, dependency.version
    if not _NAME.fullmatch(module):
        raise BuildError(f"dependency '{module}' is not the name of a Python distribution")
    target = dependency.target or module
    if _PATH.match(target) and "://" not in target:
        return target
    extras = _extras(module, lines)
    if "://" in target:
        return f"{module}{extras} @ {target}{'@' if version else ''}{version}"
    return f"{target}{extras}{'==' if version and version[0] not in '<>=!~' else ''}{version}"


def _extras(module: str, lines: Sequence[Line]) -> str:
    """Those the plan asks for in its own requirement; an override keeps them."""
    replaced = (_NAMED.match(line.text) for line in lines if line.name == normalise(module))
    return next((named["extras"] or "" for named in replaced if named), "")


def _wins_everywhere(dependency: Dependency) -> bool:
    """Whether other distributions that need the module get the override, too: not if it has another name."""
    target = dependency.target or dependency.module
    return "://" in target or (bool(dependency.version) and normalise(target) == normalise(dependency.module))
