"""Durations, bandwidths and percentages of a link as text."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testground.sdk import FilterAction, RoutingPolicy
from testground.sdk.network_units import FASTEST, LONGEST, bits_per_second, chosen, percent, seconds

TIMES = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9}
BITS = {"bit": 1, "Kbit": 10**3, "Mbit": 10**6, "Gbit": 10**9, "Tbit": 10**12, "Kibit": 2**10, "Mibit": 2**20}
BITS |= {"Gibit": 2**30, "Tibit": 2**40}
SPACE = st.sampled_from(["", " "])


@given(st.integers(0, 4000), st.sampled_from(sorted(TIMES)), SPACE)
def test_durations_come_back_as_they_were_written(number: int, unit: str, space: str) -> None:
    if number * TIMES[unit] <= LONGEST * 1e9:
        assert round(seconds("latency", f"{number}{space}{unit}") * 1e9) == number * TIMES[unit]


@given(st.integers(1, 10**6), st.sampled_from(sorted(BITS)), SPACE, st.sampled_from(["", "s", "/s"]))
def test_bandwidths_come_back_as_they_were_written(number: int, unit: str, space: str, end: str) -> None:
    assert bits_per_second("bandwidth", f"{number}{space}{unit}{end}") == number * BITS[unit]
    assert bits_per_second("bandwidth", f"{number}{space}{unit.lower()}") == number * BITS[unit]


@given(st.integers(1, 10**6), st.integers(0, 999_999))
def test_decimals_of_bandwidths_are_exact(whole: int, millionths: int) -> None:
    assert bits_per_second("bandwidth", f"{whole}.{millionths:06}1Mbit") == whole * 10**6 + millionths


@given(st.integers(0, 100_000), SPACE)
def test_percentages_come_back_as_they_were_written(thousandths: int, space: str) -> None:
    assert percent("loss", f"{thousandths / 1000}{space}%") == thousandths / 1000


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (seconds, "100ms", 0.1),
        (seconds, "1.5 s", 1.5),
        (seconds, "1m30s", 90),
        (seconds, ".5ms", 0.0005),
        (seconds, 0.25, 0.25),
        (bits_per_second, "20Mbit", 20_000_000),
        (bits_per_second, "2.5Mbit", 2_500_000),
        (bits_per_second, "1Mibit", 1 << 20),
        (bits_per_second, "512 kbit/s", 512_000),
        (bits_per_second, 1 << 20, 1 << 20),
        (bits_per_second, 2e6, 2_000_000),
        (percent, "1%", 1),
        (percent, "0.05 %", 0.05),
        (percent, 1.5, 1.5),
    ],
)
def test_what_can_be_written(read: Callable[[str, object], float], text: object, value: float) -> None:
    assert read("it", text) == value


@pytest.mark.parametrize(
    ("read", "value", "complaint"),
    [
        (seconds, "100", "it is '100': it needs a unit, such as 100ms"),
        (seconds, "100 msec", "it is '100 msec': it is a number and its unit, such as 100ms; did you mean 'ms'?"),
        (seconds, "fast", "it is 'fast': it is a number and its unit, such as 100ms"),
        (seconds, "1 00ms", "it is '1 00ms': it is a number and its unit"),
        (seconds, "", "it is '': it is a number and its unit"),
        (seconds, "2h", "it is '2h': the longest that a link can have is 4295s, or 71m34s"),
        (bits_per_second, "20", "it is '20': it needs a unit, such as 20Mbit"),
        (bits_per_second, "20M", "it is '20M': it needs a unit, such as 20Mbit"),
        (bits_per_second, "20Mbauds", "it is '20Mbauds': it needs a unit, such as 20Mbit"),
        (bits_per_second, "much", "it is 'much': it is a number and its unit, such as 20Mbit"),
        (bits_per_second, "-1Mbit", "it is '-1Mbit': it is a number and its unit, such as 20Mbit"),
        (
            bits_per_second,
            "1MiB/s",
            "it is '1MiB/s': it is in bits per second, not bytes; write 1Mibit, or 8Mibit where bytes are meant",
        ),
        (bits_per_second, "20Mbps", "it is '20Mbps': it is in bits per second, not bytes; write 20Mbit, or 160Mbit"),
        (bits_per_second, "1.5MB", "it is '1.5MB': it is in bits per second, not bytes; write 1.5Mbit, or 12Mbit"),
        (bits_per_second, "9 bytes", "it is '9 bytes': it is in bits per second, not bytes; write 9bit, or 72bit"),
        (
            bits_per_second,
            "0Mbit",
            "it is '0Mbit': less than a bit; the number 0 is no limit, enable=False lets nothing",
        ),
        (bits_per_second, "0.5bit", "it is '0.5bit': less than a bit"),
        (bits_per_second, 0.5, "it is 0.5: it is a whole number of bits per second"),
        (bits_per_second, float("nan"), f"it is nan: the most is {FASTEST} bits per second"),
        (bits_per_second, "99999999Tbit", f"it is '99999999Tbit': the most is {FASTEST} bits per second"),
        (percent, "0.01", "it is '0.01': it is a percentage with its sign, such as 1%"),
        (percent, "1 percent", "it is '1 percent': it is a percentage with its sign, such as 1%"),
    ],
)
def test_what_cannot_be_written(read: Callable[[str, object], float], value: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}"):
        read("it", value)


@given(st.text(max_size=12), st.sampled_from([seconds, bits_per_second, percent]))
def test_any_text_is_read_or_refused_by_name(text: str, read: Callable[[str, object], float]) -> None:
    try:
        value = read("member", text)
    except ValueError as error:
        assert str(error).startswith(f"member is {text!r}: ")
    else:
        assert isinstance(value, (int, float)) and value == value


def test_choices_are_named_in_any_case() -> None:
    assert chosen("filter", "Drop", FilterAction) is FilterAction.DROP
    assert chosen("filter", FilterAction.REJECT, FilterAction) is FilterAction.REJECT
    assert chosen("routing_policy", "allow_all", RoutingPolicy) is RoutingPolicy.ALLOW_ALL
    with pytest.raises(ValueError, match=r"^filter is 'dorp': there is no such thing; did you mean 'drop'\?$"):
        chosen("filter", "dorp", FilterAction)
    with pytest.raises(ValueError, match="^filter is 7: there is no such thing; there is: accept, drop, reject$"):
        chosen("filter", 7, FilterAction)  # type: ignore[type-var]
