"""Plans and their manifests: finding, reading (client-daemon §4.1, §6.3)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from testground.api.manifest import Bounds, Manifest, Parameter, TestCase
from testground.config import Home
from testground.errors import PlanError, did_you_mean
from testground.plan import document

FILE = "manifest.toml"

_KEYS: dict[type[BaseModel], tuple[str, ...]] = {
    Manifest: ("name", "defaults", "builders", "runners", "testcases", "extra_sources"),
    TestCase: ("name", "instances", "params"),
    Bounds: ("min", "max", "default"),
    Parameter: ("type", "desc", "unit", "default"),
}
"""`defaults` and `instances.default` appear in every plan, but nothing reads them."""


def load(plan_dir: Path) -> Manifest:
    """Raises `PlanError` that names the file, and the line or the key."""
    return document.decode(Manifest, _read(plan_dir), _failure(plan_dir))


def unknown_keys(plan_dir: Path) -> list[str]:
    """One sentence for each key of a manifest that nothing reads."""
    found = document.unknown_keys(Manifest, _read(plan_dir), lambda model: _KEYS[model])
    return [f"{plan_dir / FILE}: {sentence}" for sentence in found]


def find_plan(home: Home, name: str) -> Path:
    """The directory of an imported plan, which may be a symlink. Raises `PlanError` with the nearest plan."""
    if not name or not _stays_inside(name):
        raise PlanError(f"failed to resolve test plan: '{name}' is not a path below {home.plans}")
    directory = home.plans / name
    if not os.path.isdir(directory):  # noqa: PTH112 – false for a name that is too long, where Path raises
        nearest = did_you_mean(name, plans(home))
        raise PlanError(f"failed to resolve test plan: failed to locate plan in directory: {directory}{nearest}")
    if not (directory / FILE).is_file():
        raise PlanError(f"failed to resolve test plan: failed to access plan manifest at {directory / FILE}")
    return directory


def plans(home: Home) -> list[str]:
    """Names of all plans: paths below the plans directory that hold a manifest, symlinks followed."""
    found: list[str] = []
    real: dict[Path, Path] = {}
    for name, directories, files in os.walk(home.plans, followlinks=True):
        path = Path(name)
        real[path] = path.resolve()
        if any(real.get(parent) == real[path] for parent in path.parents):
            directories.clear()
        elif FILE in files and path != home.plans:
            found.append(path.relative_to(home.plans).as_posix())
    return sorted(found)


def resolve_sdk(home: Home, name: str) -> Path:
    """The directory that `--link-sdk` means: an absolute path, else `./name`, else `sdks/name` below the home."""
    tried = [Path(name)] if Path(name).is_absolute() else [Path(name).absolute(), home.sdks / name]
    for directory in tried:
        if name and directory.is_dir():
            return directory
    listing = ", ".join(map(str, tried))
    known = [entry.name for entry in home.sdks.iterdir()] if home.sdks.is_dir() else []
    nearest = did_you_mean(name, known)
    raise PlanError(f"failed to resolve linked SDK directory: no matching paths; tried: [{listing}]{nearest}")


def with_absolute_sources(manifest: Manifest, plan_dir: Path) -> Manifest:
    """The manifest as it is sent: paths of extra sources resolved against the plan (§4.1)."""
    if manifest.extra_sources is None:
        return manifest
    absolute = {
        builder: [str(_absolute(plan_dir, entry)) for entry in entries]
        for builder, entries in manifest.extra_sources.items()
    }
    return manifest.model_copy(update={"extra_sources": absolute})


def extra_dirs(manifest: Manifest, builders: Iterable[str], plan_dir: Path) -> list[Path]:
    """The extra source directories of all given builders, each once. Raises `PlanError` for one that is not there."""
    found: dict[Path, None] = {}
    for builder in builders:
        for entry in (manifest.extra_sources or {}).get(builder.replace(":", "_"), []):
            directory = _absolute(plan_dir, entry)
            if not directory.is_dir():
                raise PlanError(f"{plan_dir / FILE}: extra_sources: {entry} is not a directory ({directory})")
            found[directory] = None
    return list(found)


def _read(plan_dir: Path) -> dict[str, Any]:
    file = plan_dir / FILE
    try:
        text = document.read(file)
    except OSError as error:
        raise PlanError(f"failed to access plan manifest at {file}: {error.strerror}") from error
    except ValueError as error:
        raise _failure(plan_dir)(str(error)) from error
    return document.parse(text, _failure(plan_dir))


def _failure(plan_dir: Path) -> document.Failure:
    return lambda problem: PlanError(f"failed to parse plan manifest {plan_dir / FILE}: {problem}")


def _stays_inside(name: str) -> bool:
    return "\x00" not in name and not Path(name).is_absolute() and ".." not in Path(name).parts and name != "."


def _absolute(plan_dir: Path, entry: str) -> Path:
    """The name at the end is kept even if it is a symlink: it names the directory in the archive."""
    return Path(os.path.normpath(plan_dir.resolve() / entry))
