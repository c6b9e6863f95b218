"""Symlinks as copies of what they lead to, for the Go daemon, which makes a file of a link's text (§7.1 no. 20)."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from testground.errors import SourcesError
from testground.plan import links, tree
from testground.plan.ignore import Ignore


def without_links(root: Path, ignore: Ignore | None = None) -> Iterator[tree.Entry]:
    """What is in a directory, which is an absolute path without links, as `tree.walk`; no entry is a symlink.

    Raises as `links.portable`, and for a link to a directory that holds the link itself.
    """
    found = list(tree.walk(root, ignore))
    for entry in found:
        yield from _copied(entry, root, ignore, found, ())


def _copied(
    entry: tree.Entry, root: Path, ignore: Ignore | None, found: Sequence[tree.Entry], inside: tuple[Path, ...]
) -> Iterator[tree.Entry]:
    """`inside`: the directories that are being copied because a link leads to them."""
    if entry.link is None:
        yield entry
        return
    links.portable(entry.file, entry.link, root, ignore)
    real = entry.file.resolve()
    status = real.stat()
    kind = stat.S_IFMT(status.st_mode)
    mode = kind | status.st_mode & 0o777
    yield replace(entry, file=real, mode=mode, size=status.st_size, modified=status.st_mtime, link=None)
    if not stat.S_ISDIR(kind):
        return
    if real in inside or entry.file.is_relative_to(real):
        raise SourcesError(f"symlink {entry.file} leads to a directory that holds it; no copy can be made of that")
    for other in found:
        if other.file != real and other.file.is_relative_to(real):
            path = f"{entry.path}/{other.file.relative_to(real).as_posix()}"
            yield from _copied(replace(other, path=path), root, ignore, found, (*inside, real))
