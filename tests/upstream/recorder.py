"""A daemon that only listens: it keeps every request, and answers each as if all went well."""

from __future__ import annotations

import contextlib
import email.parser
import email.policy
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TASK_ID = "dc28c55qmd2pf1kojstg"
STATES = [{"created": "2026-11-23T18:26:17Z", "state": state} for state in ("scheduled", "processing", "complete")]
TASK = {"version": 0, "priority": 0, "id": TASK_ID, "states": STATES, "type": "run", "result": {"outcome": "success"}}
RESULTS: dict[str, Any] = {
    "/build": TASK_ID,
    "/run": TASK_ID,
    "/logs": TASK,
    "/status": TASK,
    "/tasks": None,
    "/outputs": True,
    "/healthcheck": {"Checks": None, "Fixes": None},
    "/terminate": "Done",
    "/build/purge": "build purge succeeded",
}

Archive = dict[str, tuple[int, bytes]]
"""Mode and contents by path."""


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    document: Any
    archives: dict[str, Archive]
    """The other parts of a multipart body, in their order."""


@dataclass(frozen=True, slots=True)
class Recorder:
    endpoint: str
    requests: list[Request] = field(default_factory=list)

    def taken(self) -> list[Request]:
        """The requests since the last time."""
        taken = list(self.requests)
        self.requests.clear()
        return taken


@contextlib.contextmanager
def recorder() -> Iterator[Recorder]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        found = Recorder(f"http://127.0.0.1:{server.server_port}")
        server.RequestHandlerClass = type("Handler", (_Handler,), {"recorder": found})
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    recorder: Recorder

    def do_GET(self) -> None:
        """The greeting of our client, answered as upstream's daemon does."""
        self.send_response(301)
        self.send_header("Location", "/tasks")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        body = self._chunks() if "Transfer-Encoding" in self.headers else self._sized()
        self.recorder.requests.append(_read(self.path, self.headers.get("Content-Type", ""), body))
        answer = json.dumps({"t": 114, "p": RESULTS[self.path]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: Any) -> None:
        pass

    def _sized(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


def _read(path: str, content_type: str, body: bytes) -> Request:
    if not content_type:
        return Request(path, json.loads(body), {})
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    first, *others = message.iter_parts()
    archives = {part.get_filename() or "": _archive(part.get_payload(decode=True)) for part in others}
    return Request(path, json.loads(first.get_payload(decode=True)), archives)


def _archive(data: Any) -> Archive:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {item.filename: (item.external_attr >> 16, file.read(item)) for item in file.infolist()}
