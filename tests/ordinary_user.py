"""Runs a program as an ordinary user although root started it: as user 1000 of a user namespace, without privileges.

The files of root are that user's: nothing has to be copied or handed over for it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]

REFUSED = "launcher.Failed: ('a user namespace'"
"""What the program's standard error ends with where only root may have user namespaces."""

_BECOME = """
import os, sys
sys.path.insert(0, sys.argv[1])
from testground.drivers import launcher
user, group = os.geteuid(), os.getegid()
launcher.unshare("a user namespace", launcher.CLONE_NEWUSER)
launcher.write("/proc/self/setgroups", "deny")
launcher.write("/proc/self/uid_map", f"1000 {user} 1")
launcher.write("/proc/self/gid_map", f"1000 {group} 1")
os.execv(sys.argv[2], sys.argv[2:])
"""


def command(*argv: str) -> list[str]:
    """`argv` names its program by the whole path."""
    return [sys.executable, "-c", _BECOME, str(CHECKOUT), *argv]


def repeat(tests: str, scratch: Path, *options: str) -> str:
    """Run a file of tests once more, as an ordinary user. Returns what pytest says; they have to pass."""
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={scratch / 'user'}", *options, tests]
    argv = command(sys.executable, *words)
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def possible() -> bool:
    tried = subprocess.run(command(sys.executable, "-c", ""), capture_output=True, text=True, check=False)
    return tried.returncode == 0
