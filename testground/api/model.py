"""The base of all wire models: Go's JSON habits in pydantic."""

from __future__ import annotations

import math
import types
import typing
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationError, model_validator

from testground.errors import in_words


class WireModel(BaseModel):
    """Reads keys in any letter case, ignores unknown ones, treats `null` as the zero value (client-daemon §1.1)."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True, validate_default=False)

    @model_validator(mode="before")
    @classmethod
    def _go_json(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        names = _names(cls)
        out: dict[str, Any] = {}
        for key, value in data.items():
            name = names.get(key.lower()) if isinstance(key, str) else None
            if name is None or (value is None and name not in _nullable(cls)):
                continue
            out[name] = value  # of several spellings the last one counts, as in Go
        return out

    def wire(self) -> dict[str, Any]:
        """The JSON object as Go writes it: aliases, every key."""
        return self.model_dump(mode="json", by_alias=True)


def explain(error: ValidationError) -> str:
    """One line for the first problem: `groups[0].instances.count: a whole number is needed`."""
    first = error.errors()[0]
    path = ""
    for part in first["loc"]:
        path += f"[{part}]" if isinstance(part, int) else (f".{part}" if path else str(part))
    return f"{path}: {in_words(first)}" if path else in_words(first)


def _integral(value: Any) -> Any:
    """JSON has no integers: `2.0` is one; `true` and `"2"` are not."""
    if isinstance(value, bool | str):
        raise ValueError("a whole number is needed")
    if isinstance(value, float):
        if not math.isfinite(value) or value != int(value):
            raise ValueError("a whole number is needed")
        return int(value)
    return value


def _string(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("a string is needed")
    if "\x00" in value:
        raise ValueError("a string without NUL characters is needed")
    return value


def _text(value: Any) -> Any:
    """A test parameter: a string; numbers and booleans of foreign clients are spelled out (client-daemon §7.3)."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return _string(str(value) if isinstance(value, int) else value)


Int = Annotated[int, BeforeValidator(_integral), Field(ge=-(2**63), lt=2**63)]
UInt = Annotated[int, BeforeValidator(_integral), Field(ge=0, lt=2**63)]
Str = Annotated[str, BeforeValidator(_string)]
Bool = Annotated[bool, Strict()]
Text = Annotated[str, BeforeValidator(_text)]


def or_zero(zero: Any) -> BeforeValidator:
    """For an item of a list or a map: `null` is the zero value there too."""
    return BeforeValidator(lambda value: zero if value is None else value)


Item = Annotated[Str, or_zero("")]


def _names(cls: type[BaseModel]) -> dict[str, str]:
    """Lower-case spelling → the key that pydantic validates by: the alias if there is one."""
    cached = cls.__dict__.get("_wire_names")
    if cached is None:
        cached = {}
        for name, field in cls.model_fields.items():
            alias = field.alias or name
            cached[name.lower()] = alias
            cached[alias.lower()] = alias
        type.__setattr__(cls, "_wire_names", cached)
    return typing.cast(dict[str, str], cached)


def _nullable(cls: type[BaseModel]) -> frozenset[str]:
    cached = cls.__dict__.get("_wire_nullable")
    if cached is None:
        cached = frozenset(
            field.alias or name for name, field in cls.model_fields.items() if _accepts_none(field.annotation)
        )
        type.__setattr__(cls, "_wire_nullable", cached)
    return typing.cast(frozenset[str], cached)


def _accepts_none(annotation: Any) -> bool:
    if annotation is Any or annotation is types.NoneType:
        return True
    return typing.get_origin(annotation) in (typing.Union, types.UnionType) and types.NoneType in typing.get_args(
        annotation
    )
