"""Which testground this is."""

from __future__ import annotations

import json
import subprocess
from importlib import metadata
from pathlib import Path

import testground

UNKNOWN = "dirty"
"""What upstream says of a build whose commit it does not know."""


def commit() -> str:
    """The first 8 digits of the commit: of the checkout that runs, else of the one that was installed."""
    return (_checkout() or _installed() or UNKNOWN)[:8]


def _checkout() -> str:
    root = Path(testground.__file__).parents[1]
    if not (root / ".git").exists():
        return ""
    try:
        found = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True)
    except OSError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def _installed() -> str:
    try:
        text = metadata.distribution("testground").read_text("direct_url.json")
        return str(json.loads(text or "{}")["vcs_info"]["commit_id"])
    except (metadata.PackageNotFoundError, ValueError, KeyError):
        return ""
