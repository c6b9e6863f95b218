"""What an instance reports: event and log lines (contract §2.1, §2.2), and the verdict they add up to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from testground.sdk.output import Output
from testground.sdk.verdict import Verdict

Event = dict[str, Any]
"""One member: the kind of the event, and its body."""

LEVELS = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40, "dpanic": 40, "panic": 50, "fatal": 50}
ENVELOPE = ("ts", "msg", "group_id", "run_id", "level", "event")


class Journal:
    """Usable from every thread. `listeners` hear of each lifecycle event, after its line was written."""

    def __init__(self, group: str, run: str, level: str = "") -> None:
        self.group = group
        self.run = run
        self.output = Output()
        self.verdict: Verdict | None = None
        self.listeners: list[Callable[[Event], None]] = []
        self._threshold = LEVELS.get(level.lower(), LEVELS["info"])
        self._lock = threading.Lock()

    def message(self, text: str) -> None:
        self._write("", event={"message_event": {"message": text}})

    def start(self, printed: Mapping[str, Any], published: Mapping[str, Any]) -> None:
        """The environment has one form on stdout and another one on the wire (contract §2.2)."""
        self._write("", event={"start_event": {"runenv": printed}})
        self._tell({"start_event": {"runenv": published}})

    def end(self, verdict: Verdict) -> bool:
        """Record how the instance ended; says whether it counts: the first verdict stands, but no success outlives

        what comes after it.
        """
        with self._lock:
            if self.verdict is not None and (self.verdict.exit_code > 0 or verdict.exit_code == 0):
                return False
            self.verdict = verdict
        event = self._terminal(verdict)
        self._write("", event=event)
        self._tell(event)
        return True

    def log(self, level: str, text: str, fields: Mapping[str, Any]) -> None:
        """A line without an event. Plain information has no level, as in the lines of other SDKs."""
        if LEVELS[level] < self._threshold:
            return
        named = {} if level == "info" else {"level": level}
        extra = {f"{key}_" if key in ENVELOPE else key: value for key, value in fields.items()}
        self._write(text, **named, **extra)

    def _terminal(self, verdict: Verdict) -> Event:
        if verdict.exit_code == 0:
            return {"success_event": {"group": self.group}}
        body = {"group": self.group, "error": verdict.error}
        if verdict.exit_code == 1:
            return {"failure_event": body}
        return {"crash_event": {**body, "stacktrace": verdict.stacktrace}}

    def _tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)

    def _write(self, text: str, **fields: Any) -> None:
        line = {"ts": time.time_ns(), "msg": text, "group_id": self.group, "run_id": self.run, **fields}
        self.output.write(encode(line) + b"\n")


class Logger:
    """Structured log lines beside the events: `env.logger.info("dialled", peer="10.0.0.1", attempt=2)`.

    `LOG_LEVEL` sets the lowest level that is written; it is `info` otherwise.
    """

    def __init__(self, write: Callable[[str, str, Mapping[str, Any]], None]) -> None:
        self._write = write

    def debug(self, message: str, **fields: Any) -> None:
        self._write("debug", message, fields)

    def info(self, message: str, **fields: Any) -> None:
        self._write("info", message, fields)

    def warn(self, message: str, **fields: Any) -> None:
        self._write("warn", message, fields)

    warning = warn

    def error(self, message: str, **fields: Any) -> None:
        self._write("error", message, fields)


def encode(value: Mapping[str, Any]) -> bytes:
    """JSON for whatever a plan hands over: what JSON cannot hold is written as text."""
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return _encode_plainly(value)


_encoder = msgspec.json.Encoder(enc_hook=str)


def _encode_plainly(value: Mapping[str, Any]) -> bytes:
    import json

    return json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def _plain(value: Any, depth: int = 5) -> Any:
    """Nested mappings stay, as deep as events go: one must remain an event even when its text is not valid Unicode."""
    if isinstance(value, dict) and depth > 0:
        return {str(key): _plain(item, depth - 1) for key, item in value.items()}
    return value if value is None or isinstance(value, (bool, int)) else str(value)
