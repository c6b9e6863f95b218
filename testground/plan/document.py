"""TOML files written by people: errors name the line or the key, unknown keys the nearest valid one."""

from __future__ import annotations

import math
import tomllib
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from testground.api.model import WireModel
from testground.errors import TestgroundError, did_you_mean, in_words

MAX_BYTES = 16 << 20

Model = TypeVar("Model", bound=WireModel)
Failure = Callable[[str], TestgroundError]
Names = Callable[[type[BaseModel]], Iterable[str]]
"""The keys of a model as its TOML files spell them."""

SYNONYMS = {"min": "minimum", "max": "maximum", "params": "parameters", "desc": "description"}


def parse(text: str, failure: Failure) -> dict[str, Any]:
    """Raises `failure` with a message that names the line."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise failure(str(error)) from error
    except RecursionError as error:
        raise failure("nested too deeply") from error
    except ValueError as error:  # Python's own bound of digits
        raise failure("a whole number has thousands of digits") from error
    for path, value in leaves(document):
        if isinstance(value, float) and not math.isfinite(value):
            raise failure(f"{path}: a finite number is needed")
    return document


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All values that are neither tables nor lists, with their paths: `groups[0].id`."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def read(file: Path) -> str:
    """The text of a file of sane size. Raises `OSError`, or `ValueError` for what is not text."""
    with file.open("rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"not UTF-8 (at line {line})") from error


def decode(model: type[Model], document: dict[str, Any], failure: Failure) -> Model:
    """Raises `failure` with the path of the first wrong key, as the file spells it: `groups[0].instances.count: …`."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        path = _as_spelled(document, first["loc"])
        raise failure(f"{path}: {in_words(first)}" if path else in_words(first)) from error


def unknown_keys(model: type[BaseModel], document: dict[str, Any], names: Names, path: str = "") -> list[str]:
    """One sentence for each key that nothing reads. Contents of free tables, such as `build_config`, are not judged."""
    found: list[str] = []
    known = {name.lower(): name for name in names(model)}
    fields = {_canonical(field.alias or name): field for name, field in model.model_fields.items()}
    for key, value in document.items():
        place = f"{path}.{key}" if path else key
        if key.lower() not in known:
            found.append(f"unknown key '{place}'{did_you_mean(key.lower(), known)}")
            continue
        field = fields.get(_canonical(key))
        if field is not None:
            for below, child, table in _tables(field.annotation, value, place):
                found.extend(unknown_keys(child, table, names, below))
    return found


def _as_spelled(document: Any, location: tuple[int | str, ...]) -> str:
    path, current = "", document
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
            current = current[part] if isinstance(current, list) and part < len(current) else None
            continue
        table = current if isinstance(current, dict) else {}
        key = part if part in table else next((k for k in table if _canonical(k) == _canonical(part)), part)
        current = table.get(key)
        path += f".{key}" if path else key
    return path


def _canonical(key: str) -> str:
    folded = key.lower().replace("_", "")
    return SYNONYMS.get(folded, folded)


def _tables(annotation: Any, value: Any, path: str) -> Iterator[tuple[str, type[BaseModel], dict[str, Any]]]:
    """The tables below a value that are models themselves, with their paths."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if isinstance(value, dict):
            yield path, annotation, value
    elif origin is list and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _tables(arguments[0], item, f"{path}[{index}]")
    elif origin is dict and isinstance(value, dict):
        for key, item in value.items():
            yield from _tables(arguments[1], item, f"{path}.{key}")
    else:
        for alternative in arguments if origin is not typing.Annotated else arguments[:1]:
            yield from _tables(alternative, value, path)
