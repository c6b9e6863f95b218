import asyncio
import errno
import os
import socket

import anyio
from anyio.abc import SocketAttribute, SocketStream

from testground.drivers import relay


async def test_it_goes_on_after_connections_that_it_could_not_take(monkeypatch):
    """For want of descriptors: those who hold them end, and the run goes on."""
    monkeypatch.setattr(relay, "PAUSE_SECONDS", 0.01)
    target = await anyio.create_tcp_listener(local_host="127.0.0.1")
    door = socket.create_server(("127.0.0.1", 0))
    loop = asyncio.get_running_loop()
    accept = loop.sock_accept
    troubles = [OSError(errno.EMFILE, os.strerror(errno.EMFILE))] * 2

    async def accept_at_last(listening: socket.socket):
        if listening is door and troubles:
            raise troubles.pop()
        return await accept(listening)

    monkeypatch.setattr(loop, "sock_accept", accept_at_last)
    failures: list[str] = []
    with anyio.fail_after(10):
        async with target, anyio.create_task_group() as tasks:
            tasks.start_soon(target.serve, echo)
            tasks.start_soon(relay.serve, door, "127.0.0.1", target.extra(SocketAttribute.local_port), failures.append)
            async with await anyio.connect_tcp(*door.getsockname()) as client:
                await client.send(b"still there")
                assert await client.receive() == b"still there"
            tasks.cancel_scope.cancel()
    assert failures == [os.strerror(errno.EMFILE)] * 2


async def echo(client: SocketStream) -> None:
    async with client:
        await client.send(await client.receive())
