"""What functions are called with: how many values, and of which kinds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from testground.plan.template.builtins import Function, Takes
from testground.plan.template.errors import Refused
from testground.plan.template.values import ABSENT, Absent, is_true, type_name


def first_deciding(arguments: Iterator[Any], wanted: bool) -> Any:
    """`and` ends at the first false argument, `or` at the first true one; later ones are not looked at."""
    value: Any = ABSENT
    for value in arguments:
        if is_true(value) == wanted:
            break
    return value


def takes(function: Function, place: int) -> Takes:
    if place < len(function.takes):
        return function.takes[place]
    return function.more or Takes.ANY


def accepted(value: Any, takes: Takes) -> Any:
    if takes is Takes.ANY:
        return None if value is ABSENT else value
    if takes is Takes.RAW:
        return ABSENT if value is None else value
    if takes is Takes.TABLE:
        value = {} if value is ABSENT else value
        fits = type(value) is dict
    else:
        fits = isinstance(value, str)
    if not fits:
        raise Refused(f"{takes.value} is needed, not {'nil' if isinstance(value, Absent) else type_name(value)}")
    return value


def check_count(function: Function, count: int) -> None:
    least = len(function.takes)
    if count < least or (count > least and function.more is None):
        raise Refused(f"wrong number of arguments: {count} instead of {'at least ' if function.more else ''}{least}")
