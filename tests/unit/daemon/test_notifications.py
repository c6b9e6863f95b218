"""Notifications of real runs to a real server, which may be slow, broken or gone (client-daemon §5.9)."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from testground.config import DaemonConfig, SchedulerConfig
from testground.engine import notifications
from testground.errors import ConfigError, unwrapped
from tests.unit.daemon.conftest import serving
from tests.unit.daemon.test_routes import SUCCESS, script, submit, until_processing

SECRET = "dXNlcjpTRUNSRVQ="
BY = {"repo": "owner/name", "branch": "main", "commit": "0123456789abcdef"}
STATUSES = "/api/repos/owner/name/statuses/0123456789abcdef"
FAIL = """echo '{"event":{"failure_event":{"group":"single","error":"no"}}}'"""


async def answering(stream: SocketStream, status: str = "200 OK") -> None:
    await stream.send(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".encode())


async def failing(stream: SocketStream) -> None:
    await answering(stream, "500 Internal Server Error")


async def redirecting(stream: SocketStream) -> None:
    await stream.send(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


async def closing(stream: SocketStream) -> None:
    await stream.aclose()


async def babbling(stream: SocketStream) -> None:
    await stream.send(b"no HTTP at all\r\n\r\n")


async def silent(stream: SocketStream) -> None:
    await anyio.sleep_forever()


@dataclass
class Service:
    """Slack and GitHub in one."""

    port: int
    behave: Callable[[SocketStream], Awaitable[None]] = answering
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    came: anyio.Event = field(default_factory=anyio.Event)

    async def serve(self, stream: SocketStream) -> None:
        async with stream:
            reader = BufferedByteReceiveStream(stream)
            head = (await reader.receive_until(b"\r\n\r\n", 1 << 16)).decode().split("\r\n")
            headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in head[1:])}
            body = json.loads(await reader.receive_exactly(int(headers["content-length"])))
            self.requests.append((head[0].split()[1], headers, body))
            self.came.set()
            await self.behave(stream)

    async def until(self, count: int) -> list[tuple[str, dict[str, str], Any]]:
        with anyio.fail_after(30):
            while len(self.requests) < count:
                self.came = anyio.Event()
                await self.came.wait()
        return self.requests

    def bodies(self, path: str) -> list[Any]:
        return [body for found, _, body in self.requests if found == path]


class Heard(logging.Handler):
    """What the daemon logs about notifications."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._came = anyio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self._came.set()

    async def until(self, text: str) -> None:
        with anyio.fail_after(30):
            while not any(text in line for line in self.lines):
                self._came = anyio.Event()
                await self._came.wait()


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[Heard]:
    caplog.set_level(logging.INFO, notifications.__name__)
    handler = Heard()
    notifications.log.addHandler(handler)
    yield handler
    notifications.log.removeHandler(handler)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        serving = Service(listener.extra(anyio.abc.SocketAttribute.local_port))
        group.start_soon(listener.serve, serving.serve)
        yield serving
        group.cancel_scope.cancel()


@pytest.fixture
def config(service: Service) -> DaemonConfig:
    address = f"http://127.0.0.1:{service.port}"
    return DaemonConfig(
        slack_webhook_url=f"{address}/slack/{SECRET}",
        github_repo_status_token=SECRET,
        github_api_url=f"{address}/api",
        root_url="https://tg.example",
        scheduler=SchedulerConfig(workers=1),
    )


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by way of a proxy of this machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


async def ended(daemon: Any, task_id: str) -> dict[str, Any]:
    with anyio.fail_after(30):
        task: dict[str, Any] = (await daemon.ask("/logs", {"task_id": task_id, "follow": True}))[-1].payload
    return task


@pytest.mark.parametrize(
    ("text", "mark", "state"), [(SUCCESS, "✅", "success"), (FAIL, "❌", "failure"), ("exit 3", "❌", "failure")]
)
async def test_begin_and_end_of_a_run(
    service: Service, daemon: Any, tmp_path: Path, text: str, mark: str, state: str
) -> None:
    task_id = await submit(daemon, script(tmp_path, text), created_by=BY)
    await ended(daemon, task_id)
    await service.until(3)
    assert [status["state"] for status in service.bodies(STATUSES)] == ["pending", state]
    [slack] = service.bodies(f"/slack/{SECRET}")
    assert slack["text"].startswith(f"{mark} <https://tg.example/logs?task_id={task_id}|{task_id}> *demo:ok* run ")
    headers = next(headers for path, headers, _ in service.requests if path == STATUSES)
    assert headers["authorization"] == f"Basic {SECRET}"


async def test_pending_is_sent_while_the_run_is_under_way(service: Service, daemon: Any, tmp_path: Path) -> None:
    task_id = await submit(daemon, script(tmp_path, "exec sleep 600"), created_by=BY)
    [(path, _, status)] = await service.until(1)
    assert (path, status["state"]) == (STATUSES, "pending")
    await until_processing(daemon, task_id)
    daemon.engine.kill(task_id, "enough")
    await service.until(3)
    assert service.bodies(STATUSES)[-1]["state"] == "failure"
    assert service.bodies(f"/slack/{SECRET}")[0]["text"].startswith("⚪ ")


