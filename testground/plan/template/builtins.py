"""What every template can call, beside `and` and `or`, which the executor knows itself: they skip arguments."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from testground.plan.template import comparing, escaping, printing, values
from testground.plan.template.errors import Refused
from testground.plan.template.values import ABSENT, type_name


class Takes(enum.Enum):
    """What a parameter accepts. What is not there is nil for `ANY`, and an empty table for `TABLE`."""

    ANY = "anything"
    RAW = "anything, and knows ABSENT"
    STRING = "string"
    TABLE = "map[string]interface {}"


@dataclass(frozen=True, slots=True)
class Function:
    call: Callable[..., Any]
    takes: tuple[Takes, ...] = ()
    more: Takes | None = None
    """For any number of further arguments."""


def _not(value: Any) -> bool:
    return not values.is_true(value)


def _call(function: Any, *_: Any) -> None:
    """Nothing in a composition's data is a function."""
    raise Refused("call of nil" if function is ABSENT else f"non-function of type {type_name(function)}")


BUILTINS = {
    "and": Function(values.is_true, (Takes.RAW,), Takes.RAW),
    "or": Function(values.is_true, (Takes.RAW,), Takes.RAW),
    "not": Function(_not, (Takes.RAW,)),
    "len": Function(values.length, (Takes.RAW,)),
    "index": Function(values.index, (Takes.RAW,), Takes.RAW),
    "slice": Function(values.slice_, (Takes.RAW,), Takes.RAW),
    "print": Function(printing.print_, (), Takes.ANY),
    "println": Function(printing.println, (), Takes.ANY),
    "printf": Function(printing.printf, (Takes.STRING,), Takes.ANY),
    "html": Function(escaping.html, (), Takes.ANY),
    "js": Function(escaping.js, (), Takes.ANY),
    "urlquery": Function(escaping.urlquery, (), Takes.ANY),
    "call": Function(_call, (Takes.RAW,), Takes.RAW),
    "eq": Function(comparing.equal, (Takes.RAW,), Takes.RAW),
    "ne": Function(comparing.unequal, (Takes.RAW, Takes.RAW)),
    "lt": Function(comparing.less, (Takes.RAW, Takes.RAW)),
    "le": Function(comparing.less_or_equal, (Takes.RAW, Takes.RAW)),
    "gt": Function(comparing.greater, (Takes.RAW, Takes.RAW)),
    "ge": Function(comparing.greater_or_equal, (Takes.RAW, Takes.RAW)),
}
