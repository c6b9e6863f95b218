"""Plans below the home's plans directory: where a name points, links, clones, removal (client-daemon §6.5)."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from testground.config import Home
from testground.errors import PlanError, did_you_mean
from testground.plan import manifest


def inside(home: Home, name: str) -> Path:
    """The directory that a plan's name means. Raises `PlanError` unless it is below the plans directory."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\x00" in name:
        raise PlanError(f"'{name}' is not a path below {home.plans}")
    return home.plans / path


def existing(home: Home, name: str) -> Path:
    """As `inside`, for a plan that is there. Raises `PlanError` with the nearest one."""
    directory = inside(home, name)
    parents = directory.relative_to(home.plans).parents
    if any((home.plans / parent).is_symlink() for parent in parents):
        raise PlanError(f"plan {name} lies in an imported directory; remove it there, or remove the import")
    if not directory.is_symlink() and not directory.is_dir():
        raise PlanError(f"there is no plan {name}{did_you_mean(name, manifest.plans(home))}")
    return directory


def target(home: Home, source: str, name: str) -> Path:
    """Where an import goes: `name`, or the last part of the source."""
    _, path = _split(source)
    return inside(home, name or PurePosixPath(path).name.removesuffix(".git") or Path(path).resolve().name)


def link(source: str, target: Path) -> Path:
    """Point `target` at a local directory; returns its absolute path. Raises `PlanError`."""
    scheme, local = _split(source)
    if scheme not in ("", "file"):
        raise PlanError(f"unknown scheme {scheme} for local files. did you forget to pass --git?")
    path = Path(local).expanduser().resolve()
    if not path.is_dir():
        raise PlanError(f"cannot import {source}: {path} is not a directory")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path, target_is_directory=True)
    except OSError as error:
        raise PlanError(f"cannot link {target}: {error.strerror}") from error
    return path


def clone(source: str, target: Path) -> None:
    """Clone a repository without its history; git reports on standard error. Raises `PlanError`."""
    if shutil.which("git") is None:
        raise PlanError("plan import --git needs git, which is not installed")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".import-") as directory:
        checkout = Path(directory) / "plan"
        status = subprocess.run(["git", "clone", "--depth=1", "--", source, str(checkout)], stdout=2).returncode
        if status != 0:
            raise PlanError(f"cannot clone {source}: git ended with status {status}")
        shutil.rmtree(checkout / ".git")
        checkout.rename(target)


def remove(directory: Path) -> None:
    """An import is a link: what it points to stays."""
    try:
        if directory.is_symlink():
            directory.unlink()
        else:
            shutil.rmtree(directory)
    except OSError as error:
        raise PlanError(f"cannot remove {error.filename or directory}: {error.strerror}") from error


def _split(source: str) -> tuple[str, str]:
    """The scheme and the path of a URL, of `host:path` as git takes it, or of a directory."""
    try:
        parts = urlsplit(source)
    except ValueError as error:
        raise PlanError(f"cannot import {source}: {error}") from error
    path = unquote(parts.path) if parts.scheme else source
    return parts.scheme, path.rstrip("/") or "/"
