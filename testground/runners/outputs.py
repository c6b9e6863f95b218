"""Outputs of local runs: where they lie, and how they are collected into a tgz (contract §1.3, §2.6)."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import tarfile
from collections.abc import AsyncIterator, Generator, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from anyio import to_thread

from testground.config import Home
from testground.errors import RunError, UnknownError

_PIECE = 1 << 18
"""Bytes of a file read at a time."""


def directory(home: Home, runner: str, plan: str, run_id: str) -> Path:
    """`data/outputs/local_exec/PLAN/RUN`"""
    return home.outputs / runner.replace(":", "_") / plan / run_id


def find(home: Home, runner: str, run_id: str) -> Path:
    """The outputs of a run whose plan is not known. Raises `UnknownError` unless there is exactly one."""
    base = home.outputs / runner.replace(":", "_")
    found = [plan / run_id for plan in base.iterdir() if (plan / run_id).is_dir()] if base.is_dir() else []
    if len(found) != 1:
        raise UnknownError(f"run ID {run_id} not found with runner {runner}")
    return found[0]


async def archive(run_directory: Path) -> AsyncIterator[bytes]:
    """Pieces of one gzip-compressed tar; every entry is below `RUN/`, directories before what they hold."""
    with contextlib.closing(_pieces(run_directory)) as pieces:  # an idle thread keeps what it was given last
        while piece := await to_thread.run_sync(next, pieces, b""):
            yield piece


def _pieces(run_directory: Path) -> Generator[bytes, None, None]:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=6, mtime=0) as packed:
        for part in _tar(run_directory):
            packed.write(part)
            if buffer.tell() >= _PIECE:
                yield _drain(buffer)
        packed.write(bytes(2 * tarfile.BLOCKSIZE))
    yield _drain(buffer)


def _tar(run_directory: Path) -> Iterator[bytes]:
    """What goes away meanwhile, as while the run is under way, is left out. Raises `RunError` naming the file."""
    for path, name in _entries(run_directory):
        try:
            yield from _directory(path, name) if path.is_dir() else _file(path, name)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise RunError(f"cannot read {path}: {error.strerror}") from error


def _directory(path: Path, name: str) -> Iterator[bytes]:
    info = _info(name, path.stat())
    info.type = tarfile.DIRTYPE
    yield info.tobuf(tarfile.PAX_FORMAT)


def _file(path: Path, name: str) -> Iterator[bytes]:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        info = _info(name, status)
        info.size = status.st_size
        yield info.tobuf(tarfile.PAX_FORMAT)
        yield from _contents(file, info.size)
        yield bytes(-info.size % tarfile.BLOCKSIZE)


def _info(name: str, status: os.stat_result) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = status.st_mode & 0o7777, int(status.st_mtime)
    return info


def _contents(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes of a file that may grow or shrink meanwhile."""
    while size > 0:
        wanted = min(size, _PIECE)
        yield file.read(wanted).ljust(wanted, b"\0")
        size -= wanted


def _entries(run_directory: Path) -> Iterator[tuple[Path, str]]:
    """Directories and regular files only: links to files inside are followed, all else is left out."""
    root = run_directory.resolve()
    yield root, f"{root.name}/."
    for path in sorted(Path(base, name) for base, *names in os.walk(root, onerror=_refuse) for name in chain(*names)):
        target = Path(os.path.realpath(path))
        if target.is_file() and target.is_relative_to(root):
            yield target, f"{root.name}/{path.relative_to(root)}"
        elif path.is_dir() and not path.is_symlink():
            yield path, f"{root.name}/{path.relative_to(root)}"


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise RunError(f"cannot read {error.filename}: {error.strerror}") from error


def _drain(buffer: io.BytesIO) -> bytes:
    piece = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return piece
