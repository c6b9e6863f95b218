"""Packing directories into zip files: modes and links are kept (client-daemon §1.3, §7.1 nos 20, 21)."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from testground.errors import SourcesError
from testground.plan import copies, links, tree
from testground.plan.ignore import Ignore

COMPRESSED = frozenset(
    f".{ending}"
    for ending in (
        *("7z", "br", "bz2", "gz", "jar", "lz4", "rar", "tbz2", "tgz", "txz", "whl", "xz", "zip", "zst"),
        *("gif", "jpeg", "jpg", "mp3", "mp4", "ogg", "png", "webm", "webp"),
    )
)
"""Endings of files that deflate cannot make smaller."""

TIMESTAMP_ID = 0x5455
TIMESTAMP = struct.Struct("<HHBl")
"""The extended timestamp field: whole seconds in UTC, where the times of zip itself are local and even."""

_LEVEL = 1  # several times as fast as the default, for a few more bytes
_CHUNK = 256 << 10


def write_zip(directory: Path, target: Path, ignore: Ignore | None = None, *, keep_links: bool = True) -> None:
    """Pack what is in a directory, in the order of its paths. Constant memory, where links may be kept.

    Otherwise they become copies of what they lead to, see `copies`. Raises `SourcesError` that names what cannot be
    packed: a symlink that leaves the directory or leads nowhere, a device or socket, what cannot be read.
    """
    root = _resolved(directory)
    _write(target, ((entry, entry.path) for entry in _entries(root, ignore, keep_links)))


def write_zip_of(directories: Iterable[Path], target: Path, *, keep_links: bool = True) -> None:
    """Pack several directories, each below its own name. Raises as `write_zip`."""
    _write(target, _named(directories, keep_links))


def _resolved(directory: Path) -> Path:
    if not directory.is_dir():
        raise SourcesError(f"cannot pack {directory}: it is not a directory")
    return directory.resolve()


def _named(directories: Iterable[Path], keep_links: bool) -> Iterator[tuple[tree.Entry, str]]:
    names: set[str] = set()
    for directory in directories:
        name, root = directory.name, _resolved(directory)
        if name in names:
            raise SourcesError(f"two extra sources have the name {name}; the second one is {directory}")
        names.add(name)
        status = root.stat()
        yield tree.Entry(root, name, stat.S_IFDIR | status.st_mode & 0o777, 0, status.st_mtime), name
        for entry in _entries(root, None, keep_links):
            yield entry, f"{name}/{entry.path}"


def _entries(root: Path, ignore: Ignore | None, keep_links: bool) -> Iterator[tree.Entry]:
    return _portable(root, ignore) if keep_links else copies.without_links(root, ignore)


def _portable(root: Path, ignore: Ignore | None) -> Iterator[tree.Entry]:
    for entry in tree.walk(root, ignore):
        yield entry if entry.link is None else replace(entry, link=links.portable(entry.file, entry.link, root, ignore))


def _write(target: Path, entries: Iterable[tuple[tree.Entry, str]]) -> None:
    try:
        with zipfile.ZipFile(target, "w") as archive:
            for entry, name in entries:
                _add(archive, entry, name)
    except OSError as error:
        raise SourcesError(f"cannot pack {error.filename or target}: {error.strerror}") from error


def _add(archive: zipfile.ZipFile, entry: tree.Entry, name: str) -> None:
    info = _info(entry, name)
    if entry.is_directory:
        archive.writestr(info, b"")
    elif entry.link is not None:
        archive.writestr(info, os.fsencode(entry.link))
    else:
        with entry.file.open("rb") as source, archive.open(info, "w") as sink:
            shutil.copyfileobj(source, sink, _CHUNK)


def _info(entry: tree.Entry, name: str) -> zipfile.ZipInfo:
    seconds = max(315619200, min(int(entry.modified), 2**31 - 1))  # 1980, where zip begins, to 2038
    info = zipfile.ZipInfo(f"{name}/" if entry.is_directory else name, time.gmtime(seconds)[:6])
    info.extra = TIMESTAMP.pack(TIMESTAMP_ID, 5, 1, seconds)
    info.create_system = 3
    info.external_attr = entry.mode << 16 | (0x10 if entry.is_directory else 0)
    info.file_size = entry.size
    stored = entry.is_directory or entry.link is not None or entry.file.suffix.lower() in COMPRESSED
    info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    info._compresslevel = _LEVEL  # type: ignore[attr-defined]  # no public name before 3.13, where this one still works
    return info
