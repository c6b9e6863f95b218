"""Requests of the HTTP protocol and its answer: a stream of JSON chunks (client-daemon §1, §2). Pure; no I/O."""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field

from testground.api.composition import Composition
from testground.api.console import console_line as console_line
from testground.api.manifest import Manifest
from testground.api.model import Int, Str, WireModel
from testground.api.task import CreatedBy, State, TaskType
from testground.errors import StreamError

CONTENT_TYPE = "application/json"
"""Byte for byte: the Go client compares it so."""

Kind = Literal["p", "b", "r", "e"]
PROGRESS: Final = "p"
BINARY: Final = "b"
RESULT: Final = "r"
ERROR: Final = "e"


# -- requests ---------------------------------------------------------------------------------------------------


class BuildRequest(WireModel):
    priority: Int = 0
    composition: Composition = Field(default_factory=Composition)
    manifest: Manifest | None = None
    """None: not sent; the daemon reads it from the plan."""
    created_by: CreatedBy = Field(default_factory=CreatedBy)


class RunRequest(WireModel):
    priority: Int = 0
    build_groups: list[Int] | None = None
    run_ids: list[Str] | None = None
    composition: Composition = Field(default_factory=Composition)
    manifest: Manifest | None = None
    created_by: CreatedBy = Field(default_factory=CreatedBy)


class PurgeRequest(WireModel):
    builder: Str = ""
    testplan: Str = ""


class OutputsRequest(WireModel):
    runner: Str = ""
    run_id: Str = ""


class TerminateRequest(WireModel):
    runner: Str = ""
    builder: Str = ""


class HealthcheckRequest(WireModel):
    runner: Str = ""
    fix: bool = False


class TasksRequest(WireModel):
    """`Before` is the lower bound and `After` the upper one: upstream swapped them, and clients rely on it (§1.4)."""

    types: list[TaskType] | None = Field(default=None, alias="Types")
    states: list[State] | None = Field(default=None, alias="States")
    after: datetime | None = Field(default=None, alias="After")
    before: datetime | None = Field(default=None, alias="Before")
    test_plan: Str = Field(default="", alias="TestPlan")
    test_case: Str = Field(default="", alias="TestCase")


class TaskRequest(WireModel):
    """Body of /status, /cancel and /delete."""

    task_id: Str = ""


class LogsRequest(WireModel):
    task_id: Str = ""
    follow: bool = False
    cancel_with_context: bool = False


# -- chunks -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk. `payload` is bytes for progress and binary, any JSON value for a result, text for an error."""

    kind: Kind
    payload: Any
    code: str | None = None
    """Errors only: the class of the error, see `errors.from_code`."""
    extra: dict[str, Any] | None = None
    """Further members of a progress chunk; other clients ignore them. `states`: see `group_states`."""


def progress(data: bytes, **extra: Any) -> bytes:
    """A progress chunk; a keyword argument becomes a further member of the object."""
    return _dump({"t": ord(PROGRESS), "p": base64.b64encode(data).decode(), **extra})


def binary(data: bytes) -> bytes:
    return _dump({"t": ord(BINARY), "p": base64.b64encode(data).decode()})


def result(value: Any) -> bytes:
    return _dump({"t": ord(RESULT), "p": value})


def error(message: str, code: str | None = None) -> bytes:
    chunk: dict[str, Any] = {"t": ord(ERROR), "e": {"m": message}}
    if code:
        chunk["c"] = code
    return _dump(chunk)


_STRUCTURE = re.compile(r'["{}\[\]]')
_IN_STRING = re.compile(r'"|\\.?', re.DOTALL)


class ChunkDecoder:
    """Incremental decoder: `feed` network reads in any cut, iterate over whole chunks, `close` at the end of stream."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder()
        self._text = ""
        self._scanned = 0
        self._depth = 0
        self._in_string = False

    def feed(self, data: bytes) -> Iterator[Chunk]:
        try:
            self._text += self._utf8.decode(data)
        except UnicodeDecodeError as error:
            raise StreamError(f"the daemon's answer is not UTF-8: {error}") from error
        while (end := self._end_of_value()) is not None:
            value, self._text, self._scanned = self._text[:end], self._text[end:], 0
            yield self._chunk(value)

    def close(self) -> None:
        """Raises `StreamError` when the stream ended inside a chunk."""
        if self._text.strip():
            raise StreamError("unexpected EOF: the daemon's answer broke off inside a chunk")

    def _end_of_value(self) -> int | None:
        """Index after the first complete JSON object; each character is looked at once over all reads."""
        if self._depth == 0 and self._scanned == 0:
            self._text = self._text.lstrip(" \t\r\n")
            if self._text and self._text[0] != "{":
                raise StreamError(f"the daemon's answer is not a chunk stream: {self._text[:40]!r}")
        position = self._scanned
        while match := (_IN_STRING if self._in_string else _STRUCTURE).search(self._text, position):
            position = match.end()
            token = match.group()
            if token == '"':
                self._in_string = not self._in_string
            elif token in "{[":
                self._depth += 1
            elif token in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return position
            elif len(token) == 1:  # a backslash whose character has not arrived yet
                self._scanned = match.start()
                return None
        self._scanned = len(self._text)
        return None

    def _chunk(self, text: str) -> Chunk:
        try:
            value = self._json.decode(text)
        except (ValueError, RecursionError) as error:
            raise StreamError(f"the daemon sent a chunk that is not JSON: {text[:80]!r}") from error
        kind = value.get("t")
        if isinstance(kind, int) and not isinstance(kind, bool) and 0 < kind < 128:
            kind = chr(kind)
        if kind in (PROGRESS, BINARY):
            known = ("t", "p", "e")
            return Chunk(kind, _unbase64(value.get("p")), extra={k: v for k, v in value.items() if k not in known})
        if kind == RESULT:
            return Chunk(RESULT, value.get("p"))
        if kind == ERROR:
            body = value.get("e")
            message = body.get("m") if isinstance(body, dict) else None
            code = value.get("c")
            return Chunk(ERROR, str(message or "unknown error"), code if isinstance(code, str) else None)
        raise StreamError(f"unknown message type: {value.get('t')!r}")


def _unbase64(value: Any) -> bytes:
    if not isinstance(value, str):
        raise StreamError("a progress or binary chunk without a base64 payload")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise StreamError(f"illegal base64 data in a chunk: {error}") from error


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
