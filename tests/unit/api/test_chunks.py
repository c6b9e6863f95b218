from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testground.api import rpc
from testground.errors import StreamError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
CHUNK = st.one_of(
    st.binary().map(lambda data: (rpc.progress(data), rpc.Chunk("p", data, extra={}))),
    st.binary().map(lambda data: (rpc.binary(data), rpc.Chunk("b", data, extra={}))),
    JSON.map(lambda value: (rpc.result(value), rpc.Chunk("r", json.loads(json.dumps(value))))),
    st.text(min_size=1).map(lambda text: (rpc.error(text, "queue-full"), rpc.Chunk("e", text, "queue-full"))),
)


def decode(*pieces: bytes) -> list[rpc.Chunk]:
    decoder = rpc.ChunkDecoder()
    chunks = [chunk for piece in pieces for chunk in decoder.feed(piece)]
    decoder.close()
    return chunks


@given(st.lists(CHUNK, max_size=4), st.sampled_from([b"", b"\n", b" \r\n\t"]), st.data())
def test_any_cut_gives_the_same_chunks(
    pairs: list[tuple[bytes, rpc.Chunk]], separator: bytes, data: st.DataObject
) -> None:
    stream = separator.join(encoded for encoded, _ in pairs) + separator
    expected = [chunk for _, chunk in pairs]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decode(*pieces) == expected


@settings(max_examples=25)
@given(st.lists(CHUNK, min_size=1, max_size=3))
def test_byte_by_byte_and_at_every_single_cut(pairs: list[tuple[bytes, rpc.Chunk]]) -> None:
    stream = b"".join(encoded for encoded, _ in pairs)[:600]
    whole = rpc.ChunkDecoder()
    expected = list(whole.feed(stream))
    for pieces in [[bytes([byte]) for byte in stream], *([stream[:cut], stream[cut:]] for cut in range(len(stream)))]:
        decoder = rpc.ChunkDecoder()
        assert [chunk for piece in pieces for chunk in decoder.feed(piece)] == expected


@given(CHUNK, st.data())
def test_a_stream_that_breaks_off_inside_a_chunk_is_an_error(
    pair: tuple[bytes, rpc.Chunk], data: st.DataObject
) -> None:
    encoded, _ = pair
    cut = data.draw(st.integers(1, len(encoded) - 1))
    decoder = rpc.ChunkDecoder()
    assert list(decoder.feed(encoded[:cut])) == []
    with pytest.raises(StreamError, match="unexpected EOF"):
        decoder.close()


@given(st.binary(max_size=60))
def test_garbage_is_refused_or_waited_for(data: bytes) -> None:
    try:
        decode(data)
    except StreamError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        (b"<html>", "not a chunk stream: '<html>'"),
        (b"[]", "not a chunk stream"),
        (b"\xff", "not UTF-8"),
        (b'{"t":1}', "unknown message type: 1"),
        (b'{"t":true}', "unknown message type: True"),
        (b'{"p":"aGk="}', "unknown message type: None"),
        (b'{"t":112.0,"p":"aGk="}', "unknown message type: 112.0"),
        (b'{"t":112}', "without a base64 payload"),
        (b'{"t":112,"p":5}', "without a base64 payload"),
        (b'{"t":112,"p":"a"}', "illegal base64 data"),
        (b'{"t":112,"p":"aGk=!"}', "illegal base64 data"),
        (b'{"t":114,"p":]}', "not JSON"),
        (b"{bad}", "not JSON"),
        (b'{"t":114,"p":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON"),
        (b'{"t":114,"p":' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_bad_streams_get_one_clear_error(stream: bytes, complaint: str) -> None:
    with pytest.raises(StreamError, match=complaint):
        decode(stream)


def test_further_members_of_a_progress_chunk_arrive() -> None:
    [chunk] = decode(rpc.progress(b"", states={"group": "a", "total": 2}))
    assert chunk.extra == {"states": {"group": "a", "total": 2}}


def test_an_error_without_text_still_is_one() -> None:
    assert decode(b'{"t":101}') == [rpc.Chunk("e", "unknown error")]
    assert decode(b'{"t":101,"e":{"m":"no"},"c":5}') == [rpc.Chunk("e", "no")]


def test_many_small_reads_of_one_large_chunk_stay_cheap() -> None:
    encoded = rpc.binary(b"x" * 2_000_000)
    pieces = [encoded[at : at + 65536] for at in range(0, len(encoded), 65536)]
    assert len(decode(*pieces)[0].payload) == 2_000_000


def test_console_line_is_in_utc_with_a_padded_day() -> None:
    moment = datetime(2026, 3, 5, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=2)))
    assert rpc.console_line("warn", "careful", now=moment) == "Mar  4 23:02:03.000004\t\x1b[33mWARN\x1b[0m\tcareful\n"


def test_console_line_fields_are_json_with_blanks() -> None:
    moment = datetime(2026, 11, 23, tzinfo=UTC)
    line = rpc.console_line("info", "generated build artifact", {"group": "single", "artifact": "art-1"}, moment)
    assert line.split('"')[7] == "art-1"
    assert line.endswith('\t{"group": "single", "artifact": "art-1"}\n')
