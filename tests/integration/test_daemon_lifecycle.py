"""A daemon as a process: start, one per home, signals, and what is left (nothing)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from testground import config
from testground.api.rpc import Chunk, ChunkDecoder
from testground.config import DaemonConfig, EnvConfig, Home
from testground.daemon import lock
from testground.daemon.main import embedded, serve
from testground.errors import ConfigError

DEADLINE = 30
SERVE = """
import anyio
from testground import config
from testground.daemon.main import serve
anyio.run(serve, config.load())
"""
SUCCESS = """echo '{"event":{"success_event":{"group":"single"}}}'"""


class Process:
    """A daemon with the home `home`, started and listening."""

    def __init__(self, home: Home, sync: str = "127.0.0.1:0", settings: str = "", **options: Any) -> None:
        addresses = f'listen = "127.0.0.1:0"\nsync_listen = "{sync}"\n'
        home.create().env_file.write_text(f"[daemon]\n{addresses}{settings}")
        environment = {**os.environ, "TESTGROUND_HOME": str(home.root), "PYTHONUNBUFFERED": "1"}
        environment.pop("LOG_LEVEL", None)
        self._popen = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SERVE],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        self.pid = self._popen.pid
        self.lines: list[str] = []
        self.endpoint = self._read_endpoint()

    def signal(self, number: int) -> None:
        self._popen.send_signal(number)

    def wait(self) -> int:
        """The exit code; what it said is in `lines`."""
        out, err = self._popen.communicate(timeout=DEADLINE)
        self.lines += out.splitlines()
        assert err == ""
        return self._popen.returncode

    def kill(self) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.communicate(timeout=DEADLINE)

    def until(self, text: str) -> str:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self.lines.append(line.rstrip("\n"))
            if text in line:
                return line
        raise AssertionError(f"{text!r} was not said; {self.lines}; {self._popen.communicate()[1]}")

    def _read_endpoint(self) -> str:
        fields: dict[str, str] = json.loads(self.until("daemon listening").split("\t")[3])
        return fields["endpoint"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@contextlib.contextmanager
def daemon(home: Home, **options: Any) -> Iterator[Process]:
    process = Process(home, **options)
    try:
        yield process
    finally:
        process.kill()


def ask(endpoint: str, path: str, body: Any) -> list[Chunk]:
    return decode(httpx.post(f"{endpoint}{path}", json=body, timeout=DEADLINE).content)


def decode(data: bytes) -> list[Chunk]:
    return list(ChunkDecoder().feed(data))


def submit(endpoint: str, directory: Path, script: str) -> str:
    artifact = directory / "plan.sh"
    artifact.write_text(f"#!/bin/sh\n{script}\n")
    artifact.chmod(0o755)
    body = {
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
    result = ask(endpoint, "/run", body)[-1]
    assert result.kind == "r", result.payload
    return str(result.payload)


@contextlib.contextmanager
def following(endpoint: str, task_id: str, text: bytes) -> Iterator[list[Chunk]]:
    """Follow a log in the background, once `text` has come. The list is complete when the block is left.

    An error chunk without a code stands for a stream that was cut.
    """
    chunks: list[Chunk] = []
    seen = threading.Event()

    def follow() -> None:
        decoder = ChunkDecoder()
        try:
            body = {"task_id": task_id, "follow": True}
            with httpx.stream("POST", f"{endpoint}/logs", json=body, timeout=DEADLINE) as response:
                for data in response.iter_raw():
                    chunks.extend(decoder.feed(data))
                    if any(text in chunk.payload for chunk in chunks if chunk.kind == "p"):
                        seen.set()
            decoder.close()
        except httpx.RemoteProtocolError as error:
            chunks.append(Chunk("e", str(error)))
        finally:
            seen.set()

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        assert seen.wait(DEADLINE), f"{text!r} did not come"
        yield chunks
    finally:
        thread.join(DEADLINE)
    assert not thread.is_alive(), "the log did not end"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_an_idle_daemon(home: Home, number: signal.Signals) -> None:
    with daemon(home, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)) as process:
        assert ask(process.endpoint, "/tasks", {})[-1].payload is None
        assert lock.holder(home) is not None
        assert str(lock.holder(home)).startswith(f"process {process.pid}, {process.endpoint}")
        process.signal(number)
        assert process.wait() == 0
    assert lock.holder(home) is None
    assert any(f"received {number.name}" in line for line in process.lines)
    for line in process.lines:
        assert re.match(r"[A-Z][a-z]{2} [ \d]\d [\d:.]{15}\t\x1b\[\d\dm(INFO|WARN)\x1b\[0m\t", line), line
    with pytest.raises(httpx.ConnectError):
        httpx.post(f"{process.endpoint}/tasks")


def test_nohup_is_respected(home: Home) -> None:
    with daemon(home, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as process:
        process.signal(signal.SIGHUP)
        assert ask(process.endpoint, "/tasks", {})[-1].payload is None
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


def test_shutdown_ends_streams_runs_and_idle_connections(home: Home, tmp_path: Path) -> None:
    with daemon(home) as process, httpx.Client(base_url=process.endpoint) as idle:
        idle.post("/tasks", json={})
        task_id = submit(process.endpoint, tmp_path, "echo pid $$ there; exec sleep 600")
        with following(process.endpoint, task_id, b"there") as chunks:
            pid = int(re.search(rb"pid (\d+) there", b"".join(chunk.payload for chunk in chunks))[1])  # type: ignore[index]
            assert alive(pid)
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
    assert chunks[-1] == Chunk("e", "the daemon is shutting down", "canceled")
    assert not alive(pid)
    with daemon(home) as process:
        task = ask(process.endpoint, "/status", {"task_id": task_id})[-1].payload
        assert task["states"][-1]["state"] == "canceled"
        assert "daemon" in task["error"]
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


def test_shutdown_breaks_off_a_download_that_nobody_reads(home: Home, tmp_path: Path) -> None:
    with daemon(home) as process:
        program = f"head -c 50000000 /dev/urandom > $TEST_OUTPUTS_PATH/big\n{SUCCESS}"
        task_id = submit(process.endpoint, tmp_path, program)
        ask(process.endpoint, "/logs", {"task_id": task_id, "follow": True})
        host, port = process.endpoint.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=DEADLINE) as connection:
            connection.sendall(f"GET /outputs?run_id={task_id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert connection.recv(12) == b"HTTP/1.1 200"
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
    assert any("a download broke off: the daemon is shutting down" in line for line in process.lines)
    assert not any("Traceback" in line for line in process.lines)


def test_shutdown_ends_an_upload_that_has_stalled(home: Home) -> None:
    with daemon(home) as process:
        host, port = process.endpoint.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=DEADLINE) as connection:
            head = "POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/related; boundary=b\r\n"
            connection.sendall(f"{head}Content-Length: 1000000\r\n\r\n--b\r\n".encode())
            assert ask(process.endpoint, "/tasks", {})[-1].payload is None
            process.signal(signal.SIGTERM)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert process.wait() == 0
    assert b"the daemon is shutting down" in answer
    assert not list((home.work / "requests").glob("*"))


def test_a_second_signal_ends_the_process_at_once(home: Home, tmp_path: Path) -> None:
    with daemon(home) as process:
        task_id = submit(process.endpoint, tmp_path, "trap '' TERM\necho there\nwhile :; do sleep 600; done")
        with following(process.endpoint, task_id, b"there"):
            process.signal(signal.SIGTERM)
            process.until("a second signal")
            process.signal(signal.SIGINT)
            assert process.wait() == 255
    with daemon(home) as process:  # it removes what was left behind
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


def test_a_second_daemon_on_the_same_home_is_refused(home: Home) -> None:
    with daemon(home) as process:
        with pytest.raises(ConfigError) as caught, embedded(env_of(home)):
            pass
        assert f"process {process.pid}, {process.endpoint}" in str(caught.value)
        assert ask(process.endpoint, "/tasks", {})[-1].payload is None
        process.signal(signal.SIGTERM)
        process.wait()
    with embedded(env_of(home)):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_file_limit_is_raised(home: Home) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with daemon(home, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))) as process:
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        process.signal(signal.SIGTERM)
        process.wait()
    soft = re.search(r"Max open files\s+(\S+)", limits)
    assert soft is not None
    assert soft[1] == "unlimited" or int(soft[1]) > 200


def test_a_taken_sync_port_is_replaced_with_a_warning(home: Home) -> None:
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # taken already: as good
            stack.enter_context(socket.create_server(("127.0.0.1", 5050)))
        with daemon(home, sync="") as process:
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
    assert any("WARN" in line and "localhost:5050 is taken" in line for line in process.lines)


def test_an_unknown_key_of_the_configuration_is_named_at_the_start(home: Home) -> None:
    with daemon(home, settings='slack_webhok_url = "https://hooks.example"\n') as process:
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    [line] = [line for line in process.lines if "unknown key" in line]
    assert "WARN" in line
    assert "unknown key 'daemon.slack_webhok_url'; did you mean 'slack_webhook_url'?" in line


def test_a_configured_sync_address_that_is_taken_is_an_error(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        message = f"daemon.sync_listen: cannot listen on {address}: "
        with pytest.raises(ConfigError, match=message):
            anyio.run(partial(serve, env_of(home, listen="127.0.0.1:0", sync_listen=address), signals=False))


def test_an_address_in_use_is_an_error(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"daemon.listen: cannot listen on {address}: .*already in use"):
            anyio.run(partial(serve, env_of(home), listen=address, signals=False))
    assert lock.holder(home) is None


def env_of(home: Home, **changes: Any) -> EnvConfig:
    return EnvConfig(home=home.create(), daemon=DaemonConfig.model_validate(changes))


def test_embedded_daemon_runs_a_plan_and_leaves_no_thread(home: Home, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with embedded(env_of(home)) as endpoint:
        task_id = submit(endpoint, tmp_path, SUCCESS)
        task = ask(endpoint, "/logs", {"task_id": task_id, "follow": True})[-1].payload
        assert task["result"]["outcome"] == "success"
    for thread in set(threading.enumerate()) - before:  # anyio's workers end on their own
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert lock.holder(home) is None
    with pytest.raises(httpx.ConnectError):
        httpx.post(f"{endpoint}/tasks")
    with embedded(env_of(home)) as endpoint:
        assert ask(endpoint, "/status", {"task_id": task_id})[-1].payload["id"] == task_id


def test_embedded_daemon_ends_streams_and_runs(home: Home, tmp_path: Path) -> None:
    with embedded(env_of(home)) as endpoint:
        task_id = submit(endpoint, tmp_path, "echo there; exec sleep 600")
        follower = following(endpoint, task_id, b"there")
        chunks = follower.__enter__()
    follower.__exit__(None, None, None)
    assert chunks[-1] == Chunk("e", "the daemon is shutting down", "canceled")


def test_embedded_daemon_takes_the_token_of_its_client(home: Home) -> None:
    home.create().env_file.write_text('[daemon]\ntokens = ["a"]\n[client]\ntoken = "b"\n')
    with embedded(config.load(home)) as endpoint:
        statuses = [
            httpx.post(f"{endpoint}/tasks", json={}, headers={"Authorization": f"Bearer {token}"}).status_code
            for token in ("a", "b")
        ]
    assert statuses == [403, 200]


def test_errors_at_start_are_raised_in_the_caller(home: Home) -> None:
    with (
        pytest.raises(ConfigError, match=r"toml: daemon\.scheduler\.task_repo_type: unknown task repo type: cloud"),
        embedded(env_of(home, scheduler={"task_repo_type": "cloud"})),
    ):
        pass
    with embedded(env_of(home)):
        pass
