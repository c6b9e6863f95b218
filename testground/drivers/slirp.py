"""slirp4netns: a way out of a network namespace, as root or as an ordinary user.

It answers at a tap device in the namespace and opens each connection once more as a program of the machine, whose
interfaces, routes and firewall stay as they are. The only file that knows it.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Network
from pathlib import Path

import anyio

from testground.drivers import process
from testground.errors import RunError

PROGRAM = "slirp4netns"
DEVICE = Path("/dev/net/tun")
LINK = "tap0"

NETWORK = IPv4Network("192.0.2.0/24")
"""Where it answers. Nobody has these addresses: they are for documents (RFC 5737)."""
MACHINE = NETWORK[2]
"""Leads to the machine's 127.0.0.1, where that is allowed."""
NAMESERVER = NETWORK[3]
"""Leads to the machine's nameserver."""

READY_SECONDS = 10.0
"""From its start until it must answer; it takes hundredths of one."""

END_SECONDS = 2.0


class SlirpError(RunError):
    """There is no way out; the text says why."""


def missing() -> str:
    """What this machine lacks for it, and how to get that; empty when nothing."""
    if shutil.which(PROGRAM) is None:
        return f"{PROGRAM} is not installed: install the package {PROGRAM}"
    if not DEVICE.exists():
        return f"{DEVICE} is missing: load the kernel's module tun, and in a container, pass the device to it"
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return f"{DEVICE} may not be opened by this user: allow everybody to read and write it, as most systems do"
    return ""


class Slirp:
    """Made by `opened`."""

    def __init__(self, running: process.Process, said: bytearray) -> None:
        self._running, self._said = running, said
        self.pid = running.pid

    async def obituary(self) -> str:
        """Wait for its end; why it ended."""
        code = await self._running.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        lines = self._said.decode("utf-8", "replace").strip().splitlines() if code > 0 else []
        return f"{PROGRAM} {how}{f': {lines[-1]}' if lines else ''}"

    async def end(self) -> None:
        with anyio.move_on_after(END_SECONDS):
            await self._running.wait()
            return
        if await self._running.stop(0):
            await self._running.wait()


@asynccontextmanager
async def opened(task_id: str, network: int, user: int | None, *, loopback: bool) -> AsyncIterator[Slirp]:
    """A way out of `network` by its new link `LINK`; with `loopback`, also to the machine's 127.0.0.1.

    `network` and `user` are descriptors of namespaces. It ends with this context, and when this process dies in
    whatever way. Raises `SlirpError`.
    """
    if lack := missing():
        raise SlirpError(lack)
    said = bytearray()
    stay, leave = os.pipe()
    ready, tell = os.pipe()
    try:
        try:
            descriptors = [stay, tell, network, *([] if user is None else [user])]
            with anyio.CancelScope(shield=True):  # half a start could not be undone
                running = await process.spawn(
                    _command(stay, tell, network, user, loopback=loopback),
                    env={"PATH": os.environ.get("PATH", os.defpath), "TESTGROUND_TASK": task_id},
                    cwd=Path("/"),
                    stdout=said.extend,
                    stderr=said.extend,
                    inherited=descriptors,
                )
        except OSError as error:
            raise SlirpError(f"{PROGRAM} does not start: {error.strerror}") from error
        finally:
            os.close(stay)
            os.close(tell)
        slirp = Slirp(running, said)
        try:
            await _ready(slirp, ready)
            yield slirp
        finally:
            os.close(leave)
            leave = -1
            with anyio.CancelScope(shield=True):
                await slirp.end()
    finally:
        os.close(ready)
        if leave >= 0:
            os.close(leave)


def _command(stay: int, tell: int, network: int, user: int | None, *, loopback: bool) -> Sequence[str]:
    found = shutil.which(PROGRAM) or PROGRAM
    options = ["--configure", f"--cidr={NETWORK}", f"--exit-fd={stay}", f"--ready-fd={tell}", "--netns-type=path"]
    options += [] if loopback else ["--disable-host-loopback"]
    options += [] if user is None else [f"--userns-path=/proc/self/fd/{user}"]
    return [found, *options, f"/proc/self/fd/{network}", LINK]


async def _ready(slirp: Slirp, ready: int) -> None:
    with anyio.move_on_after(READY_SECONDS):
        await anyio.wait_readable(ready)
        if os.read(ready, 1):
            return
        raise SlirpError(await slirp.obituary())
    raise SlirpError(f"{PROGRAM} was not ready within {READY_SECONDS:g} seconds")
