"""Build tools as child processes: run to the end, heard line by line, ended with all they started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import anyio

from testground.drivers import reaper

Sink = Callable[[bytes], None]

task: ContextVar[str] = ContextVar("task", default="")
"""The id of the task that tools run for. They get it as `TESTGROUND_TASK`: so `leftovers` finds what outlives it."""

GRACE_SECONDS = 5.0
"""From SIGTERM to SIGKILL when a tool is cancelled."""

DRAIN_SECONDS = 2.0
"""How long output may still come after the tool has exited: what left its group may hold the pipe for ever."""

KEPT_BYTES = 1 << 20
"""How much of the end of the output a result holds; the sink gets all of it."""

LINE_BYTES = 1 << 16
"""A line longer than this reaches the sink in pieces."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """`returncode` is negative for a signal, as in `subprocess`; `output` is the end of stdout and stderr, merged."""

    returncode: int
    output: bytes


async def run_tool(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    output: Sink | None = None,
    grace: float = GRACE_SECONDS,
) -> ToolResult:
    """Run a program without a shell, in a session of its own; `output` hears whole lines while it runs.

    `env` is the whole environment, this process's by default. When the program ends, or the caller is cancelled,
    everything left of its process group is killed. Raises `FileNotFoundError` when the program or `cwd` is missing,
    another `OSError` when it cannot be started, and whatever `output` raised, once the program has ended.
    """
    heard = _Heard(output)
    with anyio.CancelScope(shield=True):  # a cancellation halfway would leave a child that nobody knows
        transport, protocol = await asyncio.get_running_loop().subprocess_exec(
            lambda: _Protocol(heard),
            *map(str, argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=_marked(os.environ if env is None else env),
            start_new_session=True,
        )
    try:
        await protocol.exited.wait()
    finally:
        with anyio.CancelScope(shield=True):
            await _finish(transport, protocol, grace)
    if heard.error is not None:
        raise heard.error
    code = transport.get_returncode()
    assert code is not None
    return ToolResult(code, bytes(heard.kept[-KEPT_BYTES:]))


def _marked(env: Mapping[str, str]) -> dict[str, str]:
    task_id = task.get()
    if not task_id:
        return dict(env)
    reaper.shared.watch(task_id)
    return {**env, "TESTGROUND_TASK": task_id}


async def _finish(transport: asyncio.SubprocessTransport, protocol: _Protocol, grace: float) -> None:
    """SIGTERM what still runs, SIGKILL what is left after `grace` seconds, hear the last output."""
    group = transport.get_pid()
    if not protocol.exited.is_set():
        _signal(group, signal.SIGTERM)
        with anyio.move_on_after(grace):
            await protocol.exited.wait()
    _signal(group, signal.SIGKILL)
    with anyio.move_on_after(DRAIN_SECONDS):
        await protocol.exited.wait()
        await protocol.drained.wait()
    transport.close()
    protocol.heard.close()


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # gone; or, on macOS, only zombies are left
        os.killpg(group, number)


class _Heard:
    """Passes whole lines on and keeps the end. The first error of the sink is kept and silences it."""

    def __init__(self, sink: Sink | None) -> None:
        self.kept = bytearray()
        self.error: Exception | None = None
        self._sink = sink
        self._partial = b""

    def feed(self, data: bytes) -> None:
        self.kept += data
        if len(self.kept) > 2 * KEPT_BYTES:
            del self.kept[:-KEPT_BYTES]
        self._partial += data
        end = len(self._partial) if len(self._partial) > LINE_BYTES else self._partial.rfind(b"\n") + 1
        if end:
            line, self._partial = self._partial[:end], self._partial[end:]
            self._pass_on(line)

    def close(self) -> None:
        rest, self._partial = self._partial, b""
        if rest:
            self._pass_on(rest)

    def _pass_on(self, data: bytes) -> None:
        if self._sink is None or self.error is not None:
            return
        try:
            self._sink(data)
        except Exception as error:
            self.error = error


class _Protocol(asyncio.SubprocessProtocol):
    def __init__(self, heard: _Heard) -> None:
        self.heard = heard
        self.exited = asyncio.Event()
        self.drained = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.heard.feed(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.drained.set()

    def process_exited(self) -> None:
        self.exited.set()
