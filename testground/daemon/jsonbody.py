"""JSON of foreign clients, read as Go reads it (client-daemon §1.1); what is not an object is refused with a reason."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

from testground.errors import RequestError

MAX_BYTES = 4 << 20
"""Largest body of a route that takes no sources."""

MAX_DEPTH = 100
"""Deepest nesting; pydantic gives up writing at about 250."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


async def collect(body: AsyncIterator[bytes]) -> bytes:
    """A whole body. Raises `RequestError` when it is larger than `MAX_BYTES`."""
    data = bytearray()
    async for piece in body:
        data += piece
        if len(data) > MAX_BYTES:
            raise RequestError(f"the request is larger than {MAX_BYTES >> 20} MiB")
    return bytes(data)


def parse(data: bytes) -> dict[str, Any]:
    """The first JSON value of a body; what follows it is ignored, and `null` is the empty object."""
    text = data.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise RequestError("EOF")
    try:
        value, _ = json.JSONDecoder(parse_constant=_no_constant).raw_decode(text)
    except RecursionError:
        raise RequestError(f"nested more than {MAX_DEPTH} levels deep") from None
    except ValueError as error:
        raise RequestError(str(error)) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RequestError("an object is needed")
    return checked(value)


def checked(value: dict[str, Any]) -> dict[str, Any]:
    """The object, fit to be written again. Raises `RequestError` for deep nesting and numbers that are too large."""
    _limit_depth(value)
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        raise RequestError("a number is too large") from None
    if _SURROGATE.search(text):  # half a character, as `"\\ud800"` in a body, has no UTF-8 form
        text = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return dict(json.loads(text))
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _limit_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise RequestError(f"nested more than {MAX_DEPTH} levels deep")


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