async def test_a_run_that_never_began_is_no_news(service: Service, daemon: Any, tmp_path: Path) -> None:
    held = await submit(daemon, script(tmp_path, "exec sleep 600"), created_by={"user": "x"})
    await until_processing(daemon, held)
    waiting = await submit(daemon, script(tmp_path, SUCCESS), created_by=BY)
    daemon.engine.kill(waiting, "enough")
    daemon.engine.kill(held, "enough")
    [(path, _, body)] = await service.until(1)
    assert path == f"/slack/{SECRET}"
    assert held in body["text"]


@pytest.mark.parametrize(
    ("behave", "problem"),
    [
        (failing, "the answer was 500"),
        (redirecting, "the answer was 302"),
        (closing, "the request failed (RemoteProtocolError)"),
        (babbling, "the request failed (RemoteProtocolError)"),
        (silent, "no answer within 0.05 seconds"),
    ],
)
async def test_a_service_that_does_not_work_is_logged_once_and_fails_nothing(
    service: Service,
    config: DaemonConfig,
    heard: Heard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    behave: Callable[[SocketStream], Awaitable[None]],
    problem: str,
) -> None:
    monkeypatch.setattr(notifications, "TIMEOUT_SECONDS", 0.05 if behave is silent else 10.0)
    service.behave = behave
    quick = script(tmp_path, SUCCESS)
    async with serving(tmp_path, config) as daemon:
        for _ in range(2):
            task = await ended(daemon, await submit(daemon, quick, created_by=BY))
            assert (task["result"]["outcome"], task["error"]) == ("success", "")
    if behave is not silent:  # in so short a time, not even the request may get through
        assert len(service.requests) == 6
    [github, slack] = sorted(heard.lines)
    assert github.startswith("GitHub is not told of run ")
    assert github.endswith(f": {problem} (daemon.github_repo_status_token)")
    assert slack.startswith("Slack is not told of run ")
    assert slack.endswith(f": {problem} (daemon.slack_webhook_url)")
    assert SECRET not in github + slack


async def test_a_service_that_is_gone_fails_nothing(
    service: Service, config: DaemonConfig, heard: Heard, tmp_path: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    gone = config.model_copy(update={"slack_webhook_url": f"{address}/{SECRET}", "github_api_url": address})
    async with serving(tmp_path, gone) as daemon:
        task = await ended(daemon, await submit(daemon, script(tmp_path, SUCCESS), created_by=BY))
    assert task["result"]["outcome"] == "success"
    assert all("the request failed (ConnectError)" in line and SECRET not in line for line in heard.lines)
    assert len(heard.lines) == 2


async def test_an_environment_that_forbids_to_send_is_an_error_at_the_start(
    config: DaemonConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"gopher://user:{SECRET}@nowhere")
    with pytest.raises(ConfigError, match="^notifications cannot be sent: ") as caught, unwrapped():
        async with serving(tmp_path, config):
            pass
    assert SECRET not in caught.value.message


async def test_a_service_that_works_again_is_logged(
    service: Service, daemon: Any, heard: Heard, tmp_path: Path
) -> None:
    service.behave = failing
    quick = script(tmp_path, SUCCESS)
    await submit(daemon, quick)
    await heard.until("Slack is not told")
    service.behave = answering
    await submit(daemon, quick)
    await heard.until("Slack is told of runs again")


async def test_a_silent_service_delays_no_run(service: Service, daemon: Any, tmp_path: Path) -> None:
    """One worker: with the second run's end, the worker went on while notifications of the first one still wait."""
    service.behave = silent
    quick = script(tmp_path, SUCCESS)
    with anyio.fail_after(notifications.TIMEOUT_SECONDS - 1):
        for _ in range(2):
            assert (await ended(daemon, await submit(daemon, quick, created_by=BY)))["result"]["outcome"] == "success"


async def test_a_repository_that_is_none_fails_nothing(
    service: Service, daemon: Any, heard: Heard, tmp_path: Path
) -> None:
    task_id = await submit(daemon, script(tmp_path, SUCCESS), created_by={**BY, "repo": "noslash"})
    assert (await ended(daemon, task_id))["result"]["outcome"] == "success"
    await heard.until("its repository 'noslash' is not OWNER/NAME")
    assert not service.bodies(STATUSES)


async def test_what_a_shutdown_ends_is_told_before_the_end(
    service: Service, config: DaemonConfig, tmp_path: Path
) -> None:
    async with serving(tmp_path, config) as daemon:
        await until_processing(daemon, await submit(daemon, script(tmp_path, "exec sleep 600"), created_by=BY))
    assert [status["state"] for status in service.bodies(STATUSES)] == ["pending", "failure"]
    assert "the daemon was shut down" in service.bodies(f"/slack/{SECRET}")[0]["text"]


async def test_a_shutdown_does_not_wait_for_a_silent_service(
    service: Service,
    config: DaemonConfig,
    tmp_path: Path,
    heard: Heard,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notifications, "DRAIN_SECONDS", 0.1)
    service.behave = silent
    with anyio.fail_after(notifications.TIMEOUT_SECONDS - 1):
        async with serving(tmp_path, config) as daemon:
            await ended(daemon, await submit(daemon, script(tmp_path, SUCCESS), created_by=BY))
    assert heard.lines == ["the daemon ends before all notifications were sent"]
