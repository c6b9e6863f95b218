"""The values of templates: Python's, told apart where Go tells its own apart.

str, bool, float    string, bool, float64      dict        map[string]interface {}
int                 int                        StringMap   map[string]string
Int64, Byte         int64, uint8               list        []interface {}
datetime, date      time.Time                  Strings     []string
time                time.Time                  Tables      []map[string]interface {}
None                a nil interface            Struct      a pointer to a struct
ABSENT              no value at all, such as what a key that is not there leads to
"""

from __future__ import annotations

import datetime
from typing import Any, Final

from testground.plan.template.errors import Refused


class Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()


class Int64(int):
    """A whole number of a TOML file."""


class Byte(int):
    """One of a string."""


class StringMap(dict[str, str]):
    pass


class Strings(list[str]):
    pass


class Tables(list[dict[str, Any]]):
    pass


class Struct(dict[str, Any]):
    """What a template starts from. That a field is missing is an error, unlike a key of a table."""


Time = datetime.date | datetime.time

_NAMES = {
    str: "string",
    bool: "bool",
    int: "int",
    Int64: "int64",
    Byte: "uint8",
    float: "float64",
    dict: "map[string]interface {}",
    StringMap: "map[string]string",
    list: "[]interface {}",
    Strings: "[]string",
    Tables: "[]map[string]interface {}",
    Struct: "*cmd.compositionData",
    type(None): "<nil>",
}


def type_name(value: Any) -> str:
    """The Go type, as `%T` prints it."""
    return _NAMES.get(type(value), "time.Time")


def is_true(value: Any) -> bool:
    """Not empty and not zero."""
    return value is not ABSENT and (isinstance(value, Struct) or bool(value))


def field(receiver: Any, name: str) -> Any:
    """`receiver.name`. Raises `Refused`."""
    if receiver is ABSENT:
        return ABSENT
    if receiver is None:
        raise Refused(f"nil has no field {name}")
    if isinstance(receiver, Struct):
        if name not in receiver:
            raise Refused(f"there is no field .{name} here, only {', '.join(f'.{known}' for known in receiver)}")
        return receiver[name]
    if isinstance(receiver, dict):
        return receiver.get(name, ABSENT)
    raise Refused(f"can't evaluate field {name} in type {type_name(receiver)}")


def index(item: Any, *keys: Any) -> Any:
    """Raises `Refused`, also for a place outside of a list; a missing key gives the type's zero."""
    if item is ABSENT:
        raise Refused("index of untyped nil")
    for key in keys:
        item = _element(item, key)
    return item


def slice_(item: Any, *places: Any) -> Any:
    """`item[a:b:c]` of a list or of the bytes of a string. Raises `Refused`."""
    if item is ABSENT:
        raise Refused("slice of untyped nil")
    if len(places) > 3:
        raise Refused(f"too many slice indexes: {len(places)}")
    if not isinstance(item, str | list):
        raise Refused(f"can't slice item of type {type_name(item)}")
    if isinstance(item, str) and len(places) == 3:
        raise Refused("cannot 3-index slice a string")
    items = encoded(item) if isinstance(item, str) else item
    bounds = [_place(place, len(items), "slice") for place in places] or [0]
    if sorted(bounds) != bounds:
        raise Refused(f"invalid slice index: {bounds}")
    part = items[bounds[0] : bounds[1] if len(bounds) > 1 else len(items)]
    return decoded(part) if isinstance(part, bytes) else type(item)(part)


def length(item: Any) -> int:
    """Of a string, in bytes. Raises `Refused`."""
    if isinstance(item, str):
        return len(encoded(item))
    if isinstance(item, dict | list) and not isinstance(item, Struct):
        return len(item)
    raise Refused("len of nil" if item is ABSENT else f"len of type {type_name(item)}")


def encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def decoded(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _element(item: Any, key: Any) -> Any:
    if item is None or item is ABSENT:
        raise Refused("index of nil pointer")
    if isinstance(item, str):
        data = encoded(item)
        return Byte(data[_place(key, len(data) - 1, "index")])
    if isinstance(item, list):
        return item[_place(key, len(item) - 1, "index")]
    if not isinstance(item, dict) or isinstance(item, Struct):
        raise Refused(f"can't index item of type {type_name(item)}")
    if not isinstance(key, str):
        what = "value is nil" if key is ABSENT else f"value has type {type_name(key)}"
        raise Refused(f"{what}; should be string")
    return item.get(key, "" if isinstance(item, StringMap) else None)


def _place(key: Any, last: int, verb: str) -> int:
    if isinstance(key, bool) or not isinstance(key, int):
        what = "nil" if key is ABSENT else f"type {type_name(key)}"
        raise Refused(f"cannot {verb} slice/array with {what}")
    if not 0 <= key <= last:
        raise Refused(f"index out of range: {key}")
    return key
