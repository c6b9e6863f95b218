"""Upstream's own programs, built from their published Go modules through the module proxy.

`go/go.mod` pins the versions and `go/go.sum` the contents. Nothing of upstream is in this repository.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

PACKAGES = {
    "testground": "github.com/testground/testground",
    "sync-service": "github.com/testground/sync-service/cmd",
    "oracle": "./oracle",
    "template": "./template",
}
"""Programs by name: the client and daemon in one, the sync service, and ours that ask upstream's packages."""

MODULE = Path(__file__).parent / "go"
BUILT = Path(__file__).parents[2] / ".upstream"
BUILD_DEADLINE = 900
"""Seconds for a first build, which downloads and compiles everything; later ones take about one."""


def missing() -> str:
    """Why the programs cannot be built here; empty if they can."""
    if shutil.which("go") is None:
        return "no go toolchain"
    words = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout.strip()
    major, minor = words.removeprefix("go").split(".")[:2]
    return "" if (int(major), int(minor)) >= (1, 24) else f"{words} is older than go1.24"


@functools.cache
def program(name: str) -> Path:
    """Build one of `PACKAGES` and return its path. Raises `RuntimeError` with the compiler's output."""
    target = BUILT / name
    target.parent.mkdir(exist_ok=True)
    done = subprocess.run(
        ["go", "build", "-mod=readonly", "-o", str(target), PACKAGES[name]],
        cwd=MODULE,
        env={**os.environ, "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        timeout=BUILD_DEADLINE,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"cannot build {PACKAGES[name]}:\n{done.stderr}")
    return target
