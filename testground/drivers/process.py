"""Instances as processes: spawned in a session of their own, heard as bytes, ended with all they started.

The output goes to callbacks as it comes, with no line limit and no thread per process. When the main process exits,
its process group is killed: an instance is over when its main process is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import anyio

Sink = Callable[[bytes], None]

SKIMMED_LINES = 16
"""How many of the last lines that came at once are delivered in any case."""

DRAIN_SECONDS = 2.0
"""How long output may still come after the main process has exited and its group was killed."""

KILL_SECONDS = 10.0
"""How long a killed process may take to go: one that waits in the kernel, as for a lost network disk, may never."""


class Process:
    """One instance's main process and process group."""

    def __init__(self, transport: asyncio.SubprocessTransport, protocol: _Protocol) -> None:
        self._transport = transport
        self._protocol = protocol
        self.pid: int = transport.get_pid()

    async def wait(self) -> int:
        """The exit code once all output has been delivered; negative for a signal, as in `subprocess`."""
        await self._protocol.exited.wait()
        self.signal(signal.SIGKILL)
        with anyio.move_on_after(DRAIN_SECONDS):
            await self._protocol.drained.wait()
        code = self._transport.get_returncode()
        self._transport.close()
        assert code is not None
        return code

    async def stop(self, grace: float) -> bool:
        """SIGTERM to the group, SIGKILL after `grace` seconds. Whether the main process is gone then."""
        self.signal(signal.SIGTERM)
        with anyio.move_on_after(grace):
            await self._protocol.exited.wait()
        self.signal(signal.SIGKILL)
        with anyio.move_on_after(KILL_SECONDS):
            await self._protocol.exited.wait()
            return True
        self._transport.close()
        return False

    def signal(self, number: signal.Signals) -> None:
        """Signal the whole group; a group that is gone is fine."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


async def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    stdout: Sink,
    stderr: Sink,
    inherited: Sequence[int] = (),
) -> Process:
    """Start a process as leader of a new session with exactly `env`. Raises `OSError` when it cannot be started.

    `inherited`: descriptors that it gets beside the standard ones.
    """
    transport, protocol = await asyncio.get_running_loop().subprocess_exec(
        lambda: _Protocol(stdout, stderr),
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(env),
        cwd=cwd,
        start_new_session=True,
        pass_fds=tuple(inherited),
    )
    return Process(transport, protocol)


def prepare_loop() -> None:
    """Watch children by pidfd where Python's default would use a thread for each (3.11 on Linux).

    Call once per process; loops in any thread may spawn afterwards.
    """
    if sys.version_info >= (3, 12):
        return
    with contextlib.suppress(OSError, AttributeError):  # an old kernel, or not Linux
        os.close(os.pidfd_open(os.getpid()))
        from testground.drivers.pidfd import PidfdWatcher

        asyncio.get_event_loop_policy().set_child_watcher(PidfdWatcher())


class LineSplitter:
    """Cuts a byte stream into lines of any length up to `limit`; longer ones come in pieces of `limit`.

    A callback gets each line without its end. `close` delivers a last line that has none. With `skim` set, of the lines
    that come at once only those that match and the last few are delivered: a flood costs next to nothing then.
    """

    def __init__(self, line: Sink, limit: int = 32 << 20) -> None:
        self.skim: re.Pattern[bytes] | None = None
        """Matches whole lines, in multi-line mode."""
        self._line = line
        self._limit = limit
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, data: bytes) -> None:
        first, newline, rest = data.partition(b"\n")
        if not newline:
            self._hold(data)
            return
        self._hold(first)
        self._release()
        *lines, last = rest.split(b"\n") if self.skim is None else _skimmed(rest, self.skim)
        for line in lines:
            self._line(line)
        self._hold(last)

    def close(self) -> None:
        if self._held:
            self._release()

    def _hold(self, data: bytes) -> None:
        while self._held + len(data) > self._limit:
            room = self._limit - self._held
            self._parts.append(data[:room])
            data = data[room:]
            self._release()
        if data:
            self._parts.append(data)
            self._held += len(data)

    def _release(self) -> None:
        line = b"".join(self._parts)
        self._parts.clear()
        self._held = 0
        self._line(line)


def _skimmed(text: bytes, wanted: re.Pattern[bytes]) -> list[bytes]:
    """The last item is what follows the last line end, as of `split`."""
    rest, *last = text.rsplit(b"\n", SKIMMED_LINES)
    return [*(wanted.findall(rest) if len(last) == SKIMMED_LINES else [rest]), *last]


class _Protocol(asyncio.SubprocessProtocol):
    def __init__(self, stdout: Sink, stderr: Sink) -> None:
        self._sinks = {1: stdout, 2: stderr}
        self._open = set(self._sinks)
        self.exited = asyncio.Event()
        self.drained = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._sinks[fd](data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open.discard(fd)
        if not self._open:
            self.drained.set()

    def process_exited(self) -> None:
        self.exited.set()
