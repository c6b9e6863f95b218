"""The Python SDK as plans get it: the part of this package that a plan imports, without the daemon."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import testground

_PARTS = ("__init__.py", "errors.py", "py.typed", "sdk/**/*", "sync/**/*")
"""Of `sync`, plans use the client; its server side comes along and needs what a plan's environment does not have."""


def own() -> Path:
    """The package that the daemon runs."""
    return Path(testground.__file__).parent


def linked(sdk: Path) -> Path | None:
    """The package in a linked SDK: a checkout of this project, or any directory with `testground/sdk`."""
    for package in (sdk / "testground", sdk / "src" / "testground"):
        if (package / "sdk" / "__init__.py").is_file():
            return package
    return None


def digest(package: Path) -> str:
    """Of the names and contents of all files that a bundle of the package has."""
    found = hashlib.sha256()
    for file in _files(package):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        found.update(f"{file.relative_to(package)}\0{content}\0".encode())
    return found.hexdigest()[:16]


def copy(package: Path, packages: Path) -> None:
    """Put the bundle into a site-packages directory."""
    for file in _files(package):
        target = packages / "testground" / file.relative_to(package)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def _files(package: Path) -> Iterator[Path]:
    for part in _PARTS:
        for file in sorted(package.glob(part)):
            if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc":
                yield file
