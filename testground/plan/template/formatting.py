"""Values as the verbs of Go's fmt print them."""

from __future__ import annotations

import dataclasses
import datetime
import math
from dataclasses import dataclass
from typing import Any

from testground.plan.template import numbers
from testground.plan.template.errors import Refused
from testground.plan.template.limits import joined
from testground.plan.template.values import Byte, Struct, Time, encoded, type_name

_BASES = {"d": "d", "v": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}
_PREFIXES = {"b": "0b", "o": "0", "x": "0x", "X": "0X"}


@dataclass(frozen=True, slots=True)
class Verb:
    """One `%` of a format, with its flags. `%+v` and `%#v` are more like verbs of their own."""

    name: str = "v"
    plus: bool = False
    minus: bool = False
    sharp: bool = False
    space: bool = False
    zero: bool = False
    named: bool = False
    """`%+v`"""
    source: bool = False
    """`%#v`"""
    width: int | None = None
    precision: int | None = None

    def padded(self, text: str, *, zeros: bool = True) -> str:
        if self.width is None or len(text) >= self.width:
            return text
        if self.minus:
            return text.ljust(self.width)
        return text.rjust(self.width, "0" if self.zero and zeros else " ")


PLAIN = Verb()


def formatted(value: Any, verb: Verb = PLAIN) -> str:
    """Raises `Refused` for the few combinations that are not supported."""
    if value is None:
        return verb.padded("<nil>") if verb.name in "vT" else f"%!{verb.name}(<nil>)"
    if verb.name == "T":
        return verb.padded(_cut(type_name(value), verb))
    if verb.name == "w":
        return _bad(value, verb)
    if isinstance(value, Struct):
        return _struct(value, verb)
    return _printed(value, verb)


def time_text(value: Time) -> str:
    """As `time.Time` prints itself. TOML's local times carry the name of their kind for a zone."""
    if isinstance(value, datetime.datetime):
        seconds = value.strftime("%Y-%m-%d %H:%M:%S").rjust(19, "0") + fraction(value.microsecond)
        if value.tzinfo is None:
            return f"{seconds} +0000 datetime-local"
        offset = value.strftime("%z")
        return f"{seconds} {offset} {'UTC' if offset == '+0000' else offset}"
    if isinstance(value, datetime.date):
        return f"{value.isoformat()} 00:00:00 +0000 date-local"
    return f"0000-01-01 {value.strftime('%H:%M:%S')}{fraction(value.microsecond)} +0000 time-local"


def fraction(microseconds: int) -> str:
    return f".{microseconds:06d}".rstrip("0") if microseconds else ""


def _printed(value: Any, verb: Verb) -> str:
    if value is None:
        return "interface {}(nil)" if verb.source else verb.padded("<nil>", zeros=False)
    if isinstance(value, bool):
        return verb.padded("true" if value else "false") if verb.name in "tv" else _bad(value, verb)
    if isinstance(value, int):
        return _integer(value, verb)
    if isinstance(value, float):
        return _float(value, verb)
    if isinstance(value, str):
        return _string(value, verb)
    if isinstance(value, dict):
        return _map(value, verb)
    if isinstance(value, list):
        return _list(value, verb)
    return _time(value, verb)


def _struct(value: Struct, verb: Verb) -> str:
    if verb.source:
        fields = ", ".join(f"{name}:{_printed(item, verb)}" for name, item in value.items())
        return f"&{type_name(value)[1:]}{{{fields}}}"
    fields = " ".join((f"{name}:" if verb.named else "") + _printed(item, verb) for name, item in value.items())
    return f"&{{{fields}}}"


def _map(value: dict[str, Any], verb: Verb) -> str:
    items = (f"{_printed(key, verb)}:{_printed(value[key], verb)}" for key in sorted(value, key=encoded))
    if verb.source:
        return f"{type_name(value)}{{{joined(', ', items)}}}"
    return f"map[{joined(' ', items)}]"


def _list(value: list[Any], verb: Verb) -> str:
    items = (_printed(item, verb) for item in value)
    if verb.source:
        name = type_name(value)
        return f"{name}{{{joined(', ', items)}}}" if value or type(value) is not list else f"{name}(nil)"
    return f"[{joined(' ', items)}]"


