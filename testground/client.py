"""The HTTP client of the daemon (client-daemon §1, §2): one method per route, all of them synchronous.

An answer is a stream of chunks: progress goes to the caller's `on_progress` as it comes, the result is returned, an
error chunk is raised as the class that the daemon raised. Whatever else happens to the connection is a `DaemonError`
whose sentence names the endpoint.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from testground import health
from testground.api import rpc
from testground.api.model import WireModel, explain
from testground.api.task import Task
from testground.errors import AuthError, ConfigError, DaemonError, StreamError, UnreachableError, from_code

if TYPE_CHECKING:
    from testground.plan.sources import Upload

CONNECT_SECONDS = 10.0
"""Only connecting and the greeting have limits: an upload or a followed log may take hours."""

GREETING_SECONDS = 20.0
"""A daemon answers at once; one on a machine with a thousand instances, soon."""

NO_LOG_YET = "error when newTailReader"
"""The Go daemon answers so to a follower who comes between a task's begin and its log: that is a moment later there.

It answers the same for a task that was canceled while it waited, which never has a log.
"""

LOG_ATTEMPTS = 3
LOG_PAUSE_SECONDS = 0.1

OnProgress = Callable[[rpc.Chunk], None]


def ignore(chunk: rpc.Chunk) -> None:
    """For callers that do not show progress."""


class Client:
    """A daemon at an endpoint such as `http://localhost:8042`. Raises `ConfigError` if it is not one.

    All methods raise `UnreachableError`, `AuthError`, `StreamError`, other `DaemonError`s, and what the daemon raised.
    """

    def __init__(self, endpoint: str, token: str = "") -> None:
        self.endpoint = endpoint.rstrip("/")
        self.original = False
        """Whether this is the Go daemon, which has no symlinks and no /cancel; known after `greet`."""
        address = _address(self.endpoint)
        headers = {"Authorization": f"Bearer {token.strip()}"} if token.strip() else {}
        self._http = httpx.Client(
            headers={"User-Agent": "testground", "Accept-Encoding": "identity", **headers},
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            trust_env=not _is_loopback(address),
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def greet(self) -> None:
        """See whether somebody answers HTTP requests, and whether it says that it is one of ours."""
        limits = httpx.Timeout(GREETING_SECONDS, connect=CONNECT_SECONDS)
        with self._explained():
            try:
                with self._http.stream("GET", self.endpoint + "/", timeout=limits) as response:
                    self.original = not response.headers.get("server", "").startswith("testground/")
            except httpx.ReadTimeout as error:
                raise UnreachableError(
                    f"what listens at {self.endpoint} has not answered within {GREETING_SECONDS:g} seconds; "
                    "is it a testground daemon?"
                ) from error

    def build(self, body: Upload, on_progress: OnProgress = ignore) -> str:
        """Queue a build and return the id of its task."""
        return _text(self._upload("/build", body, on_progress))

    def run(self, body: Upload, on_progress: OnProgress = ignore) -> str:
        """Queue a run and return the id of its task, which is the run id of its outputs."""
        return _text(self._upload("/run", body, on_progress))

    def purge(self, builder: str, plan: str, on_progress: OnProgress = ignore) -> None:
        self._post("/build/purge", rpc.PurgeRequest(builder=builder, testplan=plan), on_progress)

    def terminate(self, runner: str = "", builder: str = "", on_progress: OnProgress = ignore) -> None:
        self._post("/terminate", rpc.TerminateRequest(runner=runner, builder=builder), on_progress)

    def healthcheck(self, runner: str, *, fix: bool = False, on_progress: OnProgress = ignore) -> health.Report:
        value = self._post("/healthcheck", rpc.HealthcheckRequest(runner=runner, fix=fix), on_progress)
        if not isinstance(value, dict):
            raise StreamError("the daemon sent something else than a healthcheck report")
        return health.parse(value)

    def tasks(self, request: rpc.TasksRequest, on_progress: OnProgress = ignore) -> list[Task]:
        value = self._post("/tasks", request, on_progress)
        if not isinstance(value, list | None):
            raise StreamError("the daemon sent something else than a list of tasks")
        return [_task(item) for item in value or []]

    def status(self, task_id: str, on_progress: OnProgress = ignore) -> Task:
        return _task(self._post("/status", rpc.TaskRequest(task_id=task_id), on_progress))

    def logs(
        self, task_id: str, *, follow: bool = False, cancel: bool = False, on_progress: OnProgress = ignore
    ) -> Task:
        """The log as progress, then the task. With `follow`, until it has ended; with `cancel`, it ends with us."""
        request = rpc.LogsRequest(task_id=task_id, follow=follow, cancel_with_context=cancel)
        for _ in range(LOG_ATTEMPTS):
            try:
                return _task(self._post("/logs", request, on_progress))
            except DaemonError as error:
                if not self.original or NO_LOG_YET not in error.message:
                    raise
                time.sleep(LOG_PAUSE_SECONDS)
        return _task(self._post("/logs", request, on_progress))

    def outputs(
        self, runner: str, run_id: str, write: Callable[[bytes], object], on_progress: OnProgress = ignore
    ) -> bool:
        """Hand the archive of a run's outputs to `write`, piece by piece. False: the Go daemon found none."""

        def receive(chunk: rpc.Chunk) -> None:
            if chunk.kind == rpc.BINARY:
                write(chunk.payload)
            else:
                on_progress(chunk)

        value = self._post("/outputs", rpc.OutputsRequest(runner=runner, run_id=run_id), receive)
        if not isinstance(value, bool):
            raise StreamError("the daemon did not say whether the outputs are complete")
        return value

    def cancel(self, task_id: str) -> None:
        """Not offered by the Go daemon, which answers 404."""
        self._post("/cancel", rpc.TaskRequest(task_id=task_id), ignore)

    def delete(self, task_id: str) -> None:
        """Not offered by the Go daemon, which answers 404."""
        self._post("/delete", rpc.TaskRequest(task_id=task_id), ignore)

    def _post(self, path: str, request: WireModel, on_progress: OnProgress) -> Any:
        content = json.dumps(request.wire(), separators=(",", ":")) + "\n"
        return self._exchange(path, on_progress, content=content.encode())

    def _upload(self, path: str, body: Upload, on_progress: OnProgress) -> Any:
        headers = {"Content-Type": body.content_type, "Content-Length": str(body.content_length)}
        return self._exchange(path, on_progress, content=iter(body), headers=headers)

    def _exchange(self, path: str, on_progress: OnProgress, **request: Any) -> Any:
        with self._explained(), self._http.stream("POST", self.endpoint + path, **request) as response:
            self._check(response)
            with self._explained_midway():
                return self._result(response.iter_raw(), on_progress)

    def _check(self, response: httpx.Response) -> None:
        status = f"unexpected status code received: {response.status_code} {response.reason_phrase}".rstrip()
        if response.status_code in (401, 403):
            raise AuthError(status)
        if response.status_code >= 400:
            raise DaemonError(f"{status}; is {self.endpoint} a testground daemon?")
        content_type = response.headers.get("content-type", "")
        if content_type.partition(";")[0].strip().lower() != rpc.CONTENT_TYPE:
            received = f"unexpected content-type received: {content_type or 'none'}"
            raise DaemonError(f"{received}; is {self.endpoint} a testground daemon?")

    def _result(self, stream: Iterator[bytes], on_progress: OnProgress) -> Any:
        """Ends with the first result or error; what follows it is ignored."""
        decoder = rpc.ChunkDecoder()
        for data in stream:
            for chunk in decoder.feed(data):
                if chunk.kind == rpc.RESULT:
                    return chunk.payload
                if chunk.kind == rpc.ERROR:
                    raise from_code(chunk.code, chunk.payload)
                on_progress(chunk)
        decoder.close()
        raise StreamError(f"EOF: the daemon at {self.endpoint} ended its answer without a result")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of the connection up to the head of the answer."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise UnreachableError(
                f"no daemon answers at {self.endpoint} ({_reason(error)}); "
                "start one with `testground daemon`, or name another with --endpoint"
            ) from error
        except httpx.RemoteProtocolError as error:
            if "disconnected" in str(error):
                raise self._cut_off() from error
            raise DaemonError(f"what listens at {self.endpoint} does not speak HTTP: {error}") from error
        except httpx.ReadError as error:
            raise self._cut_off() from error
        except httpx.HTTPError as error:
            raise DaemonError(f"the request to {self.endpoint} failed: {_reason(error)}") from error

    def _cut_off(self) -> StreamError:
        return StreamError(
            f"{self.endpoint} closed the connection before it answered; is a testground daemon running there?"
        )

    @contextlib.contextmanager
    def _explained_midway(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise StreamError(
                f"unexpected EOF: the daemon at {self.endpoint} went away in the middle of its answer; was it killed?"
            ) from error


def _address(endpoint: str) -> str:
    """The host name of an endpoint."""
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise ConfigError(f"the endpoint '{endpoint}' is not a URL such as http://localhost:8042")
    return host


def _is_loopback(host: str) -> bool:
    """A proxy that the environment names is not asked for our own machine, as in Go."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise StreamError("result should be string")
    return value


def _task(value: Any) -> Task:
    try:
        task = Task.model_validate(value)
    except ValidationError as error:
        raise StreamError(f"the daemon sent a task that cannot be read: {explain(error)}") from error
    if not task.states:
        raise StreamError("the daemon sent a task that has no state")
    return task
