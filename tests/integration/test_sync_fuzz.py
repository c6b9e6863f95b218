"""Any bytes at all: the sync service neither ends nor falls silent for others, and the client of it never breaks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.utils import accept_key

from testground.errors import SyncError
from testground.sync.client import SyncConnection, SyncSubscription
from testground.sync.transport import NotWebsocketError
from tests.frames import BINARY, CLOSE, CONTINUATION, HANDSHAKE, PING, PONG, TEXT, frame
from tests.integration.conftest import SyncProcess

DEADLINE = 20
EFFORT = settings(max_examples=150, deadline=None)
HEAD = "\r\n".join(["GET / HTTP/1.1", "Host: ...", *HANDSHAKE, "", ""]).encode()

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=8), values, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["id", "is_cancel", "publish", "subscribe", "barrier", "signal_entry", "topic", "state", "target"]
)
BODIES = st.dictionaries(KEYS | st.just("payload"), VALUES | st.just("fuzz"), max_size=4)
REQUESTS = st.dictionaries(KEYS, VALUES | BODIES, max_size=5).map(lambda value: json.dumps(value).encode())
MESSAGES = REQUESTS | st.binary(max_size=200) | st.sampled_from([b"{}", b"null"])
FRAMES = st.builds(
    frame,
    st.sampled_from([TEXT, TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG]) | st.integers(0, 15),
    MESSAGES,
    fin=st.booleans(),
    reserved=st.sampled_from([0, 0, 0, 0, 1, 4]),
    masked=st.sampled_from([True, True, True, False]),
)
WELL_FORMED = st.builds(frame, st.sampled_from([TEXT, BINARY]), REQUESTS)
STREAMS = st.lists(WELL_FORMED | FRAMES | st.binary(max_size=100), max_size=8).map(b"".join)
HANDSHAKES = st.sampled_from([HEAD, HEAD, HEAD, HEAD[:-2], b""]) | st.binary(max_size=300)
ENDINGS = st.sampled_from(["close", "shutdown", "reset"])


@dataclass
class Witness:
    """A client that counts a state up, and must always be answered."""

    port: int
    seqs: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port), DEADLINE)
        self.socket.sendall(HEAD)
        self.file = self.socket.makefile("rb")
        while self.file.readline() != b"\r\n":
            pass

    def signal(self) -> None:
        self.socket.sendall(frame(TEXT, b'{"id":"w","signal_entry":{"state":"witness"}}'))
        first, size = self.file.read(2)
        assert first == 0x80 | TEXT
        assert json.loads(self.file.read(size))["signal_entry"] == {"seq": next(self.seqs)}

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture(scope="module")
def witness(sync_process: SyncProcess) -> Iterator[Witness]:
    witness = Witness(sync_process.port)
    yield witness
    witness.close()


@EFFORT
@given(handshake=HANDSHAKES, stream=STREAMS, ending=ENDINGS)
def test_no_bytes_break_the_service(witness: Witness, handshake: bytes, stream: bytes, ending: str) -> None:
    with contextlib.closing(socket.create_connection(("127.0.0.1", witness.port), DEADLINE)) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(handshake)
            client.sendall(stream)
            if ending == "shutdown":
                client.shutdown(socket.SHUT_WR)
        if ending == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        witness.signal()
    witness.signal()


@EFFORT
@given(stream=STREAMS, cut=st.integers(1, 50))
def test_a_stream_in_small_pieces_breaks_nothing_either(witness: Witness, stream: bytes, cut: int) -> None:
    """The service has read each piece before the next one comes: the witness was answered in between."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", witness.port), DEADLINE)) as client:
        client.sendall(HEAD)
        for at in range(0, min(len(stream), 10 * cut), cut):
            with contextlib.suppress(ConnectionError):
                client.sendall(stream[at : at + cut])
            witness.signal()


class Wire(asyncio.Transport):
    """Leads nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def accepted(wire: Wire) -> bytes:
    """The service's answer to the handshake on this wire."""
    [key] = re.findall(rb"Sec-WebSocket-Key: (\S+)", wire.written)
    lines = ["HTTP/1.1 101 Switching Protocols", *HANDSHAKE[:2], f"Sec-WebSocket-Accept: {accept_key(key.decode())}"]
    return "\r\n".join([*lines, "", ""]).encode()


RESPONSES = st.fixed_dictionaries(
    {}, optional={"id": st.sampled_from(["0", "1", "x"]), "error": st.text(max_size=5), "subscribe": VALUES}
)
ANSWERS = st.builds(
    frame,
    st.sampled_from([TEXT, TEXT, BINARY, CONTINUATION, CLOSE, PING]) | st.integers(0, 15),
    RESPONSES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50),
    fin=st.booleans(),
    masked=st.sampled_from([False, False, False, True]),
)


@EFFORT
@given(shakes=st.booleans(), pieces=st.lists(ANSWERS | st.binary(max_size=100), max_size=8))
def test_no_bytes_break_the_client(shakes: bool, pieces: list[bytes]) -> None:
    """Whatever a service sends: what is pending ends, at the latest with the connection, and with an error."""

    async def converse() -> None:
        connection, wire = SyncConnection("nowhere", 1), Wire()
        protocol = connection._socket
        protocol.connection_made(wire)
        opened = asyncio.wait_for(protocol.wait_open(), DEADLINE)
        subscription = connection.subscribe("t")
        for piece in [accepted(wire)] * shakes + pieces:
            if not wire.closed:
                protocol.data_received(piece)
        if not wire.closed:
            protocol.eof_received()
        protocol.connection_lost(None)
        assert connection.lost
        with contextlib.suppress(NotWebsocketError, ConnectionError):
            await opened
        with pytest.raises(SyncError):
            await asyncio.wait_for(_exhaust(subscription), DEADLINE)

    asyncio.run(converse())


async def _exhaust(subscription: SyncSubscription) -> None:
    async for _ in subscription:
        pass
