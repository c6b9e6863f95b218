"""Symlinks that stay inside their directory, all the way (client-daemon §7.1 no. 20)."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from testground.errors import SourcesError
from testground.plan.ignore import FILE, Ignore

Parts = tuple[str, ...]

MAX_HOPS = 40
"""As Linux: more links than this on one way are a circle."""


def portable(file: Path, text: str, root: Path, ignore: Ignore | None) -> str:
    """The text of the symlink `file` for a copy of `root` in any other place.

    Raises `SourcesError` for a link that leaves the root, leads nowhere, or to what is not sent.
    """
    real = os.path.realpath(file)
    advice = f"; copy what it points to, or leave it out in {FILE}"
    if not _is_below(real, root):
        raise SourcesError(f"symlink {file} leaves {root}: it points to {text}{advice}")
    if not os.path.exists(real):  # noqa: PTH110 – links in a circle are an error for Path
        raise SourcesError(f"symlink {file} leads nowhere: it points to {text}{advice}")
    if ignore and _is_skipped(Path(real).relative_to(root).parts, ignore):
        raise SourcesError(f"symlink {file} points to {text}, which {FILE} leaves out; leave out both or none")
    depth = len(file.parent.relative_to(root).parts)
    return text if _stays_below(text, depth) else os.path.relpath(real, file.parent)


def follow(start: Parts, links: Mapping[Parts, str]) -> Parts:
    """Where a symlink ends, as the kernel would walk it, without asking the kernel.

    Raises `SourcesError` if any step is outside, even if a later one leads back.
    """
    walked: list[str] = []
    pending = deque(start)
    hops = 0
    while pending:
        part = pending.popleft()
        if part in ("", "."):
            continue
        if part == "..":
            if not walked:
                raise _refusal(start, links, "leaves its directory")
            walked.pop()
            continue
        walked.append(part)
        if (text := links.get(tuple(walked))) is None:
            continue
        hops += 1
        if text.startswith("/") or "\x00" in text:
            raise _refusal(start, links, "leaves its directory")
        if hops > MAX_HOPS:
            raise _refusal(start, links, "leads in a circle")
        walked.pop()
        pending.extendleft(reversed(text.split("/")))
    return tuple(walked)


def _is_below(path: str, root: Path) -> bool:
    return Path(path).is_relative_to(root)


def _stays_below(text: str, depth: int) -> bool:
    """Whether a text climbs at its start only, no higher than to the root. Links on its way are checked themselves."""
    parts = [part for part in text.split("/") if part not in ("", ".")]
    climbs = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    return not text.startswith("/") and climbs <= depth and ".." not in parts[climbs:]


def _is_skipped(parts: Parts, ignore: Ignore) -> bool:
    if not parts:
        return False
    parents = ("/".join(parts[:length]) for length in range(1, len(parts)))
    return any(ignore.skips(parent, directory=True) for parent in parents) or ignore.skips("/".join(parts))


def _refusal(start: Parts, links: Mapping[Parts, str], problem: str) -> SourcesError:
    return SourcesError(f"symlink '{'/'.join(start)}' {problem}: it points to {links[start]!r}")
