"""Answers over real sockets: flushed chunk by chunk, and nothing left when a client goes away."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from testground.api.rpc import Chunk, ChunkDecoder
from testground.config import DaemonConfig, EnvConfig, Home
from testground.daemon.main import embedded
from testground.runners import outputs

DEADLINE = 30
SUCCESS = """echo '{"event":{"success_event":{"group":"single"}}}'"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture
def endpoint(home: Home) -> Iterator[str]:
    with embedded(EnvConfig(home=home, daemon=DaemonConfig(max_upload_mb=8))) as url:
        yield url


class Connection:
    """One connection, spoken to in bytes."""

    def __init__(self, endpoint: str) -> None:
        host, port = endpoint.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=DEADLINE)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def send(self, head: str, body: bytes = b"") -> None:
        lines = head.replace("\n", "\r\n")
        self._socket.sendall(f"{lines}\r\nHost: localhost\r\n".encode() + body)

    def post(self, path: str, body: bytes, headers: str = "") -> None:
        self.send(f"POST {path} HTTP/1.1\nContent-Length: {len(body)}{headers}", b"\r\n" + body)

    def send_bytes(self, data: bytes) -> None:
        self._socket.sendall(data)

    def head(self) -> tuple[str, dict[str, str]]:
        status = self._file.readline().decode().rstrip()
        headers: dict[str, str] = {}
        while line := self._file.readline().decode().rstrip():
            name, _, text = line.partition(": ")
            headers[name.lower()] = text
        return status, headers

    def piece(self) -> bytes:
        """One piece of a chunked body; empty at its end."""
        size = int(self._file.readline(), 16)
        data = self._file.read(size)
        assert self._file.readline() == b"\r\n"
        return data

    def pieces(self) -> list[bytes]:
        return list(iter(self.piece, b""))

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def run_request(directory: Path, script: str) -> dict[str, Any]:
    artifact = directory / "plan.sh"
    artifact.write_text(f"#!/bin/sh\n{script}\n")
    artifact.chmod(0o755)
    return {
        "composition": {
            "global": {"plan": "demo", "case": "ok", "builder": "exec:generic", "runner": "local:exec"},
            "groups": [{"id": "single", "instances": {"count": 1}, "run": {"artifact": str(artifact)}}],
        },
        "manifest": {
            "Name": "demo",
            "Builders": {"exec:generic": {}},
            "Runners": {"local:exec": {}},
            "TestCases": [{"Name": "ok", "Instances": {"Minimum": 1, "Maximum": 1}}],
        },
    }


def ask(endpoint: str, path: str, body: Any) -> Chunk:
    content = httpx.post(f"{endpoint}{path}", json=body, timeout=DEADLINE).content
    return list(ChunkDecoder().feed(content))[-1]


def submit(endpoint: str, directory: Path, script: str) -> str:
    result = ask(endpoint, "/run", run_request(directory, script))
    assert result.kind == "r", result.payload
    return str(result.payload)


def follow(connection: Connection, task_id: str, text: bytes, **members: Any) -> list[Chunk]:
    """Follow a log until `text` has come."""
    connection.post("/logs", json.dumps({"task_id": task_id, "follow": True, **members}).encode())
    connection.head()
    decoder = ChunkDecoder()
    chunks: list[Chunk] = []
    while not any(text in chunk.payload for chunk in chunks):
        chunks += decoder.feed(connection.piece())
    return chunks


def final(endpoint: str, task_id: str) -> dict[str, Any]:
    task: dict[str, Any] = ask(endpoint, "/logs", {"task_id": task_id, "follow": True}).payload
    return task


def test_envelope_is_that_of_the_go_daemon(endpoint: str) -> None:
    with Connection(endpoint) as connection:
        connection.post("/tasks", b"{}\n", "\nUser-Agent: Go-http-client/1.1\nAccept-Encoding: gzip")
        status, headers = connection.head()
        assert status == "HTTP/1.1 200 OK"
        assert headers.pop("date").endswith(" GMT")
        assert headers.pop("server").startswith("testground/")
        assert headers == {"content-type": "application/json", "transfer-encoding": "chunked"}
        assert connection.pieces() == [b'{"t":114,"p":null}']


