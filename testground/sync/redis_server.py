"""The sockets of the service as Redis: one door per instance, as `server` has them for websockets."""

from __future__ import annotations

import asyncio
import logging

from testground.sync.redis import Clients, RedisSession
from testground.sync.resp import Parser, RespError, error
from testground.sync.service import Member, Service

MAX_BACKLOG = 64 << 20
"""Unsent bytes for which a connection is dropped: somebody asks on and on, and never reads."""

logger = logging.getLogger("testground.sync")


class RedisConnection(asyncio.Protocol):
    """One connection of an instance."""

    def __init__(self, service: Service, clients: Clients, connections: set[RedisConnection], member: Member) -> None:
        self.member = member
        self._service = service
        self._clients = clients
        self._connections = connections
        self._parser = Parser()
        self._session: RedisSession
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
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
        loop = asyncio.get_running_loop()
        return await loop.create_server(
            lambda: RedisConnection(self._service, self._clients, self._connections, member), host, 0
        )

    def close(self, run_id: str | None = None) -> None:
        """End the connections of a run, or all."""
        for connection in list(self._connections):
            if run_id is None or connection.member.run_id == run_id:
                connection.close()
