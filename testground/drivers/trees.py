"""Files and directories that somebody else wrote, and that have to go."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def remove(path: Path) -> None:
    """Remove a file or a tree, directories without permissions included; nothing there is fine. Blocks."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path)
    except PermissionError:
        _open_up(path)
        shutil.rmtree(path)


def _open_up(path: Path) -> None:
    """Go's module cache, for one, is made of directories that nobody may write into."""
    path.chmod(0o700)
    for directory, names, _ in os.walk(path):
        for name in names:
            child = Path(directory, name)
            if not child.is_symlink():
                child.chmod(0o700)
