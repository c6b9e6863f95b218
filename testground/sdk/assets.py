"""Files that a plan leaves among its outputs, or needs as data (contract §5.2)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from testground.sdk.journal import Logger, encode

CHUNK = 1 << 20
SNAPSHOT_TIMEOUT = 30.0


class Assets:
    """Open files of an instance; all are closed when it ends."""

    def __init__(self) -> None:
        self._files: list[BinaryIO | FileIO] = []

    def create(self, path: Path) -> BinaryIO:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
        self._files.append(file)
        return file

    def create_structured(self, path: Path) -> Logger:
        """Each call writes one JSON line, at once: `ts`, `level`, `msg` and the fields."""
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab", buffering=0)
        self._files.append(file)
        lock = threading.Lock()

        def write(level: str, message: str, fields: Mapping[str, Any]) -> None:
            with lock:
                file.write(encode({"ts": time.time_ns(), "level": level, "msg": message, **fields}) + b"\n")

        return Logger(write)

    def close(self) -> None:
        while self._files:
            self._files.pop().close()


def create_random_file(directory: Path, prefix: str, size: int) -> Path:
    import tempfile

    descriptor, name = tempfile.mkstemp(prefix=prefix, dir=directory)
    with os.fdopen(descriptor, "wb") as file:
        for offset in range(0, size, CHUNK):
            file.write(os.urandom(min(CHUNK, size - offset)))
    return Path(name)


def create_random_directory(directory: Path, prefix: str, depth: int) -> Path:
    import tempfile

    top = current = directory
    for level in range(depth):
        current = Path(tempfile.mkdtemp(prefix="tg" if level else prefix, dir=current))
        top = top if level else current
    return top


def snapshot(url: str, directory: Path) -> Path:
    """GET `url` into a file named by the time in whole seconds. Raises `OSError`."""
    from urllib.request import urlopen

    with urlopen(url, timeout=SNAPSHOT_TIMEOUT) as answer:
        body = answer.read()
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{int(time.time())}.out"
    partial = path.with_suffix(".partial")  # the instance may end at any moment; what is there is whole
    partial.write_bytes(body)
    return partial.replace(path)
