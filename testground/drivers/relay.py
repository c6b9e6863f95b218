"""Passes connections that come in at one socket on to one address, byte for byte."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import anyio
from anyio.abc import SocketListener, SocketStream

CONNECT_SECONDS = 10.0

PAUSE_SECONDS = 0.2
"""After a connection could not be taken, mostly for want of file descriptors."""


async def serve(listening: socket.socket, host: str, port: int, failed: Callable[[str], None]) -> None:
    """Until it is cancelled. `failed` hears each time why nobody answers at `host`; the connection is closed then."""
    listening.setblocking(False)

    async def relay(near: SocketStream) -> None:
        async with near:
            try:
                with anyio.fail_after(CONNECT_SECONDS):
                    far = await anyio.connect_tcp(host, port)
            except (OSError, TimeoutError) as error:
                failed(_reason(error))
                return
            async with far, anyio.create_task_group() as pumps:
                pumps.start_soon(_pump, near, far, pumps.cancel_scope)
                pumps.start_soon(_pump, far, near, pumps.cancel_scope)

    async with await SocketListener.from_socket(listening) as listener, anyio.create_task_group() as tasks:
        while True:
            try:
                await listener.serve(relay, tasks)
            except OSError as error:
                failed(_reason(error))
            await anyio.sleep(PAUSE_SECONDS)


async def _pump(source: SocketStream, target: SocketStream, scope: anyio.CancelScope) -> None:
    """An end of what is sent is passed on, too; a broken connection breaks both."""
    try:
        async for data in source:
            await target.send(data)
        await target.send_eof()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        scope.cancel()


def _reason(error: OSError) -> str:
    """Of several addresses that were tried, the first one's."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    said = cause if isinstance(cause, OSError) else error
    if said.errno is not None and said.errno > 0:  # others are of the resolver
        return os.strerror(said.errno)
    return said.strerror or str(said) or f"no answer within {CONNECT_SECONDS:g} seconds"
