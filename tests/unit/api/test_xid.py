from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testground.api import xid


def test_q3_the_id_of_a_task() -> None:
    raw = bytes.fromhex("5ededbd3796251ae1b7a18d6")
    assert xid.decode("brfdnkrpc98qs6rq33b0") == raw
    assert xid.encode(raw) == "brfdnkrpc98qs6rq33b0"
    assert xid.seconds("brfdnkrpc98qs6rq33b0") == 1591663571


@given(st.binary(min_size=12, max_size=12))
def test_round_trip(raw: bytes) -> None:
    text = xid.encode(raw)
    assert len(text) == 20
    assert set(text) <= set(xid.ALPHABET)
    assert xid.decode(text) == raw
    assert xid.normalize(text) == text


@given(st.binary(min_size=12, max_size=12), st.binary(min_size=12, max_size=12))
def test_text_sorts_as_bytes_do(one: bytes, other: bytes) -> None:
    assert (xid.encode(one) < xid.encode(other)) == (one < other)


@given(st.binary(min_size=12, max_size=12), st.integers(0, 15))
def test_the_last_character_has_several_spellings(raw: bytes, unused: int) -> None:
    text = xid.encode(raw)
    respelled = text[:-1] + xid.ALPHABET[xid.ALPHABET.index(text[-1]) & 16 | unused]
    assert xid.normalize(respelled) == text


def test_fresh_ids_differ_and_carry_their_second() -> None:
    ids = {xid.new(1591663571) for _ in range(1000)}
    assert len(ids) == 1000
    assert {xid.seconds(text) for text in ids} == {1591663571}


@pytest.mark.parametrize(
    "text", ["", "bad", "brfdnkrpc98qs6rq33b", "brfdnkrpc98qs6rq33b00", "brfdnkrpc98qs6rq33bw", "BRFDNKRPC98QS6RQ33B0"]
)
def test_refuses_what_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="task key must be a xid id"):
        xid.decode(text)


def test_refuses_a_trailing_newline() -> None:
    with pytest.raises(ValueError, match="xid"):
        xid.decode("brfdnkrpc98qs6rq33b0\n")
