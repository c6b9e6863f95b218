"""One daemon per home: `data/daemon/daemon.lock` is locked for as long as a daemon serves, and says where."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from testground.config import Home
from testground.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Holder:
    """Who serves a home. `endpoint` and `sync` are empty until the daemon listens."""

    pid: int
    endpoint: str = ""
    sync: str = ""

    def __str__(self) -> str:
        return f"process {self.pid}, {self.endpoint or 'not listening yet'}"


class HomeLock:
    """A held lock; `record` publishes where the daemon listens."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def record(self, *, endpoint: str = "", sync: str = "") -> None:
        self._write(json.dumps(asdict(Holder(os.getpid(), endpoint, sync))).encode() + b"\n")

    def clear(self) -> None:
        self._write(b"")

    def _write(self, data: bytes) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, data, 0)


@contextlib.contextmanager
def hold(home: Home) -> Iterator[HomeLock]:
    """Hold the lock of a home. Raises `ConfigError` that names the daemon which holds it.

    The kernel drops the lock with the process, however that ends: there is no stale lock to clean up.
    """
    descriptor = _open(_path(home))
    try:
        _acquire(descriptor, home)
        lock = HomeLock(descriptor)
        lock.record()
        try:
            yield lock
        finally:
            lock.clear()
    finally:
        os.close(descriptor)


def holder(home: Home) -> Holder | None:
    """Who says that it serves this home. After a crash that may be a daemon that is gone: only an answer proves it."""
    try:
        value = json.loads(_path(home).read_text(encoding="utf-8"))
        return Holder(int(value["pid"]), str(value.get("endpoint", "")), str(value.get("sync", "")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _path(home: Home) -> Path:
    return home.daemon / "daemon.lock"


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(f"cannot open {path}: {error.strerror}") from error


def _acquire(descriptor: int, home: Home) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f"another daemon already serves {home.root} ({holder(home) or 'just starting'}); "
            "use it, stop it, or set TESTGROUND_HOME to another directory"
        ) from None