def test_each_chunk_is_one_piece_and_the_connection_is_kept(endpoint: str) -> None:
    with Connection(endpoint) as connection:
        for _ in range(3):
            connection.post("/status", b'{"task_id":"bad"}')
            connection.head()
            warning, error = map(json.loads, connection.pieces())
            assert (warning["t"], error["t"]) == (112, 101)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /build/../tasks HTTP/1.1", "HTTP/1.1 301 Moved Permanently"),
        ("HEAD /tasks HTTP/1.1", "HTTP/1.1 405 Method Not Allowed"),
        ("GET /nothing HTTP/1.1", "HTTP/1.1 404 Not Found"),
        ("GET /docs HTTP/1.1", "HTTP/1.1 200 OK"),
        ("GET /tasks HTTP/1.1\nUpgrade: websocket\nConnection: Upgrade", "HTTP/1.1 405 Method Not Allowed"),
        ("POST http://evil.example/tasks HTTP/1.1", "HTTP/1.1 404 Not Found"),
        ("OPTIONS * HTTP/1.1", "HTTP/1.1 404 Not Found"),
        ("POST /tasks HTTP/1.1\nOrigin: http://evil.example", "HTTP/1.1 403 Forbidden"),
        ("POST /tasks HTTP/1.1\nContent-Length: -1", "HTTP/1.1 400 Bad Request"),
        ("POST /tasks HTTP/1.1\nContent-Length: 1\nContent-Length: 2", "HTTP/1.1 400 Bad Request"),
        ("\x00\x01\x02", "HTTP/1.1 400 Bad Request"),
    ],
)
def test_odd_requests(endpoint: str, head: str, status: str) -> None:
    with Connection(endpoint) as connection:
        connection.send(head, b"\r\n")
        assert connection.head()[0] == status
    assert ask(endpoint, "/tasks", {}).kind == "r"


def test_body_without_a_length(endpoint: str) -> None:
    response = httpx.post(f"{endpoint}/status", content=iter([b'{"task', b'_id":', b'"bad"}']), timeout=DEADLINE)
    assert "task key must be a xid id" in response.text


def test_expect_continue(endpoint: str) -> None:
    with Connection(endpoint) as connection:
        connection.send("POST /tasks HTTP/1.1\nContent-Length: 2\nExpect: 100-continue", b"\r\n")
        assert connection.head()[0] == "HTTP/1.1 100 Continue"
        connection.send_bytes(b"{}")
        assert connection.head()[0] == "HTTP/1.1 200 OK"
        assert connection.pieces() == [b'{"t":114,"p":null}']


