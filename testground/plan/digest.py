"""The content of a directory as one hash: the same files give the same digest on every machine."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from testground.errors import SourcesError
from testground.plan import tree

_CACHES = frozenset(("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".DS_Store"))
"""What comes and goes beside a plan's sources without changing them."""


def digest(directory: Path) -> str:
    """SHA-256, in hex, over paths, modes, link targets and contents; not over times, owners and tools' caches.

    Constant memory.

    Raises `SourcesError` that names what cannot be read.
    """
    total = hashlib.sha256()
    for entry in tree.walk(directory):
        if not _CACHES.isdisjoint(entry.path.split("/")):
            continue
        total.update(f"{entry.mode:o} {len(os.fsencode(entry.path))} ".encode())
        total.update(os.fsencode(entry.path))
        total.update(_content(entry))
    return total.hexdigest()


def _content(entry: tree.Entry) -> bytes:
    """A fixed number of bytes for each kind, so that no two trees can be written the same way."""
    if entry.link is not None:
        return hashlib.sha256(os.fsencode(entry.link)).digest()
    if not stat.S_ISREG(entry.mode):
        return b""
    try:
        with entry.file.open("rb", buffering=0) as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError as error:
        raise SourcesError(f"cannot read {entry.file}: {error.strerror}") from error
