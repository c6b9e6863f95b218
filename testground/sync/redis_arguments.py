"""The arguments of Redis commands, as far as old SDKs use them. Pure; what is wrong with one is a `CommandError`."""

from __future__ import annotations

import json

import msgspec

MAX_ENTRIES = 1000
"""Messages of a topic in one reply, when the command does not say how many."""


class CommandError(Exception):
    """An error reply; the connection goes on."""


def exactly(number: int, given: list[bytes], name: str) -> list[bytes]:
    if len(given) != number:
        raise CommandError(f"wrong number of arguments for {name}")
    return given


def integer(argument: bytes) -> int:
    if not argument.isdigit() or len(argument) > 18:
        raise CommandError("value is not an integer or out of range")
    return int(argument)


def text(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise CommandError("a key that is not UTF-8") from error


def json_value(argument: bytes) -> msgspec.Raw:
    """One value and nothing else: the rest could pass for members of the request that this becomes a part of."""
    try:
        return msgspec.json.decode(argument, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return _odd_value(argument)


def _odd_value(argument: bytes) -> msgspec.Raw:
    """Half a character, as old SDKs may send it, has a place in JSON, which msgspec does not know."""
    try:
        json.loads(argument)
    except (ValueError, RecursionError) as error:
        raise CommandError("failed to unmarshal JSON") from error
    return msgspec.Raw(argument)


def xread(given: list[bytes]) -> tuple[int, int | None, list[bytes], list[bytes]]:
    """Count, milliseconds to block (0: for ever, None: not at all), keys and ids of `XREAD`."""
    values: dict[bytes, int] = {}
    place = 0
    while place + 1 < len(given) and (option := given[place].upper()) in (b"COUNT", b"BLOCK"):
        values[option] = integer(given[place + 1])
        place += 2
    streams, rest = given[place : place + 1], given[place + 1 :]
    half = len(rest) // 2
    if [word.upper() for word in streams] != [b"STREAMS"] or not rest or len(rest) % 2:
        raise CommandError("of XREAD there is: XREAD [COUNT n] [BLOCK ms] STREAMS key … id …")
    return values.get(b"COUNT") or MAX_ENTRIES, values.get(b"BLOCK"), rest[:half], rest[half:]
