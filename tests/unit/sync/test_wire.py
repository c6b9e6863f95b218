"""The codec: what is read and written, byte for byte (contract §3.2, §3.3, §7.4, §7.5)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testground.sync import wire

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b'{"id":"1","is_cancel":false,"signal_entry":{"state":"s"}}\n', {"id": "1", "signal_entry": {"state": "s"}}),
        (b'{"signal_entry":{"state":"s"},"id":"4"}', {"id": "4", "signal_entry": {"state": "s"}}),
        (b'{"ID":"CI","Signal_Entry":{"STATE":"s"}}', {"id": "CI", "signal_entry": {"state": "s"}}),
        (b'{"id":"x","Publish":{"TOPIC":"t","Payload":[1, 2]}}', {"publish": {"topic": "t", "payload": "[1, 2]"}}),
        (b'{"id":"x","other":1,"barrier":{"state":"s","target":3,"more":{}}}', {"barrier": {"target": 3}}),
        (b'{"id":null,"is_cancel":null,"subscribe":{"topic":null}}', {"id": "", "subscribe": {"topic": ""}}),
        (b'{"publish":{"topic":"t"}}', {"publish": {"topic": "t", "payload": "null"}}),
        (b'{"publish":{"topic":"t","payload":null},"extra":0}', {"publish": {"topic": "t", "payload": "null"}}),
        (b'{"barrier":{"state":"s","target":-5}}', {"barrier": {"state": "s", "target": -5}}),
        (b'{"id":"n2","publish":null}', {"id": "n2", "publish": None}),
        (b"null", {"id": "", "publish": None, "subscribe": None, "barrier": None, "signal_entry": None}),
        (b"{}", {"id": "", "is_cancel": False}),
    ],
)
def test_reads_requests_of_all_sdks(message: bytes, expected: dict[str, Any]) -> None:
    assert _subset(_plain(wire.decode_request(message)), expected) == expected


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"nonsense",
        b"[]",
        b'"text"',
        b'{"id":3,"signal_entry":{"state":"s"}}',
        b'{"id":"x","barrier":{"state":"s","target":1.5}}',
        b'{"id":"x","barrier":{"state":"s","target":2.0}}',
        b'{"id":"x","barrier":{"state":"s","target":"2"}}',
        b'{"id":"x","barrier":{"state":"s","target":9223372036854775808}}',
        b'{"id":"x","Barrier":{"state":"s","target":-9223372036854775809}}',
        b'{"id":"x","barrier":[]}',
        b'{"id":"x","is_cancel":1}',
        b'{"id":"x","publish":{"topic":"t","payload":{"a":1,}}}',
        b'{"id":"x","publish":{"topic":"t","payload":"\\q"}}',
        b'{"id":"x","publish":{"topic":"t","payload":' + b"[" * 16000,
        b'{"id":"x"} trailing',
        b'{"id":"\xff"}',
    ],
)
def test_refuses_what_is_no_request(message: bytes) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.decode_request(message)
    assert (caught.value.code, caught.value.reason) == (1007, "failed to unmarshal JSON")


@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("character", ["\x01", '"', "\x7f", "\N{GRINNING FACE}"])
def test_replies_are_no_longer_than_clients_can_read(character: str, quoted: bool) -> None:
    reply = wire.failed("\x00" * wire.MAX_ID, f"begins{character * 40_000}ends", quoted=quoted)
    assert len(reply) <= wire.MAX_MESSAGE
    error = wire.decode_response(reply).error
    assert (error[1:-1] if quoted else error).startswith("begins") and error.rstrip('"').endswith("ends")


def test_refuses_ids_that_no_reply_could_carry() -> None:
    assert wire.decode_request(b'{"id":"%b"}' % (b"x" * 64)).id == "x" * 64
    with pytest.raises(wire.WireError) as caught:
        wire.decode_request(b'{"id":"%b"}' % (b"x" * 65))
    assert caught.value.code == 1008


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (wire.met("7"), '{"id":"7","error":"","publish":null,"subscribe":"","signal_entry":null}'),
        (wire.published("4", 1), '{"id":"4","error":"","publish":{"seq":1},"subscribe":"","signal_entry":null}'),
        (wire.signalled("2", 9), '{"id":"2","error":"","publish":null,"subscribe":"","signal_entry":{"seq":9}}'),
        (
            wire.failed("x", 'no "luck"', quoted=False),
            r'{"id":"x","error":"no \"luck\"","publish":null,"subscribe":"","signal_entry":null}',
        ),
        (
            wire.failed("x", 'no "luck"', quoted=True),
            r'{"id":"x","error":"\"no \\\"luck\\\"\"","publish":null,"subscribe":"","signal_entry":null}',
        ),
        (
            wire.delivery_head('a"b') + wire.delivery_tail(msgspec.Raw(b'{"N":9007199254740993, "a":"\\u003c"}')),
            r'{"id":"a\"b","error":"","publish":null,"subscribe":"{\"N\":9007199254740993, \"a\":\"\\u003c\"}",'
            r'"signal_entry":null}',
        ),
    ],
)
def test_replies_have_five_keys_in_their_order(reply: bytes, expected: str) -> None:
    assert reply.decode() == expected


@given(st.text(max_size=64), JSON)
def test_deliveries_carry_the_payload_verbatim(request_id: str, payload: Any) -> None:
    text = json.dumps(payload)
    frame = wire.delivery_head(request_id) + wire.delivery_tail(msgspec.Raw(text.encode()))
    delivered = json.loads(frame)
    assert delivered["id"] == request_id
    assert delivered["subscribe"] == text


@given(st.text(max_size=64), st.text(), st.integers(0, 2**62))
def test_calls_are_read_as_they_were_written(request_id: str, key: str, target: int) -> None:
    call = wire.Call(request_id, barrier=wire.Barrier(key, target))
    request = wire.decode_request(wire.encode_call(call))
    assert (request.id, request.barrier) == (request_id, wire.Barrier(key, target))
    assert [request.publish, request.subscribe, request.signal_entry] == [None, None, None]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(message: bytes) -> None:
    try:
        wire.decode_request(message)
    except wire.WireError as error:
        assert error.code in (1007, 1008)


def test_calls_are_written_as_other_sdks_do() -> None:
    call = wire.Call("5", publish=wire.Publish("t", msgspec.Raw(b'{"x": 1}')))
    assert wire.encode_call(call) == b'{"id":"5","is_cancel":false,"publish":{"topic":"t","payload":{"x": 1}}}'


def test_calls_that_the_service_would_refuse_are_not_written() -> None:
    fits = msgspec.Raw(b'"%b"' % (b"x" * 32000))
    assert wire.encode_call(wire.Call("5", publish=wire.Publish("t", fits)))
    too_long = msgspec.Raw(b'"%b"' % (b"x" * 32768))
    with pytest.raises(wire.WireError, match="32768 at most"):
        wire.encode_call(wire.Call("5", publish=wire.Publish("t", too_long)))


def test_payloads_that_are_not_utf8_are_refused() -> None:
    request = wire.decode_request(b'{"publish":{"topic":"t","payload":"\xff"}}')
    assert request.publish is not None
    with pytest.raises(wire.WireError):
        wire.delivery_tail(request.publish.payload)


@pytest.mark.parametrize("message", [b"{", b"[]", b'{"id":1}', b'{"id":"\xff"}'])
def test_refuses_what_is_no_response(message: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode_response(message)


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Raw):
        return bytes(value).decode()
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    return value


def _subset(value: Any, like: Any) -> Any:
    if isinstance(value, dict) and isinstance(like, dict):
        return {key: _subset(value[key], like[key]) for key in like}
    return value


@pytest.mark.parametrize(
    ("payload", "stored"),
    [
        (rb'"a\ud800b\uDFFF"', rb'"a\ufffdb\ufffd"'),
        (rb'"\ud83d\ude00\ud83d"', rb'"\ud83d\ude00\ufffd"'),
        (rb'"\ude00\ud83d\ude00"', rb'"\ufffd\ud83d\ude00"'),
        (rb'"\ud800\\ud800"', rb'"\ufffd\\ud800"'),
        (rb'{"\ud800":"\ud800\n"}', rb'{"\ufffd":"\ufffd\n"}'),
    ],
)
def test_half_a_surrogate_pair_is_replaced_as_in_go(payload: bytes, stored: bytes) -> None:
    """`JSON.stringify` writes such text; the Go sync service (v0.1.0) takes it and delivers U+FFFD."""
    publish = wire.decode_request(b'{"publish":{"topic":"t","payload":' + payload + b'},"id":"0"}').publish
    assert publish is not None
    assert bytes(publish.payload) == stored


@pytest.mark.parametrize("payload", [rb'"\ud8"}', rb'"\ud8zz"', rb'"\ud800', rb'"\\\u"'])
def test_half_an_escape_is_not_made_valid(payload: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode_request(b'{"publish":{"topic":"t","payload":' + payload + b"}}")
