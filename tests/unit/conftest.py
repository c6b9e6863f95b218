"""A daemon that says what a test wants it to say, over a real socket."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from testground.api import rpc


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, or its first part."""
        part = re.search(rb"\r\n\r\n(\{.*?\}\n)\r\n--", self.body, re.DOTALL)
        return json.loads(part.group(1) if part else self.body)

    @property
    def parts(self) -> list[str]:
        return re.findall(r"filename=(\S+)", self.body.decode("latin-1"))


@dataclass
class Answer:
    pieces: tuple[bytes, ...]
    status: int = 200
    content_type: str = "application/json"
    broken: bool = False
    """Close the connection where a whole answer would say that it ends."""


@dataclass
class FakeDaemon:
    endpoint: str
    requests: list[Request] = field(default_factory=list)
    answers: dict[str, list[Answer]] = field(default_factory=dict)

    def answer(self, path: str, *pieces: bytes, **more: Any) -> None:
        """The next answer of a route; the last one is repeated."""
        self.answers.setdefault(path, []).append(Answer(pieces, **more))

    def result(self, path: str, value: Any, *before: bytes) -> None:
        self.answer(path, *before, rpc.result(value))

    def sent(self, path: str) -> list[Any]:
        return [request.json for request in self.requests if request.path == path]

    def next(self, path: str) -> Answer:
        answers = self.answers.get(path) or [Answer((b"404 page not found\n",), 404, "text/plain")]
        return answers.pop(0) if len(answers) > 1 else answers[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    daemon: FakeDaemon

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.daemon.requests.append(Request(self.path, dict(self.headers.items()), body))
        answer = self.daemon.next(self.path)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in filter(None, answer.pieces):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        if not answer.broken:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    address_family = socket.AF_INET

    def handle_error(self, *args: Any) -> None:
        """A client that goes away early is what some tests want."""


@pytest.fixture
def fake_daemon() -> Iterator[FakeDaemon]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        daemon = FakeDaemon(f"http://127.0.0.1:{server.server_port}")
        server.RequestHandlerClass = type("Handler", (_Handler,), {"daemon": daemon})
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield daemon
        finally:
            server.shutdown()
            thread.join()
