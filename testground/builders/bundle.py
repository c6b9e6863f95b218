"""The Python SDK as plans get it: the part of this package that a plan imports, without the daemon.

A bundle is a directory below the work directory, named by its content, that stands on the plan's import path.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import testground
from testground.builders import common

DIRECTORY = "python-sdk"

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


def place(package: Path, work: Path) -> Path:
    """The directory to import from; made now unless it is there."""
    directory = work / DIRECTORY / digest(package)
    if directory.is_dir():
        return directory
    partial = directory.with_name(f"{directory.name}.partial-{secrets.token_hex(4)}")
    try:
        for file in _files(package):
            copy = partial / "testground" / file.relative_to(package)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        common.publish(partial, directory)
    finally:
        common.remove(partial)
    return directory


def _files(package: Path) -> Iterator[Path]:
    for part in _PARTS:
        for file in sorted(package.glob(part)):
            if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc":
                yield file
