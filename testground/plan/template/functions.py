"""What compositions can call in their templates beside Go's own functions, and what they start from."""

from __future__ import annotations

import functools
import math
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testground.plan import document
from testground.plan.template.builtins import Function, Takes
from testground.plan.template.errors import Refused
from testground.plan.template.literals import MAX_INT
from testground.plan.template.toml_text import toml
from testground.plan.template.values import Int64, StringMap, Strings, Struct, Tables


def data(environment: Mapping[str, str]) -> Struct:
    """The dot of a composition file: `.Env` and nothing else."""
    return Struct(Env=StringMap(environment))


def functions(directory: Path, environment: Mapping[str, str]) -> dict[str, Function]:
    """`directory` is that of the composition file, where resources are looked for."""
    read = functools.cache(functools.partial(_load, directory))
    variables = StringMap(environment)
    return {
        "load_resource": Function(read, (Takes.STRING,)),
        "pick": Function(_pick, (Takes.TABLE, Takes.STRING)),
        "toml": Function(toml, (Takes.ANY,)),
        "withEnv": Function(lambda table: {**table, "Env": variables}, (Takes.TABLE,)),
        "split": Function(_split, (Takes.STRING,)),
        "atoi": Function(_atoi, (Takes.STRING,)),
    }


def _load(directory: Path, name: str) -> dict[str, Any]:
    """A resource is plain TOML. Where it lies is not restricted: this is the user's own machine."""
    file = os.path.normpath(f"{directory}/{name}")
    try:
        found = _typed(tomllib.loads(document.read(Path(file)), parse_float=_float))
    except OSError as error:
        raise Refused(f"{file}: {error.strerror or error}") from error
    except RecursionError as error:
        raise Refused(f"{file}: nested too deeply") from error
    except ValueError as error:
        problem, _, place = str(error).removesuffix(")").partition(" (at ")
        raise Refused(f"{file}{', ' if place else ''}{place}: {problem}") from error
    assert isinstance(found, dict)
    return found


def _pick(table: dict[str, Any], key: str) -> dict[str, Any]:
    return {key: table.get(key)}


def _split(text: str) -> Strings:
    """At commas only."""
    return Strings(text.split(","))


def _atoi(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise Refused(f"{text!r} is not a whole number")
    digits = text.lstrip("+-").lstrip("0") or "0"
    number = int(digits) if len(digits) < 20 else MAX_INT + 2
    if number > MAX_INT + text.startswith("-"):
        raise Refused(f"{text} is out of range")
    return -number if text.startswith("-") else number


def _float(text: str) -> float:
    """Raises `ValueError` for a number that is too large, and only infinite for that."""
    value = float(text)
    if math.isinf(value) and "inf" not in text:
        raise ValueError(f"{text} is out of range")
    return value


def _typed(value: Any) -> Any:
    """Raises `ValueError` for whole numbers of more than 64 bits."""
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list):
        items = [_typed(item) for item in value]
        return Tables(items) if items and all(isinstance(item, dict) for item in items) else items
    if isinstance(value, int) and not isinstance(value, bool):
        if not -MAX_INT - 1 <= value <= MAX_INT:
            raise ValueError(f"{value} is out of range")
        return Int64(value)
    return value
