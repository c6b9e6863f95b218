"""uvicorn inside our own task tree: no signal handling of its own (libraries §4), woken by an event, not by a timer."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Generator
from typing import Any

import anyio
import uvicorn
from starlette.types import ASGIApp

from testground.errors import ConfigError

GRACE_SECONDS = 5
"""How long answers may take to leave after a stop was asked for; then their connections are cut."""


class Server(uvicorn.Server):
    """Serves an application on bound sockets from `serve` until `stop`."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,  # it would be refreshed by polling; the gate writes it
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self.ready = anyio.Event()
        self.stopped = anyio.Event()
        self._stopping = anyio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._stopping.set()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().serve(sockets)
        finally:
            self.stopped.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def split_address(address: str, setting: str) -> tuple[str, int]:
    """`HOST:PORT`, `:PORT`, `[::1]:PORT` → host and port. Raises `ConfigError` that names the setting."""
    host, colon, port = address.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError(f"{setting}: {address!r} is not an address; write HOST:PORT, such as localhost:8042")
    return host, int(port)


def bind(address: str, setting: str) -> socket.socket:
    """A bound TCP socket; of several addresses of a name the first that works, IPv4 before IPv6.

    Raises `ConfigError` that names the address when none can be bound.
    """
    host, port = split_address(address, setting)
    problem: OSError | None = None
    for family, place in _places(host, port, setting):
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY for this only
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(place)
            # Two sockets may be bound to one address as long as neither listens: only this finds the address in use.
            sock.listen()
            return sock
        except OSError as error:
            sock.close()
            problem = error
    assert problem is not None
    raise ConfigError(f"{setting}: cannot listen on {address}: {reason(problem)}") from problem


def endpoint_of(sock: socket.socket, address: str, setting: str) -> str:
    """The URL at which clients of this machine reach a bound socket."""
    host, _ = split_address(address, setting)
    bound, port = sock.getsockname()[:2]
    if not host or host in ("0.0.0.0", "::"):
        host = "[::1]" if sock.family == socket.AF_INET6 else "127.0.0.1"
    elif ":" in host:
        host = f"[{bound}]"
    return f"http://{host}:{port}"


def reason(error: OSError) -> str:
    """Why an address cannot be had, in words; asyncio's own text repeats the address."""
    if error.errno == errno.EADDRINUSE:
        return "the address is already in use, perhaps by another daemon"
    return os.strerror(error.errno) if error.errno else str(error)


def _places(host: str, port: int, setting: str) -> list[tuple[int, Any]]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(f"{setting}: cannot resolve the host of {host}:{port}: {error}") from error
    places = [(int(family), place) for family, _, _, _, place in found if family in (socket.AF_INET, socket.AF_INET6)]
    return sorted(places, key=lambda item: item[0] != socket.AF_INET)
