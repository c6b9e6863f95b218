"""RESP: commands cut anywhere, and bytes that are none."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testground.sync import resp
from testground.sync.resp import Parser, RespError

commands = st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=5), max_size=5)


def encoded(command: list[bytes]) -> bytes:
    return resp.array(resp.bulk(argument) for argument in command)


@given(commands, st.lists(st.integers(0, 300), max_size=6))
def test_commands_arrive_whole_however_they_are_cut(expected: list[list[bytes]], cuts: list[int]) -> None:
    stream = b"".join(map(encoded, expected))
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parser = Parser()
    got = [command for start, end in itertools.pairwise(places) for command in parser.feed(stream[start:end])]
    assert got == expected


@given(st.binary(max_size=200))
def test_no_bytes_do_worse_than_end_the_connection(data: bytes) -> None:
    parser = Parser()
    try:
        for command in parser.feed(data):
            assert command
    except RespError:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"PING\r\n",
        b"*1\r\n:1\r\n",
        b"*-1\r\n",
        b"*1\r\n$-1\r\n",
        b"*x\r\n",
        b"*99999\r\n",
        b"*1\r\n$99999999\r\n",
        encoded([b"XADD", bytes(100_000), bytes(100_000)]),
        b"*1\r\n$2\r\nabcd",
        b"*" + b"1" * 40,
    ],
)
def test_what_is_no_command_is_refused(data: bytes) -> None:
    with pytest.raises(RespError):
        list(Parser().feed(data))


def test_the_commands_before_a_bad_one_are_given() -> None:
    got = []
    with pytest.raises(RespError):
        for command in Parser().feed(encoded([b"PING"]) + b"?"):
            got.append(command)
    assert got == [[b"PING"]]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (resp.integer(-3), b":-3\r\n"),
        (resp.bulk(b"a\r\nb"), b"$4\r\na\r\nb\r\n"),
        (resp.array([resp.NIL, resp.integer(1)]), b"*2\r\n$-1\r\n:1\r\n"),
        (resp.simple("PONG"), b"+PONG\r\n"),
        (resp.error("two\r\nlines"), b"-ERR two  lines\r\n"),
        (resp.error("gone", "UNBLOCKED"), b"-UNBLOCKED gone\r\n"),
    ],
)
def test_replies_have_their_form(reply: bytes, expected: bytes) -> None:
    assert reply == expected
