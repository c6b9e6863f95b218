"""The sockets of the sync service: websockets parsed by picows, one port for all and one door per instance.

Everything about frames that is not parsing is in `connection`; nothing else imports picows.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import Any

import anyio
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from testground.errors import SyncError
from testground.sync.connection import Connection, Turns
from testground.sync.redis_server import RedisDoors
from testground.sync.service import Member, MemberOf, Service

HANDSHAKE_DEADLINE = 60.0
"""Seconds from connecting to asking for a websocket; an instance of many may get no processor time for a while."""

LARGEST_FRAME = 1 << 20
"""Bytes up to which a frame that is too large is read to its end, so that its sender gets to see why it is refused."""

PENDING_CONNECTIONS = 2048
"""Length of the system's queue of connections not accepted yet: all instances of a run connect at once."""

STOP_DEADLINE = 1.0
"""Seconds for all connections to answer a close when the service stops."""

TEXT, BINARY, CONTINUATION = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION
PING, CLOSE = WSMsgType.PING, WSMsgType.CLOSE

logger = logging.getLogger("testground.sync.picows")
logger.setLevel(logging.WARNING)  # it tells of every connection otherwise


class SyncServer:
    """`host` is the address it listens at, `port` the one for all; made by `open_server`."""

    def __init__(self, service: Service, host: str) -> None:
        self.service = service
        self.host = "127.0.0.1" if host == "localhost" else host
        self.port = 0
        self._turns = Turns()
        self._listeners: list[asyncio.Server] = []
        self._doors: dict[str, list[asyncio.Server]] = {}
        self._redis = RedisDoors(service)
        self._connections: set[Connection] = set()
        self._deserted = asyncio.Event()

    async def open_door(self, member: Member, host: str = "", port: int = 0) -> int:
        """One more address, whose connections are those of a live member of a begun run; returns its port.

        By default at the host of all, where the system likes. `OSError` if there is none, or it is taken.
        """
        self.service.give_door(member)
        with _plain_errors():
            door = await self._listen(host or self.host, port, member)
        self._doors.setdefault(member.run_id, []).append(door)
        return _port(door)

    async def open_shared_door(self, run_id: str, door: socket.socket, member_of: MemberOf) -> None:
        """Serve all members of a run at a socket that listens, and is this server's from now on.

        `member_of` tells them apart by the address that they come from.
        """
        server = await self._listen_with(member_of, sock=door)
        self._doors.setdefault(run_id, []).append(server)

    async def open_shared_redis_door(self, run_id: str, door: socket.socket, member_of: MemberOf) -> None:
        """As `open_shared_door`, for old SDKs that find the service as Redis."""
        server = await self._redis.open_shared(door, member_of)
        self._doors.setdefault(run_id, []).append(server)

    async def open_redis_door(self, member: Member) -> int:
        """A port where the member finds the service as Redis, for old SDKs. `OSError` if none is left."""
        with _plain_errors():
            door = await self._redis.open(self.host, member)
        self._doors.setdefault(member.run_id, []).append(door)
        return _port(door)

    def close_doors(self, run_id: str) -> None:
        """Close the doors of a run, and the connections that came through them."""
        for door in self._doors.pop(run_id, ()):
            door.close()
        self._redis.close(run_id)
        for connection in list(self._connections):
            if connection.member is not None and connection.member.run_id == run_id:
                connection.fail(1001, f"run {run_id} has ended")

    async def start(self, host: str, port: int) -> None:
        """For `open_server`. A fixed port of `localhost` is taken in both families: some clients try only the first."""
        self._listeners.append(await self._listen(self.host, port, None))
        self.port = _port(self._listeners[0])
        if host == "localhost" and port:
            with _ipv6_if_any():
                self._listeners.append(await self._listen("::1", port, None))

    async def stop(self) -> None:
        """Close everything; connections get a moment to answer. Harmless when repeated."""
        listeners = [*self._listeners, *(door for doors in self._doors.values() for door in doors)]
        self._listeners.clear()
        self._doors.clear()
        for listener in listeners:
            listener.close()
        self._redis.close()
        for connection in list(self._connections):
            connection.fail(1001, "the sync service is going away")
        with anyio.move_on_after(STOP_DEADLINE, shield=True):
            await self._left_alone()
        for connection in list(self._connections):
            connection.abort()
        for listener in listeners:
            _drop_half_open(listener)
        with anyio.CancelScope(shield=True):
            await self._left_alone()

    async def _listen(self, host: str, port: int, member: Member | None) -> asyncio.Server:
        return await self._listen_with(lambda peer: member, host=host, port=port)

    async def _listen_with(self, member_of: MemberOf, **where: Any) -> asyncio.Server:
        def accept(request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return _Listener(self, member_of)
            return _upgrade_required()

        with anyio.CancelScope(shield=True):  # asyncio leaves the socket open when it is cancelled after binding
            listener = await ws_create_server(
                accept,
                **where,
                backlog=PENDING_CONNECTIONS,
                enable_auto_pong=False,
                max_frame_size=LARGEST_FRAME,
                websocket_handshake_timeout=HANDSHAKE_DEADLINE,
                logger_name=logger,
            )
        return listener  # noqa: RET504 – mypy thinks that a scope may swallow what is raised

    def connect(self, transport: asyncio.Transport, member: Member | None) -> Connection:
        """For a websocket that has just been opened."""
        connection = Connection(self._turns, transport, self.service, member)
        self._connections.add(connection)
        return connection

    def disconnect(self, connection: Connection) -> None:
        """For a websocket whose socket is gone."""
        connection.lost()
        self._connections.discard(connection)
        if not self._connections:
            self._deserted.set()

    async def _left_alone(self) -> None:
        while self._connections:
            self._deserted.clear()
            await self._deserted.wait()


@asynccontextmanager
async def open_server(service: Service, host: str, port: int) -> AsyncIterator[SyncServer]:
    """Serve until left. Port 0: the system picks one. `OSError` when the address cannot be had."""
    server = SyncServer(service, host)
    try:
        await server.start(host, port)
        yield server
    finally:
        await server.stop()


async def serve_alone(listen: str, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve at `HOST:PORT` until cancelled; `on_ready` gets the address with the port that was bound."""
    host, port = _address(listen)
    try:
        async with open_server(Service(), host, port) as server:
            if on_ready is not None:
                on_ready(f"{host}:{server.port}")
            await anyio.sleep_forever()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise SyncError(f"the sync service cannot listen at {listen}: {reason}") from error


class _Listener(WSListener):
    """Frames of one websocket, as picows reads them."""

    def __init__(self, server: SyncServer, member_of: MemberOf) -> None:
        self._server = server
        self._member_of = member_of
        self._connection: Connection
        self._fragmented: WSMsgType | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        peer = transport.underlying_transport.get_extra_info("peername")
        member = self._member_of(peer[0] if peer else "")
        self._connection = self._server.connect(transport.underlying_transport, member)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._connection.fail(1002, "a reserved bit is set, and no extension was agreed on")
        elif kind is TEXT and frame.fin and self._fragmented is None:
            self._connection.receive(frame.get_payload_as_bytes(), binary=False, more=not frame.last_in_buffer)
        elif kind is CLOSE:
            self._connection.receive_close(frame.get_payload_as_bytes())
        elif kind is PING:
            self._connection.receive_ping(frame.get_payload_as_bytes())
        elif kind in (TEXT, BINARY, CONTINUATION):
            self._on_fragment(kind, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._server.disconnect(self._connection)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def _on_fragment(self, kind: WSMsgType, frame: WSFrame) -> None:
        """A part of a message, or a whole binary one."""
        if (kind is CONTINUATION) is (self._fragmented is None):
            self._connection.fail(1002, "a message within another, or a continuation of none")
            return
        first = self._fragmented or kind
        self._fragmented = None if frame.fin else first
        self._connection.receive_fragment(
            frame.get_payload_as_bytes(), binary=first is BINARY, last=frame.fin, more=not frame.last_in_buffer
        )


def _upgrade_required() -> WSUpgradeResponseWithListener:
    body = b"this is a sync service: connect with a websocket\n"
    headers = {"Upgrade": "websocket", "Content-Type": "text/plain; charset=utf-8"}
    response = WSUpgradeResponse.create_error_response(HTTPStatus.UPGRADE_REQUIRED, body, headers)
    return WSUpgradeResponseWithListener(response, None)


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise SyncError(f"cannot listen at '{listen}': HOST:PORT is needed, such as localhost:5050")
    return host.strip("[]"), int(port)


def _port(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


def _drop_half_open(server: asyncio.Server) -> None:
    """Abort what connected and never asked for a websocket; asyncio itself can do so from Python 3.13 on."""
    abort_clients = getattr(server, "abort_clients", None)
    if abort_clients is not None:
        abort_clients()


@contextmanager
def _plain_errors() -> Iterator[None]:
    """asyncio does not say why it got no socket at all: for want of file descriptors, mostly."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            socket.socket().close()
        raise


@contextmanager
def _ipv6_if_any() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise
