"""Durations, bandwidths and percentages of a link, with their units spelled out: `100ms`, `20Mbit`, `1.5%`.

Numbers are seconds, bits per second and percent. Every function raises `ValueError`, which names the argument, its
value and what comes nearest.
"""

from __future__ import annotations

import enum
import re
from typing import TypeVar

from testground.errors import did_you_mean
from testground.sdk.params import parse_duration

Choice = TypeVar("Choice", bound=enum.Enum)

LONGEST = (2**32 - 1) / 1e6
"""Seconds: the longest latency that a sidecar can give a link (contract §4.1)."""

WIDEST = (2**31 - 1) / 1e9
"""Seconds: the kernel spreads delays by no more."""

SLOWEST = 202
"""Bits per second: the kernel lets a packet of full size through each minute, however little is asked for."""

FASTEST = 2**64 - 1
"""Bits per second: what fits in the wire format."""


def seconds(name: str, value: float | str) -> float:
    """From `100ms`, `1.5 s`, `1m30s`."""
    found = (
        _duration(name, value) if isinstance(value, str) else number(name, value, "seconds, or a text such as 100ms")
    )
    if found > LONGEST:
        raise ValueError(f"{name} is {value!r}: the longest that a link can have is {LONGEST:.0f}s, or 71m34s")
    return found


def bits_per_second(name: str, value: float | str) -> int:
    """From `20Mbit`, `2.5 Gbit/s`, `1Mibit`; bit, K, M, G and T count in thousands, Ki, Mi, Gi and Ti in 1024."""
    if isinstance(value, str):
        found: float = _bits(name, value)
    else:
        found = number(name, value, "bits per second, or a text such as 20Mbit")
    if found < 0:
        raise ValueError(f"{name} is {value!r}: it cannot be negative")
    if found != found or found > FASTEST:
        raise ValueError(f"{name} is {value!r}: the most is {FASTEST} bits per second")
    if int(found) != found:
        raise ValueError(f"{name} is {value!r}: it is a whole number of bits per second")
    return int(found)


def percent(name: str, value: float | str) -> float:
    """From `1%`, `0.05 %`."""
    if not isinstance(value, str):
        return number(name, value, "percent, or a text such as 1%")
    match = re.fullmatch(rf"(-?{_NUMBER})\s*%", value.strip(), re.ASCII)
    if match is None:
        raise ValueError(f"{name} is {value!r}: it is a percentage with its sign, such as 1%")
    return float(match[1])


def number(name: str, value: object, unit: str, hint: str = "") -> float:
    """What counts as a number, NumPy's among them: the value itself."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise ValueError(f"{name} is {value!r}: it is a number of {unit}{hint}")
    return value  # type: ignore[return-value]


def truth(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}: it is True or False")
    return value


def chosen(name: str, value: Choice | str, choices: type[Choice]) -> Choice:
    """One of an enumeration, by its name in any letter case."""
    if isinstance(value, choices):
        return value
    known = {choice.name.lower(): choice for choice in choices}
    if not isinstance(value, str) or value.lower() not in known:
        raise ValueError(f"{name} is {value!r}: there is no such thing{did_you_mean(str(value).lower(), known)}")
    return known[value.lower()]


_NUMBER = r"(?:\d+\.?\d*|\.\d+)"
_TIMES = ("ns", "us", "ms", "s", "m", "h")
_PREFIXES = {"": 1, **{prefix: 1000**power for power, prefix in enumerate("kmgt", 1)}}
_PREFIXES.update({f"{prefix}i": 1024**power for power, prefix in enumerate("kmgt", 1)})


def _duration(name: str, value: str) -> float:
    text = re.sub(r"(?<=[\d.])\s+(?=[a-zµμ])", "", value.strip())
    number, unit = re.fullmatch(rf"(-?{_NUMBER})?\s*(.*)", text, re.ASCII | re.DOTALL).groups()  # type: ignore[union-attr]
    if number and not unit:
        raise ValueError(f"{name} is {value!r}: it needs a unit, such as {number}ms")
    try:
        return parse_duration(text)
    except ValueError:
        hint = did_you_mean(unit.lower(), _TIMES) if number else ""
        raise ValueError(f"{name} is {value!r}: it is a number and its unit, such as 100ms{hint}") from None


def _bits(name: str, value: str) -> int:
    match = re.fullmatch(rf"({_NUMBER})\s*((?:[kmgt]i?)?)([a-z/]*)", value.strip(), re.ASCII | re.IGNORECASE)
    if match is None:
        raise ValueError(f"{name} is {value!r}: it is a number and its unit, such as 20Mbit")
    number, prefix, unit = match.groups()
    if not re.fullmatch(r"bits?(/s)?", unit, re.IGNORECASE):
        raise ValueError(f"{name} is {value!r}: {_in_bits(number, prefix, unit.lower())}")
    bits: int = _times(number, _PREFIXES[prefix.lower()])
    if bits == 0:
        raise ValueError(
            f"{name} is {value!r}: less than a bit; the number 0 is no limit, enable=False lets nothing pass"
        )
    return bits


def _in_bits(number: str, prefix: str, unit: str) -> str:
    """`MB`, `Mb` and `Mbps` are read as bits by some and as bytes by others, so they are no units here."""
    if unit in ("b", "bps", "b/s", "byte", "bytes", "byte/s", "bytes/s"):
        bits = f"{_times(number, 8)}" if _times(number, 10) % 10 == 0 else f"{float(number) * 8:g}"
        return (
            f"it is in bits per second, not bytes; write {number}{prefix}bit, "
            f"or {bits}{prefix}bit where bytes are meant"
        )
    return f"it needs a unit, such as {number}{prefix or 'M'}bit"


def _times(number: str, factor: int) -> int:
    """Exactly, where a float would not be; a fraction that is left is dropped."""
    whole, _, fraction = number.partition(".")
    scale: int = 10 ** len(fraction)
    return int(whole + fraction) * factor // scale
