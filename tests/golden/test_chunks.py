"""Chunk vectors of client-daemon §8.1."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest

from testground.api import rpc
from testground.errors import StreamError

SINGLE = [
    (
        b'{"t":114,"p":"dc28aidqmd2op8cgmlg0"}',
        rpc.Chunk("r", "dc28aidqmd2op8cgmlg0"),
        rpc.result("dc28aidqmd2op8cgmlg0"),
    ),
    (b'{"t":98,"p":"AQIDBA=="}', rpc.Chunk("b", b"\x01\x02\x03\x04", extra={}), rpc.binary(b"\x01\x02\x03\x04")),
    (
        b'{"t":101,"e":{"m":"engine run error: queue full"}}',
        rpc.Chunk("e", "engine run error: queue full"),
        rpc.error("engine run error: queue full"),
    ),
    (b'{"t":114,"p":false}', rpc.Chunk("r", False), rpc.result(False)),
    (b'{"t":114,"p":null}', rpc.Chunk("r", None), rpc.result(None)),
]


@pytest.mark.parametrize(("wire", "chunk", "encoded"), SINGLE)
def test_single_chunks(wire: bytes, chunk: rpc.Chunk, encoded: bytes) -> None:
    assert list(rpc.ChunkDecoder().feed(wire)) == [chunk]
    assert encoded == wire


def test_c5_a_result_without_payload_is_not_filled_from_the_chunk_before() -> None:
    chunks = list(rpc.ChunkDecoder().feed(b'{"t":112,"p":"aGk="}{"t":114}'))
    assert chunks == [rpc.Chunk("p", b"hi", extra={}), rpc.Chunk("r", None)]


def test_c6_what_follows_the_result_is_not_looked_at() -> None:
    stream = rpc.ChunkDecoder().feed(b'\n {"t":98,"p":"aGk="}\n{"t":114,"p":true}garbage')
    assert next(stream) == rpc.Chunk("b", b"hi", extra={})
    assert next(stream) == rpc.Chunk("r", True)


def test_c7_the_one_letter_kind_is_accepted() -> None:
    assert list(rpc.ChunkDecoder().feed(b'{"t":"r","p":"x"}')) == [rpc.Chunk("r", "x")]


def test_c8_end_of_stream_inside_a_chunk() -> None:
    decoder = rpc.ChunkDecoder()
    assert list(decoder.feed(b'{"t":112,"p":"aG')) == []
    with pytest.raises(StreamError, match="unexpected EOF"):
        decoder.close()
    rpc.ChunkDecoder().close()


def test_c9_a_console_line_as_payload() -> None:
    payload = "TWF5IDIxIDA2OjQwOjM3Ljg5NTE0OQkbWzM0bUlORk8bWzBtCXRlc3QJeyJyZXFfaWQiOiAiVGVzdExvZ2dpbmdJbmZvIn0K"
    moment = datetime(2020, 5, 21, 6, 40, 37, 895149, tzinfo=UTC)
    line = rpc.console_line("info", "test", {"req_id": "TestLoggingInfo"}, moment)
    assert base64.b64encode(line.encode()).decode() == payload


def test_c10_byte_by_byte_and_in_one_read() -> None:
    stream = b'{"t":112,"p":"aGk="}' + SINGLE[0][0]
    decoder = rpc.ChunkDecoder()
    singly = [chunk for byte in stream for chunk in decoder.feed(bytes([byte]))]
    assert singly == list(rpc.ChunkDecoder().feed(stream)) == [rpc.Chunk("p", b"hi", extra={}), SINGLE[0][1]]


@pytest.mark.parametrize(
    "line", ["run is queued with ID: dc28b05qmd2op8cgmlh0", "finished run with ID: dc28b05qmd2op8cgmlh0"]
)
def test_l5_scripts_split_console_lines_on_blanks(line: str) -> None:
    words = rpc.console_line("info", line).split()
    assert words[9 if line.startswith("run") else 8] == "dc28b05qmd2op8cgmlh0"
