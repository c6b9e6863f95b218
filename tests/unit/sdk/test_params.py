"""Reading parameters: the codecs, and what the accessors say about what is missing or wrong."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testground.sdk.params import ParamError, Parameters, Rate, parse_duration, parse_rate, parse_size, unpack


class Given(Parameters):
    def __init__(self, **params: str) -> None:
        self.params = params


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("42", 42),
        ("42 B", 42),
        ("1kB", 1000),
        ("1 KB", 1000),
        ("1k", 1000),
        ("1KiB", 1024),
        ("1ki", 1024),
        ("10MiB", 10 << 20),
        ("1.5 GB", 1_500_000_000),
        ("1,234,567", 1_234_567),
        (".5 MiB", 1 << 19),
        ("5.MB", 5_000_000),
        ("2tib", 2 << 40),
        ("3 PB", 3 * 10**15),
        ("1EiB", 1 << 60),
        (" 7 mb ", 7_000_000),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1 XB", "1.2.3", "1e6", "ten", "1 MB MB", "0x10", "²"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@given(st.integers(0, 2**60), st.sampled_from("kmgtpe"), st.booleans(), st.sampled_from(["", "b", "B"]), st.booleans())
def test_whole_sizes_are_exact(number: int, prefix: str, binary: bool, suffix: str, spaced: bool) -> None:
    unit = (1024 if binary else 1000) ** ("kmgtpe".index(prefix) + 1)
    text = f"{number:,}{' ' if spaced else ''}{prefix}{'i' if binary else ''}{suffix}"
    assert parse_size(text) == parse_size(text.upper()) == number * unit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("5s", 5),
        ('"5s"', 5),
        ("1m30s", 90),
        ("1h2m3s", 3723),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("-1.5h", -5400),
        ("+2s", 2),
        (".5s", 0.5),
        ("1µs", 1e-6),
        ("1μs", 1e-6),
        ("1us", 1e-6),
        ("7ns", 7e-9),
        ("1s1s", 2),
        ("1500000000", 1.5),
        ("-1000000000", -1),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "5", "1.5", "5 s", "1d", "--1s", "1s2", "s1", "1h 2m", "-", "+-1s"])
def test_what_is_no_duration(text: str) -> None:
    if text == "5":
        assert parse_duration(text) == 5e-9  # a bare number counts nanoseconds, as on the wire
        return
    with pytest.raises(ValueError):
        parse_duration(text)


@given(st.integers(0, 10**5), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999), st.booleans())
def test_durations_add_up(hours: int, minutes: int, seconds: int, millis: int, negative: bool) -> None:
    text = f"{'-' if negative else ''}{hours}h{minutes}m{seconds}s{millis}ms"
    expected = (hours * 3600 + minutes * 60 + seconds) + millis / 1000
    assert parse_duration(text) == pytest.approx(-expected if negative else expected, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "rate", "per_second"),
    [
        ("100/s", Rate(100, 1), 100),
        ("0.5/m", Rate(0.5, 60), 0.5 / 60),
        ("500/5m", Rate(500, 300), 500 / 300),
        ('"10/100ms"', Rate(10, 0.1), 100),
        ("3/1h30m", Rate(3, 5400), 3 / 5400),
    ],
)
def test_rates(text: str, rate: Rate, per_second: float) -> None:
    assert parse_rate(text) == rate
    assert rate.per_second == per_second


@pytest.mark.parametrize("text", ["", "100", "/s", "100/", "x/s", "100/0s", "1/-1s", "100/parsec", "1/2/3"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError):
        parse_rate(text)


@given(st.floats(0, 1e9), st.integers(1, 1000), st.sampled_from([("ms", 1e-3), ("s", 1), ("m", 60), ("h", 3600)]))
def test_rates_keep_quantity_and_interval(quantity: float, count: int, unit: tuple[str, float]) -> None:
    rate = parse_rate(f"{quantity}/{count}{unit[0]}")
    assert rate.quantity == quantity
    assert rate.interval == pytest.approx(count * unit[1])


@given(st.text(max_size=20))
def test_codecs_raise_nothing_but_value_errors(text: str) -> None:
    for parse in (parse_size, parse_duration, parse_rate):
        with contextlib.suppress(ValueError):
            parse(text)


NAMES = st.text(st.characters(exclude_characters="|=", exclude_categories=["Cs"]), min_size=1)
VALUES = st.text(st.characters(exclude_characters="|", exclude_categories=["Cs"]))


@given(st.dictionaries(NAMES, VALUES))
def test_packed_parameters_come_out_as_they_went_in(params: dict[str, str]) -> None:
    assert unpack("|".join(f"{name}={value}" for name, value in params.items())) == params


@pytest.mark.parametrize("text", ["a", "a=1|b", "|", "a=1||b=2", "=1"])
def test_malformed_packing(text: str) -> None:
    with pytest.raises(ValueError, match="is not of the form name=value"):
        unpack(text)


@dataclass
class Point:
    x: int
    y: int


class Options(TypedDict):
    depth: int


PARAMS = Given(
    text="hello",
    number="-5",
    fraction="2.5",
    yes="True",
    no="FALSE",
    point='{"x":1,"y":2}',
    options='{"depth":3}',
    names='["a","b"]',
    size="10 MiB",
    sizes='["1KiB", "2kB", 3]',
    pause="1m30s",
    rate="500/5m",
    none="null",
    empty="",
)

Read = Callable[[Parameters], Any]


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda p: p.string_param("text"), "hello"),
        (lambda p: p.string_param("none"), "null"),
        (lambda p: p.string_param("empty"), ""),
        (lambda p: p.int_param("number"), -5),
        (lambda p: p.float_param("fraction"), 2.5),
        (lambda p: p.float_param("number"), -5.0),
        (lambda p: p.bool_param("yes"), True),
        (lambda p: p.bool_param("no"), False),
        (lambda p: p.bool_param("missing"), False),
        (lambda p: p.bool_param("missing", True), True),
        (lambda p: p.json_param("point"), {"x": 1, "y": 2}),
        (lambda p: p.json_param("point", Point), Point(1, 2)),
        (lambda p: p.json_param("options", Options), {"depth": 3}),
        (lambda p: p.json_param("none"), None),
        (lambda p: p.json_param("missing", default=None), None),
        (lambda p: p.string_array_param("names"), ["a", "b"]),
        (lambda p: p.size_param("size"), 10 << 20),
        (lambda p: p.size_array_param("sizes"), [1024, 2000, 3]),
        (lambda p: p.duration_param("pause"), 90.0),
        (lambda p: p.rate_param("rate"), Rate(500, 300)),
        (lambda p: p.string_param("missing", "x"), "x"),
        (lambda p: p.int_param("missing", 0), 0),
        (lambda p: p.int_param("none", 7), 7),
        (lambda p: p.float_param("missing", 1.5), 1.5),
        (lambda p: p.string_array_param("missing", []), []),
        (lambda p: p.size_param("missing", 1), 1),
        (lambda p: p.size_array_param("missing", [1]), [1]),
        (lambda p: p.duration_param("missing", 2), 2),
        (lambda p: p.rate_param("missing", Rate(1, 1)), Rate(1, 1)),
        (lambda p: p.network_param("missing", ip_network("::/0")), ip_network("::/0")),
        (lambda p: p.is_param_set("text"), True),
        (lambda p: p.is_param_set("missing"), False),
    ],
)
def test_accessors(read: Read, expected: object) -> None:
    assert read(PARAMS) == expected


@pytest.mark.parametrize(
    ("read", "complaint"),
    [
        (lambda p: p.int_param("nmber"), "parameter 'nmber' is not set; did you mean 'number'?"),
        (lambda p: p.int_param("none"), "parameter 'none' is not set"),
        (lambda p: p.json_param("pointt", Point), "parameter 'pointt' is not set; did you mean 'point'?"),
        (lambda p: p.int_param("text"), "parameter 'text': 'hello' is not a whole number"),
        (lambda p: p.int_param("fraction"), "parameter 'fraction': '2.5' is not a whole number"),
        (lambda p: p.int_param("empty"), "parameter 'empty': '' is not a whole number"),
        (lambda p: p.float_param("text"), "parameter 'text': 'hello' is not a number"),
        (lambda p: p.bool_param("number"), "parameter 'number': '-5' is not true or false"),
        (lambda p: p.json_param("text"), "parameter 'text': 'hello' is not JSON: "),
        (lambda p: p.json_param("options", Point), "parameter 'options': '{\"depth\":3}' is not the JSON of Point: "),
        (lambda p: p.string_array_param("sizes"), "is not a JSON array of strings: Expected `str`, got `int`"),
        (lambda p: p.size_param("text"), "parameter 'text': 'hello' is not a size such as 10MiB"),
        (lambda p: p.size_array_param("names"), "is not a JSON array of sizes"),
        (lambda p: p.duration_param("text"), "parameter 'text': 'hello' is not a duration such as 1m30s"),
        (lambda p: p.rate_param("number"), "parameter 'number': '-5' is not a rate such as 100/s"),
        (lambda p: p.network_param("number"), "parameter 'number': '-5' is not a network such as 16.0.0.0/16"),
    ],
)
def test_complaints(read: Read, complaint: str) -> None:
    with pytest.raises(ParamError, match=re.escape(complaint)):
        read(PARAMS)


def test_a_size_beyond_all_floats_is_a_parameter_error() -> None:
    with pytest.raises(ParamError, match="is not a size"):
        Given(size=f"{'9' * 400}.5EB").size_param("size")


def test_without_any_parameter_there_is_nothing_to_suggest() -> None:
    with pytest.raises(ParamError, match="^parameter 'x' is not set$"):
        Given().string_param("x")


@pytest.mark.parametrize(
    ("text", "network"), [("16.0.1.2/16", "16.0.0.0/16"), ("fd00::/64", "fd00::/64"), ('"10.0.0.0/8"', "10.0.0.0/8")]
)
def test_networks(text: str, network: str) -> None:
    assert Given(net=text).network_param("net") == ip_network(network)
