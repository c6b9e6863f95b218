"""Unpacking zip files that came over the wire: nothing in them is trusted (client-daemon §7.1 nos 18, 20).

Order is the defence: directories and files are written while no link exists, so nothing can be written through one;
links follow once all of them are known to stay inside, all the way.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from testground.errors import SourcesError
from testground.plan.archive import TIMESTAMP, TIMESTAMP_ID
from testground.plan.links import Parts, follow

MAX_PATH = 1024
MAX_DEPTH = 100
_CHUNK = 256 << 10
_HARMLESS = 256 << 20
_TAIL = 65535 + 22 + 20 + 56
_ENTRY = 300  # bytes that an entry of the list takes, with a long name
_CORRUPT = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error)


@dataclass(frozen=True)
class Limits:
    max_bytes: int = 4 << 30
    """Of one upload, and of all files unpacked from it."""
    max_entries: int = 200_000
    max_ratio: int = 500
    """Unpacked to packed size, for archives that unpack to more than 256 MiB. What our client packs stays below 250."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    size: int
    """Sum of the sizes of the files."""
    hollow: list[str]
    """Symlinks that came without their target, as upstream's client sends them: empty files now."""


@dataclass(frozen=True, slots=True)
class _Item:
    info: zipfile.ZipInfo
    parts: Parts
    kind: int
    """S_IFREG, S_IFDIR or S_IFLNK"""
    mode: int
    hollow: bool


def unzip(
    file: Path, target: Path, limits: Limits | None = None, checkpoint: Callable[[], None] = lambda: None
) -> Unpacked:
    """Unpack into a directory that does not exist yet.

    `checkpoint` is called often; what it raises ends the work. Raises `SourcesError` that names the entry. After any
    error the directory is gone.
    """
    limits = limits or Limits()
    with _all_or_nothing(target), _readable(), file.open("rb") as stream:
        _check_directory_size(stream.fileno(), limits)
        with zipfile.ZipFile(stream) as archive:
            items = _inspect(archive.infolist(), stream.fileno(), limits)
            links = _links(archive, items)
            made = _make_directories(target, items)
            total = _write_files(archive, target, items, limits.max_bytes, checkpoint)
            _make_links(target, links, made | {item.parts for item in items})
            for item in items:
                if item.kind == stat.S_IFDIR:
                    target.joinpath(*item.parts).chmod(item.mode | 0o700)
    return Unpacked(total, sorted("/".join(item.parts) for item in items if item.hollow))


@contextlib.contextmanager
def _all_or_nothing(target: Path) -> Iterator[None]:
    try:
        target.mkdir(parents=True)
    except OSError as error:
        raise SourcesError(f"cannot create {target}: {error.strerror}") from error
    try:
        yield
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except _CORRUPT as error:
        raise SourcesError(f"not a readable zip archive: {error}") from error
    except OSError as error:
        raise SourcesError(f"cannot unpack: {error.strerror or error}") from error


# -- what is in it ----------------------------------------------------------------------------------------------


def _check_directory_size(fd: int, limits: Limits) -> None:
    """zipfile reads the whole list of entries into memory, whatever its size: refuse before it does."""
    size = os.fstat(fd).st_size
    tail = os.pread(fd, _TAIL, max(0, size - _TAIL))
    end = len(tail) - 22 if tail[-22:-18] == b"PK\x05\x06" and tail[-2:] == b"\0\0" else tail.rfind(b"PK\x05\x06")
    if not 0 <= end <= len(tail) - 22:
        raise SourcesError("not a readable zip archive: it is cut off, or something else")
    listed = int.from_bytes(tail[end + 12 : end + 16], "little")
    if end >= 76 and tail[end - 20 : end - 16] == b"PK\x06\x07":  # the record of large archives comes before
        listed = max(listed % 0xFFFFFFFF, int.from_bytes(tail[end - 36 : end - 28], "little"))
    if min(listed, size) > limits.max_entries * _ENTRY:
        raise SourcesError(f"the archive lists more than {limits.max_entries} entries")


def _inspect(infos: list[zipfile.ZipInfo], fd: int, limits: Limits) -> list[_Item]:
    if len(infos) > limits.max_entries:
        raise SourcesError(f"the archive has {len(infos)} entries; {limits.max_entries} are allowed")
    items = [_item(info) for info in infos]
    seen: set[Parts] = set()
    for item in items:
        if item.parts in seen:
            raise SourcesError(f"entry {item.info.filename!r} is in the archive twice")
        seen.add(item.parts)
    packed, unpacked = os.fstat(fd).st_size, sum(info.file_size for info in infos)
    if sum(info.compress_size for info in infos) > packed:
        raise SourcesError("the archive is a bomb: its entries overlap")
    if unpacked > _HARMLESS and unpacked > packed * limits.max_ratio:
        raise SourcesError(f"the archive is a bomb: {packed} bytes unpack to {unpacked}")
    if unpacked > limits.max_bytes:
        raise SourcesError(f"the archive unpacks to {unpacked} bytes; {limits.max_bytes} are allowed")
    return [item for item in items if item.parts]


