"""What an instance says on stdout: event lines of all SDKs, read leniently, shown in upstream's form (contract §2)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """Class of a line as shown to people; the names are upstream's."""

    START = "START"
    OK = "OK"
    FAIL = "FAIL"
    CRASH = "CRASH"
    INCOMPLETE = "INCOMPLETE"
    MESSAGE = "MESSAGE"
    STAGE = "STAGE"
    OTHER = "OTHER"
    ERROR = "ERROR"
    INTERNAL_ERR = "INTERNAL_ERR"


@dataclass(frozen=True, slots=True)
class Event:
    kind: Kind
    text: str = ""
    error: str = ""
    """Of a failure or crash, without its stack trace."""
    timestamp_ns: int | None = None


def parse_line(line: bytes) -> Event:
    """An event line is a JSON object whose `event` member is an object; anything else is `OTHER`, verbatim."""
    if line.startswith(b"{") and b'"event"' in line:
        try:
            document = json.loads(line.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            document = None
        if isinstance(document, dict) and isinstance(document.get("event"), dict):
            return parse_event(document["event"], document.get("ts"))
    return Event(Kind.OTHER, line.decode("utf-8", "replace").rstrip("\r"))


def parse_event(event: dict[str, Any], ts: Any = None) -> Event:
    """The event object, from stdout or from the run-events topic.

    Nothing unclear is a success: a failure beside it comes first, and a body that is not an object is not one.
    """
    moment = ts if isinstance(ts, int) and not isinstance(ts, bool) and 0 < ts < 2**63 else None
    for member, read in _MEMBERS.items():
        body = event.get(member)
        if isinstance(body, dict) or (body is not None and member != "success_event"):
            return _dated(read(body if isinstance(body, dict) else {}), moment)
    if "type" in event:
        return _dated(_old_sdk(event), moment)
    return Event(Kind.INTERNAL_ERR, f"unknown event {_compact(event)}", timestamp_ns=moment)


def display(event: Event, tag: str, elapsed: float) -> bytes:
    """`  1.2345s         OK << group[000] >> text⏎`"""
    return f"{elapsed:5.4f}s {event.kind:>10} << {tag} >> {event.text}\n".encode()


def _start(body: dict[str, Any]) -> Event:
    return Event(Kind.START, _compact(body.get("runenv", {})))


def _message(body: dict[str, Any]) -> Event:
    return Event(Kind.MESSAGE, _text(body.get("message", "")))


def _success(body: dict[str, Any]) -> Event:
    return Event(Kind.OK)


def _failure(body: dict[str, Any]) -> Event:
    error = _text(body.get("error", ""))
    return Event(Kind.FAIL, error, error)


def _crash(body: dict[str, Any]) -> Event:
    error, stack = _text(body.get("error", "")), _text(body.get("stacktrace", ""))
    if _GO_STACK.match(error):  # sdk-go tells of a panic twice, first of the stack alone (contract §2.4)
        return Event(Kind.CRASH, error)
    return Event(Kind.CRASH, f"{error}\n{stack}" if stack else error, error)


def _stage(body: dict[str, Any]) -> Event:
    return Event(Kind.STAGE, _text(body.get("name", "")))


def _old_sdk(event: dict[str, Any]) -> Event:
    """sdk-go ≤ 0.2.5: `{"type": "finish", "outcome": "ok"}` (contract §8.2)."""
    if event["type"] != "finish":
        return Event(Kind.MESSAGE, _text(event["message"]) if "message" in event else _compact(event))
    error = _text(event.get("error", event.get("outcome", "")))
    kind = {"ok": Kind.OK, "failed": Kind.FAIL, "crashed": Kind.CRASH}.get(_text(event.get("outcome")), Kind.FAIL)
    return Event(kind) if kind is Kind.OK else Event(kind, error, error)


_GO_STACK = re.compile(r"goroutine \d+ \[")

_MEMBERS = {
    "crash_event": _crash,
    "failure_event": _failure,
    "success_event": _success,
    "message_event": _message,
    "start_event": _start,
    "stage_start_event": _stage,
    "stage_end_event": _stage,
}


def _dated(event: Event, moment: int | None) -> Event:
    return Event(event.kind, event.text, event.error, moment)


def _text(value: Any) -> str:
    """Half a surrogate pair, which JSON can hold and UTF-8 cannot, becomes a question mark."""
    return (value if isinstance(value, str) else _compact(value)).encode("utf-8", "replace").decode()


def _compact(value: Any) -> str:
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    except (RecursionError, ValueError):
        return "…"
    return _text(text)
