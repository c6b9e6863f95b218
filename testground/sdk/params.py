"""Parameters of a test case: every value arrives as text and is read by one of these accessors (contract §5.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast, overload

import msgspec

from testground.errors import TestgroundError, did_you_mean

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

    Network: TypeAlias = IPv4Network | IPv6Network

Value = TypeVar("Value")
REQUIRED: Final[Any] = object()


class ParamError(TestgroundError):
    """A parameter that is not set or cannot be read. Raised out of a case, it is a failure, not a crash."""

    code = "param"


@dataclass(frozen=True, slots=True)
class Rate:
    """`quantity` things per `interval` seconds."""

    quantity: float
    interval: float

    @property
    def per_second(self) -> float:
        return self.quantity / self.interval


class Parameters:
    """Typed access to `params`. Each accessor raises `ParamError`, naming the parameter and the nearest one that is

    set, when it is missing without a `default` or when its text is not of the kind.
    """

    params: Mapping[str, str]

    def is_param_set(self, name: str) -> bool:
        return name in self.params

    def string_param(self, name: str, default: str | None = None) -> str:
        return self._read(name, str, "text", default, literal=True)

    def int_param(self, name: str, default: int | None = None) -> int:
        return self._read(name, int, "a whole number", default)

    def float_param(self, name: str, default: float | None = None) -> float:
        return self._read(name, float, "a number", default)

    def bool_param(self, name: str, default: bool = False) -> bool:
        """`true` or `false` in any letter case. Missing is false, as in every SDK."""
        return self._read(name, _parse_bool, "true or false", default)

    @overload
    def json_param(self, name: str, *, default: Any = REQUIRED) -> Any: ...

    @overload
    def json_param(self, name: str, type: type[Value], *, default: Value = REQUIRED) -> Value: ...

    def json_param(self, name: str, type: Any = Any, *, default: Any = REQUIRED) -> Any:
        """JSON, checked against `type`: a builtin, a dataclass, a TypedDict, a msgspec struct."""
        if name not in self.params and default is not REQUIRED:
            return default
        what = "JSON" if type is Any else f"the JSON of {getattr(type, '__name__', type)}"
        return self._read(name, lambda text: msgspec.json.decode(text, type=type), what, None, literal=True)

    def string_array_param(self, name: str, default: list[str] | None = None) -> list[str]:
        return self._read(name, _parse_strings, "a JSON array of strings", default)

    def size_param(self, name: str, default: int | None = None) -> int:
        """Bytes, from `10MiB`, `1.5 GB`, `2,000` (decimal kB MB GB…, binary KiB MiB GiB…, any letter case)."""
        return self._read(name, parse_size, "a size such as 10MiB", default)

    def size_array_param(self, name: str, default: list[int] | None = None) -> list[int]:
        """Bytes each, from a JSON array of sizes."""
        return self._read(name, _parse_sizes, 'a JSON array of sizes such as ["1MiB", "10MiB"]', default)

    def duration_param(self, name: str, default: float | None = None) -> float:
        """Seconds, from `1m30s`, `250ms`, with or without quotes; a bare number counts nanoseconds."""
        return self._read(name, parse_duration, "a duration such as 1m30s", default)

    def rate_param(self, name: str, default: Rate | None = None) -> Rate:
        """From `100/s`, `0.5/m`, `500/5m`."""
        return self._read(name, parse_rate, "a rate such as 100/s", default)

    def network_param(self, name: str, default: Network | None = None) -> Network:
        """From `16.0.0.0/16` or `fd00::/64`; bits of a host are dropped."""
        return cast("Network", self._read(name, _parse_network, "a network such as 16.0.0.0/16", default))

    def _read(
        self, name: str, parse: Callable[[str], Value], what: str, default: Value | None, *, literal: bool = False
    ) -> Value:
        """`literal`: the text `null`, which a manifest sends for a parameter without a default, is a value."""
        text = self.params.get(name)
        if text is None or (text == "null" and not literal):
            if default is None:
                raise ParamError(f"parameter '{name}' is not set{did_you_mean(name, self.params)}")
            return default
        try:
            return parse(text)
        except (ValueError, OverflowError, msgspec.MsgspecError) as error:
            reason = f": {error}" if isinstance(error, msgspec.MsgspecError) else ""
            raise ParamError(f"parameter '{name}': '{text}' is not {what}{reason}") from error


def unpack(text: str) -> dict[str, str]:
    """`k=v|k2=v2` into a mapping; a value may contain `=`. Raises `ValueError` for an entry without `=`."""
    unpacked: dict[str, str] = {}
    for entry in text.split("|") if text else ():
        name, equals, value = entry.partition("=")
        if not equals or not name:
            raise ValueError(f"'{entry}' is not of the form name=value")
        unpacked[name] = value
    return unpacked


def parse_size(text: str) -> int:
    """Bytes. Raises `ValueError`."""
    match = re.fullmatch(_SIZE, text.strip().replace(",", "").lower(), re.ASCII)
    if match is None:
        raise ValueError(f"'{text}' is not a size")
    number, prefix, binary = match.groups()
    unit = (1024 if binary else 1000) ** (" kmgtpe".index(prefix) if prefix else 0)
    return int(number) * unit if number.isdigit() else int(float(number) * unit)


def parse_duration(text: str) -> float:
    """Seconds, from what Go calls a duration. Raises `ValueError`."""
    bare = _unquote(text)
    if re.fullmatch(_WHOLE, bare, re.ASCII):
        return int(bare) / 1e9
    sign, digits = (-1, bare[1:]) if bare.startswith("-") else (1, bare.removeprefix("+"))
    if not re.fullmatch(_DURATION, digits, re.ASCII):
        raise ValueError(f"'{text}' is not a duration")
    return sign * sum(map(_nanoseconds, re.finditer(_DURATION_PART, digits, re.ASCII))) / 1e9


def parse_rate(text: str) -> Rate:
    """Raises `ValueError`."""
    quantity, slash, interval = _unquote(text).partition("/")
    if not slash or not interval[-1:].isalpha():
        raise ValueError(f"'{text}' is not a rate")
    seconds = parse_duration(interval if interval[:1].isdigit() else f"1{interval}")
    if seconds <= 0:
        raise ValueError(f"'{text}' has no interval")
    return Rate(float(quantity), seconds)


# Text, not compiled patterns: a plan that has no such parameter does not pay for them at its start.
_SIZE = r"(\d+\.?\d*|\.\d+)\s*(?:([kmgtpe])(i)?)?b?"
_WHOLE = r"[+-]?\d+"
_DURATION = r"(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+"
_DURATION_PART = r"([\d.]+)(ns|us|µs|μs|ms|s|m|h)"
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def _nanoseconds(part: re.Match[str]) -> float:
    number, unit = part.groups()
    return int(number) * _UNITS[unit] if number.isdigit() else float(number) * _UNITS[unit]


def _unquote(text: str) -> str:
    return text.strip().removeprefix('"').removesuffix('"')


def _parse_bool(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered not in ("true", "false"):
        raise ValueError(f"'{text}' is not a boolean")
    return lowered == "true"


def _parse_strings(text: str) -> list[str]:
    return msgspec.json.decode(text, type=list[str])


def _parse_sizes(text: str) -> list[int]:
    return [parse_size(str(size)) for size in msgspec.json.decode(text, type=list[str | int])]


def _parse_network(text: str) -> Network:
    from ipaddress import ip_network

    return ip_network(text.strip().strip('"'), strict=False)