def _item(info: zipfile.ZipInfo) -> _Item:
    parts = _parts(info)
    if info.flag_bits & 1:
        raise SourcesError(f"entry {info.filename!r} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise SourcesError(f"entry {info.filename!r} is compressed in a way other than deflate")
    unix = info.external_attr >> 16 if info.create_system == 3 else 0
    kind = stat.S_IFDIR if info.orig_filename.endswith("/") else stat.S_IFMT(unix) or stat.S_IFREG
    hollow = kind == stat.S_IFLNK and info.file_size == 0
    if hollow:
        kind, unix = stat.S_IFREG, 0  # upstream's client sends links so, and its daemon makes empty files of them
    if not parts and kind != stat.S_IFDIR:
        raise SourcesError(f"entry {info.filename!r} has no name")
    if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise SourcesError(f"entry {info.filename!r} is a device, pipe or socket")
    return _Item(info, parts, kind, unix & 0o777 or (0o755 if kind == stat.S_IFDIR else 0o644), hollow)


def _parts(info: zipfile.ZipInfo) -> Parts:
    name = info.orig_filename
    shown = repr(name if len(name) < 100 else f"{name[:100]}…")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if "\x00" in name:
        raise SourcesError(f"the name of entry {shown} contains a NUL character")
    if name.startswith("/"):
        raise SourcesError(f"the name of entry {shown} is an absolute path")
    if ".." in parts:
        raise SourcesError(f"the name of entry {shown} leaves its directory")
    if len(name.encode(errors="replace")) > MAX_PATH or len(parts) > MAX_DEPTH:
        raise SourcesError(f"the name of entry {shown} is too long")
    if any(len(part.encode(errors="replace")) > 255 for part in parts):
        raise SourcesError(f"the name of entry {shown} is too long")
    return parts


# -- links ------------------------------------------------------------------------------------------------------


def _links(archive: zipfile.ZipFile, items: list[_Item]) -> dict[Parts, str]:
    links: dict[Parts, str] = {}
    for item in items:
        if item.kind == stat.S_IFLNK:
            if item.info.file_size > MAX_PATH:
                raise SourcesError(f"symlink {item.info.filename!r} points to a name that is too long")
            links[item.parts] = os.fsdecode(archive.read(item.info))
    return links


def _make_links(target: Path, links: Mapping[Parts, str], known: set[Parts]) -> None:
    for parts in links:
        if (end := follow(parts, links)) and end not in known:
            raise SourcesError(f"symlink '{'/'.join(parts)}' leads nowhere: it points to {links[parts]!r}")
    for parts, text in links.items():
        try:
            target.joinpath(*parts).symlink_to(text)
        except FileExistsError as error:
            raise SourcesError(f"entry '{'/'.join(parts)}' is both a symlink and something else") from error
    for parts, text in links.items():
        try:
            target.joinpath(*parts).resolve(strict=True)
        except (OSError, RuntimeError) as error:  # by way of something that is not there, such as `missing/..`
            raise SourcesError(f"symlink '{'/'.join(parts)}' leads nowhere: it points to {text!r}") from error


# -- writing ----------------------------------------------------------------------------------------------------


def _make_directories(target: Path, items: list[_Item]) -> set[Parts]:
    """All directories that are listed or implied."""
    made: set[Parts] = set()
    for item in items:
        depth = len(item.parts) if item.kind == stat.S_IFDIR else len(item.parts) - 1
        for length in range(1, depth + 1):
            if item.parts[:length] not in made:
                target.joinpath(*item.parts[:length]).mkdir()
                made.add(item.parts[:length])
    return made


def _write_files(
    archive: zipfile.ZipFile, target: Path, items: list[_Item], allowed: int, checkpoint: Callable[[], None]
) -> int:
    total = 0
    for item in items:
        if item.kind != stat.S_IFREG:
            continue
        try:
            total += _write_file(archive, item, target.joinpath(*item.parts), allowed - total, checkpoint)
        except FileExistsError as error:
            raise SourcesError(f"entry {item.info.filename!r} is both a file and a directory") from error
        except OSError as error:
            problem = (error.strerror or str(error)).lower()
            raise SourcesError(f"cannot unpack {item.info.filename!r}: {problem}") from error
        except _CORRUPT as error:
            raise SourcesError(f"cannot unpack {item.info.filename!r}: {error}") from error
    return total


def _write_file(archive: zipfile.ZipFile, item: _Item, file: Path, allowed: int, checkpoint: Callable[[], None]) -> int:
    size = 0
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as sink, archive.open(item.info) as source:
        while data := source.read(_CHUNK):
            checkpoint()
            size += len(data)
            if size > allowed:
                raise SourcesError(f"the archive unpacks to more than is allowed at {item.info.filename!r}")
            sink.write(data)
        sink.flush()
        os.fchmod(descriptor, item.mode | 0o400)
        if (modified := _modified(item.info)) is not None:
            os.utime(descriptor, (modified, modified))
    return size


def _modified(info: zipfile.ZipInfo) -> int | None:
    """Seconds since 1970, never in the future: tools that compare times would build again and again."""
    extra = info.extra
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == TIMESTAMP_ID and length >= 5 and len(extra) >= TIMESTAMP.size and extra[4] & 1:
            seconds = int(TIMESTAMP.unpack_from(extra)[3])
            return min(seconds, int(time.time()))
        extra = extra[4 + length :]
    return None
