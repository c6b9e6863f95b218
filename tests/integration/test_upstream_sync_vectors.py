"""The recorded conversations with upstream's own sync service (Go, v0.1.0): it answers what ours is held to.

It differs in what is listed as not to copy: payloads are encoded anew, with sorted keys and numbers as float64, so
they are compared as such; `null` leaves it mute, a cancelled subscription goes on, and the connection has no limit
of its own for an id.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from tests.integration.test_sync_golden import CLOSING, CONVERSATIONS
from tests.upstream import daemon, programs

DIFFERENT = {"7.5-null", "7.5-cancel"}
Plain: TypeAlias = list[tuple[str, Any]]
runs = (f"{number:020}" for number in itertools.count())


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    if reason := programs.missing() or daemon.taken():
        pytest.skip(reason)
    with daemon.sync_service() as endpoint:
        yield endpoint


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", sorted(CONVERSATIONS.keys() - DIFFERENT))
async def test_upstream_answers_as_in_the_vector(endpoint: str, name: str) -> None:
    """In states and topics of its own: the service keeps those of other conversations."""
    run = next(runs)
    clients: dict[str, Client] = {}
    with anyio.fail_after(30):
        for who, direction, text in CONVERSATIONS[name]:
            if who not in clients:
                clients[who] = Client(await connect(f"{endpoint}/any/path?x=1"))
            if direction == ">":
                await clients[who].connection.send(_moved(text, run))
            elif direction == "<":
                await clients[who].expect(_plain(text))
        for client in clients.values():
            await client.connection.close()
            assert client.early == []


class Client:
    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.early: list[Plain] = []
        """Deliveries come by a clock of their own, sometimes before the reply to a publish."""

    async def expect(self, answer: Plain) -> None:
        while answer not in self.early:
            text = await self.connection.recv()
            assert isinstance(text, str)
            assert text.endswith("}\n")
            self.early.append(_plain(text))
        self.early.remove(answer)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", CLOSING)
async def test_upstream_closes_as_in_the_vector(endpoint: str, name: str) -> None:
    message, code, reason = CLOSING[name]
    async with connect(endpoint) as client:
        await client.send(message)
        with anyio.fail_after(10), pytest.raises(ConnectionClosedError) as caught:
            await client.recv()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (code, reason)


def _moved(text: str, run: str) -> str:
    moved = text.replace("c0ffee0000000000000g", run)
    return re.sub(r'"(state|topic)":"([st])"', rf'"\1":"{run} \2"', moved, flags=re.IGNORECASE)


def _plain(answer: str) -> Plain:
    """The members in their order; what is delivered as JSON, as upstream's numbers."""
    members: dict[str, Any] = json.loads(answer)
    if members["subscribe"]:
        members["subscribe"] = json.loads(members["subscribe"], parse_int=float)
    return list(members.items())