def _time(value: Time, verb: Verb) -> str:
    if verb.name not in "vsxXq" or verb.source:
        raise Refused(f"%{verb.name} of a time is not supported")
    return _string(time_text(value), verb)


def _integer(value: int, verb: Verb) -> str:
    if verb.source:
        return verb.padded(f"{int(value):#x}" if isinstance(value, Byte) else str(int(value)))
    if verb.name == "c":
        return verb.padded(_rune(value))
    if verb.name == "q":
        return verb.padded(numbers.quoted(_rune(value), "'", ascii_only=verb.plus))
    if verb.name == "U":
        return verb.padded(_unicode(value, verb), zeros=False)
    if verb.name not in _BASES:
        return _bad(value, verb)
    digits = format(abs(int(value)), _BASES[verb.name])
    sign = "-" if value < 0 else "+" if verb.plus else " " if verb.space else ""
    prefix = "0o" if verb.name == "O" else ""
    if verb.sharp and verb.name in _PREFIXES:
        prefix = _PREFIXES[verb.name]
    if verb.precision is not None:
        if verb.precision == 0 and value == 0:
            return "".ljust(verb.width or 0)
        digits = digits.rjust(verb.precision, "0")
    elif verb.zero and not verb.minus and verb.width is not None:
        digits = digits.rjust(verb.width - len(sign), "0")
    if prefix == "0" and digits.startswith("0"):
        prefix = ""
    return verb.padded(sign + prefix + digits, zeros=False)


def _float(value: float, verb: Verb) -> str:
    if verb.name in "xXb":
        raise Refused(f"%{verb.name} of a float is not supported")
    if verb.name not in "veEfFgG":
        return _bad(value, verb)
    name = "g" if verb.name == "v" else verb.name
    text = _digits(value, name.lower(), verb.precision)
    if verb.sharp:
        raise Refused(f"%#{verb.name} of a float is not supported")
    text = text.upper() if name in "EG" and math.isfinite(value) else text
    if not text.startswith(("+", "-")):
        text = f"+{text}"
    if text[0] == "+" and not verb.plus:
        if verb.space:
            text = f" {text[1:]}"
        elif text != "+Inf":
            text = text[1:]
    if math.isfinite(value) and verb.zero and not verb.minus and verb.width is not None and text[0] in "+- ":
        return text[0] + dataclasses.replace(verb, width=verb.width - 1).padded(text[1:])
    return verb.padded(text, zeros=math.isfinite(value))


def _digits(value: float, name: str, precision: int | None) -> str:
    if not math.isfinite(value):
        return numbers.special(value)
    if precision is None and name == "g":
        return numbers.shortest(value)
    return format(value, f".{6 if precision is None else precision}{name}")


def _string(value: str, verb: Verb) -> str:
    if verb.source:
        return verb.padded(numbers.quoted(value))
    if verb.name in "sv":
        return verb.padded(_cut(value, verb))
    if verb.name in "xX":
        return verb.padded(_hexadecimal(value, verb))
    if verb.name != "q":
        return _bad(value, verb)
    value = _cut(value, verb)
    if verb.sharp and "`" not in value and all(c == "\t" or (c >= " " and c not in "\x7f\ufeff") for c in value):
        return verb.padded(f"`{value}`")
    return verb.padded(numbers.quoted(value, ascii_only=verb.plus))


def _hexadecimal(value: str, verb: Verb) -> str:
    digits = encoded(value)[: verb.precision].hex(*(" " if verb.space else ""))
    if verb.sharp and digits:
        digits = f"0x{digits.replace(' ', ' 0x')}"
    return digits.upper() if verb.name == "X" else digits


def _rune(value: int) -> str:
    return chr(value) if 0 <= value < 0xD800 or 0xE000 <= value < 0x110000 else "\ufffd"


def _unicode(value: int, verb: Verb) -> str:
    text = f"U+{value % (1 << 64):0{max(4, verb.precision or 0)}X}"
    shows = verb.sharp and 0 <= value < 0x110000 and chr(value).isprintable()
    return f"{text} '{chr(value)}'" if shows else text


def _bad(value: Any, verb: Verb) -> str:
    """What a verb says that does not fit its value."""
    return f"%!{verb.name}({type_name(value)}={formatted(value, dataclasses.replace(verb, name='v'))})"


def _cut(text: str, verb: Verb) -> str:
    return text if verb.precision is None else text[: verb.precision]
