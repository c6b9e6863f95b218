"""Upstream's network plans, which run as they are; only a manifest without `local:exec` gets it.

They are modules of their own, which the module proxy does not serve. So they come from a checkout of upstream's
repository: the one whose `plans` directory `TESTGROUND_UPSTREAM_PLANS` names, or else from the public repository.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

VARIABLE = "TESTGROUND_UPSTREAM_PLANS"
REPOSITORY = "https://github.com/testground/testground"
COMMIT = "caa561454926f66eaca26f8f18f44227c339d1af"
FETCHED = Path(__file__).parents[2] / ".upstream" / "repository"
FETCH_SECONDS = 30

_LOCAL = '\n[builders."exec:go"]\n[runners."local:exec"]\n'


def missing() -> str:
    """Why the plans cannot be run here; empty if they can."""
    if shutil.which("go") is None:
        return "no go toolchain"
    named = os.environ.get(VARIABLE)
    if named:
        return "" if Path(named, "network", "go.mod").is_file() else f"{VARIABLE}: no network/go.mod in {named}"
    reason = _fetch()
    return f"{reason}; {VARIABLE} can name the directory plans of a checkout of upstream" if reason else ""


def plan(name: str, target: Path) -> Path:
    """A copy of a plan below `target`."""
    plans = Path(os.environ.get(VARIABLE) or FETCHED / "plans")
    copied = Path(shutil.copytree(plans / name, target / name))
    manifest = copied / "manifest.toml"
    if '"local:exec"' not in manifest.read_text():
        with manifest.open("a") as file:
            file.write(_LOCAL)
    return copied


@functools.cache
def _fetch() -> str:
    """Why the public repository cannot be had; empty once it is there."""
    if (FETCHED / "plans").is_dir():
        return ""
    FETCHED.mkdir(parents=True, exist_ok=True)
    for words in (["init", "-q"], ["fetch", "-q", "--depth=1", REPOSITORY, COMMIT], ["checkout", "-q", COMMIT]):
        try:
            done = subprocess.run(
                ["git", *words], cwd=FETCHED, env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
                capture_output=True, text=True, timeout=FETCH_SECONDS, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"git {words[0]}: {error}"
        if done.returncode:
            return f"git {words[0]}: {done.stderr.strip()}"
    return ""
