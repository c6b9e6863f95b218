"""Bodies as foreign clients write them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testground.daemon import jsonbody
from testground.errors import RequestError


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"{}", {}),
        (b"null", {}),
        (b' \r\n\t{"a":1}\n', {"a": 1}),
        (b'{"a":1}{"b":2}', {"a": 1}),
        (b'{"a":1}garbage', {"a": 1}),
        (b'{"a":"\xff"}', {"a": "�"}),
        (b'{"a":"\\ud800"}', {"a": "\ufffd"}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"\\udfff":["\\udfff"]}', {"\ufffd": ["\ufffd"]}),
        (b'{"a":"\\u0000"}', {"a": "\0"}),
    ],
)
def test_accepted(body: bytes, value: dict[str, Any]) -> None:
    assert jsonbody.parse(body) == value


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "EOF"),
        (b" \n", "EOF"),
        (b"{bad", "property name"),
        (b'{"a":', "Expecting value"),
        (b"[]", "an object is needed"),
        (b'"text"', "an object is needed"),
        (b"7", "an object is needed"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "Infinity"),
        (b'{"a":1e999}', "too large"),
        (b'{"a":' + b"1" * 5000 + b"}", "limit"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "100 levels"),
        (b"[" * 100_000, "100 levels"),
        (b"\x00{}", "Expecting value"),
        (b"\xef\xbb\xbf{}", "Expecting value"),
    ],
)
def test_refused_with_a_reason(body: bytes, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        jsonbody.parse(body)


def test_deepest_accepted_nesting() -> None:
    deep: Any = 1
    for _ in range(jsonbody.MAX_DEPTH - 1):
        deep = {"a": deep}
    assert jsonbody.parse(json.dumps(deep).encode()) == deep
    with pytest.raises(RequestError, match="levels"):
        jsonbody.parse(json.dumps({"a": deep}).encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_a_request_error(data: bytes) -> None:
    try:
        value = jsonbody.parse(data)
    except RequestError:
        return
    json.dumps(value, ensure_ascii=False).encode()


@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists))
def test_objects_come_through(value: Any) -> None:
    body = {"value": value}
    assert jsonbody.parse(json.dumps(body).encode()) == body


async def test_collect_is_bounded() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    with pytest.raises(RequestError, match="larger than 4 MiB"):
        await jsonbody.collect(endless())
