"""The sync service as the whole of a process, which `testground sync-service` becomes."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import anyio

from testground.api.console import console_line
from testground.errors import SyncError
from testground.sync.server import serve_alone

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(listen: str, *, quiet: bool) -> int:
    """Serve at `HOST:PORT` until a signal; the exit status. Unless `quiet`, a log line says where."""
    try:
        anyio.run(_serve, listen, quiet)
    except SyncError as error:
        print(error)
        return error.exit_code
    return 0


async def _serve(listen: str, quiet: bool) -> None:
    with anyio.CancelScope() as scope:
        for number in STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, scope.cancel)
        await serve_alone(listen, None if quiet else _say)


def _say(address: str) -> None:
    with contextlib.suppress(OSError):  # whoever read what we say is gone
        print(console_line("info", "sync service listening", {"address": address}), end="", flush=True)