def test_progress_comes_while_the_run_goes_on(endpoint: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task_id = submit(endpoint, tmp_path, f"mkfifo {gate}; echo waiting; read -r word < {gate}; echo $word; {SUCCESS}")
    with Connection(endpoint) as connection:
        follow(connection, task_id, b"waiting")
        gate.write_text("onwards\n")
        chunks = list(ChunkDecoder().feed(b"".join(connection.pieces())))
    assert any(b"onwards" in chunk.payload for chunk in chunks[:-1])
    assert chunks[-1].payload["result"]["outcome"] == "success"


def test_live_states_of_the_instances_are_in_the_stream(endpoint: str, tmp_path: Path) -> None:
    task_id = submit(endpoint, tmp_path, SUCCESS)
    with Connection(endpoint) as connection:
        chunks = follow(connection, task_id, b"run finished")
    states = [chunk.extra["states"] for chunk in chunks if chunk.extra and "states" in chunk.extra]
    assert states[-1] == {"group": "single", "total": 1, "running": 0, "ok": 1, "failed": 0}


def test_a_client_that_leaves_takes_its_task_along(endpoint: str, tmp_path: Path) -> None:
    """§7.1 no. 12: also when the task says nothing."""
    task_id = submit(endpoint, tmp_path, "echo there; exec sleep 600")
    with Connection(endpoint) as connection:
        follow(connection, task_id, b"there", cancel_with_context=True)
    task = final(endpoint, task_id)
    assert task["states"][-1]["state"] == "canceled" or task["result"]["outcome"] == "canceled"


def test_a_client_that_leaves_leaves_its_task_alone_by_default(endpoint: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task_id = submit(endpoint, tmp_path, f"mkfifo {gate}; echo there; read -r word < {gate}; {SUCCESS}")
    with Connection(endpoint) as connection:
        follow(connection, task_id, b"there")
    with Connection(endpoint) as connection:
        follow(connection, task_id, b"there")
        gate.write_text("onwards\n")
        connection.pieces()
    assert final(endpoint, task_id)["result"]["outcome"] == "success"


def test_a_client_that_waits_for_a_waiting_task_and_leaves(endpoint: str, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.mkdir()
    busy = [submit(endpoint, slow, "exec sleep 600") for _ in range(2)]
    task_id = submit(endpoint, tmp_path, SUCCESS)
    with Connection(endpoint) as connection:
        body = json.dumps({"task_id": task_id, "follow": True, "cancel_with_context": True}).encode()
        connection.post("/logs", body)
        assert connection.head()[0] == "HTTP/1.1 200 OK"
    assert [state["state"] for state in final(endpoint, task_id)["states"]] == ["scheduled", "canceled"]
    for other in busy:
        ask(endpoint, "/cancel", {"task_id": other})


def test_a_client_that_leaves_in_its_upload_leaves_nothing_behind(endpoint: str, home: Home) -> None:
    requests = home.work / "requests"
    boundary = "Content-Type: multipart/related; boundary=b"
    part = b"--b\r\nContent-Disposition: attachment; filename=plan.zip\r\nContent-Type: application/zip\r\n\r\n"
    with Connection(endpoint) as connection:
        connection.send(f"POST /build HTTP/1.1\nContent-Length: 8000000\n{boundary}", b"\r\n" + part)
        connection.send_bytes(b"x" * 3_000_000)
        wait_for(lambda: list(requests.glob("*/plan.zip")))
    wait_for(lambda: not list(requests.glob("*")))
    assert ask(endpoint, "/tasks", {}).kind == "r"


def test_an_error_reaches_a_client_that_is_still_sending(endpoint: str, home: Home) -> None:
    """A plain client reads only after it has sent everything."""
    boundary = {"Content-Type": "multipart/related; boundary=b"}
    part = b"--b\r\nContent-Disposition: attachment; filename=plan.zip\r\n\r\n"
    body = (part, *(b"x" * 65536 for _ in range(500)), b"\r\n--b--\r\n")
    with httpx.Client(timeout=DEADLINE) as client:
        for _ in range(2):
            response = client.post(f"{endpoint}/build", content=iter(body), headers=boundary)
            error = list(ChunkDecoder().feed(response.content))[-1]
            assert "the upload is larger than the allowed 8 MiB (daemon.max_upload_mb)" in error.payload
    assert not list((home.work / "requests").glob("*"))


def test_a_large_upload_arrives_whole(endpoint: str, home: Home) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        info = zipfile.ZipInfo("run")
        info.external_attr = 0o100755 << 16
        archive.writestr(info, f"#!/bin/sh\n{SUCCESS}\n")
        archive.writestr("payload", bytes(range(256)) * 20_000)
    head = b"--b\r\nContent-Type: application/json\r\n\r\n" + json.dumps(run_request(home.root, "")).encode()
    head = head.replace(str(home.root / "plan.sh").encode(), b"")
    head += b"\r\n--b\r\nContent-Disposition: attachment; filename=plan.zip\r\n\r\n"
    body = head + data.getvalue() + b"\r\n--b--\r\n"
    pieces = (body[at : at + 10_007] for at in range(0, len(body), 10_007))
    response = httpx.post(
        f"{endpoint}/run",
        content=pieces,
        headers={"Content-Type": "multipart/related; boundary=b"},
        timeout=DEADLINE,
    )
    result = list(ChunkDecoder().feed(response.content))[-1]
    assert result.kind == "r", result.payload
    assert final(endpoint, result.payload)["result"]["outcome"] == "success"


def test_many_clients_follow_one_task(endpoint: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task_id = submit(endpoint, tmp_path, f"mkfifo {gate}; echo there; read -r word < {gate}; {SUCCESS}")
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(endpoint)) for _ in range(20)]
        for connection in connections:
            follow(connection, task_id, b"there")
        gate.write_text("onwards\n")
        ends = [list(ChunkDecoder().feed(b"".join(connection.pieces())))[-1] for connection in connections]
    assert {end.kind for end in ends} == {"r"}
    assert {end.payload["id"] for end in ends} == {task_id}


def wait_for(condition: Any) -> None:
    """For what only the file system shows: there is no event to wait for in another thread's daemon."""
    pause = threading.Event()
    for _ in range(DEADLINE * 100):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("what was waited for did not happen")


def test_a_download_that_its_client_leaves_keeps_no_file_open(endpoint: str, home: Home, tmp_path: Path) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("open files are counted in /proc")
    task_id = submit(endpoint, tmp_path, SUCCESS)
    final(endpoint, task_id)
    [instance] = home.outputs.glob(f"*/*/{task_id}/single/0")
    large = instance / "large"
    large.write_bytes(os.urandom(20_000_000))
    with Connection(endpoint) as connection:
        connection.send(f"GET /outputs?run_id={task_id} HTTP/1.1", b"\r\n")
        status, headers = connection.head()
        assert (status, headers["content-type"]) == ("HTTP/1.1 200 OK", "application/tar+gzip")
        assert connection.piece()
        assert large in open_files()
    wait_for(lambda: large not in open_files())


def test_a_download_that_breaks_off_does_not_look_whole(
    endpoint: str, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = submit(endpoint, tmp_path, SUCCESS)
    final(endpoint, task_id)
    [instance] = home.outputs.glob(f"*/*/{task_id}/single/0")
    (instance / "first").write_bytes(os.urandom(1_000_000))
    (instance / "second").write_bytes(b"")
    read = outputs._file

    def refused(path: Path, name: str) -> Iterator[bytes]:
        if path.name == "second":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, name)

    monkeypatch.setattr(outputs, "_file", refused)
    with httpx.stream("GET", f"{endpoint}/outputs", params={"run_id": task_id}, timeout=DEADLINE) as response:
        assert response.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            response.read()


def open_files() -> set[Path]:
    """Of this process, which the embedded daemon shares."""
    files = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            files.add(descriptor.readlink())
    return files
