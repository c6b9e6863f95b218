"""Typed topics: what they carry and what they refuse."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testground.sdk import Topic


@dataclass
class Peer:
    seq: int
    addresses: list[str] = field(default_factory=list)


class Block(msgspec.Struct):
    height: int
    parent: str | None = None


class Report(TypedDict):
    took: float


@pytest.mark.parametrize(
    ("topic", "value", "payload"),
    [
        (Topic("t", int), 9007199254740993, b"9007199254740993"),
        (Topic("t", str), "<a&b>", b'"<a&b>"'),
        (Topic("t", Peer), Peer(1, ["/ip4/1"]), b'{"seq":1,"addresses":["/ip4/1"]}'),
        (Topic("t", Block), Block(2), b'{"height":2,"parent":null}'),
        (Topic("t", Report), {"took": 0.5}, b'{"took":0.5}'),
        (Topic("t", tuple[str, int]), ("h", 1), b'["h",1]'),
        (Topic("t", list[int]), [1], b"[1]"),
        (Topic("t", int | str), "x", b'"x"'),
        (Topic("t"), {"any": [None]}, b'{"any":[null]}'),
    ],
)
def test_values_travel(topic: Topic[Any], value: object, payload: bytes) -> None:
    assert topic.encode(value) == payload
    assert topic.decode(payload) == topic.decode(payload.decode()) == value


@pytest.mark.parametrize(
    ("topic", "value"),
    [
        (Topic("t", int), "1"),
        (Topic("t", int), True),
        (Topic("t", Peer), {"addresses": []}),
        (Topic("t", Report), {"took": "long"}),
        (Topic("t", str), "\ud800"),
        (Topic("t"), object()),
    ],
)
def test_values_of_other_types_are_refused(topic: Topic[Any], value: object) -> None:
    with pytest.raises(TypeError, match=r"Topic\('t', .*\) cannot carry"):
        topic.encode(value)


@pytest.mark.parametrize("payload", [b"", b"nonsense", b'"text"', b'{"addresses":[]}', b"\xff"])
def test_payloads_of_other_types_are_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"Topic\('t', Peer\)"):
        Topic("t", Peer).decode(payload)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON)
def test_all_json_travels(value: Any) -> None:
    topic: Topic[Any] = Topic("t")
    assert topic.decode(topic.encode(value)) == value
