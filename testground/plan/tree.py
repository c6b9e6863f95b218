"""What is in a directory: files, directories and symlinks in a fixed order, nothing else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from testground.errors import SourcesError
from testground.plan.ignore import Ignore


@dataclass(frozen=True, slots=True)
class Entry:
    """`path` is relative to the directory that was walked, with `/`; `mode` has the type but no set-id bits."""

    file: Path
    path: str
    mode: int
    size: int
    modified: float
    link: str | None = None
    """Where a symlink points to, as it is written."""

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


def walk(directory: Path, ignore: Ignore | None = None) -> Iterator[Entry]:
    """Everything below a directory, each directory before its contents, names sorted. Links are not followed.

    Raises `SourcesError` for what is neither file, directory nor link, and for what cannot be read.
    """
    pending = _listing(directory, "", ignore)
    while pending:
        entry = pending.pop()
        yield entry
        if entry.is_directory:
            pending.extend(_listing(entry.file, f"{entry.path}/", ignore))


def _listing(directory: Path, prefix: str, ignore: Ignore | None) -> list[Entry]:
    """Entries of one directory, last name first."""
    found = []
    try:
        with os.scandir(directory) as items:
            for item in sorted(items, key=lambda item: item.name, reverse=True):
                is_directory = item.is_dir(follow_symlinks=False)
                if ignore is None or not ignore.skips(f"{prefix}{item.name}", directory=is_directory):
                    found.append(_entry(item, prefix))
    except OSError as error:
        raise SourcesError(f"cannot read {error.filename or directory}: {error.strerror}") from error
    return found


def _entry(item: os.DirEntry[str], prefix: str) -> Entry:
    status = item.stat(follow_symlinks=False)
    link = os.readlink(item.path) if stat.S_ISLNK(status.st_mode) else None  # noqa: PTH115 – the text, verbatim
    if link is None and not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise SourcesError(f"{item.path} is a device, pipe or socket, which cannot be packed")
    mode = stat.S_IFMT(status.st_mode) | status.st_mode & 0o777
    path = f"{prefix}{item.name}"
    if not path.isascii():
        _check_utf8(path, item.path)
    return Entry(Path(item.path), path, mode, status.st_size, status.st_mtime, link)


def _check_utf8(path: str, file: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise SourcesError(f"the name of {os.fsencode(file)!r} is not UTF-8") from error
