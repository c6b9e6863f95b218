"""Processes that see files of their own in the place of the machine's, such as `/etc/hosts`. Linux only.

Each has a mount namespace, which ends with its last process: there is nothing to clean up, whoever is killed. Root
makes one directly; others need the kernel to allow them a user namespace.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from testground.drivers import process, tools
from testground.drivers.process import Process, Sink

_LAUNCHER = (sys.executable, "-I", "-S", str(Path(__file__).with_name("launcher.py")))
_STDOUT = "1"

LAUNCH_SECONDS = 60.0
"""From the start of the launcher to that of the program: milliseconds, seconds on a machine with a thousand others."""

_SETTINGS = {
    "kernel.unprivileged_userns_clone": ("0", "1"),
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
    "user.max_user_namespaces": ("0", "10000"),
    "user.max_mnt_namespaces": ("0", "10000"),
    "user.max_net_namespaces": ("0", "10000"),
    "user.max_uts_namespaces": ("0", "10000"),
}
"""Settings of the kernel that forbid namespaces: the value that does, and one that does not."""


@dataclass(frozen=True, slots=True)
class Home:
    """Namespaces that a process shall live in, by their descriptors, and the name that its machine has for it."""

    user: int | None = None
    network: int | None = None
    hostname: str = ""

    @property
    def arguments(self) -> list[str]:
        return [*("-" if fd is None else str(fd) for fd in (self.user, self.network)), self.hostname]

    @property
    def descriptors(self) -> list[int]:
        return [fd for fd in (self.user, self.network) if fd is not None]


async def obstacle(target: str) -> str:
    """Why no process can have a file of its own at `target` here, and what would help; empty when it can."""
    if sys.platform != "linux":
        return "mount namespaces exist on Linux only"
    tried = await tools.run_tool([*_LAUNCHER, _STDOUT, *Home().arguments, target, target, "--"])
    if tried.returncode == 0:
        return ""
    step, _, number = tried.output.decode("utf-8", "replace").partition("\n")
    reason = os.strerror(int(number)) if number.isdecimal() else step
    return f"this machine refuses {step} ({reason}). {remedy()}"


async def spawn(
    argv: Sequence[str],
    *,
    files: Mapping[str, Path],
    home: Home | None = None,
    env: Mapping[str, str],
    cwd: Path,
    stdout: Sink,
    stderr: Sink,
) -> Process:
    """As `process.spawn`, for a process that finds other content at the paths in `files`, and lives in `home`.

    Raises `TimeoutError` when the program has not begun within `LAUNCH_SECONDS`.
    """
    if not files and home is None:
        return await process.spawn(argv, env=env, cwd=cwd, stdout=stdout, stderr=stderr)
    mounts = [str(path) for target, source in files.items() for path in (source, target)]
    report, reported = os.pipe()
    try:
        try:
            home = home or Home()
            launch = [*_LAUNCHER, str(reported), *home.arguments, *mounts, "--", *argv]
            inherited = [reported, *home.descriptors]
            started = await process.spawn(launch, env=env, cwd=cwd, stdout=stdout, stderr=stderr, inherited=inherited)
        finally:
            os.close(reported)
        failure = await _failure(started, report)
    finally:
        os.close(report)
    if failure:
        await started.wait()
        step, _, number = failure.partition("\n")
        raise OSError(int(number), os.strerror(int(number)), step or argv[0])
    return started


async def _failure(started: Process, report: int) -> str:
    """What the launcher says; empty once the program runs, which closes the other end."""
    said = False
    try:
        with anyio.move_on_after(LAUNCH_SECONDS):
            await anyio.wait_readable(report)
            said = True
    finally:
        if not said:  # a launcher that was stopped, say, must not hold up the end of its run
            with anyio.CancelScope(shield=True):
                if await started.stop(0):
                    await started.wait()
    if not said:
        raise TimeoutError(errno.ETIMEDOUT, f"it has not begun within {LAUNCH_SECONDS:g} seconds")
    return os.read(report, 4096).decode()


def remedy() -> str:
    """What to change on this machine so that processes may have namespaces."""
    for name, (forbids, allows) in _SETTINGS.items():
        setting = Path("/proc/sys", *name.split("."))
        if setting.is_file() and setting.read_text().strip() == forbids:
            return f"{name} is {forbids}: run 'sysctl -w {name}={allows}' as root, or run the daemon as root"
    return "Run the daemon as root; in a container, one that has CAP_SYS_ADMIN or may make user namespaces"
