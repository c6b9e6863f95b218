"""Chunk vectors C1 to C10 of client-daemon §8.1: encoded, decoded, in every cut, and as answers to our client."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from testground.api import rpc
from testground.api.rpc import Chunk, ChunkDecoder
from testground.client import Client
from testground.errors import StreamError, TestgroundError
from testground.plan import sources
from tests.unit.conftest import FakeDaemon

ID = "dc28aidqmd2op8cgmlg0"


def progress(data: bytes) -> Chunk:
    return Chunk("p", data, extra={})


def binary(data: bytes) -> Chunk:
    return Chunk("b", data, extra={})


@dataclass(frozen=True)
class Vector:
    wire: bytes
    chunks: list[Chunk]
    error: str = ""
    """What ends the reading after the chunks, if not the end of the stream."""


VECTORS = {
    "C1": Vector(b'{"t":114,"p":"dc28aidqmd2op8cgmlg0"}', [Chunk("r", ID)]),
    "C2": Vector(b'{"t":98,"p":"AQIDBA=="}', [binary(b"\x01\x02\x03\x04")]),
    "C3": Vector(b'{"t":101,"e":{"m":"engine run error: queue full"}}', [Chunk("e", "engine run error: queue full")]),
    "C4-false": Vector(b'{"t":114,"p":false}', [Chunk("r", False)]),
    "C4-null": Vector(b'{"t":114,"p":null}', [Chunk("r", None)]),
    "C5-not-filled-from-the-chunk-before": Vector(
        b'{"t":112,"p":"aGk="}{"t":114}', [progress(b"hi"), Chunk("r", None)]
    ),
    "C6-what-follows-the-result-is-no-chunk": Vector(
        b'\n {"t":98,"p":"aGk="}\n{"t":114,"p":true}garbage',
        [binary(b"hi"), Chunk("r", True)],
        "not a chunk stream: 'g",
    ),
    "C7-accepted-by-us": Vector(b'{"t":"r","p":"x"}', [Chunk("r", "x")]),
    "C8-inside-a-chunk": Vector(b'{"t":112,"p":"aG', [], "unexpected EOF"),
    "C8-empty": Vector(b"", []),
    "C10": Vector(b'{"t":112,"p":"aGk="}{"t":114,"p":"dc28aidqmd2op8cgmlg0"}', [progress(b"hi"), Chunk("r", ID)]),
}
ENCODED = {
    "C1": rpc.result(ID),
    "C2": rpc.binary(b"\x01\x02\x03\x04"),
    "C3": rpc.error("engine run error: queue full"),
    "C4-false": rpc.result(False),
    "C4-null": rpc.result(None),
    "C10": rpc.progress(b"hi") + rpc.result(ID),
}


@pytest.mark.parametrize("name", ENCODED)
def test_encoding(name: str) -> None:
    assert ENCODED[name] == VECTORS[name].wire


@pytest.mark.parametrize("name", VECTORS)
def test_decoding_in_every_cut(name: str) -> None:
    vector = VECTORS[name]
    whole, singly = [vector.wire], [vector.wire[at : at + 1] for at in range(len(vector.wire))]
    halves = [[vector.wire[:cut], vector.wire[cut:]] for cut in range(len(vector.wire))]
    for pieces in (whole, singly, *halves):
        chunks, error = decode(pieces)
        assert chunks == vector.chunks
        assert vector.error in error
        assert bool(vector.error) == bool(error)


def decode(pieces: list[bytes]) -> tuple[list[Chunk], str]:
    decoder, chunks = ChunkDecoder(), []
    try:
        for piece in pieces:
            chunks.extend(decoder.feed(piece))
        decoder.close()
    except StreamError as error:
        return chunks, str(error)
    return chunks, ""


@pytest.mark.parametrize(
    ("wire", "outcome"),
    [
        pytest.param(VECTORS["C1"].wire, ID, id="C1"),
        pytest.param(VECTORS["C3"].wire, "engine run error: queue full", id="C3"),
        pytest.param(VECTORS["C4-false"].wire, "result should be string", id="C4"),
        pytest.param(b'{"t":112,"p":"aGk="}{"t":114}', "result should be string", id="C5"),
        pytest.param(b'\n {"t":112,"p":"aGk="}\n{"t":114,"p":"x"}garbage', "x", id="C6"),
        pytest.param(VECTORS["C7-accepted-by-us"].wire, "x", id="C7"),
        pytest.param(VECTORS["C8-inside-a-chunk"].wire, "unexpected EOF: ", id="C8-inside-a-chunk"),
        pytest.param(b"", "EOF: ", id="C8-empty"),
        pytest.param(VECTORS["C10"].wire, ID, id="C10"),
    ],
)
def test_what_our_client_makes_of_it_in_every_cut(
    fake_daemon: FakeDaemon, client: Client, tmp_path: Path, wire: bytes, outcome: str
) -> None:
    """In pieces of a chunked HTTP body, as the answer to a request whose result is a text."""
    cuts = [(wire[:cut], wire[cut:]) for cut in range(len(wire))] or [()]
    for pieces in cuts:
        fake_daemon.answer("/build", *pieces)
    for _ in cuts:
        try:
            with sources.pack(b"{}", tmp_path) as upload:
                told = client.build(upload)
        except TestgroundError as error:
            told = str(error)
        assert told.startswith(outcome)


def test_c9_a_console_line_as_payload() -> None:
    payload = "TWF5IDIxIDA2OjQwOjM3Ljg5NTE0OQkbWzM0bUlORk8bWzBtCXRlc3QJeyJyZXFfaWQiOiAiVGVzdExvZ2dpbmdJbmZvIn0K"
    text = 'May 21 06:40:37.895149\t\x1b[34mINFO\x1b[0m\ttest\t{"req_id": "TestLoggingInfo"}\n'
    moment = datetime(2020, 5, 21, 6, 40, 37, 895149, tzinfo=UTC)
    assert rpc.console_line("info", "test", {"req_id": "TestLoggingInfo"}, moment) == text
    assert rpc.progress(text.encode()) == b'{"t":112,"p":"%s"}' % payload.encode()
    assert decode([rpc.progress(text.encode())]) == ([progress(text.encode())], "")
    assert base64.b64decode(payload).decode() == text


@pytest.mark.parametrize(
    ("message", "fields", "separator", "place"),
    [
        pytest.param(f"run is queued with ID: {ID}", None, None, 10, id="L5-queued"),
        pytest.param(f"finished run with ID: {ID}", None, None, 9, id="L5-finished"),
        pytest.param("generated build artifact", {"group": "single", "artifact": ID}, '"', 8, id="L5-artifact"),
    ],
)
def test_scripts_find_ids_in_console_lines(
    message: str, fields: dict[str, str] | None, separator: str | None, place: int
) -> None:
    """With `awk '{print $10}'` and the like."""
    assert rpc.console_line("info", message, fields).split(separator)[place - 1] == ID
