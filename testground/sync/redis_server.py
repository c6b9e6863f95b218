"""The sockets of the service as Redis: one door per instance, as `server` has them for websockets."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from testground.sync.redis import Clients, RedisSession
from testground.sync.resp import Parser, RespError, error
from testground.sync.service import Member, MemberOf, Service

MAX_BACKLOG = 64 << 20
"""Unsent bytes for which a connection is dropped: somebody asks on and on, and never reads."""

logger = logging.getLogger("testground.sync")


class RedisConnection(asyncio.Protocol):
    """One connection of an instance."""

    def __init__(
        self, service: Service, clients: Clients, connections: set[RedisConnection], member_of: MemberOf
    ) -> None:
        self.member: Member | None = None
        self._member_of = member_of
        self._service = service
        self._clients = clients
        self._connections = connections
        self._parser = Parser()
        self._session: RedisSession
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.member = self._member_of(transport.get_extra_info("peername", ("",))[0])
        loop = asyncio.get_running_loop()
        self._session = RedisSession(self._service, self._send, self._clients, loop.call_later, self.member)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            for command in self._parser.feed(data):
                if self._transport.is_closing():
                    return
                self._session.receive(command)
        except RespError as problem:
            self._transport.write(error(f"Protocol error: {problem}"))
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._session.close()
        self._connections.discard(self)

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def close(self) -> None:
        """At once, also for what waits to be carried out: nothing may touch the run any more."""
        self._session.close()
        self._transport.abort()

    def _send(self, reply: bytes) -> None:
        self._transport.write(reply)
        if self._transport.get_write_buffer_size() > MAX_BACKLOG:
            logger.warning("%s does not read what it asked for; its connection is closed", self.member)
            self._transport.abort()


class RedisDoors:
    """Opens the doors of a sync server for old SDKs."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._clients = Clients()
        self._connections: set[RedisConnection] = set()

    async def open(self, host: str, member: Member) -> asyncio.Server:
        """Listen at a port that the system picks. Raises `OSError` if none is left."""
        return await asyncio.get_running_loop().create_server(self._connection(lambda peer: member), host, 0)

    async def open_shared(self, door: socket.socket, member_of: MemberOf) -> asyncio.Server:
        """For all members of a run, at a socket that listens."""
        return await asyncio.get_running_loop().create_server(self._connection(member_of), sock=door)

    def close(self, run_id: str | None = None) -> None:
        """End the connections of a run, or all."""
        for connection in list(self._connections):
            if run_id is None or (connection.member is not None and connection.member.run_id == run_id):
                connection.close()

    def _connection(self, member_of: MemberOf) -> Callable[[], RedisConnection]:
        return lambda: RedisConnection(self._service, self._clients, self._connections, member_of)
