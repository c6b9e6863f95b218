"""Metric lines and lifecycle events for an InfluxDB 1.x endpoint (contract §5.5), sent in batches by a thread.

Runners name an endpoint whether or not there is one, so that nobody listens there is nothing to talk about. One that
refuses or falls silent costs a message. Nothing here fails a case.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from testground.sdk.journal import Event
from testground.sdk.metrics import Line

INTERVAL = 1.0
BATCH = 5000
BACKLOG = 100_000
"""Lines kept for an endpoint that does not answer any more."""

TIMEOUT = 5.0
CLOSE_DEADLINE = 10.0
PATH = "/write?consistency=&db=testground&precision=ns&rp="


class InfluxWriter:
    """`prefix` is `PLAN-CASE`; `tags` go with every point. `report` gets the reason when nothing can be sent."""

    def __init__(self, url: str, prefix: str, tags: Mapping[str, str], report: Callable[[str], None]) -> None:
        self._url = url
        self._prefix = prefix
        self._tags = tags
        self._report = report
        self._lines: deque[str] = deque(maxlen=BACKLOG)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._reached = False
        self._given_up = False
        self._thread: threading.Thread | None = None

    def on_event(self, event: Event) -> None:
        kind = next(iter(event))
        if kind in ("start_event", "success_event", "failure_event", "crash_event"):
            self._add(point("events", {**self._tags, "event_type": kind}, {"count": "1i"}))

    def on_result(self, line: Line) -> None:
        self._add(self._metric("results", line))

    def on_diagnostic(self, line: Line) -> None:
        """Counters are integers here, and floats among the results: what other SDKs wrote decides (§5.5)."""
        suffix = "i" if line["type"] == "counter" else ""
        self._add(self._metric("diagnostics", line, suffix))

    def close(self) -> None:
        """Send what is left."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(CLOSE_DEADLINE)

    def _metric(self, set_name: str, line: Line, suffix: str = "") -> str:
        name, tags = split_name(line["name"])
        fields = {measure: f"{value!r}{suffix}" for measure, value in line["measures"].items()}
        measurement = f"{set_name}.{self._prefix}.{name}.{line['type']}"
        return point(measurement, {**self._tags, **tags}, fields, line["ts"])

    def _add(self, line: str) -> None:
        with self._lock:
            if self._given_up:
                return
            self._lines.append(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="testground-influx", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        self._probe()
        while not self._given_up:
            stopping = self._stop.wait(INTERVAL)
            self._send_all()
            if stopping:
                return

    def _probe(self) -> None:
        """Cheaper than a request, which costs the start of each of hundreds of instances an HTTP library."""
        try:
            host, port = address(self._url)
            socket.create_connection((host, port), TIMEOUT).close()
        except (OSError, ValueError) as error:
            self._on_error(error)

    def _send_all(self) -> None:
        deadline = time.monotonic() + CLOSE_DEADLINE / 2
        while self._lines and time.monotonic() < deadline:
            batch = [self._lines.popleft() for _ in range(min(BATCH, len(self._lines)))]
            try:
                _post(self._url, "\n".join(batch) + "\n")
                self._reached = True
            except Exception as error:  # whatever the endpoint or its URL is, metrics are no reason to fail
                self._lines.extendleft(reversed(batch))
                self._on_error(error)
                return

    def _on_error(self, error: Exception) -> None:
        """Give up, unless the endpoint answered before: then the next batch is another attempt."""
        if self._reached and not self._stop.is_set():
            return
        self._given_up = True
        self._lines.clear()
        if self._reached or not isinstance(error, OSError):
            self._report(f"InfluxDB unavailable; no metrics will be dispatched: {error or type(error).__name__}")


def point(measurement: str, tags: Mapping[str, str], fields: Mapping[str, str], ts: int | None = None) -> str:
    """One line of the line protocol. `fields` are written as they are; tags sorted, without empty ones."""
    series = [_escape(measurement, ", "), *(f"{_escape(k)}={_escape(v)}" for k, v in sorted(tags.items()) if v)]
    values = ",".join(f"{_escape(name)}={value}" for name, value in sorted(fields.items()))
    return f"{','.join(series)} {values}" + (f" {ts}" if ts is not None else "")


def split_name(name: str) -> tuple[str, dict[str, str]]:
    """`metric,tag=value,…` into name and tags; a malformed tag is dropped."""
    metric, *rest = name.split(",")
    pairs = (part.partition("=") for part in rest)
    return metric, {key: value for key, _, value in pairs if key and value}


def address(url: str) -> tuple[str, int]:
    """Raises `ValueError` for what is no URL of an HTTP endpoint."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"INFLUXDB_URL is '{url}', not an http URL")
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _escape(text: str, special: str = ",= ") -> str:
    flat = text.replace("\n", " ").replace("\\", "\\\\")
    return "".join(f"\\{character}" if character in special else character for character in flat)


def _post(url: str, body: str) -> None:
    """Raises `OSError` and `HTTPException` of the library, `ValueError` for a bad URL or a refusal."""
    from http.client import HTTPConnection, HTTPSConnection

    parts = urlsplit(url)
    kind: Any = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(*address(url), timeout=TIMEOUT)
    try:
        headers = {"Content-Type": "text/plain; charset=utf-8", "User-Agent": "testground-sdk-python"}
        connection.request("POST", parts.path.rstrip("/") + PATH, body.encode(), headers)
        answer = connection.getresponse()
        if answer.status not in (200, 204):
            raise ValueError(f"{answer.status} {answer.reason}: {answer.read(200).decode(errors='replace').strip()}")
    finally:
        connection.close()
